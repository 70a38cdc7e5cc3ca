"""I16: interrupted anywhere and resumed = uninterrupted, bit for bit."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from core.spec import Training
from tests.worker.factories import NOTHING, digest, examples, state_for, training, without_timing
from worker.trainer import fit as loop
from worker.trainer import state as states
from worker.trainer.fit import EpochDone, Examples, fit
from worker.trainer.state import TrainingState

LAYERS = [
    {"type": "dense", "units": 8, "activation": "gelu"},
    {"type": "batch_norm"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 6, "activation": "relu"},
]
TRAIN, VALIDATION = examples(61), examples(30, seed=1)
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adamw", "learning_rate": 0.01},
    {"name": "adam", "weight_decay": 0.01},
    {"name": "sgd", "momentum": 0.9, "nesterov": True},
    {"name": "sgd"},
]
IDS = ["adamw", "adam", "sgd-nesterov", "sgd"]


def _epochs(said: list[Any]) -> list[dict[str, Any]]:
    return [without_timing(done.facts) for done in said if isinstance(done, EpochDone)]


def _whole(chosen: Training, validation: Examples = VALIDATION) -> tuple[TrainingState, list[dict[str, Any]]]:
    state = state_for(chosen, LAYERS)
    return state, _epochs(list(fit(chosen, TRAIN, validation, state)))


def _in_pieces(
    chosen: Training, folder: Path, words_a_piece: int, validation: Examples = VALIDATION
) -> tuple[TrainingState, list[dict[str, Any]], int]:
    """Trains until so many words were said, saves, and goes on with nothing but the checkpoint."""
    said: list[Any] = []
    pieces = 0
    state = state_for(chosen, LAYERS)
    while not state.at.stop_reason:
        going = fit(chosen, TRAIN, validation, state)
        said += islice(going, words_a_piece)
        going.close()
        states.save(state, folder / f"checkpoint-{pieces}")
        state = state_for(chosen.model_copy(update={"seed": 999}), LAYERS)  # other weights: all must be restored
        states.restore(state, folder / f"checkpoint-{pieces}")
        pieces += 1
    return state, _epochs(said), pieces


def _same(one: TrainingState, other: TrainingState) -> None:
    assert digest(one.network.state_dict()) == digest(other.network.state_dict())
    assert digest(one.updater.state()) == digest(other.updater.state())
    assert one.best is not None
    assert other.best is not None
    assert (one.best.epoch, one.best.value) == (other.best.epoch, other.best.value)
    assert digest(one.best.weights) == digest(other.best.weights)
    assert (one.at.epoch, one.at.step, one.at.stop_reason) == (other.at.epoch, other.at.step, other.at.stop_reason)
    assert (one.at.epochs_since_best, one.at.patience_value) == (other.at.epochs_since_best, other.at.patience_value)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=IDS)
def test_interrupted_after_every_epoch_it_ends_with_the_same_bits(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    chosen = training(epochs=5, batch_size=10, optimizer=optimizer, stop={"monitor": "valid_loss"})
    whole, expected = _whole(chosen)

    pieced, said, pieces = _in_pieces(chosen, tmp_path, 1)

    assert pieces == 5
    assert said == expected
    _same(pieced, whole)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=IDS)
def test_interrupted_after_every_step_it_ends_with_the_same_bits(
    tmp_path: Path, optimizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = training(epochs=3, batch_size=10, optimizer=optimizer, stop={"monitor": "valid_loss"})
    whole, expected = _whole(chosen)
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)

    pieced, said, pieces = _in_pieces(chosen, tmp_path, 1)

    assert pieces == 3 * (6 + 1)  # 61 rows: six batches of ten, and one row that batch norm cannot use
    assert said == expected
    _same(pieced, whole)


@pytest.mark.parametrize("words_a_piece", [2, 3, 5])
def test_interrupted_at_odd_places_it_ends_with_the_same_bits(
    tmp_path: Path, words_a_piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = training(epochs=4, batch_size=7, optimizer="adamw")
    whole, expected = _whole(chosen, NOTHING)
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)

    pieced, said, _ = _in_pieces(chosen, tmp_path, words_a_piece, NOTHING)

    assert said == expected
    _same(pieced, whole)


def test_patience_survives_an_interruption(tmp_path: Path) -> None:
    chosen = training(
        epochs=200,
        optimizer={"name": "adam", "learning_rate": 0.1},
        stop={"patience": 5, "min_delta": 0.01, "monitor": "valid_loss"},
    )
    whole, expected = _whole(chosen)

    pieced, said, _ = _in_pieces(chosen, tmp_path, 1)

    assert whole.at.stop_reason == "early_stopping"
    assert said == expected
    _same(pieced, whole)


def test_training_time_adds_up_over_attempts(tmp_path: Path) -> None:
    chosen = training(epochs=2, batch_size=10)
    state = state_for(chosen, LAYERS)
    next(fit(chosen, TRAIN, NOTHING, state))
    before = state.at.seconds
    states.save(state, tmp_path / "checkpoint")
    resumed = state_for(chosen, LAYERS)
    states.restore(resumed, tmp_path / "checkpoint")

    list(fit(chosen, TRAIN, NOTHING, resumed))

    assert resumed.at.seconds > before > 0


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    chosen = training()
    state = state_for(chosen, LAYERS)

    states.save(state, tmp_path / "checkpoint")

    assert sorted(file.name for file in (tmp_path / "checkpoint").iterdir()) == ["state.json", "state.safetensors"]
    assert (tmp_path / "checkpoint" / "state.json").read_text().startswith("{")
