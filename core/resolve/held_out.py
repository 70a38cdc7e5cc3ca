"""Datasets whose rows only measure: what is learned from and predicted must be there, under the same names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import errors
from core.profile import Column
from core.resolve.columns import named
from core.resolve.target import Target, labels_fit
from core.spec import TrainingSpec
from core.spec.data import HeldOutPart, Split


@dataclass(frozen=True)
class HeldOut:
    """The profile of a dataset that validates or tests."""

    columns: Sequence[Column]
    rows: int


def without_shares(split: Split, held_out: Mapping[HeldOutPart, HeldOut]) -> Split:
    """The split of the training dataset: a part that has a dataset of its own takes no rows of it."""
    if split.folds and "validation" in held_out:
        raise _at("/validation_dataset_id", "Each fold validates in its turn: leave the validation dataset out.")
    for part in held_out:
        pointer = f"/spec/split/{part}"
        if split.method == "column":
            raise _at(
                "/spec/split/method", f"The {part} rows have a dataset of their own: no column says which they are."
            )
        if part in split.model_fields_set and getattr(split, part):
            raise _at(pointer, f"The {part} rows have a dataset of their own: leave this out, or say 0.")
    return split.model_copy(update={part: 0.0 for part in held_out})


def fits_held_out(
    spec: TrainingSpec, target: Target, by_name: Mapping[str, Column], held_out: Mapping[HeldOutPart, HeldOut]
) -> None:
    """`spec` is resolved. Raises where a dataset lacks a column that is used, or has it as something else."""
    if spec.training.refit and "validation" in held_out:
        message = "The rows of a validation dataset never train: there is nothing to refit on."
        raise _at("/spec/training/refit", message)
    weights = [spec.sample_weight] if spec.sample_weight else []
    for part, dataset in held_out.items():
        pointer = f"/{part}_dataset_id"
        theirs = {column.name: column for column in dataset.columns}
        for name in (*spec.targets, *weights, *(spec.features.include or [])):
            column = named(name, theirs, pointer)
            choice = spec.features.columns.get(name)
            is_number = choice.type == "number" if choice else name in weights or target.classes is None
            if choice and _is_looked_up(by_name[name], column):
                continue
            _same_type(by_name[name], column, pointer, as_number=is_number or target.is_spread)
        targets = [theirs[name] for name in spec.targets]
        if with_targets(target, dataset) < 1:
            raise errors.DatasetTooSmall(
                f"The {part} dataset has no row with a target.",
                errors=[{"pointer": pointer, "code": errors.DatasetTooSmall.code, "message": "No row has a target."}],
            )
        _target_fits(target, targets, pointer)


def has_texts(spec: TrainingSpec, by_name: Mapping[str, Column], held_out: Mapping[HeldOutPart, HeldOut]) -> bool:
    """Whether a column that is used has so many different texts there that they are read from the table."""
    used = spec.features.columns
    theirs = (column for dataset in held_out.values() for column in dataset.columns if column.name in used)
    return any(_is_looked_up(by_name[column.name], column) for column in theirs)


def _is_looked_up(ours: Column, theirs: Column) -> bool:
    """Whether a category has so many different values for its few rows there that it is a text."""
    return ours.type == "category" and theirs.type == "text"


def with_targets(target: Target, dataset: HeldOut) -> int:
    """Rows that have a target; fewer where several targets are missing in different rows."""
    names = {column.name for column in target.columns}
    return dataset.rows - max(column.missing for column in dataset.columns if column.name in names)


def _same_type(ours: Column, theirs: Column, pointer: str, *, as_number: bool) -> None:
    """An empty column has no type; numbers that are taken as numbers may be whole ones here and not there."""
    if theirs.distinct == 0 or (as_number and ours.number_row is not None and theirs.number_row is not None):
        return
    if theirs.type != ours.type or theirs.size != ours.size or (ours.code_row is not None and theirs.code_row is None):
        message = (
            f"Column {ours.name[: errors.KEY_LENGTH]} is of type {theirs.type} here, and of type {ours.type} there."
        )
        raise errors.ColumnTypeMismatch(
            column=ours.name,
            type=theirs.type,
            expected=ours.type,
            errors=[{"pointer": pointer, "code": errors.ColumnTypeMismatch.code, "message": message}],
        )


def _target_fits(target: Target, theirs: Sequence[Column], pointer: str) -> None:
    if target.classes is None or target.is_spread:
        labels_fit(target, theirs)
        return
    known = {(type(value), value) for value in target.classes}
    column = theirs[0]
    pairs = zip(column.values or [], column.counts or [], strict=True)
    unknown = [count for value, count in pairs if (type(value), value) not in known]
    if unknown:
        found = {"pointer": pointer, "code": errors.ClassUnknown.code, "message": errors.ClassUnknown.title()}
        raise errors.ClassUnknown(column=column.name, classes=len(unknown), rows=sum(unknown), errors=[found])


def _at(pointer: str, message: str, **facts: Any) -> errors.DataInvalid:
    found = {"pointer": pointer, "code": errors.DataInvalid.code, "message": message}
    return errors.DataInvalid(message, errors=[found], **facts)
