"""Rows as a user would send them: the job's own, and copies of them with missing values and categories never seen."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.trainer.exports.numpy_functions import known_texts, text
from worker.trainer.order import TableColumn, TableOrder
from worker.trainer.preprocessing import (
    CategoryInput,
    DatetimeInput,
    EmbeddingInput,
    Input,
    NumberInput,
    OrdinalInput,
    Preprocessing,
    Table,
    VectorInput,
)
from worker.trainer.preprocessing.categories import MISSING
from worker.trainer.preprocessing.table import MISSING_MOMENT

FIRST_SECOND, END = -62_135_596_800, 253_402_300_800  # of the year 1; after the year 9999
MOST_PROBED = 100  # columns that get rows of their own


class RawRows(Table):
    """A table in memory, of the columns that are features; `order` knows one category more than the job's own does."""

    def __init__(self, order: TableOrder, fitted: Preprocessing, own: int) -> None:
        """The first `own` rows of the table, and after them the probes."""
        changed, self._arrays = dict[str, TableColumn](), dict[str, NDArray[Any]]()
        table = Table(order, most=own)
        plan = _plan(fitted, own)
        source = np.concatenate([np.arange(own), [row for row, _, _ in plan]]).astype(np.int64)
        probes: dict[str | None, list[tuple[int, str]]] = {}
        for place, (_, name, kind) in enumerate(plan):
            probes.setdefault(name, []).append((own + place, kind))
        for one in fitted.inputs:
            column = order.column(one.name)
            array = _read(one, column, table)[source]
            mine = [*probes[None], *probes.get(one.name, [])]
            array[[place for place, kind in mine if kind == "gap"]] = _gap(one)
            if isinstance(one, CategoryInput | OrdinalInput | EmbeddingInput):
                column = _with_one_more(column, one)
                array[[place for place, kind in mine if kind == "new"]] = len(column.values or []) - 1
            changed[one.name], self._arrays[one.name] = column, array
        columns = [changed.get(column.name, column) for column in order.columns]
        self.order = order.model_copy(update={"columns": columns, "rows": len(source)})
        self.order.__dict__.pop("_by_name", None)  # of the columns as they were
        super().__init__(self.order)
        self.own, self.count = own, len(source)

    def number(self, column: TableColumn, component: int = 0) -> NDArray[np.float32]:
        array = self._arrays[column.name]
        return (array if array.ndim == 1 else array[:, component]).copy()

    def code(self, column: TableColumn) -> NDArray[np.int32]:
        return self._arrays[column.name].copy()

    def moment(self, column: TableColumn) -> NDArray[np.int64]:
        return self._arrays[column.name].copy()

    def columns(self, rows: slice | list[int]) -> dict[str, Any]:
        """{column: values}, as arrays: of categories those of the dataset, None where one is missing."""
        found: dict[str, Any] = {}
        for name, array in self._arrays.items():
            known = self.order.column(name).values
            is_category = array.dtype == np.int32
            found[name] = _objects([*(known or []), None])[array[rows]] if is_category else array[rows]
        return found

    def raw(self, name: str, rows: slice) -> NDArray[Any]:
        """A column of numbers, vectors or moments as ONNX takes it."""
        return self._arrays[name][rows]

    def texts(self, name: str, missing: str, rows: slice) -> NDArray[Any]:
        """A column of categories as ONNX takes it."""
        known = map(text, self.order.column(name).values or [])
        texts: NDArray[Any] = _objects([*known, missing])[self._arrays[name][rows]]
        return texts

    def as_json(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """[{column: value}, ...] as they would come in the body of a request."""
        columns = {name: _as_json(values) for name, values in self.columns(list(rows)).items()}
        return [{name: values[place] for name, values in columns.items()} for place in range(len(rows))]


Probe = tuple[int, str | None, str]  # which row is copied; which column is changed, or all; to a gap or a new category


def _plan(fitted: Preprocessing, own: int) -> list[Probe]:
    names = [one.name for one in fitted.inputs]
    chosen = names[:: -(-len(names) // MOST_PROBED)]
    probes: Iterator[tuple[str | None, str]] = ((name, kind) for name in [None, *chosen] for kind in ("gap", "new"))
    return [(place % own, name, kind) for place, (name, kind) in enumerate(probes)]


def _read(one: Input, column: TableColumn, table: Table) -> NDArray[Any]:
    match one:
        case NumberInput():
            return table.number(column)
        case VectorInput():
            return np.stack([table.number(column, place) for place in range(one.size)], 1)
        case DatetimeInput():
            return table.moment(column)
        case CategoryInput() | OrdinalInput() | EmbeddingInput():
            return table.code(column)


def _gap(one: Input) -> Any:
    match one:
        case NumberInput() | VectorInput():
            return np.nan
        case DatetimeInput():
            return MISSING_MOMENT
        case CategoryInput() | OrdinalInput() | EmbeddingInput():
            return MISSING


def _with_one_more(column: TableColumn, one: CategoryInput | OrdinalInput | EmbeddingInput) -> TableColumn:
    """With a last value that nobody has seen.

    It also stands for values whose text says another category than they do, as that of the number 1 where "1" is known:
    kept preprocessing can meet them, and an `order` of several types.
    """
    values, known, new = column.values or [], known_texts(one.categories), "never seen"
    while new in known or new in values:
        new += "!"
    places = {value: place for place, value in enumerate(one.categories)}
    kept = [value if places.get(value) == known.get(text(value)) else new for value in values]
    return column.model_copy(update={"values": [*kept, new]})


def _objects(values: list[Any]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _as_json(values: NDArray[Any]) -> list[Any]:
    if values.dtype == np.int64:
        return [_moment(value) for value in values.tolist()]
    if values.dtype == object:
        return list(values)
    if np.isfinite(values).all():
        return list(values.tolist())
    return [_number(value) for value in values.tolist()]


def _moment(value: int) -> Any:
    """ISO 8601 has the years 1 to 9999; seconds are taken as well."""
    if value == MISSING_MOMENT:
        return None
    return str(np.datetime64(value, "s")) if FIRST_SECOND <= value < END else value


def _number(value: Any) -> Any:
    """JSON has no NaN, and no infinity: both are missing."""
    if isinstance(value, list):
        return [_number(one) for one in value]
    return value if abs(value) < np.inf else None
