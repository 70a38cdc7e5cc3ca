"""How far a metric may be off, had other rows been drawn: 95 % confidence intervals, without drawing any.

A metric changes with the weight of a row by a slope; the squares of (weight x slope) add up to the variance that a
bootstrap would come to, had it infinitely many resamples (the infinitesimal jackknife: Efron 1982, chapter 6). It takes
the time of one look at the rows and no seed. Rows are taken to be drawn one by one, not in groups.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from scipy.special import ndtri, stdtrit
from sklearn.metrics import median_absolute_error
from torch import Tensor

from core.spec.metrics import MetricName
from worker.trainer.report.judged import Judged
from worker.trainer.report.scores import Mean, Score, slopes_of

Method = Literal["wilson", "infinitesimal_jackknife", "woodruff"]
Scale = Literal["from_0_to_1", "from_-1_to_1", "from_0", "to_1", "any"]

LEVEL = 0.95
Z = float(ndtri((1 + LEVEL) / 2))
ROUNDING = 1e-12  # a spread that is smaller, beside the value, is none
FEWEST = 4  # rows: of fewer, the range of a median covers less than the level whatever it is


@dataclass(frozen=True)
class Interval:
    """`low` and `high` are None where nothing is known of the spread: one row, or rows that all say the same."""

    value: float
    low: float | None = None
    high: float | None = None
    method: Method | None = None

    def as_json(self) -> dict[str, float | str | None]:
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """A metric of some rows, and what each of them adds to it: (rows,), None where that is not known."""

    interval: Interval
    effects: Tensor | None = None

    @property
    def value(self) -> float:
        return self.interval.value


def measure_all(names: Sequence[MetricName], judged: Judged) -> dict[str, Measured]:
    """Each metric that these rows define."""
    found: dict[str, Measured] = {}
    scores = slopes_of(names, judged)
    for name in names:
        if name in scores:
            score = scores[name]
            value, effects = effects_of(score, judged.weight)
            if math.isfinite(value):
                if isinstance(score, Mean) and score.values.dtype == torch.bool:
                    interval = wilson(score.values, judged.weight)
                else:
                    interval = around(value, effects, judged.weight, scale_of(name))
                found[name] = Measured(interval, effects)
        elif name == "max_error":
            found[name] = Measured(Interval(float((judged.scores - judged.target).abs().max())))
        elif name == "median_absolute_error":
            found[name] = Measured(_woodruff(judged))
    return found


def of_mean(values: Tensor, weight: Tensor, scale: Scale) -> Interval:
    """Of the mean of (rows,) values."""
    return around(*effects_of(Mean(values), weight), weight, scale)


def scale_of(name: MetricName) -> Scale:
    match name:
        case "accuracy" | "balanced_accuracy" | "precision" | "recall" | "f1" | "roc_auc" | "average_precision":
            return "from_0_to_1"
        case "top_2_accuracy" | "top_3_accuracy" | "top_5_accuracy":
            return "from_0_to_1"
        case "matthews_corrcoef" | "cohen_kappa" | "pearson":
            return "from_-1_to_1"
        case "brier" | "log_loss" | "rmse" | "mse" | "mae" | "mape" | "msle":
            return "from_0"
        case "median_absolute_error" | "max_error":
            return "from_0"
        case "r2" | "explained_variance":
            return "to_1"
        case _:
            assert_never(name)


def effects_of(score: Score, weight: Tensor) -> tuple[float, Tensor]:
    """The value, and what each row adds to it: (rows,), their sum is 0."""
    if isinstance(score, Mean):
        value = score(weight)
        return float(value), weight * (score.values.double() - value) / weight.sum()
    with torch.enable_grad():
        each = weight.detach().clone().requires_grad_()
        value = score(each)
        slope = torch.autograd.grad(value, each)[0] if value.requires_grad else torch.zeros_like(each)
    return float(value.detach()), weight * slope


def around(value: float, effects: Tensor, weight: Tensor, scale: Scale) -> Interval:
    """The effects of the rows, as independent as they are, make the spread of the value."""
    rows = len(weight)
    if rows < 2:
        return Interval(value)
    deviation = math.sqrt(float(effects.square().sum()) * rows / (rows - 1))
    freedom = rows_that_count(weight) - 1
    if not math.isfinite(deviation) or deviation <= ROUNDING * max(1.0, abs(value)) or freedom <= 0:
        return Interval(value)
    apart = float(stdtrit(freedom, (1 + LEVEL) / 2)) * deviation
    bounds = _bounds(value, apart, scale)
    if bounds is None or not all(map(math.isfinite, bounds)):
        return Interval(value)
    return Interval(value, *bounds, "infinitesimal_jackknife")


def _bounds(value: float, apart: float, scale: Scale) -> tuple[float, float] | None:
    """By the delta method; None where the value lies at the end of its scale."""
    match scale:
        case "from_0_to_1" if 0 < value < 1:
            center, off = math.log(value / (1 - value)), apart / (value * (1 - value))
            return _logistic(center - off), _logistic(center + off)
        case "from_-1_to_1" if -1 < value < 1:
            center, off = math.atanh(value), apart / (1 - value**2)
            return math.tanh(center - off), math.tanh(center + off)
        case "from_0" if value > 0:
            return value * _exp(-apart / value), value * _exp(apart / value)
        case "to_1" if value < 1:
            return 1 - (1 - value) * _exp(apart / (1 - value)), 1 - (1 - value) * _exp(-apart / (1 - value))
        case "any":
            return value - apart, value + apart
        case _:
            return None


def _logistic(value: float) -> float:
    return 1 / (1 + _exp(-value))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def rows_that_count(weight: Tensor) -> float:
    """As many rows of equal weight would say as much (Kish 1965)."""
    return float(weight.sum()) ** 2 / float(weight.square().sum())


def wilson(hits: Tensor, weight: Tensor) -> Interval:
    """Of a share of the rows (Wilson 1927): holds for few rows too, and where all or none are right."""
    rows, p = rows_that_count(weight), float((hits.double() * weight).sum() / weight.sum())
    center, spread = p + Z**2 / (2 * rows), Z * math.sqrt(p * (1 - p) / rows + Z**2 / (4 * rows**2))
    low, high = ((center + side * spread) / (1 + Z**2 / rows) for side in (-1, 1))
    return Interval(p, max(0.0, low) if p > 0 else 0.0, min(1.0, high) if p < 1 else 1.0, "wilson")


def _woodruff(judged: Judged) -> Interval:
    """Of a median: the values between which it lies, by how sure the share below it is (Woodruff 1952)."""
    weights = judged.weight.numpy() if judged.is_weighted else None
    target, predicted = judged.target.numpy(), judged.scores.numpy()
    value = float(median_absolute_error(target, predicted, sample_weight=weights))
    rows = rows_that_count(judged.weight)
    if target.shape[1] > 1 or rows < FEWEST:
        return Interval(value)
    errors = np.abs(predicted - target)[:, 0]
    order = np.argsort(errors, kind="stable")
    below = np.cumsum(judged.weight.numpy()[order])
    shares = (0.5 - Z * math.sqrt(0.25 / rows), 0.5 + Z * math.sqrt(0.25 / rows))
    places = np.searchsorted(below / below[-1], np.clip(shares, 0, 1))
    low, high = errors[order][np.minimum(places, len(errors) - 1)]
    return Interval(value, float(low), float(high), "woodruff")
