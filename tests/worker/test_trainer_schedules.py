"""Every schedule against `torch.optim.lr_scheduler`, and whole trainings against the textbook loop with torch's own."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD, Optimizer, lr_scheduler

from core.spec.schedules import AnySchedule
from tests.worker import words
from tests.worker.factories import NOTHING, examples, spec_for, state_for
from worker.trainer import fit as loop
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, StepDone, fit
from worker.trainer.schedules import Length, Plateau, factor

STEPS, EPOCHS = 5, 10  # steps an epoch
ALL = STEPS * EPOCHS
LENGTH = Length(STEPS, ALL)

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "step": [{"step_size": 3, "gamma": 0.5}, {"step_size": 1, "gamma": 0.9}],
    "multi_step": [{"milestones": [1, 4, 9], "gamma": 0.3}],
    "exponential": [{"gamma": 0.7}],
    "polynomial": [{"power": 2.0}, {"power": 0.5}],
    "inverse_sqrt": [{"timescale": 0.3}],
    "cosine": [{"final_factor": 0.2}],
    "cosine_restarts": [{"t_0": 2, "t_mult": 2, "final_factor": 0.1}, {"t_0": 1}, {"t_0": 3, "t_mult": 10}],
    "one_cycle": [{"pct_start": 0.5, "div_factor": 3, "final_div_factor": 7}, {"anneal_strategy": "linear"}],
}
CASES = [(name, options) for name in words.SCHEDULES for options in ({}, *OPTIONS.get(name, []))]
BY_POSITION = [case for case in CASES if case[0] != "reduce_on_plateau"]


def _of_torch(chosen: Any, optimizer: Optimizer, steps: int) -> tuple[lr_scheduler.LRScheduler, bool]:
    """torch's scheduler over so many steps, and whether it is to be stepped at the end of an epoch only."""
    match chosen.name:
        case "constant":
            return lr_scheduler.ConstantLR(optimizer, factor=1.0), False
        case "step":
            return lr_scheduler.StepLR(optimizer, chosen.step_size, chosen.gamma), True
        case "multi_step":
            return lr_scheduler.MultiStepLR(optimizer, chosen.milestones, chosen.gamma), True
        case "exponential":
            return lr_scheduler.ExponentialLR(optimizer, chosen.gamma), True
        case "polynomial":
            return lr_scheduler.PolynomialLR(optimizer, steps, chosen.power), False
        case "inverse_sqrt":  # Vaswani et al. 2017, section 5.3, from the step where its warm-up ends
            start = chosen.timescale * STEPS
            return lr_scheduler.LambdaLR(optimizer, lambda step: math.sqrt(start / (start + step))), False
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, steps, chosen.final_factor), False
        case "cosine_restarts":
            return (
                lr_scheduler.CosineAnnealingWarmRestarts(
                    optimizer, chosen.t_0 * STEPS, chosen.t_mult, chosen.final_factor
                ),
                False,
            )
        case "one_cycle":
            return (
                lr_scheduler.OneCycleLR(
                    optimizer,
                    max_lr=1.0,
                    total_steps=steps,
                    pct_start=chosen.pct_start,
                    div_factor=chosen.div_factor,
                    final_div_factor=chosen.final_div_factor,
                    anneal_strategy=chosen.anneal_strategy,
                    cycle_momentum=False,
                ),
                False,
            )
    raise ValueError(f"{chosen.name} has no reference yet")


def _rates_of_torch(chosen: AnySchedule, steps: int) -> list[float]:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, of_epochs = _of_torch(chosen, optimizer, steps)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not of_epochs or (step + 1) % STEPS == 0:
            scheduler.step()
    return rates


def _rates(chosen: AnySchedule, steps: int = ALL) -> list[float]:
    return [factor(chosen, step, LENGTH, Plateau()) for step in range(steps)]


@pytest.mark.parametrize(("name", "options"), BY_POSITION, ids=[str(case) for case in BY_POSITION])
def test_the_rate_of_every_step_is_that_of_torch(name: str, options: dict[str, Any]) -> None:
    chosen = words.schedule(name, **options)

    assert _rates(chosen) == pytest.approx(_rates_of_torch(chosen, ALL), abs=1e-12)


