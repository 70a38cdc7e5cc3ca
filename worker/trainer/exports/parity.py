"""Whether what was exported predicts what the network predicts: on the job's own rows, and on those made to be hard."""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import Tensor

from core import errors
from worker.trainer.examples import Examples
from worker.trainer.exports.outcome import Outcome, predicted
from worker.trainer.exports.raw_rows import RawRows
from worker.trainer.exports.steps import Activation, Block, Step
from worker.trainer.network import Network, as_function
from worker.trainer.predictions import logits_of

TOLERANCE = 1e-5  # of a probability, or of the deviation of a target
OF_ROUNDING = 8  # so many times what float32 itself costs the network's own predictions is no fault of an exporter
# Activations that jump turn a last bit into a step, in few rows.
ROWS_THAT_JUMP = 0.01

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """By how much the predictions of an artifact are off, at most, over so many rows."""

    max_difference: float
    tolerance: float
    rows: int
    rows_apart: int  # beyond the tolerance, where an activation jumps

    def as_json(self) -> dict[str, Any]:
        """Rounded up to one digit: more of them differ from machine to machine."""
        found = {"max_difference": _rounded_up(self.max_difference), "tolerance": self.tolerance, "rows": self.rows}
        return {**found, "rows_apart": self.rows_apart} if self.rows_apart else found


class Reference:
    """The network's own predictions of the rows, which every artifact is held against."""

    def __init__(self, network: Network, inputs: Examples, outcome: Outcome, deviations: list[float]) -> None:
        """`deviations` are those of each target, 1 for probabilities."""
        self._network, self._inputs, self._outcome = network, inputs, outcome
        self.scores = _array(predicted(logits_of(as_function(network), inputs), outcome))
        self._unit = np.array(deviations).reshape(-1, *[1] * (self.scores.ndim - 2))

    def compare(self, name: str, scores: Scores, rows: slice, steps: list[Step]) -> Agreement:
        """Raises `ExportFailed` where they are too far apart."""
        ours = self.scores[rows]
        if scores.shape != ours.shape:
            raise errors.ExportFailed(f"{name} predicts another shape than the network.", artifact=name)
        off = self._off(scores, ours)
        tolerance = TOLERANCE
        if float(off.max(initial=0)) > tolerance:
            tolerance = max(tolerance, _rounded_up(OF_ROUNDING * self._cost_of_float32()))
        beyond = off > tolerance
        most = max(2, int(ROWS_THAT_JUMP * len(off))) if _jumps(steps) else 0
        worst = float(off.max(initial=0))
        if int(beyond.sum()) > most:
            detail = f"{name} does not predict what the network predicts: {worst:.2g} apart, {tolerance:.2g} at most."
            raise errors.ExportFailed(detail, artifact=name, difference=min(worst, 1e300), tolerance=tolerance)
        return Agreement(float(off[~beyond].max(initial=0)), tolerance, len(off), int(beyond.sum()))

    def _off(self, scores: Scores, ours: NDArray[Any]) -> NDArray[np.float64]:
        """How far each row is off, in units of the target's deviation; the same infinity or NaN is not."""
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(scores.astype(np.float64) - ours) / self._unit
        apart[(scores == ours) | (np.isnan(scores) & np.isnan(ours))] = 0
        apart[np.isnan(apart)] = math.inf
        found: NDArray[np.float64] = apart.reshape(len(apart), -1).max(1)
        return found

    def _cost_of_float32(self) -> float:
        """How far the network is off its own predictions in float64, where both are numbers; at least the last bit."""
        exact = copy.deepcopy(self._network).double()
        inputs = Examples(self._inputs.features.double(), self._inputs.target, self._inputs.codes)
        off = self._off(_array(predicted(logits_of(as_function(exact), inputs), self._outcome)), self.scores)
        finite = np.where(np.isfinite(self.scores), np.abs(self.scores), 0)
        last_bit = float((np.spacing(finite.astype(np.float32)) / self._unit).max(initial=0))
        return max(last_bit, float(off[np.isfinite(off)].max(initial=0)))


def _array(scores: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = scores.cpu().numpy()
    return array


def _jumps(steps: list[Step]) -> bool:
    return any(
        (isinstance(step, Activation) and step.chosen.name in ("threshold", "hardshrink"))
        or (isinstance(step, Block) and _jumps(step.steps))
        for step in steps
    )


def _rounded_up(value: float) -> float:
    """To one digit."""
    if not 0 < value < math.inf:
        return value
    digit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / digit) * digit:.0e}")


# --- the artifacts' own predictions -------------------------------------------------------------------------------


def session_of(file: Path) -> onnxruntime.InferenceSession:
    """With one thread, and without memory that is kept: it is used once or twice."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def of_onnx(session: onnxruntime.InferenceSession, rows: RawRows, most: int) -> Scores:
    """Of all rows, at most so many at once."""
    said = json.loads(session.get_modelmeta().custom_metadata_map["backpropd"])
    wanted = [said["outputs"][said["scores"]]]
    parts = [session.run(wanted, _feeds(rows, part, said["inputs"]))[0] for part in _slices(rows.count, most)]
    return np.concatenate(parts)


def _feeds(rows: RawRows, part: slice, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in inputs:
        name = one["name"]
        match one["type"]:
            case "numbers":
                found[name] = np.stack([rows.raw(column, part) for column in one["columns"]], 1)
            case "category":
                found[name] = rows.texts(name, one["missing"], part)[:, None]
            case "vector":
                found[name] = rows.raw(name, part)
            case _:
                found[name] = rows.raw(name, part)[:, None]
    return found


def _slices(rows: int, most: int) -> Iterator[slice]:
    for start in range(0, rows, most):
        yield slice(start, min(rows, start + most))


def of_answers(answers: list[dict[str, Any]], outcome: Outcome) -> Scores:
    """The numbers of what `predict` of a script has said."""
    match outcome.form:
        case "classes" | "labels":
            found = [list(one[outcome.scores].values()) for one in answers]
        case "values":
            found = [list(one["values"].values()) if "values" in one else [one["value"]] for one in answers]
        case "quantiles":
            several = len(outcome.names) > 1
            each = [one["quantiles"].values() if several else [one["quantiles"]] for one in answers]
            found = [[list(of_one.values()) for of_one in one] for one in each]
        case _:
            assert_never(outcome.form)
    return np.array(found, np.float32)
