"""Models made by Keras itself, in and out: what `to_json()` says becomes a spec, which is trained, and Keras opens what
the job leaves and predicts the same. Keras runs in `keras_models.py` and `keras_loaded.py`.
"""

import copy
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from core import errors
from core.importers.keras_model import from_keras
from tests.worker.factories import Listener, Read, order_for, read
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS

HERE = Path(__file__).parent
FIT = {"epochs": 2, "batch_size": 16, "validation_split": 0.25}
ROWS = 80
COLUMNS = ["a", "b", "c", "d"]
# Of each model that has a counterpart, what it predicts.
TARGETS: dict[str, Any] = {
    "seed": ["is_ash", "is_elm", "is_oak"],
    "noise": "kind",
    "norms": "kind",
    "activation layers": "kind",
    "activations": "kind",
    "initializers": "size",
    "penalties": "size",
    "logits": "kind",
    "softmax layer": "kind",
    "binary": "wet",
    "labels": ["wet", "old"],
    "focal": "kind",
    "margin": "kind",
    "counts": "count",
    "normalised": "size",
    "nested": "kind",
}
# What is refused of each of the others: the end of the pointer, and the code.
REFUSED = {
    "branches": {("/layers/2", "no_counterpart"), ("/layers/3", "no_counterpart"), ("/target", "target_mismatch")},
    "custom class": {("/layers/1", "not_of_keras")},
    "dropped out": {("/model", "no_counterpart")},
    "rescaled": {("/layers/1", "no_counterpart")},
    "frozen": {("/layers/1/config/trainable", "no_counterpart")},
    "bias penalty": {
        ("/layers/1/config/bias_regularizer", "no_counterpart"),
        ("/layers/1/config/activity_regularizer", "no_counterpart"),
    },
    "unit norm": {("/layers/1/config/kernel_constraint", "no_counterpart")},
    "glu": {
        ("/layers/1/config/activation", "no_counterpart"),
        ("/layers/2/config/activation", "no_counterpart"),
    },
    "softmax twice": {("/layers/1", "no_counterpart")},
    "logits of softmax": {("/layers/1/config", "no_counterpart")},
    "squares of sigmoid": {("/layers/1/config", "no_counterpart")},
    "tanh output": {("/layers/1/config", "no_counterpart")},
    "other losses": {("/compile_config/loss", "no_counterpart")},
    "summed loss": {("/loss/config/reduction", "no_counterpart")},
    "lion": {("/compile_config/optimizer", "no_counterpart")},
    "clipnorm": {("/optimizer/config/clipnorm", "no_counterpart")},
    "decaying rate": {("/optimizer/config/learning_rate", "no_counterpart")},
    "momentum and decay": {("/optimizer/config/weight_decay", "no_counterpart")},
    "no scale": {("/layers/1/config/scale", "no_counterpart"), ("/layers/2/config/center", "no_counterpart")},
    "one slope each": {("/layers/2/config/shared_axes", "no_counterpart")},
    "half": {("/layers/1/config/dtype", "no_counterpart")},
    "given mean": {("/layers/1/config/mean", "no_counterpart"), ("/layers/1/config/variance", "no_counterpart")},
    "images": {("/layers/1", "no_counterpart")},
}
NOT_OPTIONS = {"name", "dtype", "build_config", "batch_shape", "build_input_shape", "input_layers", "output_layers"}


def _keras(folder: Path, script: str, *arguments: str | Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, HERE / script, *arguments], env=environment, check=True, timeout=150)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("models")
    _keras(folder, "keras_models.py", folder / "models.json")
    found: dict[str, Any] = json.loads((folder / "models.json").read_text())
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    generator = np.random.default_rng(5)
    lines = ["a,b,c,d,kind,is_ash,is_elm,is_oak,size,wet,old,count"]
    for a, b, c, d in generator.normal(size=(ROWS, 4)).round(3):
        kind = ("ash", "elm", "oak")[int(a > 0) + int(b > 0)]
        one_hot = ",".join(str(int(kind == one)) for one in ("ash", "elm", "oak"))
        row = f"{kind},{one_hot},{a * 30 + c:.3f},{str(b > 0).lower()},{str(d > 0).lower()},{int(abs(a) * 3)}"
        lines.append(f"{a},{b},{c},{d},{row}")
    return read(tmp_path_factory.mktemp("table"), "\n".join(lines) + "\n")


def _imported(models: dict[str, Any], name: str) -> dict[str, Any]:
    spec = from_keras(models[name], None, FIT, TARGETS[name]).spec
    return {**spec, "features": {**spec["features"], "include": COLUMNS}}


