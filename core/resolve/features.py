"""What is learned from: which columns, and a choice for each, written out."""

from collections.abc import Collection, Mapping, Sequence

from core import errors
from core.profile import MAX_VALUES, Column, Warning
from core.resolve.choices import choose, kinds_of
from core.resolve.columns import named
from core.resolve.findings import constant_feature, id_like_feature
from core.spec.features import ColumnChoice, Features, legal


def resolve_features(
    asked: Features,
    taken: Collection[str],
    columns: Sequence[Column],
    by_name: Mapping[str, Column],
    rows: int,
    warnings: list[Warning],
) -> Features:
    """`taken` are the columns that are something else: targets, and what rows count."""
    for position, name in enumerate(asked.include or []):
        named(name, by_name, f"/spec/features/include/{position}")
        _not_taken(name, taken, f"/spec/features/include/{position}")
    for position, name in enumerate(asked.exclude):
        named(name, by_name, f"/spec/features/exclude/{position}")
    for name in asked.columns:
        pointer = errors.pointer("spec", "features", "columns", name)
        named(name, by_name, pointer)
        _not_taken(name, taken, pointer)

    chosen: dict[str, ColumnChoice] = {}
    ids: dict[str, Warning] = {}
    for column in columns:
        wanted = asked.include is None or column.name in asked.include
        if column.name in taken or column.name in asked.exclude or not wanted:
            continue
        by_itself = asked.include is None and column.name not in asked.columns
        if (reason := _left_out(column, rows, by_itself=by_itself)) is not None:
            if reason.code == "id_like_feature":
                ids[column.name] = reason
            else:
                warnings.append(reason)
        elif (choice := choose(column, asked, rows)) is not None:
            chosen[column.name] = choice
            warnings += _of_choice(column, choice)
        elif asked.include is None and column.name not in asked.columns:
            warnings.append(Warning(code="column_not_used", message=_unusable(column), column=column.name))
        else:
            raise _refused(column, asked)
    if not chosen and ids:  # there is nothing else to learn from
        found = {name: choose(by_name[name], asked, rows) for name in ids}
        chosen, ids = {name: choice for name, choice in found.items() if choice is not None}, {}
    if not chosen:
        raise errors.NoFeatures()
    warnings += ids.values()
    return Features(include=list(chosen), exclude=[], columns=chosen)


def _not_taken(name: str, taken: Collection[str], pointer: str) -> None:
    if name in taken:
        message = "This column is the target or the sample weight."
        raise errors.ColumnNotFound(
            "The target and the sample weight cannot be among the features.",
            column=name,
            errors=[{"pointer": pointer, "code": errors.ColumnNotFound.code, "message": message}],
        )


def _left_out(column: Column, rows: int, *, by_itself: bool) -> Warning | None:
    """Why nothing can be learned from the column. What is asked for by name is left out only if empty."""
    if column.distinct == 0 and (column.type != "vector" or column.missing == rows):
        return Warning(code="column_all_missing", message="The column is empty and is left out.", column=column.name)
    if not by_itself:
        return None
    if column.distinct == 1 and not column.missing:
        return constant_feature(column, "it is left out")
    if column.id_like is not None:
        return id_like_feature(column, rows, "it is left out; name it in `features.columns` to use it")
    return None


def _of_choice(column: Column, choice: ColumnChoice) -> list[Warning]:
    unknown = sum(value not in choice.order for value in column.values or []) if choice.order else 0
    if not unknown:
        return []
    message = f"{unknown} values of the column are not in its `order`, and count as missing."
    return [Warning(code="values_not_in_order", message=message, column=column.name, evidence={"values": unknown})]


def _refused(column: Column, asked: Features) -> errors.FeatureNotSupported:
    """Why a column that is asked for cannot be taken as it is asked for."""
    if column.name in asked.columns:
        choice, pointer = asked.columns[column.name], errors.pointer("spec", "features", "columns", column.name)
    else:
        place = (asked.include or []).index(column.name)
        choice, pointer = ColumnChoice(), errors.pointer("spec", "features", "include", place)
    kinds = kinds_of(column)
    message = f"{choice.words()} cannot be said of this column. {legal(kinds)}" if kinds else _unusable(column)
    found = {"pointer": pointer, "code": errors.FeatureNotSupported.code, "message": message}
    return errors.FeatureNotSupported(message, column=column.name, type=column.type, errors=[found])


def _unusable(column: Column) -> str:
    """What to do with a column from which no network of numbers learns as it is."""
    if column.date_format is not None:
        return (
            f"The values are dates written as text ({column.date_format}): send them as ISO 8601, such as 2024-01-31."
        )
    match column.type:
        case "text":
            return (
                f"The column is text of {column.distinct:,} different values, which is left out: a network learns from "
                f"numbers. Send numbers made of it, such as counts of words or an embedding in a vector column; or "
                f"categories, of which a column has at most {MAX_VALUES:,}."
            )
        case "datetime":
            return "The column was read before dates could be learned from, and is left out: upload the dataset again."
        case _:
            return f"A column of type {column.type} cannot be a feature and is left out."
