"""I16: interrupted anywhere and resumed = uninterrupted, bit for bit."""

import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from core.spec import TrainingSpec
from tests.worker import words
from tests.worker.factories import NOTHING, digest, examples, spec_for, state_for, without_timing
from worker.trainer import fit as loop
from worker.trainer import state as states
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, fit
from worker.trainer.state import TrainingState

DENSE = {"type": "dense", "units": 8, "activation": "gelu"}
NOISY = [DENSE, {"type": "batch_norm"}, {"type": "dropout", "rate": 0.3}, {**DENSE, "units": 6}]
TRAIN, VALIDATION = examples(61), examples(30, seed=1)

# What else is remembered between two steps, beside the optimizer's own memory.
FEATURES: dict[str, dict[str, Any]] = {
    "dropout": {"layers": [DENSE, {"type": "dropout", "rate": 0.3}]},
    "noise": {"layers": [{"type": "gaussian_noise", "stddev": 0.1}, {**DENSE, "activation": "rrelu"}]},
    "batch_norm": {"layers": [DENSE, {"type": "batch_norm"}]},
    "schedule": {"schedule": {"name": "one_cycle", "warmup_epochs": 0.5}},
    "plateau": {
        "schedule": {"name": "reduce_on_plateau", "patience": 0, "min_delta": 10.0, "monitor": "valid_loss"},
        "stop": {"monitor": "valid_loss", "patience": 9, "min_delta": 0.01},
    },
    "average": {"ema_decay": 0.8},
    "accumulation": {"accumulate": 2},
    "oversampling": {"oversample": "balanced"},
    "metrics": {"metrics": ["accuracy", "log_loss"], "stop": {"monitor": "train_accuracy"}},
    "bounds": {"layers": [{**DENSE, "l2": 0.01, "max_norm": 0.5}], "clip_norm": 0.1},
}
MOMENTUM: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True, "learning_rate": 0.01},
    "rmsprop": {"momentum": 0.5, "centered": True},
    "adam": {"amsgrad": True},
    "lbfgs": {"max_iter": 3, "history_size": 3},
}
EVERY = [(optimizer, feature) for optimizer in words.OPTIMIZERS for feature in FEATURES]


def _spec(optimizer: str, feature: str, **changes: Any) -> TrainingSpec:
    asked = {"layers": [DENSE], "epochs": 3, "batch_size": 10, "stop": {"monitor": "valid_loss"}}
    asked |= {"optimizer": {"name": optimizer, **MOMENTUM.get(optimizer, {})}} | FEATURES[feature] | changes
    return spec_for(asked.pop("layers"), **asked)


def _epochs(said: list[Any]) -> list[dict[str, Any]]:
    return [without_timing(done.facts) for done in said if isinstance(done, EpochDone)]


def _whole(
    spec: TrainingSpec, train: Examples = TRAIN, validation: Examples = VALIDATION
) -> tuple[TrainingState, list[dict[str, Any]]]:
    state = state_for(spec)
    return state, _epochs(list(fit(spec, train, validation, state)))


def _in_pieces(
    spec: TrainingSpec, folder: Path, words_a_piece: int, train: Examples = TRAIN, validation: Examples = VALIDATION
) -> tuple[TrainingState, list[dict[str, Any]], int]:
    """Trains until so many words were said, saves, and goes on with nothing but the checkpoint."""
    other_weights = spec.model_copy(update={"training": spec.training.model_copy(update={"seed": 999})})
    said: list[Any] = []
    pieces = 0
    state = state_for(spec)
    while not state.at.stop_reason:
        going = fit(spec, train, validation, state)
        said += islice(going, words_a_piece)
        going.close()
        states.save(state, folder / f"checkpoint-{pieces}")
        torch.manual_seed(pieces)
        state = state_for(other_weights)  # all must be restored
        states.restore(state, folder / f"checkpoint-{pieces}")
        pieces += 1
    return state, _epochs(said), pieces


def _same(one: TrainingState, other: TrainingState) -> None:
    assert digest(one.network.state_dict()) == digest(other.network.state_dict())
    assert digest(one.updater.state()) == digest(other.updater.state())
    assert digest(one.weights()) == digest(other.weights())
    assert one.best is not None
    assert other.best is not None
    assert (one.best.epoch, one.best.value) == (other.best.epoch, other.best.value)
    assert digest(one.best.weights) == digest(other.best.weights)
    assert (one.at.epoch, one.at.step, one.at.stop_reason) == (other.at.epoch, other.at.step, other.at.stop_reason)
    assert (one.at.epochs_since_best, one.at.patience_value) == (other.at.epochs_since_best, other.at.patience_value)
    assert one.plateau == other.plateau


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word after every step."""
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word after every epoch and no other, however slow the machine is."""
    monkeypatch.setattr(loop, "STEP_SECONDS", math.inf)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", math.inf)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize(("optimizer", "feature"), [pair for pair in EVERY if pair != ("lbfgs", "accumulation")])
