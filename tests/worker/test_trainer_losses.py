"""Losses against torch, scikit-learn and their formulas."""

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from scipy.special import expit, log_softmax
from torch import Tensor
from torch.nn import functional

from tests.worker import words
from tests.worker.words import PAIRS, batch
from worker.trainer.examples import Examples
from worker.trainer.losses import criterion_of
from worker.trainer.predictions import EVALUATION_ROWS, logits_of


def _loss(name: str, logits: Tensor, target: Tensor, weight: Tensor | None = None, **options: Any) -> float:
    output: Any = options.pop("output", "linear")
    return float(criterion_of(words.loss(name, **options), output)(logits, target, weight))


def _weight(rows: int) -> Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.1


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_one_hot_targets_is_that_of_their_classes(smoothing: float) -> None:
    logits, classes = batch("cross_entropy", "softmax")
    one_hot = functional.one_hot(classes, logits.shape[1]).double()

    of_classes = _loss("cross_entropy", logits, classes, label_smoothing=smoothing)
    of_one_hot = _loss("cross_entropy", logits, one_hot, label_smoothing=smoothing)

    smooth = one_hot * (1 - smoothing) + smoothing / logits.shape[1]
    expected = -(smooth.numpy() * log_softmax(logits.numpy(), 1)).sum(1).mean()
    assert of_classes == pytest.approx(expected, abs=1e-12)
    assert of_one_hot == pytest.approx(expected, abs=1e-12)


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    logits, classes = batch("cross_entropy", "softmax")

    found = _loss("cross_entropy", logits, classes, _weight(len(logits)))

    expected = sklearn.metrics.log_loss(classes, logits.softmax(1), sample_weight=_weight(len(logits)))
    assert found == pytest.approx(expected, abs=1e-12)


def test_cross_entropy_takes_shares_of_classes() -> None:
    logits, shares = batch("cross_entropy", "softmax")[0], batch("cross_entropy", "softmax", seed=9)[0].softmax(1)

    found = _loss("cross_entropy", logits, shares)

    assert found == pytest.approx(-(shares * logits.log_softmax(1)).sum(1).mean().item(), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_is_the_mean_over_rows_and_labels(smoothing: float) -> None:
    logits, labels = batch("binary_cross_entropy", "sigmoid")

    found = _loss("binary_cross_entropy", logits, labels, label_smoothing=smoothing)

    p, t = expit(logits.numpy()), labels.numpy() * (1 - smoothing) + smoothing / 2
    assert found == pytest.approx(-(t * np.log(p) + (1 - t) * np.log1p(-p)).mean(), abs=1e-12)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_focal_with_gamma_0_is_cross_entropy(output: str) -> None:
    logits, target = batch("focal", output)
    plain = "cross_entropy" if output == "softmax" else "binary_cross_entropy"

    found = _loss("focal", logits, target, output=output, gamma=0.0)

    assert found == pytest.approx(_loss(plain, logits, target, output=output), abs=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_weighs_each_row_by_how_wrong_it_is(gamma: float) -> None:
    logits, classes = batch("focal", "softmax")
    one_hot = functional.one_hot(classes, logits.shape[1]).double()

    of_classes = _loss("focal", logits, classes, output="softmax", gamma=gamma)
    of_one_hot = _loss("focal", logits, one_hot, output="softmax", gamma=gamma)

    p = logits.softmax(1)[torch.arange(len(logits)), classes]
    expected = (-((1 - p) ** gamma) * p.log()).mean().item()
    assert of_classes == pytest.approx(expected, abs=1e-12)
    assert of_one_hot == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_labels_is_focal_of_two_classes(gamma: float) -> None:
    logits, labels = batch("focal", "sigmoid")
    two = torch.stack([torch.zeros_like(logits), logits], 2).flatten(0, 1)

    found = _loss("focal", logits, labels, output="sigmoid", gamma=gamma)

    expected = _loss("focal", two, labels.flatten().long(), output="softmax", gamma=gamma)
    assert found == pytest.approx(expected, abs=1e-12)


def test_hinge_of_classes_is_scikit_learns() -> None:
    logits, classes = batch("hinge", "linear")

    found = _loss("hinge", logits, classes)

    assert found == pytest.approx(sklearn.metrics.hinge_loss(classes, logits), abs=1e-12)


def test_hinge_of_one_logit_is_scikit_learns() -> None:
    logits, labels = batch("hinge", "linear")[0][:, :1], batch("binary_cross_entropy", "sigmoid")[1][:, :1]

    found = _loss("hinge", logits, labels, _weight(len(logits)))

    expected = sklearn.metrics.hinge_loss(labels[:, 0], logits[:, 0], sample_weight=_weight(len(logits)))
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        ("mse", {}, lambda e: e**2),
        ("mae", {}, np.abs),
        ("huber", {"delta": 0.6}, lambda e: np.where(abs(e) <= 0.6, e**2 / 2, 0.6 * (abs(e) - 0.3))),
        ("log_cosh", {}, lambda e: np.log(np.cosh(e))),
        ("quantile", {"quantiles": [0.5]}, lambda e: abs(e) / 2),
    ],
)
def test_losses_of_numbers_are_means_of_their_formula(name: str, options: dict[str, Any], formula: Any) -> None:
    predicted, target = batch(name, "linear")

    found = _loss(name, predicted, target, **options)

    assert found == pytest.approx(formula(predicted.numpy() - target.numpy()).mean(), abs=1e-12)


