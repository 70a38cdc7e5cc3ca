"""Step 5: when a training ends, which weights it keeps, and what it says where the loss stops being a number."""

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from tests.worker.factories import NOTHING, digest, epochs_of, examples, spec_for, state_for
from worker.trainer import fit as loop
from worker.trainer.examples import Examples
from worker.trainer.fit import fit

DENSE = {"type": "dense", "units": 16, "activation": "relu"}
TRAIN, VALIDATION = examples(100), examples(40, seed=1)
FAST = {"name": "adam", "learning_rate": 0.05}


def _clock(seconds_a_look: float) -> Iterator[float]:
    moment = 0.0
    while True:
        yield moment
        moment += seconds_a_look


def test_the_last_epoch_completes_it() -> None:
    spec = spec_for(epochs=3)
    state = state_for(spec)

    facts = epochs_of(spec, state)

    assert [one["epoch"] for one in facts] == [1, 2, 3]
    assert state.at.stop_reason == "completed"


# --- the threshold ------------------------------------------------------------------------------------------------


def test_it_ends_at_the_first_epoch_whose_train_loss_is_at_the_target() -> None:
    curve = [one["train_loss"] for one in epochs_of(spec_for([DENSE], epochs=20))]
    spec = spec_for([DENSE], epochs=20, stop={"target_loss": curve[9]})
    state = state_for(spec)

    facts = epochs_of(spec, state)

    assert [one["train_loss"] for one in facts] == curve[:10]
    assert state.at.stop_reason == "target_reached"


def test_the_target_may_be_that_of_valid_loss() -> None:
    before = epochs_of(spec_for([DENSE], epochs=20), validation=VALIDATION)
    stop = {"target_monitor": "valid_loss", "target_loss": before[6]["valid_loss"]}
    spec = spec_for([DENSE], epochs=20, stop=stop)
    state = state_for(spec)

    facts = epochs_of(spec, state, validation=VALIDATION)

    assert len(facts) == 7
    assert state.at.stop_reason == "target_reached"


def test_the_target_in_the_last_epoch_is_reached_not_only_completed() -> None:
    curve = [one["train_loss"] for one in epochs_of(spec_for([DENSE], epochs=3))]
    spec = spec_for([DENSE], epochs=3, stop={"target_loss": curve[-1]})
    state = state_for(spec)

    epochs_of(spec, state)

    assert state.at.stop_reason == "target_reached"


# --- patience -----------------------------------------------------------------------------------------------------


def test_patience_counts_epochs_without_a_better_monitor() -> None:
    spec = spec_for([DENSE], epochs=300, optimizer=FAST, stop={"patience": 4, "monitor": "valid_loss"})
    state = state_for(spec)

    curve = [one["valid_loss"] for one in epochs_of(spec, state, validation=VALIDATION)]

    assert state.at.stop_reason == "early_stopping"
    assert curve.index(min(curve)) == len(curve) - 5
    assert len(curve) < 300


@pytest.mark.parametrize("monitor", ["valid_accuracy", "train_f1", "valid_brier", "train_log_loss"])
def test_patience_watches_any_metric_in_its_own_direction(monitor: str) -> None:
    stop = {"patience": 3, "monitor": monitor}
    spec = spec_for([DENSE], epochs=300, optimizer=FAST, metrics=[monitor.partition("_")[2]], stop=stop)
    state = state_for(spec)

    curve = [one[monitor] for one in epochs_of(spec, state, validation=VALIDATION)]

    finest = (min if monitor.endswith(("brier", "loss")) else max)(curve)
    assert state.at.stop_reason == "early_stopping"
    assert curve.index(finest) == len(curve) - 4
    assert state.best is not None
    assert (state.best.epoch, state.best.value) == (curve.index(finest) + 1, finest)


def test_an_improvement_smaller_than_min_delta_does_not_count() -> None:
    slow = {"name": "sgd", "learning_rate": 1e-6}
    spec = spec_for(epochs=50, optimizer=slow, stop={"patience": 3, "min_delta": 0.1})
    state = state_for(spec)

    curve = [one["train_loss"] for one in epochs_of(spec, state)]

    assert all(later < sooner for sooner, later in pairwise(curve))
    assert len(curve) == 4
    assert state.at.stop_reason == "early_stopping"
    assert state.best is not None
    assert state.best.epoch == 4


