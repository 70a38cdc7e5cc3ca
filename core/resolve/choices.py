"""The choice for one column, written out: what is not said follows from its profile.

`docs/features.md` has the measurements behind the figures below.
"""

import math
from datetime import UTC, datetime
from typing import Any, assert_never

from core import errors
from core.profile import Column
from core.spec.features import (
    DATETIME,
    EMBEDDING,
    NUMBER,
    ONE_HOT,
    ORDINAL,
    VECTOR,
    ColumnChoice,
    CyclicPart,
    DatePart,
    Features,
    FeatureType,
    Kind,
)

MAX_ONE_HOT = 32  # categories; more of them become a learned vector
RARE = 0.01  # share of the rows: of fewer, a category is learned by heart; but 10 rows are enough in any table
RARE_ROWS = 10
INDICATED = 0.05  # share of missing values from which on a number says that it was missing
HOUR, DAY = 3600, 86_400  # seconds

CYCLIC: tuple[CyclicPart, ...] = ("month", "day", "weekday", "hour", "minute")


def choose(column: Column, asked: Features, rows: int) -> ColumnChoice | None:
    """The choice written out, or None where this column cannot be taken so. Raises where the fill value is none."""
    own = asked.columns.get(column.name, ColumnChoice())
    kind = _kind(column, own, asked)
    if kind is None or not own.fits(kind):
        return None
    said = _with_choices_for_all(own, kind, asked)
    defaults: dict[str, Any] = {"type": kind.type, "encode": kind.encode}
    if "missing_indicator" in kind.fields:
        impute = "mode" if kind == ORDINAL else "median"
        defaults |= {"impute": impute, "missing_indicator": _tells_something(column, rows), "scale": "standard"}
    if "min_frequency" in kind.fields:
        defaults |= {"impute": "none", "min_frequency": min(RARE_ROWS, max(1, int(RARE * rows)))}
    if kind == EMBEDDING:
        defaults["dimension"] = default_dimension(categories(column))
    if kind == DATETIME:
        parts = said.get("parts") or list(dict.fromkeys([*_parts(column), *said.get("cyclic", ())]))
        defaults |= {"parts": parts, "cyclic": [part for part in parts if part in CYCLIC]}
        if not set(said.get("cyclic", ())) <= set(parts):
            message = "`cyclic` names parts that are not among the `parts` of this column."
            pointer = errors.pointer("spec", "features", "columns", column.name, "cyclic")
            found = {"pointer": pointer, "code": errors.FeatureNotSupported.code, "message": message}
            raise errors.FeatureNotSupported(message, column=column.name, type=column.type, errors=[found])
    choice = ColumnChoice.model_validate(defaults | said)
    _fill_value_fits(column, choice)
    return choice


def _fill_value_fits(column: Column, choice: ColumnChoice) -> None:
    value = choice.fill_value
    match choice.type:
        case "number" | "vector":
            fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
        case "datetime":
            fits, wanted = isinstance(value, str) and _moment(value) is not None, "a date as ISO 8601"
        case "category" | None:
            fits = choice.encode != "ordinal" or value in (choice.order or column.values or [])
            wanted = "one of its categories"
        case _:
            assert_never(choice.type)
    if value is not None and not fits:
        pointer = errors.pointer("spec", "features", "columns", column.name, "fill_value")
        message = f"The `fill_value` of this column is {wanted}."
        found = {"pointer": pointer, "code": errors.FeatureNotSupported.code, "message": message}
        raise errors.FeatureNotSupported(message, column=column.name, type=column.type, errors=[found])


def kinds_of(column: Column) -> list[Kind]:
    """What the column can be taken for, as it is stored."""
    is_vector = column.type == "vector"
    return [
        *([NUMBER] if column.number_row is not None and not is_vector else []),
        *([ONE_HOT, ORDINAL, EMBEDDING] if column.code_row is not None else []),
        *([DATETIME] if column.moment_row is not None else []),
        *([VECTOR] if is_vector and column.number_row is not None and column.size else []),
    ]


def _kind(column: Column, own: ColumnChoice, asked: Features) -> Kind | None:
    """What the column is taken for: as it is said, else as it is. None where it cannot be that."""
    wanted = own.type or _type(column, own)
    encode = own.encode or (asked.categories.encode if asked.categories else None)
    encode = encode or ("embedding" if categories(column) > MAX_ONE_HOT else "one_hot")
    possible = [kind for kind in kinds_of(column) if kind.type == wanted and kind.encode in (None, encode)]
    return possible[0] if possible else None


def _type(column: Column, own: ColumnChoice) -> FeatureType:
    """Integers are numbers also where they are few: years, rooms and stars have an order and distances, which names of
    categories would lose. Which integers are names is known to those who sent them, and said by `type: category`."""
    if own.encode is not None or own.min_frequency is not None:
        return "category"
    match column.type:
        case "number" | "integer":
            return "number"
        case "datetime" | "vector":
            return column.type
        case "category" | "boolean" | "text":
            return "category"
        case _:
            assert_never(column.type)


def _with_choices_for_all(own: ColumnChoice, kind: Kind, asked: Features) -> dict[str, Any]:
    """What `columns` says of the column, and what it leaves open as it is said for all columns of its type."""
    match kind.type:
        case "number":
            of_all = asked.numbers
        case "category":
            of_all = asked.categories
        case "datetime":
            of_all = asked.datetimes
        case "vector":
            of_all = asked.vectors
        case _:
            assert_never(kind.type)
    said = {name: value for name, value in (of_all.said if of_all else {}).items() if name in kind.fields}
    if own.impute is not None or said.get("impute", kind.impute[0]) not in kind.impute:
        said = {name: value for name, value in said.items() if name not in ("impute", "fill_value")}
    if own.parts is not None:
        said.pop("cyclic", None)
    return said | own.said


def _tells_something(column: Column, rows: int) -> bool:
    """Whether it is worth an input that a value was missing: where many are, and where nothing else differs."""
    return column.missing > 0 and (column.distinct == 1 or column.missing >= INDICATED * rows)


# --- categories ---------------------------------------------------------------------------------------------------


def categories(column: Column) -> int:
    """What a category can be, at most: a missing value is one of its own."""
    return len(column.values or []) + bool(column.missing)


def default_dimension(categories: int) -> int:
    """The width of a learned vector, by the rule of fastai (https://docs.fast.ai/tabular.model.html)."""
    return min(600, round(1.6 * math.pow(categories, 0.56)))


# --- dates --------------------------------------------------------------------------------------------------------


def _parts(column: Column) -> list[DatePart]:
    """The time that has passed, and each cycle that the dates go through at least once, as far as is known."""
    if column.earliest is not None and "T" not in column.earliest and ":" in column.earliest:
        return ["elapsed", "hour"]  # a time of day
    span = _span(column)
    has_time = not column.dates_only
    least: dict[DatePart, float] = {"elapsed": 0, "month": 31 * DAY, "weekday": DAY, "hour": HOUR}
    return [part for part, seconds in least.items() if span >= seconds and (has_time or part != "hour")]


def _span(column: Column) -> float:
    """Seconds from the first to the last; infinite where that is not known, or beyond the year 9999."""
    first, last = _moment(column.earliest), _moment(column.latest)
    return math.inf if first is None or last is None else (last - first).total_seconds()


def _moment(text: str | None) -> datetime | None:
    """In UTC, where the text does not say otherwise."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
