"""Which rows are held back, and whether enough are left."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from core import errors
from core.profile import Column, Warning
from core.resolve.columns import named
from core.resolve.target import Target
from core.spec.data import HeldOutPart, PartName, Split, part_named
from core.spec.features import Features


def resolve_split(split: Split, target: Target, by_name: Mapping[str, Column], warnings: list[Warning]) -> Split:
    match split.method:
        case "time" | "group":
            _several(split, _column(split, target, by_name))
            return split
        case "column":
            return _as_the_column_says(split, _column(split, target, by_name))
        case "last":
            return split
        case _:
            return split.model_copy(update={"method": _method(split, target, warnings)})


def may_be_features(columns: Sequence[Column], split: Split, features: Features) -> list[Column]:
    """All columns but that of the split, unless the features name it."""
    is_named = split.by in (features.include or []) or split.by in features.columns
    return [column for column in columns if column.name != split.by or is_named]


def ranks_whole_table(split: Split, by_name: Mapping[str, Column]) -> bool:
    """Whether the column of the split is in no array, and is read from the table."""
    return split.by is not None and by_name[split.by].code_row is None


def _method(split: Split, target: Target, warnings: list[Warning]) -> Literal["random", "stratified"]:
    """A stratified split holds back rows of each class, so one row of a class is too few for it."""
    column = target.columns[0]
    has_classes = target.task == "classification" and not target.is_spread
    fewest = min(column.counts or [2])
    match split.method:
        case "random":
            return "random"
        case "stratified" if not has_classes:
            raise errors.DataInvalid("A stratified split needs a column of classes; use `split.method: random`.")
        case "stratified" if fewest < 2:
            found = {
                "pointer": "/spec/split/method",
                "code": "class_too_small",
                "message": errors.ClassTooSmall.title(),
            }
            raise errors.ClassTooSmall(column=column.name, rows=fewest, errors=[found])
        case "auto" if not has_classes:
            return "random"
        case "auto" if fewest < 2:
            warnings.append(
                Warning(
                    code="class_too_small",
                    message="A class has one single row, so the split is random and not stratified.",
                    column=column.name,
                )
            )
            return "random"
        case _:
            return "stratified"


# --- by a column ------------------------------------------------------------------------------------------------------


def _column(split: Split, target: Target, by_name: Mapping[str, Column]) -> Column:
    """The column that decides. A row may lack its value only where it lacks a target as well."""
    column = named(split.by or "", by_name, "/spec/split/by")
    if column in target.columns:
        raise _refused(column, "This column is the target.")
    if split.method == "time" and column.type not in ("datetime", "number", "integer"):
        raise _refused(column, f"A column of type {column.type} is no time: it takes dates, or numbers.")
    if column.missing > sum(one.missing for one in target.columns):
        raise _refused(
            column, "Rows that have a target have no value in this column.", "/spec/split/by", missing=column.missing
        )
    return column


def _several(split: Split, column: Column) -> None:
    parts = 1 + bool(split.validation) + bool(split.test)
    if column.distinct < parts:
        raise errors.DatasetTooSmall(
            f"The column of the split has {column.distinct} different values, which are too few for {parts} parts.",
            column=column.name,
            distinct=column.distinct,
        )


def _as_the_column_says(split: Split, column: Column) -> Split:
    """The split with the shares that the column has; other shares than these cannot be asked for."""
    counts = {"train": 0, "validation": 0, "test": 0}
    unknown = 0
    for value, count in zip(column.values or [], column.counts or [], strict=True):
        part = part_named(value)
        if part is None:
            unknown += count
        else:
            counts[part] += count
    if unknown or column.values is None:
        message = "It holds other values than `train`, `validation` and `test`."
        raise _refused(column, message, other_rows=unknown or None)
    if not counts["train"]:
        raise errors.DatasetTooSmall("The column of the split says `train` of no row.", column=column.name)
    shares = {name: counts[name] / sum(counts.values()) for name in ("validation", "test")}
    for name, share in shares.items():
        if name in split.model_fields_set and getattr(split, name) != share:
            message = "The column of the split says which rows these are; leave this out."
            raise _refused(column, message, f"/spec/split/{name}")
    return split.model_copy(update=shares)


def _refused(column: Column, message: str, pointer: str = "/spec/split/by", **facts: Any) -> errors.SplitColumnInvalid:
    found = {"pointer": pointer, "code": errors.SplitColumnInvalid.code, "message": message}
    return errors.SplitColumnInvalid(
        f"{errors.SplitColumnInvalid.title()} {message}", column=column.name, type=column.type, errors=[found], **facts
    )


def rows_of(split: Split, rows: int, held_out: Mapping[HeldOutPart, int]) -> dict[PartName, int]:
    """How many rows each part has, of so many with a target and of those that came as datasets of their own."""
    validation, test = split.sizes(rows)
    return {
        "train": rows - validation - test,
        "validation": held_out.get("validation", validation),
        "test": held_out.get("test", test),
    }


def rows_suffice(split: Split, rows: int) -> None:
    """`rows` are those with a target. Raises `DatasetTooSmall`."""
    if split.method == "column":
        return  # it says itself which they are
    validation, test = split.sizes(rows)
    if rows - validation - test < 1 or (split.validation and validation < 1) or (split.test and test < 1):
        raise errors.DatasetTooSmall(
            f"{rows} rows with a target are too few for a validation share of {split.validation:g} and a test "
            f"share of {split.test:g}; set them to 0 or send more rows.",
            rows=rows,
        )