@pytest.mark.parametrize("warmup_factor", [0.0, 0.3])
@pytest.mark.parametrize(("name", "options"), BY_POSITION, ids=[str(case) for case in BY_POSITION])
def test_the_schedule_comes_after_the_warm_up(name: str, options: dict[str, Any], warmup_factor: float) -> None:
    chosen = words.schedule(name, **options, warmup_epochs=2, warmup_factor=warmup_factor)
    rise = 2 * STEPS
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    # torch's line begins at its start factor; ours has left it by one step, for a rate of 0 would waste that step
    first = warmup_factor + (1 - warmup_factor) / rise
    warm_up = lr_scheduler.LinearLR(optimizer, start_factor=first, total_iters=rise - 1)
    expected = []
    for _ in range(rise):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warm_up.step()

    assert _rates(chosen) == pytest.approx(expected + _rates_of_torch(chosen, ALL - rise), abs=1e-12)


def test_a_warm_up_may_end_within_an_epoch() -> None:
    rates = _rates(words.schedule("constant", warmup_epochs=0.7, warmup_factor=0.5))

    assert rates[:5] == pytest.approx([0.5 + 0.5 * step / 3.5 for step in (1, 2, 3)] + [1.0, 1.0])


@pytest.mark.parametrize("final_factor", [0.0, 0.25])
def test_a_polynomial_ends_at_its_final_factor(final_factor: float) -> None:
    chosen = words.schedule("polynomial", power=2.0, final_factor=final_factor)

    rates = _rates(chosen, ALL + 1)

    line = [1 - step / ALL for step in range(ALL + 1)]
    assert rates == pytest.approx([final_factor + (1 - final_factor) * left**2 for left in line])


@pytest.mark.parametrize("name", words.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup_epochs", [0, 0.5, 1, 5])
def test_no_training_is_too_short_for_a_schedule(name: str, steps: int, warmup_epochs: float) -> None:
    chosen = words.schedule(name, warmup_epochs=warmup_epochs, **({"pct_start": 0.1} if name == "one_cycle" else {}))
    length = Length(min(steps, 2), steps)

    rates = [factor(chosen, step, length, Plateau()) for step in range(steps)]

    assert all(0 <= rate <= 1 for rate in rates)


def test_a_million_restarts_are_as_quick_as_one() -> None:
    chosen = words.schedule("cosine_restarts", t_0=1, t_mult=1)

    far, near = (factor(chosen, step, LENGTH, Plateau()) for step in (STEPS * 10**9 + 2, 2))

    assert far == pytest.approx(near, abs=1e-6)


# --- reduce_on_plateau --------------------------------------------------------------------------------------------

PLATEAUS: list[dict[str, Any]] = [
    {},
    {"patience": 2, "factor": 0.5, "min_delta": 0.0},
    {"patience": 0, "factor": 0.5, "min_delta": 0.05, "cooldown": 2},
    {"patience": 1, "factor": 0.3, "cooldown": 1, "min_factor": 0.05},
]


@pytest.mark.parametrize("monitor", ["valid_loss", "train_accuracy"])
@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_the_rate_falls_where_that_of_torch_falls(options: dict[str, Any], monitor: str) -> None:
    chosen: Any = words.schedule("reduce_on_plateau", monitor=monitor, **options)
    plateau = Plateau()
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="min" if monitor.endswith("loss") else "max",
        factor=chosen.factor,
        patience=chosen.patience,
        threshold=chosen.min_delta,
        threshold_mode="abs",
        cooldown=chosen.cooldown,
        min_lr=chosen.min_factor,
        eps=0.0,
    )
    curve = (torch.rand(60, generator=torch.Generator().manual_seed(0)) + 2 / torch.arange(1, 61)).tolist()

    ours, theirs = [], []
    for value in curve:
        plateau.look(chosen, {monitor: value})
        ours.append(factor(chosen, 0, LENGTH, plateau))
        reference.step(value)
        theirs.append(optimizer.param_groups[0]["lr"])

    assert ours == pytest.approx(theirs, abs=1e-12)
    assert ours[-1] < 1


