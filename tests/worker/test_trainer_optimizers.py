"""Every optimizer against its class of `torch.optim`, which is the reference; and the fused kernels, which are private,
against what stands in for them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.errors import DataInvalid
from core.spec.optimizers import AnyOptimizer
from tests.worker import words
from tests.worker.factories import order_for, read
from worker.trainer import optimizers
from worker.trainer.backward import gradient_of
from worker.trainer.optimizers import Updater, updater

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [
        {"learning_rate": 0.1, "momentum": 0.9},
        {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        {"learning_rate": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1},
        {"learning_rate": 0.1, "weight_decay": 0.1},
    ],
    "adam": [
        {"learning_rate": 0.01, "betas": [0.8, 0.99], "eps": 1e-4, "weight_decay": 0.1},
        {"learning_rate": 0.01, "amsgrad": True},
        {"betas": [0.0, 0.0]},
    ],
    "adamw": [{"learning_rate": 0.01, "weight_decay": 0.3}, {"weight_decay": 0.0}, {"amsgrad": True}],
    "nadam": [{"momentum_decay": 0.1, "weight_decay": 0.1, "betas": [0.8, 0.95]}],
    "radam": [{"learning_rate": 0.05, "weight_decay": 0.1}, {"betas": [0.9, 0.9]}],
    "adamax": [{"weight_decay": 0.1, "eps": 1e-3}],
    "adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1}],
    "adadelta": [{"rho": 0.5, "weight_decay": 0.1, "eps": 1e-3}],
    "rmsprop": [
        {"momentum": 0.9},
        {"centered": True},
        {"alpha": 0.9, "eps": 1e-4, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
    ],
    "adafactor": [{"beta2_decay": -0.5, "d": 2.0, "weight_decay": 0.1}, {"learning_rate": 0.5}],
    "lbfgs": [
        {"line_search_fn": None, "learning_rate": 0.1},
        {"max_iter": 3, "history_size": 2},
        {"tolerance_grad": 0.1, "tolerance_change": 0.01},
    ],
}
CASES = [(name, options) for name in words.OPTIMIZERS for options in ({}, *OPTIONS.get(name, []))]
FUSED = [(name, options) for name, options in CASES if name in ("sgd", "adam", "adamw")]
IDS = [f"{name}-{options}" for name, options in CASES]
OF_TORCH = {name.lower(): getattr(torch.optim, name) for name in dir(torch.optim) if name[0].isupper()}


def _network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)).to(dtype)


def _evaluate(network: nn.Sequential, step: int) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of the batch of a step."""
    parameters = list(network.parameters())
    features = torch.randn(16, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    loss = (network(features.to(parameters[0].dtype)) - 1).square().mean()
    return loss.detach(), list(torch.autograd.grad(loss, parameters))


def _move(network: nn.Sequential, moving: Updater, steps: range) -> None:
    for step in steps:
        _, gradients = _evaluate(network, step)
        moving.step(gradients, lambda step=step: _evaluate(network, step))  # type: ignore[misc]


def _move_by_torch(network: nn.Sequential, chosen: AnyOptimizer, steps: int) -> None:
    options = chosen.model_dump(exclude={"name"})
    reference = OF_TORCH[chosen.name](network.parameters(), lr=options.pop("learning_rate"), **options)
    for step in range(steps):

        def closure(step: int = step) -> Tensor:
            loss, gradients = _evaluate(network, step)
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            return loss

        reference.step(closure)


def _same(one: nn.Module, other: nn.Module, within: float) -> None:
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=within)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_fifty_steps_end_where_torch_optim_ends(name: str, options: dict[str, Any]) -> None:
    chosen = words.optimizer(name, **options)
    ours, theirs = _network(), _network()

    _move(ours, updater(chosen, list(ours.parameters())), range(50))
    _move_by_torch(theirs, chosen, 50)

    _same(ours, theirs, 1e-6)
    assert not torch.equal(next(ours.parameters()), next(_network().parameters()))


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_all_that_the_next_step_depends_on_is_in_its_state(name: str, options: dict[str, Any]) -> None:
    chosen = words.optimizer(name, **options)
    first, second = _network(torch.float32), _network(torch.float32)
    going = updater(chosen, list(first.parameters()))
    _move(first, going, range(3))

    second.load_state_dict(first.state_dict())
    other = updater(chosen, list(second.parameters()))
    other.restore({key: tensor.clone() for key, tensor in going.state().items()})
    _move(first, going, range(3, 6))
    _move(second, other, range(3, 6))

    _same(first, second, 0.0)


@pytest.mark.parametrize("name", words.OPTIMIZERS)
def test_the_rate_may_change_before_each_step(name: str) -> None:
    still, moved = _network(), _network()
    options = {"line_search_fn": None} if name == "lbfgs" else {}  # the search finds a length by itself
    moving = updater(words.optimizer(name, **options), list(moved.parameters()))

    moving.learning_rate = 0.0
    _move(moved, moving, range(2))
    _same(moved, still, 0.0)
    moving.learning_rate = 0.1
    _move(moved, moving, range(2, 3))

    assert not torch.equal(next(moved.parameters()), next(still.parameters()))


