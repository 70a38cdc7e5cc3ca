"""Losses and metrics against torch and numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from core.spec import BinaryCrossEntropy, CrossEntropy, Mse
from worker.trainer.losses import EVALUATION_ROWS, criterion_of, metrics, predict, target_tensor

CROSS_ENTROPY = CrossEntropy(name="cross_entropy")
BINARY = BinaryCrossEntropy(name="binary_cross_entropy")
MSE = Mse(name="mse")
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 4.0, 0.0]])


def test_cross_entropy_is_the_mean_negative_log_probability_of_the_class() -> None:
    target = torch.tensor([0, 2, 1])

    loss = criterion_of(CROSS_ENTROPY)(LOGITS, target)

    chosen = torch.softmax(LOGITS.double(), 1)[torch.arange(3), target]
    assert loss.item() == pytest.approx(-chosen.log().mean().item(), abs=1e-6)


def test_binary_cross_entropy_takes_one_logit_a_row() -> None:
    logits, target = torch.tensor([[1.5], [-0.5]]), torch.tensor([1.0, 0.0])

    loss = criterion_of(BINARY)(logits, target)

    assert loss.item() == functional.binary_cross_entropy_with_logits(logits[:, 0], target).item()


def test_mse_does_not_broadcast_rows_against_columns() -> None:
    logits, target = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1.0, 0.0, 1.0])

    loss = criterion_of(MSE)(logits, target)

    assert loss.item() == pytest.approx((0 + 4 + 9) / 3)


def test_the_target_has_the_type_that_its_loss_wants() -> None:
    codes = torch.tensor([0, 1], dtype=torch.int64)

    assert target_tensor(CROSS_ENTROPY, codes).dtype == torch.int64
    assert target_tensor(BINARY, codes).dtype == torch.float32


def test_accuracy_counts_the_rows_whose_largest_logit_is_the_class() -> None:
    many = metrics(CROSS_ENTROPY, LOGITS, torch.tensor([0, 0, 1]))
    two = metrics(BINARY, torch.tensor([[0.1], [-0.1], [3.0], [1.0]]), torch.tensor([1.0, 0.0, 1.0, 0.0]))

    assert many["accuracy"] == pytest.approx(2 / 3)
    assert two["accuracy"] == 0.75


def test_metrics_of_numbers_are_those_of_numpy() -> None:
    predicted, target = np.array([1.0, 2.5, -1.0, 4.0]), np.array([1.5, 2.0, -2.0, 3.0])

    found = metrics(MSE, torch.tensor(predicted, dtype=torch.float32).unsqueeze(1), torch.tensor(target).float())

    error = predicted - target
    assert found["loss"] == pytest.approx((error**2).mean(), abs=1e-6)
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), abs=1e-6)
    assert found["mae"] == pytest.approx(np.abs(error).mean(), abs=1e-6)
    assert found["r2"] == pytest.approx(1 - (error**2).sum() / ((target - target.mean()) ** 2).sum(), abs=1e-6)


def test_r2_of_a_target_that_never_varies_is_zero() -> None:
    assert metrics(MSE, torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 3.0]))["r2"] == 0.0


def test_prediction_in_parts_is_prediction_of_all_rows() -> None:
    features = torch.randn(EVALUATION_ROWS + 3, 2, generator=torch.Generator().manual_seed(0))

    logits = predict(lambda part: part * 2, features)

    assert torch.equal(logits, features * 2)
    assert not logits.requires_grad
