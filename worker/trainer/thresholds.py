"""From which probability on a row is said to be of the second class, or to have a label: the one that a metric likes
best.
"""

from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.spec import TrainingSpec
from core.spec.training import BestThreshold, ThresholdMetric
from worker.trainer.examples import Examples
from worker.trainer.network import Network, as_function
from worker.trainer.predictions import activated, logits_of

Doubles = NDArray[np.float64]

EVEN = 0.5
SAME = 1e-12  # values of a metric that differ by less differ by rounding alone


@dataclass(frozen=True)
class Thresholds:
    """One of a task of two classes, or one of each label: it is said where the probability is above."""

    values: list[float]
    metric: ThresholdMetric | None  # that chose them; None where they were given
    reached: list[float]  # by that metric, on the rows that they were chosen on
    rows: int  # that they were chosen on

    def as_json(self) -> dict[str, Any]:
        """As the report shows it."""
        chosen = {"metric": self.metric, "reached": self.reached, "rows": self.rows} if self.metric else {}
        return {"values": self.values, **chosen}


def given_thresholds(spec: TrainingSpec) -> list[float] | None:
    """What holds until one is chosen; None where nothing is said by a probability."""
    asked = spec.training.threshold
    if asked is None:
        return None
    value = EVEN if isinstance(asked, BestThreshold) else asked
    return [value] * (len(spec.targets) if spec.task == "multilabel" else 1)


@torch.no_grad()
def find_thresholds(spec: TrainingSpec, network: Network, examples: Examples) -> Thresholds | None:
    """Of these rows, by the network as it is, in `eval()`."""
    asked, given = spec.training.threshold, given_thresholds(spec)
    if given is None:
        return None
    if not isinstance(asked, BestThreshold):
        return Thresholds(given, None, [], 0)
    assert spec.network.output is not None, "a resolved spec has its output"
    probabilities = activated(logits_of(as_function(network), examples).float(), spec.network.output.activation)
    target = examples.measured_target
    if spec.task == "classification":
        probabilities, target = probabilities[:, -1:], target.reshape(len(target), -1)
    weight = None if examples.sample_weight is None else examples.sample_weight.cpu().numpy().astype(np.float64)
    found = [
        best_threshold(asked.metric, _array(probabilities[:, place]), _array(target[:, place]) > EVEN, weight)
        for place in range(probabilities.shape[1])
    ]
    return Thresholds([value for value, _ in found], asked.metric, [reached for _, reached in found], len(examples))


def _array(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = values.cpu().numpy()
    return found


def best_threshold(
    metric: ThresholdMetric,
    probabilities: NDArray[np.float32],
    is_second: NDArray[np.bool_],
    weight: Doubles | None = None,
) -> tuple[float, float]:
    """The threshold with the best value of the metric, and that value. Of several that are as good, the one nearest to
    0.5, which is one of them where nothing is better.

    All that make a difference are looked at: one between any two neighbouring probabilities. Each is a float32 number,
    so that every reader parts the rows in the same way.
    """
    each = np.ones(len(probabilities)) if weight is None else weight
    ordered = np.argsort(probabilities, kind="stable")
    values, first = np.unique(probabilities[ordered], return_index=True)
    # Of the rows below each place where the values change, what those of each class count.
    ends = np.append(first, len(ordered))
    second = np.append(0.0, np.cumsum((each * is_second)[ordered]))[ends]
    others = np.append(0.0, np.cumsum((each * ~is_second)[ordered]))[ends]
    reached = _values(metric, second, others)

    below, above = np.append(np.float32(0), values), np.append(values, np.float32(1))
    between = ((below.astype(np.float64) + above) / 2).astype(np.float32)
    cuts = np.where(between < above, between, below).astype(np.float64)
    if values[0] == 0:
        reached[0] = -np.inf  # nothing is below
    even = int(np.searchsorted(values, EVEN, side="right"))
    cuts[even] = EVEN
    best = np.flatnonzero(reached >= np.max(reached) - SAME)
    if not np.isfinite(reached[best[0]]):
        return EVEN, 0.0
    chosen = best[np.argmin(np.abs(cuts[best] - EVEN))]
    return float(cuts[chosen]), float(reached[chosen])


def _values(metric: ThresholdMetric, fn: Doubles, tn: Doubles) -> Doubles:
    """scikit-learn's, for each number of rows below: `fn` of the second class, `tn` of the first."""
    tp, fp = fn[-1] - fn, tn[-1] - tn
    total = fn[-1] + tn[-1]
    match metric:
        case "accuracy":
            return _ratio(tp + tn, total)
        case "balanced_accuracy":
            recalls = [_ratio(right, whole) for right, whole in ((tp, fn[-1]), (tn, tn[-1])) if whole > 0]
            return sum(recalls, np.zeros_like(fn)) / max(1, len(recalls))
        case "f1":
            return _ratio(2 * tp, 2 * tp + fp + fn)
        case "matthews_corrcoef":
            return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
        case "cohen_kappa":
            by_chance = _ratio((tp + fp) * (tp + fn) + (tn + fp) * (tn + fn), total * total)
            return _ratio(_ratio(tp + tn, total) - by_chance, 1 - by_chance)
        case _:
            assert_never(metric)


def _ratio(part: Doubles, whole: Doubles | float) -> Doubles:
    """0 where there is nothing to divide by."""
    whole = np.broadcast_to(np.asarray(whole, np.float64), part.shape)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
