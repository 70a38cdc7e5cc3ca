"""Every metric as a function of what each row counts: (rows,) float64 weights -> one number, differentiable.

The slope by a row's weight is what that row does to the metric, from which `intervals.py` has the metric's spread. The
values are scikit-learn's, as those of `metrics.py`; tests hold one against the other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional

from core.spec.metrics import MetricName
from worker.trainer.report.judged import Judged

Score = Callable[[Tensor], Tensor]

MOST_RANKED = 200_000  # scores that are sorted for the area under a curve
RANKED: frozenset[MetricName] = frozenset({"roc_auc", "average_precision"})
SMALLEST = torch.finfo(torch.float32).eps  # of a probability, in its logarithm: scikit-learn's
WITHOUT_SLOPE: frozenset[MetricName] = frozenset({"max_error", "median_absolute_error"})


class Mean:
    """The weighted mean of (rows,) values; of booleans, the share of them."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __call__(self, weight: Tensor) -> Tensor:
        return (self.values.double() * weight).sum() / weight.sum()


def slopes_of(names: Iterable[MetricName], judged: Judged) -> dict[MetricName, Score]:
    """Those of the names that have a slope, and that these rows define."""
    ranked = cache(partial(_ranked, judged))
    found = {name: _score_of(name, judged, ranked) for name in names if name not in WITHOUT_SLOPE}
    return {name: score for name, score in found.items() if score is not None}


def _score_of(name: MetricName, judged: Judged, ranked: Callable[[], "_Ranked | None"]) -> Score | None:
    if name in RANKED and judged.task != "regression":
        return None if (order := ranked()) is None else order.area(name)
    match judged.task:
        case "classification":
            return _of_classes(name, judged)
        case "multilabel":
            return _of_labels(name, judged)
        case "regression":
            return _of_numbers(name, judged)
        case _:
            assert_never(judged.task)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """0 where there is nothing to divide by, and no slope."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, torch.ones_like(whole)), torch.zeros_like(part))


# --- classes ------------------------------------------------------------------------------------------------------


def _of_classes(name: MetricName, judged: Judged) -> Score | None:
    target, said, scores, count = judged.target, judged.said, judged.scores, judged.scores.shape[1]

    def counts(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each class: rows that are it and are said to be, that are it, that are said to be."""
        none = torch.zeros(count, dtype=torch.float64)
        right = none.index_add(0, target, weight * (said == target))
        return right, none.index_add(0, target, weight), none.index_add(0, said, weight)

    match name:
        case "accuracy":
            return Mean(said == target)
        case "top_2_accuracy" | "top_3_accuracy" | "top_5_accuracy":
            own = scores.gather(1, target.unsqueeze(1))
            later = torch.arange(count) > target.unsqueeze(1)
            before = (scores > own) | ((scores == own) & later)  # scikit-learn's order of equal scores
            return Mean(before.sum(1) < int(name.split("_")[1]))
        case "precision" | "recall" | "f1":
            return lambda weight: _of_counts(name, *counts(weight), two=count == 2)
        case "balanced_accuracy":

            def balanced(weight: Tensor) -> Tensor:
                right, there, _ = counts(weight)
                return _ratio(right, there).sum() / (there > 0).sum()

            return balanced
        case "matthews_corrcoef" | "cohen_kappa":

            def agreement(weight: Tensor) -> Tensor:
                right, there, called = counts(weight)
                whole = weight.sum()
                by_chance, seen = (there * called).sum(), right.sum() * whole
                if name == "cohen_kappa":
                    return (seen - by_chance) / (whole**2 - by_chance)
                spread = (whole**2 - (there**2).sum()) * (whole**2 - (called**2).sum())
                return (seen - by_chance) / spread.sqrt() if spread > 0 else 0 * seen

            return agreement
        case "brier":
            return Mean((scores.double() - functional.one_hot(target, count)).square().sum(1))
        case "log_loss":
            return Mean(-scores.double().gather(1, target.unsqueeze(1)).squeeze(1).clamp(SMALLEST, 1 - SMALLEST).log())
        case _:
            raise ValueError(f"{name} is not of classes")


def _of_counts(name: MetricName, right: Tensor, there: Tensor, called: Tensor, *, two: bool) -> Tensor:
    """Of two classes, the second's; of more, the mean of those that are there or were said."""
    match name:
        case "precision":
            each = _ratio(right, called)
        case "recall":
            each = _ratio(right, there)
        case _:
            each = _ratio(2 * right, there + called)
    return each[1] if two else each.sum() / ((there > 0) | (called > 0)).sum()


# --- labels -------------------------------------------------------------------------------------------------------