@pytest.fixture(scope="module")
def jobs(models: dict[str, Any], table: Read, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the job of each has left, with the predictions of Keras in it."""
    folder = tmp_path_factory.mktemp("jobs")
    found = {name: folder / name.replace(" ", "_") / ARTIFACTS for name in TARGETS}
    for name, left in found.items():
        asked = {**_imported(models, name), "outputs": ["network.keras", "network.weights.h5"]}
        heard = Listener()
        train(order_for(left.parent, table, asked), heard)
        assert heard.last.failed is None, (name, heard.last.failed)
        np.save(left / "features.npy", _scorer(left)["inputs"](_columns())[0])
        if name not in ("nested", "normalised"):  # whose weights lie elsewhere, or are more
            (left / "model.json").write_text(json.dumps(models[name]))
    _keras(folder, "keras_loaded.py", *found.values())
    return found


def _scorer(left: Path) -> dict[str, Any]:
    return runpy.run_path(str(left / "score_numpy.py"))


def _columns() -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(6)
    return dict(zip(COLUMNS, generator.normal(size=(4, 50)).astype(np.float32), strict=True))


# --- in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(models: dict[str, Any], name: str) -> None:
    with pytest.raises(errors.ModelNotMappable) as refused:
        from_keras(models[name], None, FIT, "size")

    found = {(one["pointer"], one["code"]) for one in refused.value.errors}
    assert len(found) == len(REFUSED[name])
    for end, code in REFUSED[name]:
        assert any(pointer.endswith(end) and code == said for pointer, said in found), found


def test_every_model_is_mapped_or_refused(models: dict[str, Any]) -> None:
    assert set(models) == {*TARGETS, *REFUSED}
    assert len(models) > 21


@pytest.mark.parametrize("name", TARGETS)
def test_no_option_is_passed_over(models: dict[str, Any], name: str) -> None:
    said = {option.pointer for option in from_keras(models[name], None, FIT, TARGETS[name]).options}

    for path, key, value in _options(models[name], "/model"):
        if value is None or key in NOT_OPTIONS:
            continue
        pointer = f"{path}/{key}"
        # An object is said as a whole, or by what is in it.
        assert pointer in said or any(one.startswith(pointer + "/") for one in said), pointer


def _options(value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Every key of every `config`, where it stands."""
    if isinstance(value, list):
        for position, one in enumerate(value):
            yield from _options(one, f"{path}/{position}")
    if not isinstance(value, dict):
        return
    kind, own = value.get("class_name"), value.get("config")
    if isinstance(own, dict) and "layers" not in own and kind not in ("DTypePolicy", "Softmax"):
        yield from ((f"{path}/config", key, one) for key, one in own.items())
    for key, inner in value.items():
        if key not in ("inbound_nodes", "metrics"):
            yield from _options(inner, f"{path}/{key}")


@pytest.mark.parametrize("place", ["model", "layer", "initializer", "optimizer", "loss", "compile", "fit"])
def test_an_option_that_nobody_knows_is_refused(models: dict[str, Any], place: str) -> None:
    model, fit = copy.deepcopy(models["softmax layer"]), dict(FIT)
    dense = model["config"]["layers"][1]["config"]
    {
        "model": model["config"],
        "layer": dense,
        "initializer": dense["kernel_initializer"]["config"],
        "optimizer": model["compile_config"]["optimizer"]["config"],
        "loss": model["compile_config"]["loss"]["config"],
        "compile": model["compile_config"],
        "fit": fit,
    }[place]["of_tomorrow"] = 1

    with pytest.raises(errors.ModelNotMappable) as refused:
        from_keras(model, None, fit, "kind")

    assert [one["code"] for one in refused.value.errors] == ["unknown_option"]
    assert refused.value.errors[0]["pointer"].endswith("/of_tomorrow")


def test_the_network_of_the_seed_is_what_a_user_types(models: dict[str, Any]) -> None:
    spec = from_keras(models["seed"], None, {"epochs": 10, "batch_size": 32}, TARGETS["seed"]).spec

    hidden = {"type": "dense", "units": 64, "activation": "relu", "bias": True}
    hidden |= {"weight_initializer": "glorot_uniform", "bias_initializer": "zeros"}
    assert spec["network"]["layers"] == [hidden, hidden]
    assert (spec["network"]["output"]["units"], spec["network"]["output"]["activation"]) == (3, "softmax")
    assert spec["task"] == "classification"
    assert spec["split"] == {"validation": 0.0}
    assert spec["features"]["numbers"] == {"scale": "none"}
    training = spec["training"]
    assert (training["loss"], training["epochs"], training["batch_size"]) == ("cross_entropy", 10, 32)
    assert training["optimizer"]["learning_rate"] == 0.001  # as it was typed, and not as float32 has it
    assert training["optimizer"]["eps"] == 1e-7


def test_the_differences_are_named(models: dict[str, Any]) -> None:
    found = from_keras(models["norms"], None, FIT, "kind").options

    differs = {one.option for one in found if one.outcome == "mapped_with_difference"}
    assert differs == {"AdamW.epsilon", "BatchNormalization.momentum", "fit.epochs"}
    assert all(one.note for one in found if one.outcome != "mapped")


def test_compile_and_fit_are_taken_as_typed(models: dict[str, Any]) -> None:
    compiled = {"loss": {"class_name": "Huber", "config": {"delta": 2.0}}, "optimizer": "sgd", "metrics": "mae"}
    stop = {"class_name": "EarlyStopping", "config": {"patience": 5, "min_delta": 0.01, "restore_best_weights": True}}
    slower = {"class_name": "ReduceLROnPlateau", "monitor": "loss", "factor": 0.5, "min_lr": 0.001}
    fit = {"epochs": 9, "validation_split": 0.2, "callbacks": [stop, slower, "TerminateOnNaN", "TensorBoard"]}

    found = from_keras(models["normalised"], compiled, {**fit, "verbose": 0}, "size")

    assert found.spec["split"] == {"method": "last", "validation": 0.2}
    assert found.spec["features"]["numbers"] == {"scale": "standard"}
    assert found.spec["training"] == {
        "loss": {"name": "huber", "delta": 2.0},
        "optimizer": {"name": "sgd", "learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
        "metrics": ["mae"],
        "batch_size": 32,
        "epochs": 9,
        "stop": {"monitor": "valid_loss", "min_delta": 0.01, "patience": 5, "start_from_epoch": 0},
        "schedule": {
            "name": "reduce_on_plateau",
            "monitor": "train_loss",
            "factor": 0.5,
            "min_delta": 1e-4,
            "patience": 10,
            "cooldown": 0,
            "min_factor": 0.1,
        },
    }
    assert {one.option: one.outcome for one in found.options}["TensorBoard"] == "not_mapped"


# --- and out ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_keras_opens_the_network_and_predicts_the_same(jobs: dict[str, Path], name: str) -> None:
    ours = _scorer(jobs[name])["scores"](_columns()).astype(np.float64)
    theirs = np.load(jobs[name] / "by_model.npy").astype(np.float64)
    if theirs.shape[1] == 1 and ours.shape[1] == 2:
        theirs = np.concatenate([1 - theirs, theirs], 1)

    assert theirs == pytest.approx(ours, abs=1e-5 * max(1.0, float(np.abs(ours).max())), rel=0)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("nested", "normalised")])
