"""Cross-validation: whether the rows can be drawn into folds, and what goes with them."""

from collections.abc import Mapping
from typing import Any

from core import errors
from core.profile import Column, Warning
from core.resolve.target import Target
from core.spec.data import Split
from core.spec.training import Training


def folds_fit(
    split: Split,
    training: Training,
    target: Target,
    by_name: Mapping[str, Column],
    rows: int,
    warnings: list[Warning],
) -> None:
    """`split` is resolved, `rows` have a target. Raises where there are no such folds, or where they say nothing."""
    if split.folds is None:
        return
    if training.refit:
        raise _at("/spec/training/refit", "After the folds the network is trained on all rows anyway: leave this out.")
    if training.epochs == 0:
        raise _at("/spec/training/epochs", "0 epochs train nothing, so there is nothing that folds could measure.")
    drawn = rows - split.sizes(rows)[1]
    if drawn < split.folds:
        raise _too_few(f"{drawn} rows with a target are too few for {split.folds} folds.", rows=drawn)
    match split.method:
        case "group":
            column = by_name[split.by or ""]
            if column.distinct < split.folds + bool(split.test):
                raise _too_few(
                    f"The column of the split has {column.distinct} different values, too few for {split.folds} folds.",
                    column=column.name,
                    distinct=column.distinct,
                )
        case "stratified":
            _each_fold_has_each_class(split.folds, target.columns[0], warnings)


def _each_fold_has_each_class(folds: int, column: Column, warnings: list[Warning]) -> None:
    counts = column.counts or []
    if max(counts, default=folds) < folds:
        message = f"No class has {folds} rows, one for each fold; ask for fewer folds, or for `split.method: random`."
        raise _too_few(message, column=column.name, rows=max(counts))
    if min(counts, default=folds) < folds:
        message = f"A class has fewer rows ({min(counts)}) than there are folds ({folds}): some folds have none of it."
        warnings.append(Warning(code="class_too_small", message=message, column=column.name))


def _at(pointer: str, message: str) -> errors.DataInvalid:
    found = {"pointer": pointer, "code": errors.DataInvalid.code, "message": message}
    return errors.DataInvalid(message, errors=[found])


def _too_few(message: str, **facts: Any) -> errors.DatasetTooSmall:
    found = {"pointer": "/spec/split/folds", "code": errors.DatasetTooSmall.code, "message": message}
    return errors.DatasetTooSmall(message, errors=[found], **facts)