def test_numbers_do_not_broadcast_rows_against_columns() -> None:
    predicted, target = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [0.0], [1.0]])

    assert _loss("mse", predicted, target) == pytest.approx((0 + 4 + 9) / 3)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_a_quantile_is_scikit_learns_pinball_loss(quantile: float) -> None:
    predicted, target = batch("mse", "linear")

    found = _loss("quantile", predicted, target, _weight(len(target)), quantiles=[quantile])

    expected = sklearn.metrics.mean_pinball_loss(target, predicted, alpha=quantile, sample_weight=_weight(len(target)))
    assert found == pytest.approx(expected, abs=1e-12)


def test_several_quantiles_of_several_targets_are_side_by_side() -> None:
    target, quantiles = batch("mse", "linear")[1], [0.2, 0.5, 0.7]
    predicted = torch.randn(len(target), 3 * target.shape[1], generator=torch.Generator().manual_seed(2)).double()

    found = _loss("quantile", predicted, target, quantiles=quantiles)

    each = [
        sklearn.metrics.mean_pinball_loss(target[:, column], predicted[:, 3 * column + place], alpha=quantile)
        for column in range(target.shape[1])
        for place, quantile in enumerate(quantiles)
    ]
    assert found == pytest.approx(np.mean(each), abs=1e-12)


def test_the_constant_with_the_least_quantile_loss_is_the_quantile() -> None:
    target = torch.arange(101.0).unsqueeze(1)

    losses = [_loss("quantile", torch.full_like(target, guess), target, quantiles=[0.9]) for guess in range(101)]

    assert int(np.argmin(losses)) == 90


def test_poisson_is_torchs_and_half_of_scikit_learns_deviance() -> None:
    logits, counts = batch("poisson", "exp")

    found = _loss("poisson", logits, counts, output="exp")
    best = _loss("poisson", counts.clamp(min=1e-300).log(), counts, output="exp")

    assert found == pytest.approx(functional.poisson_nll_loss(logits, counts).item(), abs=1e-12)
    deviance = sklearn.metrics.mean_poisson_deviance(counts.flatten(), logits.exp().flatten())
    assert 2 * (found - best) == pytest.approx(deviance, abs=1e-9)


