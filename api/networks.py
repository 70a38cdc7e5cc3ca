"""Networks that predict in this process: `network.onnx` run by onnxruntime, and what is said of rows that it has not
learned from.

The one module of the API that knows numpy. It is imported by the first prediction: a process that never predicts does
without both libraries.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from itertools import chain
from typing import Any

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would report to Microsoft from its import on, and leave a file in /tmp
import onnxruntime
from numpy.typing import NDArray

from api.answers import Scores, Warnings
from api.rows import MAX_ERRORS, Asked, Named, field_error, refuse
from core import errors
from core.learned import learned, stands_for_nothing, text

ROWS_AT_ONCE = 4096  # in one call of onnxruntime: what it holds between its layers stays small
FEW = 64  # rows: many columns of so few become an array faster together, and those of more one by one
MISSING_MOMENT = -(2**63)
MOST_SECONDS = 2**53  # either way; a moment of the year 9999 has 38 bits
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NUMBERS: frozenset[type] = frozenset({float, int, bool, type(None)})
WORDS: frozenset[type] = frozenset({str, float, int, bool, type(None)})
COSTS = 3  # times its file: what a loaded network takes, by measurement, and its file while it is loaded

Array = NDArray[Any]


@dataclass(frozen=True)
class Files:
    """What a job has left that predictions need."""

    onnx: bytes
    preprocessing: bytes
    spec: bytes

    @property
    def cost(self) -> int:
        """Bytes in memory, about."""
        return COSTS * (len(self.onnx) + len(self.preprocessing))


class Network:
    """One network, loaded. Any number of threads may ask it at once, and it answers all of them the same."""

    def __init__(self, files: Files) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # requests run beside each other instead
        options.enable_cpu_mem_arena = False  # it would keep what the largest request took
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(files.onnx, options, providers=["CPUExecutionProvider"])
        self.said = json.loads(self._session.get_modelmeta().custom_metadata_map["backpropd"])
        fitted, spec = json.loads(files.preprocessing), json.loads(files.spec)
        self._inputs = {one["name"]: _Input(one) for one in fitted["inputs"]}
        self._numbers = [name for name, one in self._inputs.items() if one.kind == "number"]
        ranges = [self._inputs[name].learned.range or (math.nan, math.nan) for name in self._numbers]
        self._least, self._most = np.array(ranges, np.float32).reshape(-1, 2, 1).transpose(1, 0, 2)
        self._output = self.said["outputs"][self.said["scores"]]
        target = spec["target"] if isinstance(spec["target"], list) else [spec["target"]]
        kinds = {one.kind for one in self._inputs.values()}
        self.named = Named(
            inputs=list(self._inputs),
            beside={name for name in (*target, spec.get("sample_weight"), spec["split"].get("by")) if name},
            vector=next(iter(self._inputs)) if len(self._inputs) == 1 and kinds == {"vector"} else None,
            all_numbers=kinds == {"number"},
        )

    def predict(self, asked: Asked, warnings: Warnings) -> Scores:
        """Raises `InvalidRows`, with each value that is none of its column."""
        for name, rows in asked.absent.items():
            warnings.add("missing_column", name, rows, self._inputs[name].learned.when_missing)
        wrong: list[errors.FieldError] = []
        arrays = self._numbers_at_once(asked, warnings)
        for name, one in self._inputs.items():
            array = arrays[name] if name in arrays else one.read(name, asked, warnings, wrong)
            if array is not None:
                arrays[name] = array
        if wrong:
            raise refuse(*wrong)
        feeds = {one["name"]: self._feed(one, arrays) for one in self.said["inputs"]}
        parts = [
            self._session.run(
                [self._output], {name: array[start : start + ROWS_AT_ONCE] for name, array in feeds.items()}
            )[0]
            for start in range(0, asked.count, ROWS_AT_ONCE)
        ]
        scores = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Scores(scores.tolist(), self._places(scores))

    def _numbers_at_once(self, asked: Asked, warnings: Warnings) -> dict[str, Array]:
        """The columns of numbers as one block; none of them where one must be looked at by itself."""
        if asked.block is not None:
            exact = np.frombuffer(asked.block).reshape(asked.count, -1).T
        else:
            columns = [asked.columns[name] for name in self._numbers]
            if not set(map(type, chain.from_iterable(columns))) <= NUMBERS:
                return {}
            try:
                exact = (
                    np.stack([np.array(one, np.float64) for one in columns])
                    if asked.count > FEW
                    else np.array(columns, np.float64)
                )
            except (OverflowError, ValueError):
                return {}
        with np.errstate(over="ignore"):
            singles = exact.astype(np.float32)
        if np.isinf(singles).any():
            return {}
        outside = (singles < self._least) | (singles > self._most)
        for place in np.flatnonzero(outside.any(1)).tolist():
            name = self._numbers[place]
            rows = np.flatnonzero(outside[place]).tolist()
            warnings.add("out_of_range", name, rows, self._inputs[name].learned.when_outside)
        return dict(zip(self._numbers, singles, strict=True))

    def _feed(self, described: dict[str, Any], arrays: dict[str, Array]) -> Array:
        name = described["name"]
        match described["type"]:
            case "numbers":
                return np.stack([arrays[column] for column in described["columns"]], 1)
            case "vector":
                return arrays[name]
            case "category":
                array, missing = arrays[name], described["missing"]
                if (other := stands_for_nothing(missing, self._inputs[name].learned.known)) is not None:
                    array[array == missing] = other
                array[array == None] = missing  # noqa: E711 - of each element
                return array[:, None]
            case _:
                return arrays[name][:, None]

    def _places(self, scores: Array) -> list[Any]:
        """Of classes, the place of the one that is said; of labels, whether each is; else nothing."""
        task, limits = self.said["task"], self.said["thresholds"]
        if task == "multilabel":
            return list((scores > np.array(limits, scores.dtype)).tolist())
        if task != "classification":
            return []
        if scores.shape[1] == 2:
            return list((scores[:, 1] > np.array(limits[0], scores.dtype)).astype(np.int64).tolist())
        return list(scores.argmax(1).tolist())


# --- columns ------------------------------------------------------------------------------------------------------


class _Input:
    """One column, as `preprocessing.json` describes it: what it takes, and what it makes of what it does not know."""

    def __init__(self, fitted: dict[str, Any]) -> None:
        self.kind: str = fitted["type"]
        self.learned = learned(fitted)
        self._size = len(fitted["center"]) if self.kind == "vector" else 0

    def read(self, name: str, asked: Asked, warnings: Warnings, wrong: list[errors.FieldError]) -> Array | None:
        """The values of all rows as the network takes them; None where there is one that it does not."""
        values, before = asked.columns[name], len(wrong)

        def refuse_at(row: int, code: str, message: str, *inner: int) -> None:
            if len(wrong) < MAX_ERRORS:
                pointer = asked.pointer(row, name) + "".join(f"/{place}" for place in inner)
                wrong.append(field_error(pointer, code, message))

        match self.kind:
            case "number":
                array = self._numbers(name, values, warnings, refuse_at)
            case "vector":
                array = self._vectors(name, values, warnings, refuse_at)
            case "datetime":
                array = self._moments(name, values, warnings, refuse_at)
            case _:
                array = self._texts(name, values, warnings, refuse_at)
        return array if len(wrong) == before else None

    def _numbers(self, name: str, values: Sequence[Any], warnings: Warnings, refuse_at: Callable[..., None]) -> Array:
        exact = _doubles(values, lambda place, message: refuse_at(place, "number_type", message))
        with np.errstate(over="ignore"):
            singles = exact.astype(np.float32)
        if self.learned.range is not None:
            least, most = self.learned.range
            outside = (singles < least) | (singles > most)
            if outside.any():
                infinite = np.isinf(singles)
                warnings.add(
                    "out_of_range", name, np.flatnonzero(outside & ~infinite).tolist(), self.learned.when_outside
                )
                over = {**self.learned.when_outside, **self.learned.when_missing}  # no float32: as if it were missing
                warnings.add("out_of_range", name, np.flatnonzero(infinite).tolist(), over)
        return singles

    def _vectors(self, name: str, values: Sequence[Any], warnings: Warnings, refuse_at: Callable[..., None]) -> Array:
        size = self._size
        gap, message = [None] * size, f"Must be a list of {size} numbers."
        rows = [gap if value is None else value for value in values]
        if wrong := [place for place, row in enumerate(rows) if type(row) is not list or len(row) != size]:
            for place in wrong[:MAX_ERRORS]:
                refuse_at(place, "vector_length", message)
            return np.empty(0)

        def at(place: int, message: str) -> None:
            refuse_at(place // size, "number_type", message, place % size)

        with np.errstate(over="ignore"):
            singles = _doubles(list(chain.from_iterable(rows)), at).astype(np.float32).reshape(-1, size)
        if self.learned.range is not None:
            least, most = self.learned.range
            outside = ((singles < least) | (singles > most)).any(1)
            warnings.add("out_of_range", name, np.flatnonzero(outside).tolist(), self.learned.when_outside)
        return singles

    def _moments(self, name: str, values: Sequence[Any], warnings: Warnings, refuse_at: Callable[..., None]) -> Array:
        found = np.full(len(values), MISSING_MOMENT, np.int64)
        for place, value in enumerate(values):
            if value is not None:
                try:
                    found[place] = _seconds(value)
                except ValueError:
                    message = "Must be a date or time as RFC 3339 has it, such as 2026-01-31 or 2026-01-31T09:30:00Z."
                    refuse_at(place, "datetime_type", message)
        if self.learned.range is not None:
            least, most = self.learned.range
            outside = ((found < least) | (found > most)) & (found != MISSING_MOMENT)
            warnings.add("out_of_range", name, np.flatnonzero(outside).tolist(), self.learned.when_outside)
        return found

    def _texts(self, name: str, values: Sequence[Any], warnings: Warnings, refuse_at: Callable[..., None]) -> Array:
        kinds = set(map(type, values))
        if not kinds <= WORDS:
            for place in [place for place, value in enumerate(values) if type(value) not in WORDS][:MAX_ERRORS]:
                refuse_at(place, "category_type", "Must be a text, a number, true or false.")
            return np.empty(0)
        array = np.empty(len(values), object)
        array[:] = values if kinds <= {str, type(None)} else [None if one is None else text(one) for one in values]
        if new := set(array.tolist()) - self.learned.known - {None}:
            rows = [place for place, value in enumerate(array) if value in new]
            warnings.add("unseen_category", name, rows, self.learned.when_unseen)
        return array


def _doubles(values: Sequence[Any], refuse_at: Callable[[int, str], None]) -> Array:
    """None is NaN. Numbers alone: numpy would read a text as one."""
    if not set(map(type, values)) <= NUMBERS:
        for place in [place for place, value in enumerate(values) if type(value) not in NUMBERS][:MAX_ERRORS]:
            refuse_at(place, "Must be a number.")
        return np.zeros(len(values))
    try:
        found = np.array(values, np.float64)
    except OverflowError:
        found = np.array(
            [value if type(value) is not int or abs(value) < 2**1000 else math.inf for value in values], float
        )
    for place in np.flatnonzero(np.isinf(found)).tolist()[:MAX_ERRORS]:
        refuse_at(place, "The number is too large.")
    return found


def _seconds(value: Any) -> int:
    """Since 1970 in UTC, or since midnight. Raises `ValueError`."""
    if type(value) in (int, float) and abs(value) < MOST_SECONDS:
        return int(value // 1)
    if type(value) is not str:
        raise ValueError
    if "-" not in value[1:5] and ":" in value[:3]:
        moment = time.fromisoformat(value)
        return moment.hour * 3600 + moment.minute * 60 + moment.second
    found = datetime.fromisoformat(value)
    since = (found if found.tzinfo else found.replace(tzinfo=UTC)) - EPOCH
    return since.days * 86_400 + since.seconds