def test_the_weights_go_back_into_the_model_that_the_user_has(jobs: dict[str, Path], name: str) -> None:
    by_model, by_weights = (np.load(jobs[name] / f"by_{one}.npy") for one in ("model", "weights"))
    if name == "logits":  # which that model predicts
        by_weights = np.exp(by_weights) / np.exp(by_weights).sum(1, keepdims=True)

    assert by_weights == pytest.approx(by_model, abs=1e-5 * max(1.0, float(np.abs(by_model).max())), rel=0)


def test_the_report_says_how_near_they_are(jobs: dict[str, Path]) -> None:
    parity = json.loads((jobs["norms"] / "report.json").read_text())["parity"]

    for name in ("network.keras", "network.weights.h5"):
        assert parity[name]["max_difference"] <= parity[name]["tolerance"] == 1e-5


def test_the_same_job_leaves_the_same_bytes(
    models: dict[str, Any], table: Read, jobs: dict[str, Path], tmp_path: Path
) -> None:
    asked = {**_imported(models, "norms"), "outputs": ["network.keras", "network.weights.h5"]}
    train(order_for(tmp_path / "again", table, asked), Listener())

    for name in asked["outputs"]:
        assert (tmp_path / "again" / ARTIFACTS / name).read_bytes() == (jobs["norms"] / name).read_bytes()


def test_weights_that_were_written_wrong_fail_the_job_by_name(
    table: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = h5py.Group.create_dataset
    monkeypatch.setattr(h5py.Group, "create_dataset", lambda self, name, data: create(self, name, data=data * 1.01))
    heard = Listener()

    train(
        order_for(tmp_path / "job", table, {"target": "kind", "outputs": ["network.keras"], "training": {"epochs": 1}}),
        heard,
    )

    assert heard.last.failed is not None
    assert heard.last.failed["problem"] == "ExportFailed"
    assert heard.last.failed["facts"]["artifact"] == "network.keras"
    assert not (tmp_path / "job" / ARTIFACTS / "network.keras").exists()


@pytest.mark.parametrize(
    "network",
    [
        {"layers": [{"type": "residual", "layers": [{"type": "layer_norm"}]}]},
        {"hidden": [4], "activation": {"name": "celu", "alpha": 0.5}},
    ],
    ids=str,
)
def test_a_network_that_keras_cannot_have_is_refused_before_it_is_trained(
    table: Read, tmp_path: Path, network: dict[str, Any]
) -> None:
    with pytest.raises(errors.NotInKeras):
        order_for(tmp_path / "job", table, {"target": "kind", "network": network, "outputs": ["network.keras"]})


def test_the_notes_are_json(models: dict[str, Any]) -> None:
    assert json.dumps([asdict(one) for one in from_keras(models["seed"], None, None, "kind").options])
