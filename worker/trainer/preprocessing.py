"""Preprocessing is parameters: medians, scales, category lists. They are fitted on training rows only, written to
`preprocessing.json`, and everything that transforms (this process, the server, a user's ten lines) reads them there.

Arithmetic is float32 from the float32-rounded raw value on, so that all of those agree.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from core import errors
from worker.trainer.order import TableColumn, TrainingOrder

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class NumberInput(BaseModel):
    """feature = (value, or `imputed` where it is missing, - `mean`) / `scale`"""

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["number"] = "number"
    imputed: float
    mean: float
    scale: float


class CategoryInput(BaseModel):
    """feature k = 1 where the value is `categories[k]`, else 0; null stands for a missing value. Unknown: all 0."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["category"] = "category"
    categories: list[Any]


class Target(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    task: Literal["classification", "regression"]
    classes: list[Any] | None


class Preprocessing(BaseModel):
    """The fitted values. `features` names the network's inputs in order."""

    model_config = ConfigDict(frozen=True)

    inputs: list[NumberInput | CategoryInput]
    features: list[str]
    target: Target


class Table:
    """The arrays that ingest has stored, mapped into memory one column at a time.

    A whole file would count against the memory of this process, also where the spec uses one column of a thousand.
    """

    def __init__(self, order: TrainingOrder) -> None:
        self._order = order

    def number(self, column: TableColumn) -> Floats:
        assert self._order.numbers is not None
        assert column.number_row is not None
        return np.asarray(_row(self._order.numbers, column.number_row), np.float32)

    def code(self, column: TableColumn) -> NDArray[np.int32]:
        assert self._order.codes is not None
        assert column.code_row is not None
        return np.asarray(_row(self._order.codes, column.code_row), np.int32)


def _row(path: str, row: int) -> NDArray[Any]:
    with Path(path).open("rb") as file:
        np.lib.format.read_magic(file)
        (_, length), _, kind = np.lib.format.read_array_header_1_0(file)
        start = file.tell() + row * length * kind.itemsize
    return np.memmap(path, kind, mode="r", offset=start, shape=(length,))


def read_target(order: TrainingOrder, table: Table) -> tuple[Target, NDArray[Any], Rows]:
    """The target of every row (class codes, or numbers), and the rows that have one.

    Raises `TargetHasInfinity` where a number to predict is infinite.
    """
    column = order.column(order.spec.target)
    if order.spec.task == "classification":
        codes = table.code(column).astype(np.int64)
        target = Target(name=column.name, task="classification", classes=column.values)
        return target, codes, np.flatnonzero(codes >= 0)
    numbers = np.array(table.number(column))  # torch wants memory that it could write to
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise errors.TargetHasInfinity(column=column.name, rows=infinite[:10].tolist())
    return Target(name=column.name, task="regression", classes=None), numbers, np.flatnonzero(~np.isnan(numbers))


def fit(order: TrainingOrder, table: Table, target: Target, rows: Rows) -> Preprocessing:
    """Fits on the given rows: the training rows."""
    inputs: list[NumberInput | CategoryInput] = []
    features: list[str] = []
    for name in order.spec.features.include or []:
        choice = order.spec.features.columns[name]
        column = order.column(name)
        if choice.type == "number":
            inputs.append(_fit_number(name, table.number(column)[rows], choice.impute, choice.scale))
            features.append(name)
        else:
            category = _fit_category(column, table.code(column)[rows])
            inputs.append(category)
            features += [f"{name}={'' if value is None else _text(value)}" for value in category.categories]
    return Preprocessing(inputs=inputs, features=features, target=target)


def _fit_number(name: str, raw: Floats, impute: str | None, scale: str | None) -> NumberInput:
    known = raw[np.isfinite(raw)].astype(np.float64)
    if not len(known):
        return NumberInput(name=name, imputed=0.0, mean=0.0, scale=1.0)
    imputed = float(np.float32(np.mean(known) if impute == "mean" else np.median(known)))
    if scale == "none":
        return NumberInput(name=name, imputed=imputed, mean=0.0, scale=1.0)
    filled = np.where(np.isfinite(raw), raw, np.float32(imputed)).astype(np.float64)
    # Float32 values sum up exactly in float64: the deviation of a constant column is 0, and no rounding noise.
    spread = float(np.float32(np.std(filled)))
    return NumberInput(name=name, imputed=imputed, mean=float(np.float32(np.mean(filled))), scale=spread or 1.0)


def _fit_category(column: TableColumn, codes: NDArray[np.int32]) -> CategoryInput:
    values = column.values or []
    seen = np.unique(codes)
    categories = [values[code] for code in seen if code >= 0] + ([None] if -1 in seen else [])
    return CategoryInput(name=column.name, categories=categories)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def transform(preprocessing: Preprocessing, order: TrainingOrder, table: Table) -> Floats:
    """The network's inputs of all rows: (rows, features) float32."""
    features = np.zeros((order.rows, len(preprocessing.features)), np.float32)
    place = 0
    for fitted in preprocessing.inputs:
        column = order.column(fitted.name)
        match fitted:
            case NumberInput():
                raw = table.number(column)
                filled = np.where(np.isfinite(raw), raw, np.float32(fitted.imputed))
                features[:, place] = (filled - np.float32(fitted.mean)) / np.float32(fitted.scale)
                place += 1
            case CategoryInput(categories=categories):
                values = column.values or []
                codes = table.code(column)
                for category in categories:
                    features[:, place] = codes == (-1 if category is None else values.index(category))
                    place += 1
    return features
