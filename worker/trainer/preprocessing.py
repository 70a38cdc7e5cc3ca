"""Preprocessing is parameters: medians, scales, category lists. They are fitted on training rows only, written to
`preprocessing.json`, and everything that transforms (this process, the server, a user's ten lines) reads them there.

Arithmetic is float32 from the float32-rounded raw value on, so that all of those agree.
"""

from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from core import errors
from core.spec.data import ColumnChoice
from core.spec.metrics import Task
from worker.trainer.order import TableColumn, TableOrder

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

COLUMNS_AT_ONCE, ROWS_AT_ONCE = 64, 2048  # of the table, while its columns become rows
SHARES_TOLERANCE = 1e-3  # by which the shares of a row may miss 1


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


class EmbeddingInput(BaseModel):
    """code = 1 + the place of the value in `categories`; null stands for a missing value. Unknown: 0."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["embedding"] = "embedding"
    categories: list[Any]
    dimension: int


class Target(BaseModel):
    """What is predicted. Several names and classes: one column of shares each class."""

    model_config = ConfigDict(frozen=True)

    names: list[str]
    task: Task
    classes: list[Any] | None


class Preprocessing(BaseModel):
    """The fitted values. `features` names the network's inputs in order; the vectors of embeddings come after them."""

    model_config = ConfigDict(frozen=True)

    inputs: list[NumberInput | CategoryInput | EmbeddingInput]
    features: list[str]
    target: Target

    def column_of(self, feature: int) -> str:
        """The column of the dataset that a feature was made of."""
        widths = [
            (one.name, len(one.categories) if isinstance(one, CategoryInput) else 1)
            for one in self.inputs
            if not isinstance(one, EmbeddingInput)
        ]
        return [name for name, width in widths for _ in range(width)][feature]

    @property
    def embeddings(self) -> list[EmbeddingInput]:
        return [one for one in self.inputs if isinstance(one, EmbeddingInput)]


class Table:
    """The arrays that ingest has stored, read one column at a time.

    A whole file would count against the memory of this process, also where the spec uses one column of a thousand. One
    column is read twice as fast as it is mapped: mapping pays for each page.
    """

    def __init__(self, order: TableOrder) -> None:
        self._order = order

    def number(self, column: TableColumn) -> Floats:
        assert self._order.numbers is not None
        assert column.number_row is not None
        return np.asarray(_row(self._order.numbers, column.number_row), np.float32)

    def code(self, column: TableColumn) -> NDArray[np.int32]:
        assert self._order.codes is not None
        assert column.code_row is not None
        return np.asarray(_row(self._order.codes, column.code_row), np.int32)

    def share(self, column: TableColumn) -> Floats:
        """A boolean as 0 and 1, or a number; missing is NaN."""
        if column.number_row is not None:
            return self.number(column)
        values = np.array([*(float(value) for value in column.values or []), np.nan], np.float32)
        return values[self.code(column)]  # -1 is the last: missing


def _row(path: str, row: int) -> NDArray[Any]:
    with Path(path).open("rb") as file:
        np.lib.format.read_magic(file)
        (_, length), _, kind = np.lib.format.read_array_header_1_0(file)
        start = file.tell() + row * length * kind.itemsize
        return np.fromfile(file, kind, length, offset=start - file.tell())


