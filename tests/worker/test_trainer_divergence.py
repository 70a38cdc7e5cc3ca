"""The guard against numbers that are none: it names the first offending layer, batch and column."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from core.errors import Diverged
from tests.worker.factories import NOTHING, Listener, examples, order_for, read, spec_for, state_for
from worker.trainer import fit as loop
from worker.trainer import predictions
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, fit
from worker.trainer.guard import offence
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, CheckpointWritten, Trained, encode
from worker.trainer.state import TrainingState

DENSE = {"type": "dense", "units": 6, "activation": "relu"}
TRAIN = examples(100)
SLOW = {"name": "sgd", "learning_rate": 1e-30}


def _fit(state: TrainingState, spec: Any, rows: Examples = TRAIN, validation: Examples = NOTHING) -> dict[str, Any]:
    """The facts of the offence."""
    done = [one for one in fit(spec, rows, validation, state) if isinstance(one, EpochDone)]
    assert state.at.stop_reason == "diverged"
    assert state.offence is not None
    assert state.at.epoch == len(done)
    return state.offence


def _spoil(state: TrainingState, name: str, value: float) -> None:
    with torch.no_grad():
        dict(state.network.named_parameters())[name].view(-1)[0] = value


# --- in the loop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("name", "layer"),
    [("0.weight", "0"), ("2.bias", "2"), ("4.weight", "4"), ("5.projection.weight", "5.projection"), ("6.bias", "6")],
)
def test_weights_that_are_no_numbers_are_named_by_their_layer(name: str, layer: str, value: float) -> None:
    spec = spec_for([DENSE, {**DENSE, "units": 5}, {"type": "batch_norm"}, {"type": "residual", "layers": [DENSE]}])
    state = state_for(spec)
    _spoil(state, name, value)

    found = _fit(state, spec)

    assert (found["layer"], found["what"], found["batch"]) == (layer, "weights", 1)


def test_a_vector_of_a_category_that_is_no_number_is_named() -> None:
    spec = spec_for([DENSE])
    state = state_for(spec, embeddings=[(3, 2)])
    _spoil(state, "embeddings.0.weight", torch.nan)
    rows = Examples(TRAIN.features, TRAIN.target, torch.zeros(100, 1, dtype=torch.int32))

    found = _fit(state, spec, rows)

    assert (found["layer"], found["what"]) == ("embeddings.0", "weights")


@pytest.mark.parametrize("column", range(4))
def test_data_that_overflows_is_named_by_its_column_and_its_batch(column: int) -> None:
    spec = spec_for([{"type": "dense", "units": 6, "activation": "linear"}] * 3, optimizer=SLOW, batch_size=10)
    features = TRAIN.features.clone()
    features[37, column] = 3e38
    state = state_for(spec)
    with torch.no_grad():
        state.network.steps[0].weight.fill_(2.0)

    found = _fit(state, spec, Examples(features, TRAIN.target))

    batches = loop.updates_of(spec, 1, len(TRAIN), state.network)
    batch = next(number for number, rows in enumerate(batches, 1) if 37 in rows)
    assert found == {"batch": batch, "layer": "0", "what": "activations", "feature": column}


def test_the_first_layer_whose_output_overflows_is_named() -> None:
    spec = spec_for([{"type": "dense", "units": 6, "activation": "linear"}] * 3, optimizer=SLOW)
    state = state_for(spec)
    with torch.no_grad():
        state.network.steps[1].weight.fill_(3e38)

    found = _fit(state, spec)

    assert (found["layer"], found["what"]) == ("1", "activations")


def test_a_loss_that_overflows_alone_is_named_by_the_furthest_input() -> None:
    spec = spec_for([], units=1, activation="linear", task="regression", loss="mse", optimizer=SLOW)
    features = TRAIN.features.clone()
    features[5, 2] = 1e25

    found = _fit(state_for(spec), spec, Examples(features, torch.zeros(100, 1)))

    assert (found["layer"], found["what"], found["feature"]) == ("0", "loss", 2)


def test_a_loss_that_a_target_has_overflowed_is_named_by_the_target() -> None:
    spec = spec_for([], units=3, activation="linear", task="regression", loss="mse", optimizer=SLOW)
    target = torch.zeros(100, 3)
    target[7, 1] = 1e25

    found = _fit(state_for(spec), spec, Examples(TRAIN.features, target))

    assert (found["layer"], found["what"], found["target"]) == ("0", "loss", 1)
    assert "feature" not in found


def test_weights_that_overflow_in_the_last_step_of_an_epoch_are_named() -> None:
    spec = spec_for([DENSE], batch_size=100, optimizer={"name": "sgd", "learning_rate": 10.0})
    state = state_for(spec)
    with torch.no_grad():
        state.network.steps[0].weight.mul_(1e-30)
        state.network.steps[-1].weight.mul_(1e22)

    found = _fit(state, spec, Examples(TRAIN.features * 1e20, TRAIN.target))

    assert math.isfinite(state.metrics["train_loss"])
    assert (found["layer"], found["what"]) == ("0", "weights")
    assert state.best is None


def test_a_validation_row_that_overflows_is_found_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "EVALUATION_ROWS", 16)
    monkeypatch.setattr("worker.trainer.guard.EVALUATION_ROWS", 16)
    spec = spec_for([DENSE, {"type": "batch_norm"}], optimizer=SLOW)
    validation = examples(49, seed=1)
    validation.features[48, 3] = torch.inf

    found = _fit(state_for(spec), spec, TRAIN, validation)

    assert found == {"layer": "0", "what": "activations", "feature": 3}


def test_the_guard_takes_rows_of_any_number_where_there_is_batch_norm() -> None:
    spec = spec_for([DENSE, {"type": "batch_norm"}])
    state = state_for(spec)
    state.network.train()

    assert offence(state.network, examples(1), None)["what"] == "loss"


@pytest.mark.parametrize("where", ["epoch", "step"])
def test_the_best_weights_before_are_kept(where: str) -> None:
    spec = spec_for([DENSE], epochs=5, batch_size=25, optimizer={"name": "sgd", "learning_rate": 0.1})
    state = state_for(spec)
    going = fit(spec, TRAIN, NOTHING, state)
    next(going)
    kept = state.weights()

    _spoil(state, "0.weight", torch.inf if where == "step" else 3e38)
    facts = [one.facts for one in going]

    assert len(facts) == 1
    assert state.at.stop_reason == "diverged"
    assert state.best is not None
    assert state.best.epoch == 1
    assert all(torch.equal(state.best.weights[name], tensor) for name, tensor in kept.items())


# --- in a whole training ------------------------------------------------------------------------------------------

HUGE_TARGET = "x,y\n" + "".join(f"{row}.5,{row}e25\n" for row in range(40))


def _table(rows: int, spoilt: str) -> str:
    """Rows of a regression; in one of them, `b` says something else."""
    lines = [f"{row % 7}.5,{row % 5}.25,{'red' if row % 2 else 'blue'},{row % 3}.5" for row in range(rows)]
    lines[rows // 2] = f"1.5,{spoilt},red,1.5"
    return "\n".join(["a,b,colour,y", *lines]) + "\n"


def test_an_error_names_layer_and_column_as_the_user_knows_them(tmp_path: Path) -> None:
    table = read(tmp_path / "data", _table(60, "3e38"))
    columns = {name: {"scale": "none"} for name in ("a", "b")}
    network = {"layers": [{"type": "dense", "units": 4, "weight_initializer": {"name": "constant", "value": 9.0}}]}
    spec = {"target": "y", "split": {"validation": 0}, "features": {"columns": columns}, "network": network}

    with pytest.raises(Diverged) as problem:
        train(order_for(tmp_path / "job", table, spec), Listener())

    assert problem.value.facts["column"] == "b"
    assert problem.value.facts["layer"] == "0"
    assert problem.value.facts["what"] == "activations"
    assert problem.value.facts["epoch"] == 1
    assert "layer 0" in problem.value.detail


def test_a_target_too_large_for_the_loss_is_named(tmp_path: Path) -> None:
    table = read(tmp_path / "data", HUGE_TARGET)

    with pytest.raises(Diverged) as problem:
        train(order_for(tmp_path / "job", table, {"target": "y", "target_scale": "none"}), Listener())

    assert problem.value.facts["column"] == "y"
    assert problem.value.facts["what"] == "loss"


def test_a_training_that_diverges_late_leaves_its_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = read(tmp_path / "data", _table(60, "2.5"))
    schedule = {"name": "constant", "warmup_epochs": 60}
    optimizer = {"name": "sgd", "learning_rate": 10.0}
    training = {"epochs": 60, "optimizer": optimizer, "schedule": schedule, "loss": "mse"}
    heard = Listener()

    train(order_for(tmp_path / "job", table, {"target": "y", "training": training}), heard)

    assert isinstance(heard.last, Trained)
    assert heard.last.stop_reason == "diverged"
    assert heard.last.failed is not None
    assert heard.last.failed["problem"] == "Diverged"
    report = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())
    curve = [epoch["valid_loss"] for epoch in heard.epochs if epoch.get("valid_loss") is not None]
    assert heard.last.best == {"metric": "valid_loss", "value": min(curve), "epoch": curve.index(min(curve)) + 1}
    assert report["validation"]["loss"] == min(curve)
    weights = load_file(tmp_path / "job" / ARTIFACTS / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert all(encode(message) for message in heard.said)


def test_layers_without_numbers_are_null_in_events(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n" + "".join(f"{row + 1}e31,{row}.5\n" for row in range(20)))
    small = {"name": "constant", "value": 1e-30}
    layers = [{"type": "dense", "units": 6, "activation": "relu", "weight_initializer": small}]
    output = {"units": 1, "activation": "linear", "weight_initializer": {"name": "constant", "value": 1e6}}
    training = {"loss": "mae", "log_layers": True, "optimizer": {"name": "sgd", "learning_rate": 10.0}}
    spec = {"target": "y", "split": {"validation": 0}, "features": {"columns": {"x": {"scale": "none"}}}}
    spec |= {"network": {"layers": layers, "output": output}, "training": training}
    heard = Listener()

    with pytest.raises(Diverged):
        train(order_for(tmp_path / "job", table, spec), heard)

    assert heard.epochs[0]["train_loss"] is not None
    assert heard.epochs[0]["layers"][0]["update_ratio"] is None
    assert all(encode(message) for message in heard.said)


def test_no_checkpoint_is_written_of_a_network_that_has_diverged(tmp_path: Path) -> None:
    table = read(tmp_path / "data", HUGE_TARGET)
    heard = Listener()

    with pytest.raises(Diverged):
        train(
            order_for(tmp_path / "job", table, {"target": "y", "target_scale": "none"}, checkpoint_seconds=0.0), heard
        )

    assert not any(isinstance(message, CheckpointWritten) for message in heard.said)


def test_the_guard_leaves_the_layers_as_they_are() -> None:
    spec = spec_for([DENSE, {"type": "batch_norm"}])
    state = state_for(spec)

    offence(state.network, TRAIN, None)

    (norm,) = (step for step in state.network.steps if isinstance(step, nn.BatchNorm1d))
    assert not norm.running_mean.any()  # type: ignore[union-attr,operator]
