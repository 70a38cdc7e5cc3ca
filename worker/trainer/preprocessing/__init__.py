"""Preprocessing is parameters: medians, scales, category lists, knots. They are fitted on training rows only, written
to `preprocessing.json`, and everything that transforms (this process, the server, a user's ten lines) reads them there.

Arithmetic is float32 from the float32-rounded raw value on, so that all of those agree; dates are integers until they
have become a difference or a part.
"""

from collections.abc import Iterator
from typing import Annotated, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from core import errors
from core.spec.features import ColumnChoice
from worker.trainer.order import TableColumn, TableOrder
from worker.trainer.preprocessing.categories import (
    CategoryInput,
    EmbeddingInput,
    OrdinalInput,
    embedding_codes,
    fit_embedding,
    fit_one_hot,
    fit_ordinal,
    one_hot_columns,
    ordinal_columns,
    unseen_rows,
)
from worker.trainer.preprocessing.dates import DatetimeInput, datetime_columns, fit_datetime
from worker.trainer.preprocessing.numbers import NumberInput, fit_number, number_columns
from worker.trainer.preprocessing.scaling import Affine, Quantiles
from worker.trainer.preprocessing.table import Floats, Rows, Table, of_rows
from worker.trainer.preprocessing.target import (
    Target,
    fit_target,
    read_sample_weight,
    read_target,
    scaled_target,
    weigh,
)
from worker.trainer.preprocessing.vectors import VectorInput, fit_vector, vector_columns

__all__ = [
    "Affine",
    "CategoryInput",
    "DatetimeInput",
    "EmbeddingInput",
    "Floats",
    "Input",
    "NumberInput",
    "OrdinalInput",
    "Preprocessing",
    "Quantiles",
    "Rows",
    "Table",
    "Target",
    "VectorInput",
    "fit",
    "read_sample_weight",
    "read_target",
    "scaled_target",
    "transform",
    "unseen_categories",
    "weigh",
]

COLUMNS_AT_ONCE = 64  # that become rows together: of fewer, each page of the table would be touched more often

Input = Annotated[
    NumberInput | CategoryInput | OrdinalInput | EmbeddingInput | DatetimeInput | VectorInput,
    Field(discriminator="type"),
]


class Preprocessing(BaseModel):
    """The fitted values. `features` names the network's inputs in order; the vectors of embeddings come after them."""

    model_config = ConfigDict(frozen=True)

    inputs: list[Input]
    features: list[str]
    target: Target

    def column_of(self, feature: int) -> str:
        """The column of the dataset that a feature was made of."""
        return [one.name for one in self.inputs for _ in one.features][feature]

    def saying(self, thresholds: list[float] | None) -> "Preprocessing":
        """The same, with what the labels are said by."""
        return self.model_copy(update={"target": self.target.model_copy(update={"thresholds": thresholds})})

    @property
    def embeddings(self) -> list[EmbeddingInput]:
        return [one for one in self.inputs if isinstance(one, EmbeddingInput)]


def fit(order: TableOrder, table: Table, target: Target, rows: Rows) -> Preprocessing:
    """Fits on the given rows: the training rows."""
    chosen = order.spec.features.columns
    inputs = [_fit(order.column(name), chosen[name], table, rows) for name in order.spec.features.include or []]
    features = [name for one in inputs for name in one.features]
    return Preprocessing(inputs=inputs, features=features, target=fit_target(order, table, target, rows))


def _fit(column: TableColumn, choice: ColumnChoice, table: Table, rows: Rows) -> Input:
    match choice.type:
        case "number":
            return fit_number(column.name, of_rows(table.number(column), rows), choice)
        case "datetime":
            return fit_datetime(column.name, of_rows(table.moment(column), rows), choice)
        case "vector":
            return fit_vector(
                column.name, lambda place: of_rows(table.number(column, place), rows), column.size or 0, choice
            )
        case "category" | None:
            codes = of_rows(table.code(column), rows)
            match choice.encode:
                case "embedding":
                    return fit_embedding(column, codes, choice)
                case "ordinal":
                    return fit_ordinal(column, codes, choice)
                case "one_hot" | None:
                    return fit_one_hot(column, codes, choice)
                case _:
                    assert_never(choice.encode)
        case _:
            assert_never(choice.type)


def transform(
    preprocessing: Preprocessing, order: TableOrder, table: Table, rows: Rows
) -> tuple[Floats, NDArray[np.int32] | None]:
    """The network's inputs of these rows: (rows, features) float32, and (rows, embeddings) codes, if any.

    Raises `StartMismatch` where a vector is not as long as in the rows of the fit.
    """
    features = np.empty((len(rows), len(preprocessing.features)), np.float32)
    if not len(rows):
        return features, np.empty((0, len(preprocessing.embeddings)), np.int32) if preprocessing.embeddings else None
    block = np.empty((min(COLUMNS_AT_ONCE, features.shape[1]), len(rows)), np.float32)
    place = count = 0
    for fitted in preprocessing.inputs:
        for column in _columns(fitted, order.column(fitted.name), table, rows):
            block[count] = column
            count += 1
            if count == len(block):
                _write_columns(features, place, block)
                place, count = place + count, 0
    _write_columns(features, place, block[:count])
    embedded = [
        embedding_codes(one, column, of_rows(table.code(column), rows))
        for one in preprocessing.embeddings
        for column in [order.column(one.name)]
    ]
    return features, np.stack(embedded, 1) if embedded else None


def _columns(fitted: Input, column: TableColumn, table: Table, rows: Rows) -> Iterator[Floats]:
    """The features that one column becomes, each of them (rows,)."""
    match fitted:
        case NumberInput():
            return number_columns(fitted, of_rows(table.number(column), rows))
        case CategoryInput():
            return one_hot_columns(fitted, column, of_rows(table.code(column), rows))
        case OrdinalInput():
            return ordinal_columns(fitted, column, of_rows(table.code(column), rows))
        case DatetimeInput():
            return datetime_columns(fitted, of_rows(table.moment(column), rows))
        case VectorInput():
            if fitted.size != column.size:
                raise errors.StartMismatch(
                    f"Its vectors have {fitted.size} numbers, and here they have {column.size}.", column=column.name
                )
            return vector_columns(fitted, lambda place: of_rows(table.number(column, place), rows))
        case EmbeddingInput():
            return iter(())
        case _:
            assert_never(fitted)


def _write_columns(features: Floats, place: int, columns: Floats) -> None:
    """Writes columns beside each other: one alone would touch every page of the table. torch takes blocks of both."""
    torch.from_numpy(features)[:, place : place + len(columns)].copy_(torch.from_numpy(columns).T)


def unseen_categories(preprocessing: Preprocessing, order: TableOrder, table: Table, rows: Rows) -> dict[str, int]:
    """How many of these rows have a category that is unknown, by column."""
    found: dict[str, int] = {}
    for fitted in preprocessing.inputs:
        match fitted:
            case CategoryInput() | OrdinalInput() | EmbeddingInput():
                column = order.column(fitted.name)
                if unseen := unseen_rows(fitted, column, of_rows(table.code(column), rows)):
                    found[fitted.name] = unseen
            case NumberInput() | DatetimeInput() | VectorInput():
                pass
            case _:
                assert_never(fitted)
    return found