def test_gamma_is_half_of_scikit_learns_deviance() -> None:
    logits, numbers = batch("gamma", "exp")

    found, best = (_loss("gamma", one, numbers, output="exp") for one in (logits, numbers.log()))

    deviance = sklearn.metrics.mean_gamma_deviance(numbers.flatten(), logits.exp().flatten())
    assert 2 * (found - best) == pytest.approx(deviance, abs=1e-9)


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "output"), PAIRS)
def test_a_weighted_loss_is_the_sum_of_weighted_rows_over_the_sum_of_weights(name: str, output: str) -> None:
    logits, target = batch(name, output)
    weight = _weight(len(logits))

    found = _loss(name, logits, target, weight, output=output)

    each = [_loss(name, logits[row : row + 1], target[row : row + 1], output=output) for row in range(len(logits))]
    expected = sum(w * value for w, value in zip(weight.tolist(), each, strict=True)) / float(weight.sum())
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "output"), PAIRS)
def test_equal_weights_change_nothing(name: str, output: str) -> None:
    logits, target = batch(name, output)

    weighted = _loss(name, logits, target, torch.full((len(logits),), 3.0, dtype=torch.float64), output=output)

    assert weighted == pytest.approx(_loss(name, logits, target, output=output), abs=1e-12)


def test_a_row_that_weighs_nothing_might_as_well_not_be_there() -> None:
    logits, target = batch("cross_entropy", "softmax")
    weight = _weight(len(logits))
    weight[10:] = 0.0

    found = _loss("cross_entropy", logits, target, weight)

    assert found == pytest.approx(_loss("cross_entropy", logits[:10], target[:10], weight[:10]), abs=1e-12)


# --- extremes -----------------------------------------------------------------------------------------------------

FINITE = [pair for pair in PAIRS if pair[1] != "exp"]  # the exponential of a logit of 1000 is no float


@pytest.mark.parametrize(("name", "output"), FINITE)
@pytest.mark.parametrize("size", [100.0, 1e4, 1e15])
def test_extreme_logits_have_a_finite_loss_and_gradient(name: str, output: str, size: float) -> None:
    logits, target = (one.float() if one.is_floating_point() else one for one in batch(name, output))
    extreme = (size * logits.sign()).requires_grad_()

    loss = criterion_of(words.loss(name), output)(extreme, target, None)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, extreme)

    assert math.isfinite(loss.item())
    assert gradient.isfinite().all()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("size", [20.0, 200.0])
def test_focal_of_what_is_known_for_sure_has_no_gradient(output: str, gamma: float, size: float) -> None:
    _, target = batch("focal", output)
    sign = functional.one_hot(target) if output == "softmax" else target
    logits = (size * (2 * sign.float() - 1)).requires_grad_()

    loss = criterion_of(words.loss("focal", gamma=gamma), output)(  # type: ignore[arg-type]
        logits, target if output == "softmax" else target.float(), None
    )
    (gradient,) = torch.autograd.grad(loss, logits)

    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert gradient.abs().max().item() == pytest.approx(0.0, abs=1e-6)


def test_log_cosh_of_small_and_large_errors_is_right_to_single_precision() -> None:
    errors = torch.tensor([[-1e6], [-30.0], [-1.0], [0.0], [1e-2], [30.0], [1e6]])

    found = [_loss("log_cosh", error, torch.zeros(1, 1)) for error in errors.split(1)]

    expected = [abs(e) + np.log1p(np.exp(-2 * abs(e))) - np.log(2) for e in errors.flatten().double().tolist()]
    assert found == pytest.approx(expected, rel=1e-6, abs=2e-7)


# --- logits in parts ----------------------------------------------------------------------------------------------


def test_prediction_in_parts_is_prediction_of_all_rows() -> None:
    features = torch.randn(EVALUATION_ROWS + 3, 2, generator=torch.Generator().manual_seed(0))
    rows = Examples(features, torch.zeros(len(features)))

    logits = logits_of(lambda part, codes: part * 2, rows)

    assert torch.equal(logits, features * 2)
    assert not logits.requires_grad
