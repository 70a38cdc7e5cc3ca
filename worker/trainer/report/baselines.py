"""What simple models come to on the same split, and how much better the network is: whether it earns its keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.spec import TrainingSpec
from core.spec.metrics import LOWER_IS_BETTER, MetricName
from core.spec.training import BestThreshold
from worker.trainer.examples import Examples
from worker.trainer.report.intervals import Measured, around, measure_all
from worker.trainer.report.judged import Judged, judge
from worker.trainer.report.linear import Linear, fit_inputs, logistic, ridge
from worker.trainer.thresholds import EVEN, best_threshold

MOST_ROWS = 5_000  # of the training rows, for the linear model
MOST_NUMBERS = 1_000_000  # rows x features of it: 4 MB
MOST_MULTIPLICATIONS = 60_000_000  # rows x features x outputs x iterations of the logistic regression: 30 ms of a core
MOST_OF_RIDGE = 300_000_000  # rows x features x features: 20 ms
ITERATIONS, FEWEST_ITERATIONS = 100, 20  # of the logistic regression: scikit-learn's most
FEWEST_ROWS = 500  # where there are more, a linear model of less is none to be compared with
AT_ONCE = 1024  # rows


@dataclass(frozen=True)
class Sample:
    """What is looked at of a part, and what the network said of it."""

    examples: Examples  # all of the part
    rows: Tensor  # those of it that are judged
    judged: Judged
    known: Mapping[str, Measured]  # the metrics of that


def baselines_of(
    spec: TrainingSpec, names: Sequence[MetricName], train: Examples, learned: Tensor, parts: Mapping[str, Sample]
) -> dict[str, Any]:
    """One that says the same of every row, by all training rows; and a linear one, fitted on the `learned` of them with
    the network's features. Of each metric the value, and the lift of the network over it: above 0 the network is
    better. Of the lift, an interval over pairs: both saw the same rows."""
    if spec.task == "regression":
        constant, linear = "mean", "linear"
    else:
        constant, linear = "majority", "logistic"
    same = _constant(spec, train)
    found: dict[str, Any] = {
        constant: {
            "rows": len(train),
            **{name: _beside(spec, names, part, same.expand(len(part.rows), -1)) for name, part in parts.items()},
        }
    }
    model, facts = _linear(spec, train.of(learned.to(train.target.device)))
    if model is None:
        return {**found, linear: facts}
    outputs = {
        name: _scores(spec, model.outputs(part.examples, part.rows.to(part.examples.target.device), AT_ONCE))
        for name, part in parts.items()
    }
    thresholds = None
    if isinstance(spec.training.threshold, BestThreshold):
        chooser = "validation" if "validation" in parts else None
        if chooser is None:
            outputs_there = _scores(spec, model.outputs(train, learned, AT_ONCE))
            own = judge(spec, outputs_there, train.without_inputs(learned))
        else:
            part = parts[chooser]
            own = judge(spec, outputs[chooser], part.examples.without_inputs(part.rows))
        thresholds = _thresholds(spec.training.threshold, own)
    beside = {name: _beside(spec, names, part, outputs[name], thresholds) for name, part in parts.items()}
    return {**found, linear: {**facts, **beside}}


def _beside(
    spec: TrainingSpec,
    names: Sequence[MetricName],
    part: Sample,
    scores: Tensor,
    thresholds: list[float] | None = None,
) -> dict[str, Any]:
    """The metrics of a baseline on a part, and the lift of the network."""
    judged = judge(spec, scores, part.examples.without_inputs(part.rows.to(part.examples.target.device)), thresholds)
    theirs = measure_all([name for name in names if name in part.known], judged)
    found: dict[str, Any] = {}
    for name, one in theirs.items():
        ours, sign = part.known[name], -1.0 if name in LOWER_IS_BETTER else 1.0
        lift = sign * (ours.value - one.value)
        low = high = None
        if ours.effects is not None and one.effects is not None:
            interval = around(lift, sign * (ours.effects - one.effects), judged.weight, "any")
            low, high = interval.low, interval.high
        found[name] = {"value": one.value, "lift": {"value": lift, "low": low, "high": high}}
    return found


def _constant(spec: TrainingSpec, train: Examples) -> Tensor:
    """(1, classes), (1, labels) or (1, targets): shares, or means, of the training rows."""
    target = train.measured_target.cpu()
    weight = torch.ones(len(target)) if train.sample_weight is None else train.sample_weight.cpu()
    weight = weight.double()
    if target.dtype == torch.int64:
        assert spec.network.output is not None
        none = torch.zeros(spec.network.output.units, dtype=torch.float64)
        shares = none.index_add(0, target, weight)
    else:
        shares = weight @ target.double()
    return _scores_of_shares(spec, (shares / weight.sum()).unsqueeze(0))


def _scores_of_shares(spec: TrainingSpec, shares: Tensor) -> Tensor:
    if spec.task == "classification" and shares.shape[1] == 1:
        return torch.cat([1 - shares, shares], 1)
    return shares


def _scores(spec: TrainingSpec, outputs: Tensor) -> Tensor:
    if spec.task == "regression":
        return outputs
    if spec.task == "classification" and outputs.shape[1] > 1:
        return outputs.softmax(1)
    return _scores_of_shares(spec, outputs.sigmoid())


def _linear(spec: TrainingSpec, train: Examples) -> tuple[Linear | None, dict[str, Any]]:
    """The model, or None; and what it was fitted on. Rows count as they do in the loss of the network."""
    weight = torch.ones(len(train), dtype=torch.float64) if train.weight is None else train.weight.cpu().double()
    inputs, features = fit_inputs(train, weight)
    width = max(1, features.shape[1])
    if spec.task == "regression":
        rows = min(len(train), max(FEWEST_ROWS, MOST_OF_RIDGE // width**2))
        some = _even(len(train), rows)
        model = ridge(inputs, features[some], train.measured_target.cpu().double()[some], weight[some])
        return model, {"rows": rows, "features": features.shape[1]}
    output, target = spec.network.output, train.target.cpu()
    assert output is not None, "a resolved spec has its output"
    rows = min(len(train), MOST_MULTIPLICATIONS // (width * output.units * FEWEST_ITERATIONS))
    if rows < min(FEWEST_ROWS, len(train)):
        return None, {"rows": 0, "features": features.shape[1], "left_out": "too_many_outputs"}
    some = _even(len(train), rows)
    iterations = min(ITERATIONS, MOST_MULTIPLICATIONS // (width * output.units * rows))
    shares = functional.one_hot(target[some], output.units).float() if target.dtype == torch.int64 else target[some]
    softmax = spec.task == "classification" and output.units > 1
    model, took, converged = logistic(
        inputs, features[some], shares, weight[some], softmax=softmax, iterations=iterations
    )
    facts = {"rows": rows, "features": features.shape[1], "iterations": took, "converged": converged}
    return model, facts


def _even(rows: int, most: int) -> Tensor:
    """Every row, or as many as may be, at even steps."""
    return torch.arange(rows) if most >= rows else torch.linspace(0, rows - 1, most, dtype=torch.float64).long()


def _thresholds(asked: BestThreshold, judged: Judged) -> list[float]:
    """Those that the metric likes best, as the network's were chosen."""
    if judged.task == "classification":
        columns, there = judged.scores[:, -1:], judged.target.unsqueeze(1) > EVEN
    else:
        columns, there = judged.scores, judged.target > EVEN
    weight = judged.weight.numpy() if judged.is_weighted else None
    return [
        best_threshold(asked.metric, columns[:, place].numpy(), there[:, place].numpy(), weight)[0]
        for place in range(columns.shape[1])
    ]