def test_patience_begins_to_count_after_start_from_epoch() -> None:
    slow = {"name": "sgd", "learning_rate": 1e-6}
    stop = {"patience": 3, "min_delta": 0.1, "start_from_epoch": 10}
    spec = spec_for(epochs=50, optimizer=slow, stop=stop)
    state = state_for(spec)

    facts = epochs_of(spec, state)

    assert len(facts) == 13
    assert state.at.stop_reason == "early_stopping"


def test_a_monitor_that_the_rows_never_define_runs_out_of_patience() -> None:
    one_class = Examples(VALIDATION.features, torch.ones(40, dtype=torch.int64))
    stop = {"patience": 3, "monitor": "valid_roc_auc"}
    spec = spec_for([DENSE], epochs=50, metrics=["roc_auc"], stop=stop)
    state = state_for(spec)

    facts = epochs_of(spec, state, validation=one_class)

    assert len(facts) == 3
    assert state.at.stop_reason == "early_stopping"
    assert state.best is not None
    assert state.best.epoch == 3


# --- time ---------------------------------------------------------------------------------------------------------


def test_time_is_up_after_max_seconds_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _clock(0.01)
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    spec = spec_for(epochs=1000, stop={"max_seconds": 0.2})
    state = state_for(spec)

    facts = epochs_of(spec, state)

    assert state.at.stop_reason == "time_budget"
    assert 1 <= len(facts) < 10
    assert state.at.seconds == pytest.approx(0.2, abs=0.06)


def test_time_is_up_in_mid_epoch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _clock(0.6)
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    spec = spec_for(epochs=5, batch_size=1, stop={"max_seconds": 3})
    state = state_for(spec)

    facts = epochs_of(spec, state)

    assert facts == []
    assert state.at.stop_reason == "time_budget"
    assert 0 < state.at.step < 100


def test_what_the_listener_does_meanwhile_is_not_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = _clock(0.001)
    away = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(moments) + away[0])
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    spec = spec_for(epochs=2, batch_size=50)
    state = state_for(spec)

    for _ in fit(spec, TRAIN, NOTHING, state):
        away[0] += 1000.0

    assert state.at.seconds < 1.0


# --- the best weights ---------------------------------------------------------------------------------------------


def test_the_best_weights_are_those_of_the_lowest_monitored_loss() -> None:
    spec = spec_for(
        [DENSE], epochs=40, optimizer={"name": "adam", "learning_rate": 0.1}, stop={"monitor": "valid_loss"}
    )
    state = state_for(spec)
    after_each, curve = [], []

    for done in fit(spec, TRAIN, VALIDATION, state):
        after_each.append(digest(state.network.state_dict()))
        curve.append(done.facts["valid_loss"])

    lowest = curve.index(min(curve))
    assert lowest < 39
    assert state.best is not None
    assert state.best.epoch == lowest + 1
    assert state.best.value == curve[lowest]
    assert digest(state.best.weights) == after_each[lowest]


# --- no number ----------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_it_and_keeps_nothing() -> None:
    spec = spec_for([DENSE], epochs=20, optimizer={"name": "sgd", "learning_rate": 10})
    huge = Examples(TRAIN.features * 1e30, TRAIN.target)
    state = state_for(spec)

    facts = epochs_of(spec, state, huge)

    assert len(facts) == 1
    assert not math.isfinite(facts[0]["train_loss"])
    assert state.at.stop_reason == "diverged"
    assert state.best is None


def test_a_valid_loss_that_is_no_number_ends_it_as_well() -> None:
    spec = spec_for([DENSE], epochs=5, stop={"monitor": "valid_loss"})
    huge = Examples(VALIDATION.features * torch.inf, VALIDATION.target)
    state = state_for(spec)

    facts = epochs_of(spec, state, validation=huge)

    assert len(facts) == 1
    assert not math.isfinite(facts[0]["valid_loss"])
    assert state.at.stop_reason == "diverged"
    assert state.best is None