def _of_labels(name: MetricName, judged: Judged) -> Score | None:
    """Means over the labels."""
    there, said = judged.target > 0.5, judged.said
    probabilities = judged.scores.double()
    match name:
        case "accuracy":
            right = said == there
            return Mean(right[:, 0] if right.shape[1] == 1 else right.double().mean(1))
        case "precision" | "recall" | "f1":

            def mean(weight: Tensor) -> Tensor:
                each = weight.unsqueeze(1)
                right, is_there, called = ((each * one).sum(0) for one in (said & there, there, said))
                match name:
                    case "precision":
                        return _ratio(right, called).mean()
                    case "recall":
                        return _ratio(right, is_there).mean()
                    case _:
                        return _ratio(2 * right, is_there + called).mean()

            return mean
        case "brier":
            return Mean((probabilities - judged.target).square().mean(1))
        case "log_loss":
            right_log, wrong_log = (one.float().log().clamp_min(-100) for one in (judged.scores, 1 - judged.scores))
            return Mean(-(judged.target * right_log + (1 - judged.target) * wrong_log).mean(1))
        case _:
            raise ValueError(f"{name} is not of labels")


# --- areas under a curve ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ranked:
    """(rows, columns) scores in ascending order, each column against whether it is there."""

    order: Tensor
    first: Tensor  # the place of the first that is equal
    end: Tensor  # and that after the last
    is_there: Tensor

    def area(self, name: MetricName) -> Score | None:
        """The mean over the columns."""
        has, lacks = self.is_there.any(0), (~self.is_there).any(0)
        if name == "roc_auc":
            return self._roc if bool((has & lacks).all()) else None
        return self._average_precision if bool(has.any()) else None

    def _roc(self, weight: Tensor) -> Tensor:
        each = weight[self.order]
        own, other = each * self.is_there, each * ~self.is_there
        below = functional.pad(other.cumsum(0), (0, 0, 1, 0))
        before = (below.gather(0, self.first) + below.gather(0, self.end)) / 2  # of those that are equal, half
        return ((own * before).sum(0) / (own.sum(0) * other.sum(0))).mean()

    def _average_precision(self, weight: Tensor) -> Tensor:
        each = weight[self.order]
        own = each * self.is_there
        above, all_above = (_from_here_on(one, self.first) for one in (own, each))
        return _ratio(_ratio(own * above, all_above).sum(0), own.sum(0)).mean()


def _ranked(judged: Judged) -> _Ranked | None:
    """Of two classes, the second's; None where there is too much to sort."""
    scores, count = judged.scores, judged.scores.shape[1]
    if judged.task == "classification":
        columns = slice(1, None) if count == 2 else slice(None)
        scores, there = scores[:, columns], functional.one_hot(judged.target, count)[:, columns].bool()
    else:
        there = judged.target > 0.5
    if scores.numel() > MOST_RANKED:
        return None
    ascending = scores.T.sort(stable=True)
    ordered = ascending.values.contiguous()
    first, end = (torch.searchsorted(ordered, ordered, right=right).T for right in (False, True))
    order = ascending.indices.T
    return _Ranked(order, first, end, there.gather(0, order))


def _from_here_on(counted: Tensor, first: Tensor) -> Tensor:
    """(rows, columns) sums of what has at least the row's own score, where rows ascend."""
    below = functional.pad(counted.cumsum(0), (0, 0, 1, 0)).gather(0, first)
    return counted.sum(0) - below


# --- numbers ------------------------------------------------------------------------------------------------------


def _of_numbers(name: MetricName, judged: Judged) -> Score | None:
    """Means over the targets."""
    target, predicted = judged.target, judged.scores
    error = predicted - target
    match name:
        case "mse":
            return Mean(error.square().mean(1))
        case "rmse":
            squared = Mean(error.square().mean(1))
            return lambda weight: squared(weight).sqrt()
        case "mae":
            return Mean(error.abs().mean(1))
        case "mape":
            smallest = torch.finfo(torch.float64).eps
            return Mean((error.abs() / target.abs().clamp_min(smallest)).mean(1))
        case "msle":
            if bool((target <= -1).any() | (predicted <= -1).any()):
                return None
            return Mean((predicted.log1p() - target.log1p()).square().mean(1))
        case "r2" | "explained_variance":
            is_centered = name == "explained_variance"

            def explained(weight: Tensor) -> Tensor:
                left = _spread(error, weight) if is_centered else _moment(error.square(), weight)
                whole = _spread(target, weight)
                flat = (left == 0).double()  # scikit-learn's: 1 where nothing is wrong either, 0 otherwise
                return torch.where(whole > 0, 1 - _ratio(left, whole), flat).mean()

            return explained
        case "pearson":

            def correlation(weight: Tensor) -> Tensor:
                ours, theirs = (one - _moment(one, weight) for one in (predicted, target))
                spread = (_moment(ours.square(), weight) * _moment(theirs.square(), weight)).sqrt()
                return (_moment(ours * theirs, weight) / spread).mean()

            return correlation
        case "max_error" | "median_absolute_error":
            return None
        case _:
            raise ValueError(f"{name} is not of numbers")


def _moment(values: Tensor, weight: Tensor) -> Tensor:
    """(rows, targets) -> the weighted mean of each target."""
    return (values * weight.unsqueeze(1)).sum(0) / weight.sum()


def _spread(values: Tensor, weight: Tensor) -> Tensor:
    return _moment((values - _moment(values, weight)).square(), weight)
