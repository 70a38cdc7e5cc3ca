"""What is measured of predictions besides the loss.

scikit-learn computes all but a few: accuracy, rmse, mae and r2 are measured after every epoch unless asked otherwise,
and its checks of the input cost 0.2 to 0.4 ms a call, more than the update of a small network. Tests hold those against
it.
"""

import warnings
from collections.abc import Sequence
from typing import Any, assert_never

import torch
from sklearn import metrics as sklearn
from torch import Tensor
from torch.nn import functional

from core.spec import TrainingSpec
from core.spec.metrics import ClassMetric, MetricName, NumberMetric, ProbabilityMetric, Task
from worker.trainer.examples import Examples
from worker.trainer.predictions import activated
from worker.trainer.scaling import TargetScaling
from worker.trainer.thresholds import given_thresholds


def measure(
    names: Sequence[MetricName],
    spec: TrainingSpec,
    logits: Tensor,
    examples: Examples,
    scaling: TargetScaling | None = None,
    thresholds: Sequence[float] | None = None,
) -> dict[str, float]:
    """Each metric of (rows, units) logits against the target of these rows, which count by their `sample_weight`.

    Numbers are measured in their own units; what is said by `thresholds`, those of the spec unless given.

    A metric that these rows do not define (one class only, no spread, rows that count nothing) is left out. Of several
    quantiles, the middle one is measured.
    """
    assert spec.network.output is not None, "a resolved spec has its output"
    assert spec.task != "auto", "a resolved spec has its task"
    if examples.sample_weight is not None and not bool(examples.sample_weight.any()):
        return {}
    predicted = activated(logits, spec.network.output.activation)
    if spec.network.output.activation == "linear" and spec.task != "regression":
        predicted = (1 + predicted) / 2  # the margins of hinge, -1 and 1, where probabilities have 0 and 1
    if scaling is not None:
        predicted = scaling.undone(predicted)
    target, weight, outputs = examples.measured_target, examples.sample_weight, len(spec.targets)
    limits = None if (given := thresholds or given_thresholds(spec)) is None else torch.tensor(given).to(predicted)
    found: dict[str, float] = {}
    for name in names:
        try:
            with warnings.catch_warnings(action="ignore"):  # of sklearn, where a class was never predicted: it is 0
                value = _value(name, spec.task, predicted, target, weight, outputs, limits)
        except ValueError:
            continue
        if value == value:
            found[name] = value
    return found