def test_an_epoch_whose_metric_is_not_defined_is_one_without_anything_better() -> None:
    chosen: Any = words.schedule("reduce_on_plateau", monitor="valid_roc_auc", patience=1)
    plateau = Plateau()

    for metrics in ({}, {"valid_roc_auc": 0.5}, {}, {}):
        plateau.look(chosen, metrics)

    assert plateau.best == -0.5
    assert plateau.factor == pytest.approx(0.1)


# --- whole trainings ----------------------------------------------------------------------------------------------

TRAIN = examples(50)
DOUBLE = Examples(TRAIN.features.double(), TRAIN.target)
DENSE = {"type": "dense", "units": 6, "activation": "tanh"}
Textbook = Callable[[Any, list[Tensor]], Optimizer]


def _textbook(spec: Any, optimizer_of: Callable[[Any], Optimizer]) -> Any:
    """The loop as it stands in every textbook, with the objects of `torch.optim` and the same batches."""
    network = state_for(spec, dtype=torch.float64).network
    optimizer = optimizer_of(network.parameters())
    chosen, plateau = spec.training.schedule, None
    if chosen.name == "reduce_on_plateau":
        plateau = lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=chosen.factor, patience=chosen.patience, threshold=chosen.min_delta, threshold_mode="abs"
        )
    else:
        scheduler, of_epochs = _of_torch(chosen, optimizer, ALL)
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for rows in loop._updates(spec, epoch, DOUBLE, network):

            def closure(rows: Tensor = rows, losses: list[float] = losses) -> Tensor:
                optimizer.zero_grad()
                loss = functional.cross_entropy(network(DOUBLE.features[rows]), DOUBLE.target[rows])
                loss.backward()
                losses.append(loss.item())
                return loss

            optimizer.step(closure)
            if plateau is None and not of_epochs:
                scheduler.step()
        if plateau is not None:
            plateau.step(sum(losses) / len(losses))
        elif of_epochs:
            scheduler.step()
    return network


def _same_end(spec: Any, optimizer_of: Callable[[Any], Optimizer]) -> None:
    state = state_for(spec, dtype=torch.float64)
    list(fit(spec, DOUBLE, NOTHING, state))
    for mine, its in zip(state.network.parameters(), _textbook(spec, optimizer_of).parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-6)
    assert state.at.epoch == EPOCHS


@pytest.mark.parametrize("name", words.SCHEDULES)
def test_fifty_steps_of_a_schedule_end_where_the_textbook_loop_ends(name: str) -> None:
    options = {"patience": 0, "min_delta": 0.1, "monitor": "train_loss"} if name == "reduce_on_plateau" else {}
    chosen = words.schedule(name, **options).model_dump()
    optimizer = {"name": "sgd", "learning_rate": 1.0, "momentum": 0.5}
    spec = spec_for([DENSE], epochs=EPOCHS, batch_size=10, optimizer=optimizer, schedule=chosen)

    _same_end(spec, lambda parameters: SGD(parameters, lr=1.0, momentum=0.5))


@pytest.mark.parametrize("name", words.OPTIMIZERS)
def test_fifty_steps_of_an_optimizer_end_where_the_textbook_loop_ends(name: str) -> None:
    of_torch = {one.lower(): getattr(torch.optim, one) for one in dir(torch.optim)}[name]
    options = {"line_search_fn": "strong_wolfe"} if name == "lbfgs" else {}
    spec = spec_for([DENSE], epochs=EPOCHS, batch_size=10, optimizer={"name": name, **options})
    options |= {"max_iter": 20, "history_size": 10} if name == "lbfgs" else {}

    _same_end(spec, lambda parameters: of_torch(parameters, lr=spec.training.optimizer.learning_rate, **options))


def test_events_say_the_rate_of_their_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)
    optimizer = {"name": "sgd", "learning_rate": 0.5}
    spec = spec_for(epochs=EPOCHS, batch_size=10, optimizer=optimizer, schedule="cosine")
    state = state_for(spec)

    said = list(fit(spec, TRAIN, NOTHING, state))

    rates = [0.5 * rate for rate in _rates(words.schedule("cosine"))]
    assert [one.facts["learning_rate"] for one in said if isinstance(one, EpochDone)] == rates[STEPS - 1 :: STEPS]
    assert [one.facts["learning_rate"] for one in said if isinstance(one, StepDone)] == [
        rate for step, rate in enumerate(rates) if (step + 1) % STEPS
    ]
