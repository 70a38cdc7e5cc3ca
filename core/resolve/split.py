"""Which rows are held back, and whether enough are left."""

from typing import Literal

from core import errors
from core.profile import Warning
from core.resolve.target import Target
from core.spec.data import Split


def resolve_split(split: Split, target: Target, warnings: list[Warning]) -> Split:
    return split.model_copy(update={"method": _method(split, target, warnings)})


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


def rows_suffice(split: Split, rows: int) -> None:
    """`rows` are those with a target. Raises `DatasetTooSmall`."""
    held_back = sum(round(rows * share) for share in (split.validation, split.test))
    asked = [share for share in (split.validation, split.test) if share]
    if rows - held_back < 1 or any(round(rows * share) < 1 for share in asked):
        raise errors.DatasetTooSmall(
            f"{rows} rows with a target are too few for a validation share of {split.validation:g} and a test "
            f"share of {split.test:g}; set them to 0 or send more rows.",
            rows=rows,
        )