def read_target(order: TableOrder, table: Table, known: list[Any] | None = None) -> tuple[Target, NDArray[Any], Rows]:
    """The target of every row, (rows,) int64 codes of classes or (rows, columns) float32, and the rows that have one.

    The order of classes is that of the column's values, or of the classes that are `known` already.

    Raises `TargetHasInfinity` or `TargetNotShares`, with the first rows that are to blame.
    """
    spec, columns = order.spec, [order.column(name) for name in order.spec.targets]
    assert spec.task != "auto", "a resolved spec has its task"
    if spec.task == "classification" and len(columns) == 1:
        codes, classes = table.code(columns[0]).astype(np.int64), columns[0].values or []
        if known is not None:
            codes = np.array([*map(known.index, classes), -1])[codes]  # -1 is the last: missing
            classes = known
        target = Target(names=spec.targets, task=spec.task, classes=classes)
        if spec.network.output is not None and spec.network.output.units == 1:
            return target, codes.astype(np.float32)[:, None], np.flatnonzero(codes >= 0)
        return target, codes, np.flatnonzero(codes >= 0)
    matrix = np.stack([table.share(column) for column in columns], 1)
    rows = np.flatnonzero(~np.isnan(matrix).any(1))
    for place, column in enumerate(columns):
        infinite = np.flatnonzero(np.isinf(matrix[:, place]))
        if len(infinite):
            raise errors.TargetHasInfinity(column=column.name, rows=infinite[:10].tolist())
    if spec.task != "classification":
        return Target(names=spec.targets, task=spec.task, classes=None), matrix, rows
    off = rows[np.abs(matrix[rows].sum(1) - 1) > SHARES_TOLERANCE]
    if len(off):
        raise errors.TargetNotShares(columns=spec.targets, rows=off[:10].tolist())
    return Target(names=spec.targets, task=spec.task, classes=spec.targets), matrix, rows


def read_sample_weight(order: TableOrder, table: Table, rows: Rows) -> Floats | None:
    """What each row of the table counts, None where all count the same.

    Raises `SampleWeightInvalid` where that of one of these rows is no number from 0, or all are 0.
    """
    name = order.spec.sample_weight
    if name is None:
        return None
    weight = table.number(order.column(name))
    counts = weight[rows]
    if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
        raise errors.SampleWeightInvalid(column=name)
    return weight


def weigh(
    order: TableOrder, target: Target, values: NDArray[Any], sample_weight: Floats | None, train: Rows
) -> Floats | None:
    """What each row counts in the loss: its sample weight times the weight of its class, 1 on average over the training
    rows. None where all count the same.
    """
    chosen = order.spec.training.class_weights
    if chosen is None:
        if sample_weight is None:
            return None
        loss = sample_weight
    else:
        classes = target.classes or []
        codes = (values if values.ndim == 1 else values[:, 0]).astype(np.int64)
        if chosen == "balanced":
            each = np.ones(len(codes)) if sample_weight is None else sample_weight.astype(np.float64)
            counts = np.bincount(codes[train], each[train], len(classes))
            by_class = np.divide(counts.sum(), len(classes) * counts, out=np.ones(len(classes)), where=counts > 0)
        else:
            by_class = np.array([float(chosen.get(_text(value), 1.0)) for value in classes])
        loss = by_class[np.maximum(codes, 0)].astype(np.float32) * (1 if sample_weight is None else sample_weight)
    return (loss / np.mean(loss[train], dtype=np.float64)).astype(np.float32)


def fit(order: TableOrder, table: Table, target: Target, rows: Rows) -> Preprocessing:
    """Fits on the given rows: the training rows."""
    inputs: list[NumberInput | CategoryInput | EmbeddingInput] = []
    features: list[str] = []
    for name in order.spec.features.include or []:
        choice, column = order.spec.features.columns[name], order.column(name)
        match choice.encode:
            case None:
                inputs.append(_fit_number(name, table.number(column)[rows], choice))
                features.append(name)
            case "embedding":
                seen = _seen(column, table.code(column)[rows])
                inputs.append(EmbeddingInput(name=name, categories=seen, dimension=choice.dimension or 1))
            case "one_hot":
                category = CategoryInput(name=name, categories=_seen(column, table.code(column)[rows]))
                inputs.append(category)
                features += [f"{name}={'' if value is None else _text(value)}" for value in category.categories]
            case _:
                assert_never(choice.encode)
    return Preprocessing(inputs=inputs, features=features, target=target)


