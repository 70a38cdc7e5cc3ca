"""Predictions of a stored dataset by `network.onnx`: read, predicted and written a batch at a time.

The same values go in as in a request: float32 numbers, texts of categories, seconds.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.compute  # `take` would load it in each process
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from core import errors
from core.learned import Learned, learned, stands_for_nothing, text
from worker.trainer.messages import ANSWER, Answered, Channel, Phase
from worker.trainer.order import PredictionsOrder, TableColumn

ROWS_AT_ONCE = 8192
ROWS_A_GROUP = 16 * ROWS_AT_ONCE  # of the file that is made: each group costs its writer and its readers time
MISSING_MOMENT = np.iinfo(np.int64).min
MAX_FIRST_ROWS = 10  # that a warning names

Array = NDArray[Any]
Read = Callable[[slice], Array]


def predict_table(order: PredictionsOrder, channel: Channel) -> None:
    """Writes the predictions of every row, and what should be known of them, and says `Answered`.

    Raises `ColumnTypeMismatch` or `ColumnNotFound`.
    """
    channel.say(Phase("predicting"))
    folder = Path(order.folder) / ANSWER
    folder.mkdir()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(order.network, options, providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["backpropd"])
    fitted = json.loads(Path(order.preprocessing).read_text())
    output = [said["outputs"][said["scores"]]]

    fields = _fields(said)
    with ExitStack() as open_files:
        columns = _Columns(order, fitted, open_files)
        writer = open_files.enter_context(
            _writer(folder / f"predictions.{order.format}", order.format, pa.schema(fields))
        )
        writing = open_files.enter_context(ThreadPoolExecutor(1))  # while the next group is predicted
        written: Future[None] | None = None
        for group in _slices(0, order.rows, ROWS_A_GROUP):
            batches = []
            for rows in _slices(group.start, group.stop, ROWS_AT_ONCE):
                scores = session.run(output, columns.feeds(said["inputs"], rows))[0]
                arrays = [_arrow(np.arange(rows.start, rows.stop)), *_answers(scores, said)]
                batches.append(pa.record_batch(arrays, pa.schema(fields)))
                channel.say(Phase("predicting"))  # it lives
            if written is not None:
                written.result()
            written = writing.submit(writer.write_table, pa.Table.from_batches(batches))
        if written is not None:
            written.result()
    found = {"rows": order.rows, "columns": [field.name for field in fields], "warnings": columns.warnings()}
    (folder / "summary.json").write_text(json.dumps(found, ensure_ascii=False))
    channel.say(Answered())


def _slices(start: int, stop: int, most: int) -> Iterator[slice]:
    for first in range(start, stop, most):
        yield slice(first, min(stop, first + most))


def _writer(path: Path, kind: str, schema: pa.Schema) -> Any:
    if kind == "csv":
        return pa.csv.CSVWriter(path, schema)
    labels = [field.name for field in schema if field.type != pa.float32() and field.name != "row"]
    return pa.parquet.ParquetWriter(
        path,
        schema,
        use_dictionary=labels or False,  # numbers are all different
        column_encoding={"row": "DELTA_BINARY_PACKED"},  # it counts: nothing is left of it
    )


# --- what goes in -------------------------------------------------------------------------------------------------


class _Columns:
    """The columns of a table that a network takes, in its form; and what it has not learned from."""

    def __init__(self, order: PredictionsOrder, fitted: dict[str, Any], open_files: ExitStack) -> None:
        self._order = order
        self._found: dict[tuple[str, str], tuple[dict[str, Any], int, list[int]]] = {}
        self._open = open_files
        self._files: dict[str, tuple[Any, int, int, np.dtype[Any]]] = {}  # where its numbers begin, columns, type
        self._read: dict[str, Read] = {}
        self._learned = {one["name"]: learned(one) for one in fitted["inputs"]}
        sizes = {one["name"]: len(one["center"]) for one in fitted["inputs"] if one["type"] == "vector"}
        theirs = {column.name: column for column in order.columns}
        if not theirs.keys() & self._learned.keys():
            raise errors.ColumnNotFound("The dataset has none of the columns that the network takes.")
        for name, one in self._learned.items():
            if name in theirs:
                self._read[name] = self._reader(theirs[name], one, sizes.get(name))
            else:
                self._warn("missing_column", name, one.when_missing, slice(0, order.rows), None)
                self._read[name] = _nothing(one, sizes.get(name))

    def feeds(self, inputs: list[dict[str, Any]], rows: slice) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for one in inputs:
            name = one["name"]
            match one["type"]:
                case "numbers":
                    found[name] = np.stack([self._numbers(column, rows) for column in one["columns"]], 1)
                case "number":
                    found[name] = self._numbers(name, rows)[:, None]
                case "vector":
                    found[name] = self._numbers(name, rows)
                case "category":
                    found[name] = self._categories(name, one["missing"], rows)[:, None]
                case _:
                    found[name] = self._moments(name, rows)[:, None]
        return found

    def warnings(self) -> list[dict[str, Any]]:
        """What was found over all rows, as the API says it of a request."""
        return [
            {"code": code, "column": column, **facts, "rows": count, "first_rows": first}
            for (code, column), (facts, count, first) in self._found.items()
        ]

    def _warn(self, code: str, name: str, facts: dict[str, Any], rows: slice, marked: Array | None) -> None:
        """`marked` are those of the batch `rows`, or all."""
        found = rows.stop - rows.start if marked is None else int(np.count_nonzero(marked))
        if found:
            _, count, first = self._found.get((code, name), (facts, 0, []))
            if len(first) < MAX_FIRST_ROWS:
                places = np.arange(found) if marked is None else np.flatnonzero(marked)
                first = [*first, *(places[: MAX_FIRST_ROWS - len(first)] + rows.start).tolist()]
            self._found[code, name] = facts, count + found, first

    def _numbers(self, name: str, rows: slice) -> Array:
        values, one = self._read[name](rows), self._learned[name]
        if one.range is not None:
            outside: NDArray[np.bool_] = (values < one.range[0]) | (values > one.range[1])
            marked = outside if outside.ndim == 1 else np.any(outside, axis=1)
            self._warn("out_of_range", name, one.when_outside, rows, np.asarray(marked))
        return values

    def _moments(self, name: str, rows: slice) -> Array:
        values, one = self._read[name](rows), self._learned[name]
        if one.range is not None:
            outside = ((values < one.range[0]) | (values > one.range[1])) & (values != MISSING_MOMENT)
            self._warn("out_of_range", name, one.when_outside, rows, outside)
        return values

    def _categories(self, name: str, missing: str, rows: slice) -> Array:
        """`self._read` gives texts, None where one is missing."""
        values, one = self._read[name](rows), self._learned[name]
        different = set(values.tolist()) - {None}
        if new := different - one.known:
            unseen = np.fromiter((value in new for value in values), bool, len(values))
            self._warn("unseen_category", name, one.when_unseen, rows, unseen)
        other = stands_for_nothing(missing, one.known)
        if missing in different or None in values.tolist():
            means: dict[Any, str] = {None: missing}
            if other is not None:
                means[missing] = other
            values = np.array([means.get(value, value) for value in values], object)
        return values

    # --- from the stored arrays -----------------------------------------------------------------------------------

    def _reader(self, column: TableColumn, one: Learned, size: int | None) -> Read:
        """Raises `ColumnTypeMismatch`. A column that is empty there is of any type."""
        match one.kind:
            case "number" if column.number_row is not None and column.type != "vector":
                return lambda rows: self._row("numbers", column.number_row or 0, rows)
            case "number" if column.type == "boolean":
                values = np.array([*(float(value) for value in column.values or []), np.nan], np.float32)
                return lambda rows: values[self._row("codes", column.code_row or 0, rows)]
            case "vector" if column.type == "vector" and column.size == size:
                first = column.number_row or 0
                places = range(first, first + (size or 0))
                return lambda rows: np.stack([self._row("numbers", place, rows) for place in places], 1)
            case "datetime" if column.moment_row is not None:
                return lambda rows: self._row("moments", column.moment_row or 0, rows)
            case "category" | "ordinal" | "embedding" if column.code_row is not None:
                texts = _objects([*map(text, column.values or []), None])
                return lambda rows: texts[self._row("codes", column.code_row or 0, rows)]
            case "category" | "ordinal" | "embedding" if self._order.parquet is not None and column.type != "vector":
                batches = self._whole(column)
                return lambda _: next(batches)  # in order, and as many rows
        if not column.values and column.number_row is None and column.moment_row is None:
            return _nothing(one, size)
        shown = column.name[: errors.KEY_LENGTH]
        message = f"Column {shown} is of type {column.type} here, and the network takes {one.kind}."
        raise errors.ColumnTypeMismatch(message, column=column.name, type=column.type, expected=one.kind)

    def _row(self, file: str, row: int, rows: slice) -> Array:
        """A piece of one row of an array: mapping it would count all of it as ours."""
        if file not in self._files:
            opened = self._open.enter_context(Path(getattr(self._order, file)).open("rb", buffering=0))  # noqa: SIM115 - with the others
            np.lib.format.read_magic(opened)
            (_, length), _, kind = np.lib.format.read_array_header_1_0(opened)
            self._files[file] = opened, opened.tell(), length, kind
        opened, start, length, kind = self._files[file]
        opened.seek(start + (row * length + rows.start) * kind.itemsize)
        return np.fromfile(opened, kind, rows.stop - rows.start)

    def _whole(self, column: TableColumn) -> Iterator[Array]:
        """A column that is in no array, as texts, by batches."""
        assert self._order.parquet is not None
        place = [one.name for one in self._order.columns].index(column.name)  # names there may differ in case alone
        with pa.parquet.ParquetFile(self._order.parquet) as file:
            left: list[Any] = []
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[file.schema_arrow.names[place]]):
                left += [None if value is None or value != value else text(value) for value in batch[0].to_pylist()]
                while len(left) >= ROWS_AT_ONCE:
                    yield _objects(left[:ROWS_AT_ONCE])
                    left = left[ROWS_AT_ONCE:]
            if left:
                yield _objects(left)


def _nothing(one: Learned, size: int | None) -> Read:
    """Missing in every row."""

    def read(rows: slice) -> Array:
        count = rows.stop - rows.start
        match one.kind:
            case "number":
                return np.full(count, np.nan, np.float32)
            case "vector":
                return np.full((count, size or 0), np.nan, np.float32)
            case "datetime":
                return np.full(count, MISSING_MOMENT, np.int64)
            case _:
                return np.full(count, None, object)

    return read


def _objects(values: list[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


# --- what comes out -----------------------------------------------------------------------------------------------


def _fields(said: dict[str, Any]) -> list[pa.Field]:
    """`row`, and what belongs to the task."""
    names, single = said["targets"], "probability" if said["scores"] == "probabilities" else "score"
    fields = [pa.field("row", pa.int64())]
    match said["task"]:
        case "classification":
            fields += [pa.field("label", _label_type(said["classes"]))]
            fields += [pa.field(f"{single}_{text(one)}", pa.float32()) for one in said["classes"]]
        case "multilabel":
            fields += [pa.field(f"label_{name}", pa.bool_()) for name in names]
            fields += [pa.field(f"{single}_{name}", pa.float32()) for name in names]
        case _ if said["quantiles"]:
            before = [f"{name}_quantile" for name in names] if len(names) > 1 else ["quantile"]
            fields += [pa.field(f"{one}_{quantile}", pa.float32()) for one in before for quantile in said["quantiles"]]
        case _:
            shown = [f"value_{name}" for name in names] if len(names) > 1 else ["value"]
            fields += [pa.field(name, pa.float32()) for name in shown]
    return fields


def _label_type(classes: list[Any]) -> pa.DataType:
    if all(isinstance(one, bool) for one in classes):
        return pa.bool_()
    return pa.int64() if all(type(one) is int for one in classes) else pa.string()


def _answers(scores: Array, said: dict[str, Any]) -> list[pa.Array]:
    flat = scores.reshape(len(scores), -1)
    limits = np.array(said["thresholds"], scores.dtype)
    labels: list[pa.Array] = []
    match said["task"]:
        case "classification":
            place = (flat[:, 1] > limits[0]).astype(np.int64) if flat.shape[1] == 2 else flat.argmax(1)
            labels = [_classes(said["classes"]).take(_arrow(place))]
        case "multilabel":
            labels = [_arrow(column) for column in (flat > limits).T]
    return [*labels, *(_arrow(column) for column in flat.T)]


def _classes(classes: list[Any]) -> pa.Array:
    if (kind := _label_type(classes)) != pa.string():
        return _arrow(np.array(classes, np.bool_ if kind == pa.bool_() else np.int64))
    texts = [text(one).encode() for one in classes]
    ends = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))


def _arrow(values: Array) -> pa.Array:
    """Without `pa.array`, which looks for pandas: `worker.preload` keeps that out."""
    if values.dtype == np.bool_:
        return pa.Array.from_buffers(
            pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))]
        )
    kind = pa.float32() if values.dtype == np.float32 else pa.int64()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
