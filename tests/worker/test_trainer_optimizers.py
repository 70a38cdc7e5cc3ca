"""The fused kernels against `torch.optim`, which is the reference."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from core.spec import Optimizer
from worker.trainer.optimizers import updater

SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW

CASES: list[tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = [
    ({"name": "sgd", "learning_rate": 0.1}, lambda p: SGD(p, lr=0.1)),
    ({"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}, lambda p: SGD(p, lr=0.1, momentum=0.9)),
    (
        {"name": "sgd", "learning_rate": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        lambda p: SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    ({"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.1}, lambda p: SGD(p, lr=0.1, weight_decay=0.1)),
    ({"name": "adam"}, lambda p: ADAM(p, lr=0.001)),
    (
        {"name": "adam", "learning_rate": 0.01, "betas": [0.8, 0.99], "eps": 1e-4, "weight_decay": 0.1},
        lambda p: ADAM(p, lr=0.01, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.1),
    ),
    ({"name": "adamw"}, lambda p: ADAMW(p, lr=0.001, weight_decay=0.01)),
    (
        {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.3},
        lambda p: ADAMW(p, lr=0.01, weight_decay=0.3),
    ),
]


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


def _gradients(network: nn.Sequential, step: int) -> tuple[Tensor, ...]:
    features = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
    return torch.autograd.grad(network(features).square().mean(), list(network.parameters()))


@pytest.mark.parametrize(("chosen", "reference"), CASES, ids=[str(case[0]) for case in CASES])
def test_fifty_steps_end_where_torch_optim_ends(
    chosen: dict[str, Any], reference: Callable[[Any], torch.optim.Optimizer]
) -> None:
    ours, theirs = _network(), _network()
    ours_step = updater(TypeAdapter(Optimizer).validate_python(chosen), list(ours.parameters()))
    theirs_step = reference(theirs.parameters())

    for step in range(50):
        ours_step.step(_gradients(ours, step))
        for parameter, gradient in zip(theirs.parameters(), _gradients(theirs, step), strict=True):
            parameter.grad = gradient
        theirs_step.step()

    for mine, reference_value in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference_value, rtol=0, atol=1e-6)
    assert not torch.equal(next(ours.parameters()), next(_network().parameters()))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_all_that_the_next_step_depends_on_is_in_its_state(name: str) -> None:
    chosen = TypeAdapter(Optimizer).validate_python({"name": name} | ({"momentum": 0.9} if name == "sgd" else {}))
    first, second = _network(), _network()
    going = updater(chosen, list(first.parameters()))
    for step in range(3):
        going.step(_gradients(first, step))

    second.load_state_dict(first.state_dict())
    other = updater(chosen, list(second.parameters()))
    for key, tensor in other.state().items():
        tensor.copy_(going.state()[key])
    going.step(_gradients(first, 3))
    other.step(_gradients(second, 3))

    for mine, its in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, its)