@pytest.mark.parametrize("name", words.OPTIMIZERS)
def test_gradients_of_zero_and_empty_steps_make_no_nan(name: str) -> None:
    network = _network(torch.float32)
    moving = updater(words.optimizer(name), list(network.parameters()))
    zeros = [torch.zeros_like(parameter) for parameter in network.parameters()]

    for _ in range(3):
        moving.step(zeros, lambda: (torch.zeros(()), zeros))

    assert all(parameter.isfinite().all() for parameter in network.parameters())


# --- what stands in for private calls -----------------------------------------------------------------------------


def _raising(*_: Any, **__: Any) -> None:
    raise RuntimeError("no kernel for this device")


def _gone(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.delattr(torch, name)


def _broken(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setattr(torch, name, _raising)


def _renamed(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setattr(torch, name, lambda everything_else: None)


@pytest.fixture(params=[_gone, _broken, _renamed])
def without_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes torch's fused kernels away."""

    def take() -> None:
        for name in ("_fused_adam_", "_fused_adamw_", "_fused_sgd_"):
            request.param(monkeypatch, name)

    return take


@pytest.mark.parametrize(("name", "options"), FUSED, ids=[f"{name}-{options}" for name, options in FUSED])
def test_without_the_fused_kernel_the_public_function_gives_the_same_numbers(
    without_kernels: Callable[[], None], name: str, options: dict[str, Any]
) -> None:
    chosen = words.optimizer(name, **options)
    by_kernel, by_function = _network(), _network()
    _move(by_kernel, updater(chosen, list(by_kernel.parameters())), range(50))

    without_kernels()
    _move(by_function, updater(chosen, list(by_function.parameters())), range(50))

    _same(by_function, by_kernel, 1e-9)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_fused_kernel_is_what_is_called_where_there_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = getattr(torch, f"_fused_{name}_")
    monkeypatch.setattr(
        torch, f"_fused_{name}_", lambda *lists, **options: calls.append(1) or kernel(*lists, **options)
    )
    network = _network()

    _move(network, updater(words.optimizer(name), list(network.parameters())), range(5))

    assert len(calls) == 1 + 5


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_state_of_a_kernel_goes_on_without_it(without_kernels: Callable[[], None], name: str) -> None:
    chosen = words.optimizer(name, **({"momentum": 0.9} if name == "sgd" else {}))
    first, second = _network(), _network()
    going = updater(chosen, list(first.parameters()))
    _move(first, going, range(5))
    second.load_state_dict(first.state_dict())
    saved = {key: tensor.clone() for key, tensor in going.state().items()}
    _move(first, going, range(5, 10))

    without_kernels()
    other = updater(chosen, list(second.parameters()))
    other.restore(saved)
    _move(second, other, range(5, 10))

    _same(second, first, 1e-9)


# --- the engine of autograd ---------------------------------------------------------------------------------------


class _Engine:
    """torch's, but for the call that is ours: torch itself gives all by position."""

    def __init__(self, instead: Callable[..., Any]) -> None:
        self._instead, self._real = instead, torch.autograd.Variable._execution_engine

    def run_backward(self, *given: Any, **named: Any) -> Any:
        if "allow_unreachable" in named:
            return self._instead(*given)
        return self._real.run_backward(*given, **named)


def _zeros(losses: Any, ones: Any, keep: bool, create: bool, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(one) for one in inputs)


@pytest.mark.parametrize("engine", [object, _Engine(_raising), _Engine(_zeros)], ids=["gone", "changed", "wrong"])
def test_without_the_engine_the_public_function_gives_the_same_gradient(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _network()
    parameters = list(network.parameters())
    features = torch.ones(3, 5, dtype=torch.float64)
    by_engine = gradient_of(parameters)(network(features).square().mean())

    if engine is object:
        monkeypatch.setattr(torch.autograd, "Variable", object)
    else:
        monkeypatch.setattr(torch.autograd.Variable, "_execution_engine", engine)
    by_function = gradient_of(parameters)(network(features).square().mean())

    assert all(map(torch.equal, by_function, by_engine))
    assert all(one.abs().sum() > 0 for one in by_function)


def test_the_engine_is_what_is_called_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    network = _network()
    gradient = gradient_of(list(network.parameters()))
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: calls.append(1))

    gradient(network(torch.ones(3, 5, dtype=torch.float64)).square().mean())

    assert calls == []


def test_gradients_lie_in_no_parameter_and_in_no_other_gradient() -> None:
    network = _network()
    parameters = list(network.parameters())

    gradients = gradient_of(parameters)(network(torch.ones(1, 5, dtype=torch.float64)).sum())

    assert len({one.data_ptr() for one in [*gradients, *parameters]}) == 2 * len(parameters)
    assert all(parameter.grad is None for parameter in parameters)


def test_every_optimizer_of_the_spec_has_a_class_of_torch() -> None:
    assert set(words.OPTIMIZERS) <= OF_TORCH.keys()
    assert optimizers.LBFGS is torch.optim.LBFGS


@pytest.mark.parametrize("asked", [{"accumulate": 2}, {"clip_norm": 1.0}, {"clip_value": 1.0}], ids=str)
def test_what_lbfgs_cannot_do_is_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    table = read(tmp_path / "data", "x,y\n1,2.5\n2,3.5\n3,1.5\n4,2.5\n")
    training = {"optimizer": "lbfgs", **asked}

    with pytest.raises(DataInvalid, match="L-BFGS"):
        order_for(tmp_path / "job", table, {"target": "y", "split": {"validation": 0}, "training": training})
