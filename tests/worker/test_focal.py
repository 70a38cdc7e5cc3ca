"""Focal loss of predictions that are so sure that their probability has rounded to 1."""

import pytest
import torch

from core.spec.losses import Focal
from core.spec.network import OutputActivation
from worker.trainer.losses import criterion_of


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("output", "target"),
    [
        ("softmax", torch.tensor([0, 1])),
        ("softmax", torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
        ("sigmoid", torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
    ],
    ids=["classes", "shares", "labels"],
)
def test_the_gradient_of_a_sure_prediction_is_a_number(
    output: OutputActivation, target: torch.Tensor, gamma: float
) -> None:
    logits = torch.tensor([[60.0, -60.0], [-60.0, 60.0]], requires_grad=True)

    value = criterion_of(Focal(name="focal", gamma=gamma), output)(logits, target, None)
    value.backward()

    assert logits.grad is not None
    assert torch.cat([value.detach().reshape(1), logits.grad.flatten()]).abs().amax() < 1e-6