def _value(
    name: MetricName,
    task: Task,
    predicted: Tensor,
    target: Tensor,
    weight: Tensor | None,
    outputs: int,
    limits: Tensor | None,
) -> float:
    if task == "regression":
        middle = predicted.reshape(len(predicted), outputs, -1)
        return _of_numbers(name, middle[:, :, middle.shape[2] // 2], target, weight)  # type: ignore[arg-type]
    if task == "multilabel":
        return _of_labels(name, predicted, target, weight, limits)
    if target.dtype != torch.int64:  # one-hot or soft targets, or the two classes of a sigmoid
        target = target.argmax(1) if target.shape[1] > 1 else target[:, 0].round().long()
    if predicted.shape[1] == 1:
        predicted = torch.cat([1 - predicted, predicted], 1)
    return _of_classes(name, predicted, target, weight, limits)  # type: ignore[arg-type]


def _mean(values: Tensor, weight: Tensor | None) -> float:
    """Over the rows, in float64."""
    values = values.double()
    return float(values.mean() if weight is None else (values * weight).sum() / weight.sum())


def _array(values: Tensor) -> Any:
    return values.cpu().numpy()


def _of_classes(
    name: ClassMetric | ProbabilityMetric,
    probabilities: Tensor,
    target: Tensor,
    weight: Tensor | None,
    limits: Tensor | None,
) -> float:
    """Macro averages over more than two classes; of two, the second is the positive one, and said above its limit."""
    said = probabilities.argmax(1) if limits is None else (probabilities[:, 1] > limits).long()
    if name == "accuracy":
        return _mean(said == target, weight)
    classes = list(range(probabilities.shape[1]))
    y, p, w = (
        target.cpu().numpy(),
        probabilities.float().cpu().numpy(),
        None if weight is None else weight.cpu().numpy(),
    )
    label = _array(said)
    two = len(classes) == 2
    average: dict[str, Any] = {"average": "binary" if two else "macro", "zero_division": 0.0, "sample_weight": w}
    match name:
        case "balanced_accuracy":
            return float(sklearn.balanced_accuracy_score(y, label, sample_weight=w))
        case "precision":
            return float(sklearn.precision_score(y, label, **average))
        case "recall":
            return float(sklearn.recall_score(y, label, **average))
        case "f1":
            return float(sklearn.f1_score(y, label, **average))
        case "matthews_corrcoef":
            return float(sklearn.matthews_corrcoef(y, label, sample_weight=w))
        case "cohen_kappa":
            return float(sklearn.cohen_kappa_score(y, label, sample_weight=w))
        case "top_2_accuracy" | "top_3_accuracy" | "top_5_accuracy":
            k = int(name.split("_")[1])
            return float(sklearn.top_k_accuracy_score(y, p, k=k, labels=classes, sample_weight=w))
        case "roc_auc" if two:
            return float(sklearn.roc_auc_score(y, p[:, 1], sample_weight=w))
        case "roc_auc":
            return float(sklearn.roc_auc_score(y, p, multi_class="ovr", labels=classes, sample_weight=w))
        case "average_precision" if two:
            return float(sklearn.average_precision_score(y, p[:, 1], sample_weight=w))
        case "average_precision":
            return float(
                sklearn.average_precision_score(functional.one_hot(target.cpu(), len(classes)), p, sample_weight=w)
            )
        case "brier":
            wrong = probabilities.clone()
            wrong[torch.arange(len(target)), target] -= 1
            return _mean(wrong.square().sum(1), weight)
        case "log_loss":
            return float(sklearn.log_loss(y, p, labels=classes, sample_weight=w))
        case _:
            assert_never(name)


def _of_labels(
    name: MetricName, probabilities: Tensor, target: Tensor, weight: Tensor | None, limits: Tensor | None
) -> float:
    """Labels that are each there or not; macro averages over the labels, and accuracy the share of right ones."""
    said = probabilities > (0.5 if limits is None else limits)
    right = said == (target > 0.5)
    y, p, w = _array(target > 0.5), _array(probabilities), None if weight is None else _array(weight)
    label = _array(said)
    alone = y.shape[1] == 1
    if alone:  # one column is two classes to sklearn, which would average over both
        y, p, label = y[:, 0], p[:, 0], label[:, 0]
    average: dict[str, Any] = {"average": "binary" if alone else "macro", "zero_division": 0.0, "sample_weight": w}
    match name:
        case "accuracy":
            return _mean(right.double().mean(1), weight)
        case "precision":
            return float(sklearn.precision_score(y, label, **average))
        case "recall":
            return float(sklearn.recall_score(y, label, **average))
        case "f1":
            return float(sklearn.f1_score(y, label, **average))
        case "roc_auc":
            return float(sklearn.roc_auc_score(y, p, average="macro", sample_weight=w))
        case "average_precision":
            return float(sklearn.average_precision_score(y, p, average="macro", sample_weight=w))
        case "brier":
            return _mean((probabilities - target).square().mean(1), weight)
        case "log_loss":
            # As torch's binary_cross_entropy, which raises where a training has diverged.
            right_log, wrong_log = (one.log().clamp_min(-100) for one in (probabilities, 1 - probabilities))
            return _mean(-(target * right_log + (1 - target) * wrong_log).mean(1), weight)
        case _:
            raise ValueError(f"{name} is not of labels")


def _of_numbers(name: NumberMetric, predicted: Tensor, target: Tensor, weight: Tensor | None) -> float:
    """Several outputs are averaged."""
    error = (predicted - target).double()
    match name:
        case "mse":
            return _mean(error.square().mean(1), weight)
        case "rmse":
            return _mean(error.square().mean(1), weight) ** 0.5  # type: ignore[no-any-return]
        case "mae":
            return _mean(error.abs().mean(1), weight)
        case "r2":
            return _r2(error, target.double(), weight)
        case _:
            pass
    y, p, w = _array(target), _array(predicted), None if weight is None else _array(weight)
    match name:
        case "median_absolute_error":
            return float(sklearn.median_absolute_error(y, p, sample_weight=w))
        case "mape":
            return float(sklearn.mean_absolute_percentage_error(y, p, sample_weight=w))
        case "msle":
            return float(sklearn.mean_squared_log_error(y, p, sample_weight=w))
        case "explained_variance":
            return float(sklearn.explained_variance_score(y, p, sample_weight=w))
        case "max_error":
            return float(error.abs().max())
        case "pearson":
            return _pearson(predicted.double(), target.double(), weight)
        case _:
            assert_never(name)


def _r2(error: Tensor, target: Tensor, weight: Tensor | None) -> float:
    each = torch.ones(len(target), 1, dtype=torch.float64) if weight is None else weight.double().unsqueeze(1)
    each = each.to(target.device)
    mean = (each * target).sum(0) / each.sum()
    spread = (each * (target - mean).square()).sum(0)
    left = (each * error.square()).sum(0)
    return float(torch.where(spread > 0, 1 - left / spread, (left == 0).double()).mean())


def _pearson(predicted: Tensor, target: Tensor, weight: Tensor | None) -> float:
    each = torch.ones_like(target[:, :1]) if weight is None else weight.double().unsqueeze(1)
    predicted, target = (one - (each * one).sum(0) / each.sum() for one in (predicted, target))
    spread = ((each * predicted.square()).sum(0) * (each * target.square()).sum(0)).sqrt()
    return float(((each * predicted * target).sum(0) / spread).mean())
