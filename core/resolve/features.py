"""What is learned from: a choice for each column, written out."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import assert_never

from core import errors
from core.profile import Column, Warning
from core.resolve.columns import named
from core.spec.data import ColumnChoice, Features


def resolve_features(
    asked: Features,
    taken: Collection[str],
    columns: Sequence[Column],
    by_name: Mapping[str, Column],
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

    candidates = [column for column in columns if column.name not in taken and column.name not in asked.exclude]
    if asked.include is not None:
        candidates = [column for column in candidates if column.name in asked.include]

    chosen: dict[str, ColumnChoice] = {}
    for column in candidates:
        choice = asked.columns.get(column.name, ColumnChoice())
        if column.distinct == 0:
            warnings.append(
                Warning(code="column_all_missing", message="The column is empty and is left out.", column=column.name)
            )
        elif (settled := _choice(column, choice)) is not None:
            chosen[column.name] = settled
        elif choice != ColumnChoice():
            raise _not_so(column, errors.pointer("spec", "features", "columns", column.name))
        elif asked.include is not None:
            raise _not_so(column, errors.pointer("spec", "features", "include", asked.include.index(column.name)))
        else:
            warnings.append(
                Warning(
                    code="column_not_used",
                    message=f"A column of type {column.type} cannot be a feature and is left out.",
                    column=column.name,
                )
            )
    if not chosen:
        raise errors.NoFeatures()
    return Features(include=list(chosen), exclude=[], columns=chosen)


def _not_taken(name: str, taken: Collection[str], pointer: str) -> None:
    if name in taken:
        message = "This column is the target or the sample weight."
        raise errors.ColumnNotFound(
            "The target and the sample weight cannot be among the features.",
            column=name,
            errors=[{"pointer": pointer, "code": errors.ColumnNotFound.code, "message": message}],
        )


def _choice(column: Column, asked: ColumnChoice) -> ColumnChoice | None:
    """The choice written out, or None where this column cannot be taken so."""
    is_number = column.number_row is not None
    wanted = asked.type or ("number" if is_number and not asked.encode else "category")
    match wanted:
        case "number":
            chosen = ColumnChoice(type="number", impute=asked.impute or "median", scale=asked.scale or "standard")
            return chosen if is_number else None
        case "category":
            if column.code_row is None or asked.impute or asked.scale:
                return None
            dimension = asked.dimension or default_dimension(categories(column))
            encode = asked.encode or "one_hot"
            return ColumnChoice(type="category", encode=encode, dimension=dimension if encode == "embedding" else None)
        case _:
            assert_never(wanted)


def _not_so(column: Column, pointer: str) -> errors.FeatureNotSupported:
    message = f"A column of type {column.type} cannot be taken so."
    found = {"pointer": pointer, "code": errors.FeatureNotSupported.code, "message": message}
    return errors.FeatureNotSupported(column=column.name, type=column.type, errors=[found])


def categories(column: Column) -> int:
    """What a category can be, at most: a missing value is one of its own."""
    return len(column.values or []) + bool(column.missing)


def default_dimension(categories: int) -> int:
    """The width of a learned vector, by the rule of fastai (https://docs.fast.ai/tabular.model.html)."""
    return min(600, round(1.6 * math.pow(categories, 0.56)))


def input_width(column: Column, choice: ColumnChoice) -> int:
    """Inputs of the first layer that this column becomes, at most."""
    if choice.type == "number":
        return 1
    return categories(column) if choice.encode == "one_hot" else choice.dimension or 0
