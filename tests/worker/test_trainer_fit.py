"""The loop: what it reports, when it ends, which weights are the best."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional

from core.errors import Diverged
from core.spec import Training
from tests.worker.factories import NOTHING, digest, examples, state_for, training, without_timing
from worker.trainer import fit as loop
from worker.trainer.fit import EpochDone, Examples, StepDone, fit

DENSE = {"type": "dense", "units": 16, "activation": "relu"}
TRAIN, VALIDATION = examples(100), examples(40, seed=1)


def _epochs(chosen: Training, state: Any, train: Examples = TRAIN, validation: Examples = NOTHING) -> list[Any]:
    return [done.facts for done in fit(chosen, train, validation, state) if isinstance(done, EpochDone)]


def _clock(seconds_a_look: float) -> Iterator[float]:
    moment = 0.0
    while True:
        yield moment
        moment += seconds_a_look


def test_a_toy_set_is_learned() -> None:
    chosen = training(epochs=60, optimizer={"name": "adam", "learning_rate": 0.01})
    easy = Examples(TRAIN.features + 4 * functional.one_hot(TRAIN.target, 4)[:, :4], TRAIN.target)

    facts = _epochs(chosen, state_for(chosen, [DENSE]), easy)

    assert facts[0]["train_loss"] > 0.7
    assert facts[-1]["train_loss"] < 0.05


def test_one_batch_of_gradient_descent_is_the_textbook_step() -> None:
    chosen = training(epochs=1, batch_size=1000, optimizer={"name": "sgd", "learning_rate": 0.1})
    state = state_for(chosen)
    weight, bias = (parameter.detach().double().requires_grad_() for parameter in state.network.parameters())
    functional.cross_entropy(TRAIN.features.double() @ weight.T + bias, TRAIN.target).backward()

    _epochs(chosen, state)

    assert weight.grad is not None
    assert torch.allclose(state.network[0].weight.double(), weight - 0.1 * weight.grad, atol=1e-6)


def test_train_loss_is_the_mean_over_rows_not_over_batches() -> None:
    chosen = training(epochs=1, batch_size=64, optimizer={"name": "sgd", "learning_rate": 1e-30})
    state = state_for(chosen)
    with torch.no_grad():
        expected = functional.cross_entropy(state.network(TRAIN.features), TRAIN.target).item()

    facts = _epochs(chosen, state)

    assert facts[0]["train_loss"] == pytest.approx(expected, abs=1e-6)


def test_valid_loss_is_that_of_the_weights_after_the_epoch() -> None:
    chosen = training(epochs=2)
    state = state_for(chosen, [DENSE, {"type": "dropout", "rate": 0.5}])

    facts = _epochs(chosen, state, validation=VALIDATION)

    with torch.no_grad():
        logits = state.network.eval()(VALIDATION.features)
    assert facts[-1]["valid_loss"] == functional.cross_entropy(logits, VALIDATION.target).item()
    assert facts[-1]["valid_accuracy"] == (logits.argmax(1) == VALIDATION.target).double().mean().item()


def test_every_row_is_seen_once_an_epoch_and_in_another_order_each_time() -> None:
    orders = [loop._row_order(0, epoch, 50).tolist() for epoch in (1, 2)]

    assert [sorted(order) for order in orders] == [list(range(50))] * 2
    assert orders[0] != orders[1]
    assert orders[0] == loop._row_order(0, 1, 50).tolist()
    assert orders[0] != loop._row_order(1, 1, 50).tolist()


def test_batch_norm_passes_over_a_last_batch_of_one_row() -> None:
    chosen = training(epochs=2, batch_size=33)
    state = state_for(chosen, [DENSE, {"type": "batch_norm"}])

    facts = _epochs(chosen, state, train=examples(100))

    assert [one["step"] for one in facts] == [3, 6]
    assert all(math.isfinite(one["train_loss"]) for one in facts)


def test_without_batch_norm_a_last_batch_of_one_row_is_trained_on() -> None:
    chosen = training(epochs=1, batch_size=33)

    facts = _epochs(chosen, state_for(chosen, [DENSE]))

    assert facts[0]["step"] == 4


def test_a_batch_larger_than_the_rows_takes_all_of_them() -> None:
    chosen = training(epochs=4, batch_size=1_000_000)

    facts = _epochs(chosen, state_for(chosen, [DENSE]))

    assert [one["step"] for one in facts] == [1, 2, 3, 4]


def test_the_weights_do_not_depend_on_who_used_the_global_generator_before() -> None:
    chosen = training(epochs=2)
    ends = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        state = state_for(chosen, [DENSE, {"type": "dropout", "rate": 0.5}])
        _epochs(chosen, state)
        ends.append(digest(state.network.state_dict()))

    assert ends[0] == ends[1]


def test_the_last_epoch_completes_it() -> None:
    chosen = training(epochs=3)
    state = state_for(chosen)

    facts = _epochs(chosen, state)

    assert [one["epoch"] for one in facts] == [1, 2, 3]
    assert state.at.stop_reason == "completed"


def test_it_ends_at_the_first_epoch_whose_train_loss_is_at_the_target() -> None:
    curve = [one["train_loss"] for one in _epochs(training(epochs=20), state_for(training(), [DENSE]))]
    chosen = training(epochs=20, stop={"target_loss": curve[9]})
    state = state_for(chosen, [DENSE])

    facts = _epochs(chosen, state)

    assert [one["train_loss"] for one in facts] == curve[:10]
    assert state.at.stop_reason == "target_reached"


def test_the_target_may_be_that_of_valid_loss() -> None:
    stop = {"target_monitor": "valid_loss", "monitor": "valid_loss"}
    before = _epochs(training(epochs=20), state_for(training(), [DENSE]), validation=VALIDATION)
    chosen = training(epochs=20, stop={**stop, "target_loss": before[6]["valid_loss"]})
    state = state_for(chosen, [DENSE])

    facts = _epochs(chosen, state, validation=VALIDATION)

    assert len(facts) == 7
    assert state.at.stop_reason == "target_reached"


def test_the_target_in_the_last_epoch_is_reached_not_only_completed() -> None:
    curve = [one["train_loss"] for one in _epochs(training(epochs=3), state_for(training(), [DENSE]))]
    chosen = training(epochs=3, stop={"target_loss": curve[-1]})
    state = state_for(chosen, [DENSE])

    _epochs(chosen, state)

    assert state.at.stop_reason == "target_reached"


def test_patience_counts_epochs_without_a_better_monitor() -> None:
    chosen = training(
        epochs=300,
        optimizer={"name": "adam", "learning_rate": 0.05},
        stop={"patience": 4, "monitor": "valid_loss"},
    )
    state = state_for(chosen, [DENSE])

    curve = [one["valid_loss"] for one in _epochs(chosen, state, validation=VALIDATION)]

    assert state.at.stop_reason == "early_stopping"
    assert curve.index(min(curve)) == len(curve) - 5
    assert len(curve) < 300


def test_an_improvement_smaller_than_min_delta_does_not_count() -> None:
    slow = {"name": "sgd", "learning_rate": 1e-6}
    chosen = training(epochs=50, optimizer=slow, stop={"patience": 3, "min_delta": 0.1})
    state = state_for(chosen)

    curve = [one["train_loss"] for one in _epochs(chosen, state)]

    assert all(later < sooner for sooner, later in pairwise(curve))
    assert len(curve) == 4
    assert state.at.stop_reason == "early_stopping"
    assert state.best.epoch == 4


def test_time_is_up_after_max_seconds_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _clock(0.01)
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    chosen = training(epochs=1000, stop={"max_seconds": 0.2})
    state = state_for(chosen)

    facts = _epochs(chosen, state)

    assert state.at.stop_reason == "time_budget"
    assert 1 <= len(facts) < 10
    assert state.at.seconds == pytest.approx(0.2, abs=0.06)


def test_time_is_up_in_mid_epoch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _clock(0.6)
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    chosen = training(epochs=5, batch_size=1, stop={"max_seconds": 3})
    state = state_for(chosen)

    facts = _epochs(chosen, state)

    assert facts == []
    assert state.at.stop_reason == "time_budget"
    assert 0 < state.at.step < 100


def test_what_the_listener_does_meanwhile_is_not_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = _clock(0.001)
    away = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(moments) + away[0])
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    chosen = training(epochs=2, batch_size=50)
    state = state_for(chosen)

    for _ in fit(chosen, TRAIN, NOTHING, state):
        away[0] += 1000.0

    assert state.at.seconds < 1.0


def test_the_best_weights_are_those_of_the_lowest_monitored_loss() -> None:
    chosen = training(epochs=40, optimizer={"name": "adam", "learning_rate": 0.1}, stop={"monitor": "valid_loss"})
    state = state_for(chosen, [DENSE])
    after_each, curve = [], []

    for done in fit(chosen, TRAIN, VALIDATION, state):
        after_each.append(digest(state.network.state_dict()))
        curve.append(done.facts["valid_loss"])

    lowest = curve.index(min(curve))
    assert lowest < 39
    assert state.best.epoch == lowest + 1
    assert state.best.value == curve[lowest]
    assert digest(state.best.weights) == after_each[lowest]


def test_a_long_epoch_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    chosen = training(epochs=1, batch_size=50, optimizer={"name": "sgd", "learning_rate": 0.25})

    said = list(fit(chosen, TRAIN, NOTHING, state_for(chosen)))

    assert [type(one) for one in said] == [StepDone, StepDone, EpochDone]
    assert [one.facts["step"] for one in said] == [1, 2, 2]
    assert said[0].facts["epoch"] == 1
    assert said[0].facts["learning_rate"] == 0.25
    assert said[0].facts["train_loss"] > 0


def test_epochs_do_not_depend_on_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = training(epochs=2)
    quiet = _epochs(chosen, state_for(chosen, [DENSE]))
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)

    talkative = _epochs(chosen, state_for(chosen, [DENSE]))

    assert list(map(without_timing, quiet)) == list(map(without_timing, talkative))


def test_a_loss_that_is_no_number_is_said_and_then_diverges() -> None:
    chosen = training(epochs=20, optimizer={"name": "sgd", "learning_rate": 10})
    huge = Examples(TRAIN.features * 1e30, TRAIN.target)
    state = state_for(chosen, [DENSE])
    going = fit(chosen, huge, NOTHING, state)

    said = next(going)
    with pytest.raises(Diverged) as problem:
        next(going)

    assert not math.isfinite(said.facts["train_loss"])
    assert problem.value.facts == {"epoch": 1}
    assert state.best is None
    assert state.at.stop_reason == "diverged"


def test_a_valid_loss_that_is_no_number_diverges_as_well() -> None:
    chosen = training(epochs=5, stop={"monitor": "valid_loss"})
    huge = Examples(VALIDATION.features * torch.tensor(float("inf")), VALIDATION.target)
    state = state_for(chosen, [DENSE])
    going = fit(chosen, TRAIN, huge, state)

    said = next(going)
    with pytest.raises(Diverged):
        next(going)

    assert not math.isfinite(said.facts["valid_loss"])
    assert state.best is None
