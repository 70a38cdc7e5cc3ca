"""Metrics against scikit-learn on random predictions, weighted and not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn import metrics as sklearn
from torch import Tensor

from core.spec.metrics import METRICS, NUMBER_METRICS, OF_LABELS, MetricName, metrics_of
from tests.worker.factories import spec_for
from worker.trainer.examples import Examples
from worker.trainer.metrics import measure

ROWS = 200
OF_CLASSES = metrics_of("classification", 6)
OF_TWO = metrics_of("classification", 2)
Reference = Callable[[Any, Any, Any], float]  # truth, prediction, weight


def _logits(units: int, seed: int = 0) -> Tensor:
    return torch.randn(ROWS, units, generator=torch.Generator().manual_seed(seed))


def _classes(count: int) -> Tensor:
    return torch.randint(count, (ROWS,), generator=torch.Generator().manual_seed(1))


def _weight(weighted: bool) -> Tensor | None:
    """Some rows count nothing."""
    drawn = torch.rand(ROWS, generator=torch.Generator().manual_seed(2))
    return (drawn - 0.2).clamp(min=0) if weighted else None


def _measure(
    names: Any,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    task: str = "classification",
    activation: str = "softmax",
    targets: int = 1,
) -> dict[str, float]:
    spec = spec_for(task=task, activation=activation, units=logits.shape[1])
    spec = spec.model_copy(update={"target": [f"y{place}" for place in range(targets)]})
    examples = Examples(torch.empty(len(target), 0), target, sample_weight=weight)
    return measure(names, spec, logits, examples)


def _near(value: float) -> Any:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


# --- classes ------------------------------------------------------------------------------------------------------


def _top(k: int) -> Reference:
    return lambda y, p, w: sklearn.top_k_accuracy_score(y, p, k=k, labels=range(p.shape[1]), sample_weight=w)


def _label(score: Any, **options: Any) -> Reference:
    return lambda y, p, w: score(y, p.argmax(1), sample_weight=w, **options)


def _averaged(score: Any) -> Reference:
    return lambda y, p, w: score(
        y, p.argmax(1), sample_weight=w, average="binary" if p.shape[1] == 2 else "macro", zero_division=0
    )


CLASS_REFERENCES: dict[str, Reference] = {
    "accuracy": _label(sklearn.accuracy_score),
    "balanced_accuracy": _label(sklearn.balanced_accuracy_score),
    "precision": _averaged(sklearn.precision_score),
    "recall": _averaged(sklearn.recall_score),
    "f1": _averaged(sklearn.f1_score),
    "matthews_corrcoef": _label(sklearn.matthews_corrcoef),
    "cohen_kappa": _label(sklearn.cohen_kappa_score),
    "top_2_accuracy": _top(2),
    "top_3_accuracy": _top(3),
    "top_5_accuracy": _top(5),
    "roc_auc": lambda y, p, w: sklearn.roc_auc_score(
        y, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr", sample_weight=w
    ),
    "average_precision": lambda y, p, w: sklearn.average_precision_score(
        y if p.shape[1] == 2 else np.eye(p.shape[1])[y], p[:, 1] if p.shape[1] == 2 else p, sample_weight=w
    ),
    "brier": lambda y, p, w: np.average(((p - np.eye(p.shape[1])[y]) ** 2).sum(1), weights=w),
    "log_loss": lambda y, p, w: sklearn.log_loss(y, p, sample_weight=w),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_metrics_of_six_classes_are_scikit_learns(name: str, weighted: bool) -> None:
    logits, classes, weight = _logits(6), _classes(6), _weight(weighted)

    found = _measure([name], logits, classes, weight)

    expected = CLASS_REFERENCES[name](classes.numpy(), logits.double().softmax(1).numpy(), weight)
    assert found[name] == _near(expected)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("name", OF_TWO)
def test_metrics_of_two_classes_are_those_of_the_second(name: str, units: int, weighted: bool) -> None:
    logit, classes, weight = _logits(1), _classes(2), _weight(weighted)
    if units == 1:
        found = _measure([name], logit, classes.float().unsqueeze(1), weight, activation="sigmoid")
    else:
        found = _measure([name], torch.cat([torch.zeros_like(logit), logit], 1), classes, weight)

    p = logit.double().sigmoid()
    expected = CLASS_REFERENCES[name](classes.numpy(), torch.cat([1 - p, p], 1).numpy(), weight)
    assert found[name] == _near(expected)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_one_hot_targets_are_measured_as_their_classes(name: str) -> None:
    logits, classes = _logits(6), _classes(6)
    one_hot = torch.nn.functional.one_hot(classes).float()

    assert _measure([name], logits, one_hot, targets=6) == _measure([name], logits, classes)


def test_a_margin_above_0_is_the_second_class_and_a_label_that_is_there() -> None:
    margins = torch.tensor([[-0.2], [0.2], [0.4], [3.0]])
    labels = torch.tensor([[0.0], [1.0], [1.0], [0.0]])

    of_classes = _measure(["accuracy", "recall"], margins, labels, activation="linear")
    of_labels = _measure(["accuracy", "recall"], margins, labels, task="multilabel", activation="linear")

    assert of_classes == of_labels == {"accuracy": 0.75, "recall": 1.0}


def test_a_class_that_these_rows_lack_leaves_out_what_it_does_not_define() -> None:
    logits, classes = _logits(3), _classes(2)

    found = _measure(["accuracy", "roc_auc", "log_loss", "f1"], logits, classes)

    assert found.keys() == {"accuracy", "log_loss", "f1"}


def test_rows_of_one_class_leave_out_what_they_do_not_define() -> None:
    found = _measure(["accuracy", "roc_auc"], _logits(1), torch.ones(ROWS, 1), activation="sigmoid")

    assert found.keys() == {"accuracy"}


def test_rows_that_count_nothing_define_no_metric() -> None:
    nothing = torch.zeros(ROWS)

    of_classes = _measure(OF_CLASSES, _logits(6), _classes(6), nothing)
    of_numbers = _measure(NUMBER_METRICS, _logits(1), _logits(1, 1), nothing, task="regression", activation="linear")

    assert of_classes == of_numbers == {}


def test_tens_of_thousands_of_classes_are_measured_in_little_memory() -> None:
    classes = 60_000
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([5, 7, 59_999, 0])

    found = _measure(["accuracy", "brier", "top_5_accuracy"], logits, target)

    p = logits.double().softmax(1).numpy()
    p[np.arange(4), target] -= 1
    assert found["brier"] == _near((p**2).sum(1).mean())


# --- labels -------------------------------------------------------------------------------------------------------

LABEL_REFERENCES: dict[str, Reference] = {
    "accuracy": lambda y, p, w: np.average(((p > 0.5) == y).mean(1), weights=w),
    **{
        name: lambda y, p, w, score=score: score(y, p > 0.5, average="macro", sample_weight=w, zero_division=0)
        for name, score in (
            ("precision", sklearn.precision_score),
            ("recall", sklearn.recall_score),
            ("f1", sklearn.f1_score),
        )
    },
    "roc_auc": lambda y, p, w: sklearn.roc_auc_score(y, p, sample_weight=w),
    "average_precision": lambda y, p, w: sklearn.average_precision_score(y, p, sample_weight=w),
    "brier": lambda y, p, w: np.mean(
        [sklearn.brier_score_loss(y[:, k], p[:, k], sample_weight=w) for k in range(y.shape[1])]
    ),
    "log_loss": lambda y, p, w: np.mean([sklearn.log_loss(y[:, k], p[:, k], sample_weight=w) for k in range(4)]),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", OF_LABELS)
def test_metrics_of_labels_are_scikit_learns(name: str, weighted: bool) -> None:
    logits, weight = _logits(4), _weight(weighted)
    labels = torch.stack([_classes(2).roll(place) for place in range(4)], 1).float()

    found = _measure([name], logits, labels, weight, task="multilabel", activation="sigmoid", targets=4)

    expected = LABEL_REFERENCES[name](labels.bool().numpy(), logits.double().sigmoid().numpy(), weight)
    assert found[name] == _near(expected)


# --- numbers ------------------------------------------------------------------------------------------------------


def _pearson(y: Any, p: Any, w: Any) -> float:
    if w is None:
        return float(np.mean([pearsonr(y[:, k], p[:, k]).statistic for k in range(y.shape[1])]))
    w = w.double().numpy()
    each = [np.cov(y[:, k], p[:, k], aweights=w) for k in range(y.shape[1])]
    return float(np.mean([c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) for c in each]))


NUMBER_REFERENCES: dict[str, Reference] = {
    "rmse": lambda y, p, w: sklearn.mean_squared_error(y, p, sample_weight=w) ** 0.5,
    "mse": lambda y, p, w: sklearn.mean_squared_error(y, p, sample_weight=w),
    "mae": lambda y, p, w: sklearn.mean_absolute_error(y, p, sample_weight=w),
    "median_absolute_error": lambda y, p, w: sklearn.median_absolute_error(y, p, sample_weight=w),
    "mape": lambda y, p, w: sklearn.mean_absolute_percentage_error(y, p, sample_weight=w),
    "msle": lambda y, p, w: sklearn.mean_squared_log_error(y, p, sample_weight=w),
    "r2": lambda y, p, w: sklearn.r2_score(y, p, sample_weight=w),
    "explained_variance": lambda y, p, w: sklearn.explained_variance_score(y, p, sample_weight=w),
    "max_error": lambda y, p, w: np.abs(y - p).max(),
    "pearson": _pearson,
}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", NUMBER_METRICS)
def test_metrics_of_numbers_are_scikit_learns(name: str, outputs: int, weighted: bool) -> None:
    predicted, weight = _logits(outputs).abs(), _weight(weighted)
    target = (predicted + 0.3 * _logits(outputs, seed=3)).abs()

    found = _measure([name], predicted, target, weight, task="regression", activation="linear", targets=outputs)

    expected = NUMBER_REFERENCES[name](target.double().numpy(), predicted.double().numpy(), weight)
    assert found[name] == _near(expected)


def test_predictions_of_the_logarithm_are_measured_as_numbers() -> None:
    target = torch.tensor([[1.0], [2.0], [4.0]])

    found = _measure(["mae"], target.log(), target, task="regression", activation="exp")

    assert found["mae"] == pytest.approx(0.0, abs=1e-6)


def test_of_several_quantiles_the_middle_one_is_measured() -> None:
    target = torch.tensor([[1.0, 5.0], [2.0, 6.0]])
    logits = torch.stack([target - 3, target, target + 9], 2).flatten(1)

    found = _measure(["mae"], logits, target, task="regression", activation="linear", targets=2)

    assert found["mae"] == 0.0


def test_r2_of_a_target_that_never_varies_is_zero_and_of_a_perfect_prediction_one() -> None:
    same = torch.tensor([[3.0], [3.0]])

    wrong = _measure(["r2"], torch.tensor([[1.0], [2.0]]), same, task="regression", activation="linear")
    right = _measure(["r2"], same, same, task="regression", activation="linear")

    assert (wrong["r2"], right["r2"]) == (0.0, 1.0)


def test_what_negative_numbers_and_no_spread_do_not_define_is_left_out() -> None:
    target = torch.tensor([[-3.0], [-3.0]])

    found = _measure(
        ["msle", "pearson", "mae"], torch.tensor([[1.0], [2.0]]), target, task="regression", activation="linear"
    )

    assert found == {"mae": 4.5}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_spec_has_a_reference(name: MetricName) -> None:
    assert name in CLASS_REFERENCES | LABEL_REFERENCES | NUMBER_REFERENCES