def test_interrupted_after_every_epoch_it_ends_with_the_same_bits(tmp_path: Path, optimizer: str, feature: str) -> None:
    spec = _spec(optimizer, feature)
    whole, expected = _whole(spec)

    pieced, said, pieces = _in_pieces(spec, tmp_path, 1)

    assert pieces == 3
    assert said == expected
    _same(pieced, whole)


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize(("optimizer", "feature"), [pair for pair in EVERY if pair[0] != "lbfgs"])  # one step an epoch
def test_interrupted_in_mid_epoch_it_ends_with_the_same_bits(tmp_path: Path, optimizer: str, feature: str) -> None:
    spec = _spec(optimizer, feature)
    whole, expected = _whole(spec)

    pieced, said, pieces = _in_pieces(spec, tmp_path, 4 if feature == "accumulation" else 5)

    assert pieces >= 3
    assert said == expected
    _same(pieced, whole)


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_interrupted_after_every_step_it_ends_with_the_same_bits(tmp_path: Path, weighted: bool) -> None:
    weight = torch.rand(61, generator=torch.Generator().manual_seed(2)) + 0.5 if weighted else None
    train = Examples(TRAIN.features, TRAIN.target, weight=weight, sample_weight=weight)
    spec = _spec("adamw", "metrics", layers=NOISY, ema_decay=0.9)
    whole, expected = _whole(spec, train)

    pieced, said, pieces = _in_pieces(spec, tmp_path, 1, train)

    assert pieces == 3 * 6  # 61 rows: six batches of ten, and one row that batch norm cannot use
    assert said == expected
    _same(pieced, whole)


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize("words_a_piece", [2, 3, 7])
def test_interrupted_at_odd_places_without_validation_rows_it_ends_with_the_same_bits(
    tmp_path: Path, words_a_piece: int
) -> None:
    spec = _spec("sgd", "dropout", layers=NOISY, epochs=4, batch_size=7, stop={"monitor": "train_loss"})
    whole, expected = _whole(spec, validation=NOTHING)

    pieced, said, _ = _in_pieces(spec, tmp_path, words_a_piece, validation=NOTHING)

    assert said == expected
    _same(pieced, whole)


@pytest.mark.usefixtures("talkative")
def test_steps_end_at_the_same_step_after_an_interruption(tmp_path: Path) -> None:
    spec = _spec("adam", "schedule", steps=9)
    whole, expected = _whole(spec)

    pieced, said, _ = _in_pieces(spec, tmp_path, 4)

    assert whole.at.step == 9
    assert said == expected
    _same(pieced, whole)


def test_patience_survives_an_interruption(tmp_path: Path) -> None:
    stop = {"patience": 5, "min_delta": 0.01, "monitor": "valid_loss"}
    spec = spec_for(NOISY, epochs=200, optimizer={"name": "adam", "learning_rate": 0.1}, stop=stop)
    whole, expected = _whole(spec)

    pieced, said, _ = _in_pieces(spec, tmp_path, 1)

    assert whole.at.stop_reason == "early_stopping"
    assert said == expected
    _same(pieced, whole)


def test_training_time_adds_up_over_attempts(tmp_path: Path) -> None:
    spec = spec_for(NOISY, epochs=2, batch_size=10)
    state = state_for(spec)
    next(fit(spec, TRAIN, NOTHING, state))
    before = state.at.seconds
    states.save(state, tmp_path / "checkpoint")
    resumed = state_for(spec)
    states.restore(resumed, tmp_path / "checkpoint")

    list(fit(spec, TRAIN, NOTHING, resumed))

    assert resumed.at.seconds > before > 0


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    states.save(state_for(spec_for(NOISY)), tmp_path / "checkpoint")

    assert sorted(file.name for file in (tmp_path / "checkpoint").iterdir()) == ["state.json", "state.safetensors"]
    assert (tmp_path / "checkpoint" / "state.json").read_text().startswith("{")


@pytest.mark.usefixtures("silent")
def test_whoever_wants_a_word_has_it_after_the_batch_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    spec = _spec("adam", "dropout")
    state, asked = state_for(spec), iter([False, False, True])

    said = next(fit(spec, TRAIN, VALIDATION, state, is_wanted=lambda: next(asked)))

    assert isinstance(said, loop.StepDone)
    assert (state.at.epoch, state.at.update) == (0, 3)