def _fit_number(name: str, raw: Floats, choice: ColumnChoice) -> NumberInput:
    """From float32 values on, in float64: the deviation of a constant column is 0, and no rounding noise."""
    finite = np.isfinite(raw)
    known = raw if finite.all() else raw[finite]
    if not len(known):
        return NumberInput(name=name, imputed=0.0, mean=0.0, scale=1.0)
    match choice.impute:
        case "mean":
            imputed = float(np.float32(known.astype(np.float64).mean()))
        case "median" | None:
            imputed = float(np.float32(_median(known)))
        case _:
            assert_never(choice.impute)
    match choice.scale:
        case "none":
            return NumberInput(name=name, imputed=imputed, mean=0.0, scale=1.0)
        case "standard" | None:
            filled = (raw if known is raw else np.where(finite, raw, np.float32(imputed))).astype(np.float64)
            mean = filled.mean()
            filled -= mean
            spread = float(np.float32(np.sqrt(np.dot(filled, filled) / len(filled))))
            return NumberInput(name=name, imputed=imputed, mean=float(np.float32(mean)), scale=spread or 1.0)
        case _:
            assert_never(choice.scale)


def _median(values: Floats) -> float:
    """As numpy's, in a third of its time: these are all numbers."""
    middle = len(values) // 2
    parted = np.partition(values, middle)
    upper = float(parted[middle])
    return upper if len(values) % 2 else (float(parted[:middle].max()) + upper) / 2


def _seen(column: TableColumn, codes: NDArray[np.int32]) -> list[Any]:
    """The categories that these rows have, null last."""
    values = column.values or []
    seen = np.unique(codes)
    return [values[code] for code in seen if code >= 0] + ([None] if -1 in seen else [])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def transform(
    preprocessing: Preprocessing, order: TableOrder, table: Table, rows: Rows
) -> tuple[Floats, NDArray[np.int32] | None]:
    """The network's inputs of these rows: (rows, features) float32, and (rows, embeddings) codes, if any."""
    features = np.empty((len(rows), len(preprocessing.features)), np.float32)
    embedded: list[NDArray[np.int32]] = []
    waiting: list[Floats] = []
    place = 0
    for fitted in preprocessing.inputs:
        column = order.column(fitted.name)
        match fitted:
            case NumberInput():
                raw = table.number(column)[rows]
                raw[~np.isfinite(raw)] = fitted.imputed
                raw -= np.float32(fitted.mean)
                raw /= np.float32(fitted.scale)
                waiting.append(raw)
            case CategoryInput(categories=categories):
                codes = table.code(column)[rows]
                here = [_code(category, column) for category in categories]
                waiting += [_is(codes, code) for code in here]
            case EmbeddingInput(categories=categories):
                place_of = np.zeros(len(column.values or []) + 1, np.int32)  # the last is of a missing value
                for number, category in enumerate(categories):
                    if (code := _code(category, column)) is not None:
                        place_of[code] = number + 1
                embedded.append(place_of[table.code(column)[rows]])
            case _:
                assert_never(fitted)
        if len(waiting) >= COLUMNS_AT_ONCE or fitted is preprocessing.inputs[-1]:
            _write_columns(features, place, waiting)
            place += len(waiting)
            waiting.clear()
    return features, np.stack(embedded, 1) if embedded else None


def _write_columns(features: Floats, place: int, columns: list[Floats]) -> None:
    """Writes columns beside each other, a few rows at once: a column alone would touch every page of the table."""
    for start in range(0, len(features), ROWS_AT_ONCE):
        for offset, column in enumerate(columns):
            features[start : start + ROWS_AT_ONCE, place + offset] = column[start : start + ROWS_AT_ONCE]


def _is(codes: NDArray[np.int32], code: int | None) -> Floats:
    return np.zeros(len(codes), np.float32) if code is None else (codes == code).astype(np.float32)


def _code(category: Any, column: TableColumn) -> int | None:
    """None where this table has no such category: only kept preprocessing knows one that its table does not."""
    if category is None:
        return -1
    return column.values.index(category) if column.values and category in column.values else None


def unseen_categories(preprocessing: Preprocessing, order: TableOrder, table: Table, rows: Rows) -> dict[str, int]:
    """How many of these rows have a category that is unknown, by column."""
    found: dict[str, int] = {}
    for fitted in preprocessing.inputs:
        if not isinstance(fitted, NumberInput):
            column = order.column(fitted.name)
            known = [_code(category, column) for category in fitted.categories]
            codes = table.code(column)[rows]
            unseen = int((~np.isin(codes, [code for code in known if code is not None])).sum())
            if unseen:
                found[fitted.name] = unseen
    return found
