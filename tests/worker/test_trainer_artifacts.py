"""One training from order to artifacts, in this process."""

import gc
import hashlib
import json
import struct
import subprocess
import sys
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rfc8785
from numpy.typing import NDArray
from safetensors.numpy import load_file

from core.errors import DataInvalid, DatasetTooSmall, Diverged
from tests.worker import words
from tests.worker.factories import Listener, Read, order_for, read, table_text
from worker.trainer import fit as loop
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, CheckpointWritten, Drained, NothingToKeep, Phase, Trained, encode
from worker.trainer.preparation import Prepared

LAYERS = [
    {"type": "dense", "units": 12, "activation": "relu"},
    {"type": "batch_norm"},
    {"type": "dropout", "rate": 0.2},
    {"type": "dense", "units": 8, "activation": "tanh"},
]
THAT_PREDICT = {"network.onnx", "network.py", "score_numpy.py"}
SPEC: dict[str, Any] = {
    "target": "kind",
    "split": {"validation": 0.2, "test": 0.1},
    "network": {"layers": LAYERS},
    "training": {"epochs": 8, "optimizer": {"name": "adam", "learning_rate": 0.01}},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(250))


def _train(folder: Path, table: Read, spec: dict[str, Any], listener: Listener | None = None, **changes: Any) -> Any:
    heard = listener or Listener()
    train(order_for(folder, table, spec, **changes), heard)
    return heard


def _json(folder: Path, name: str) -> Any:
    return json.loads((folder / ARTIFACTS / name).read_text())


def _weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    return load_file(folder / ARTIFACTS / "weights.safetensors")


def _inputs(described: dict[str, Any], table: Read) -> NDArray[np.float32]:
    columns = []
    for one in described["inputs"]:
        if one["type"] == "number":
            raw = table.numbers(one["name"])
            filled = np.where(np.isfinite(raw), raw, np.float32(one["imputed"]))
            scaling = one["scaling"]
            columns.append((filled - np.float32(scaling["center"])) / np.float32(scaling["scale"]))
            columns += [(~np.isfinite(raw)).astype(np.float32)] if one["missing_indicator"] else []
        else:
            values = table.values(one["name"])
            columns += [np.array([value == category for value in values], np.float32) for category in one["categories"]]
    return np.stack(columns, 1).astype(np.float64)


def _logits(weights: dict[str, Any], features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The network of LAYERS in numpy: dense 0, relu 1, batch norm 2, dropout 3, dense 4, tanh 5, output 6."""
    hidden = np.maximum(features @ weights["0.weight"].T + weights["0.bias"], 0)
    hidden = (hidden - weights["2.running_mean"]) / np.sqrt(weights["2.running_var"] + 1e-5)
    hidden = hidden * weights["2.weight"] + weights["2.bias"]
    hidden = np.tanh(hidden @ weights["4.weight"].T + weights["4.bias"])
    return np.asarray(hidden @ weights["6.weight"].T + weights["6.bias"])


def test_numpy_alone_reproduces_the_reported_metrics(tmp_path: Path, table: Read) -> None:
    job = tmp_path / "job"
    _train(job, table, SPEC)
    report, described = _json(job, "report.json"), _json(job, "preprocessing.json")

    logits = _logits(_weights(job), _inputs(described, table))

    classes = described["target"]["classes"]
    for part in ("validation", "test"):
        rows = report["rows"][part]
        target = np.array([classes.index(table.values("kind")[row]) for row in rows])
        mine = logits[rows]
        loss = np.log(np.exp(mine).sum(1)) - mine[np.arange(len(rows)), target]
        assert report[part]["rows"] == len(rows)
        assert report[part]["loss"] == pytest.approx(loss.mean(), abs=1e-6)
        assert report[part]["accuracy"] == (mine.argmax(1) == target).mean()


@dataclass
class Watcher(Listener):
    """When the exports begin, looks out for the end of every matrix of features that is in memory then."""

    folder: Path = Path()
    count: int = 0
    released: list[set[str]] = field(default_factory=list)  # the files that there were when one went

    def say(self, message: Any) -> None:
        super().say(message)
        if message == Phase("exporting"):
            every = [one for one in gc.get_objects() if type(one) is Prepared]
            held = [part for one in every for part in (one.train, one.validation, one.test) if len(part)]
            for one in held:
                weakref.finalize(one.features, self._released)
            self.count = len(held)

    def _released(self) -> None:
        self.released.append({path.name for path in self.folder.glob(f"{ARTIFACTS}/*")})


@pytest.mark.parametrize("refit", [False, True])
def test_no_row_is_held_while_the_files_are_made(tmp_path: Path, table: Read, refit: bool) -> None:
    gc.collect()
    heard = Watcher(folder=tmp_path / "job")

    _train(tmp_path / "job", table, {**SPEC, "training": {**SPEC["training"], "refit": refit}}, heard)

    assert heard.count == (2 if refit else 3)  # train, test, and validation: a refit trains on those too
    assert heard.released == [set()] * heard.count


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path: Path, table: Read) -> None:
    spec = {**SPEC, "training": {"epochs": 40, "optimizer": {"name": "adam", "learning_rate": 0.2}}}

    heard = _train(tmp_path / "job", table, spec)

    report = _json(tmp_path / "job", "report.json")
    curve = [epoch["valid_loss"] for epoch in heard.epochs]
    assert curve.index(min(curve)) < 39
    assert report["kept_epoch"] == heard.last.best["epoch"] == curve.index(min(curve)) + 1
    assert report["validation"]["loss"] == heard.last.best["value"] == min(curve)
    assert (report["epochs"], report["stop_reason"]) == (40, "completed")


def test_the_header_of_the_weights_has_one_key_of_canonical_json(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "job", table, SPEC)
    folder = tmp_path / "job" / ARTIFACTS

    data = (folder / "weights.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])

    assert list(header["__metadata__"]) == ["backpropd"]
    described = json.loads(header["__metadata__"]["backpropd"])
    assert rfc8785.dumps(described).decode() == header["__metadata__"]["backpropd"]
    assert described["classes"] == ["ash", "birch", "cedar"]
    assert described["spec_version"] == 1
    file = (folder / "preprocessing.json").read_bytes()
    assert described["preprocessing_sha256"] == hashlib.sha256(file).hexdigest()


def test_the_weights_are_the_state_dict_and_nothing_else(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "job", table, SPEC)

    weights = _weights(tmp_path / "job")

    shapes = {name: tensor.shape for name, tensor in weights.items() if tensor.ndim == 2}
    assert shapes == {"0.weight": (12, 9), "4.weight": (8, 12), "6.weight": (3, 8)}
    assert {name.split(".", 1)[1] for name in weights if name.startswith("2.")} == {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_two_processes_make_the_same_bytes(tmp_path: Path, table: Read) -> None:
    code = (
        "import sys; from tests.worker.factories import Listener; from worker.trainer.main import train;"
        "from worker.trainer.order import TrainingOrder;"
        "train(TrainingOrder.model_validate_json(sys.stdin.read()), Listener())"
    )
    digests = []
    for name in ("one", "two"):
        order = order_for(tmp_path / name, table, SPEC)
        subprocess.run([sys.executable, "-c", code], input=order.model_dump_json(), text=True, check=True, timeout=120)
        files = sorted((tmp_path / name / ARTIFACTS).iterdir())
        digests.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})

    assert digests[0] == digests[1]
    words = {"preprocessing.json", "spec.json", "report.json"}
    assert set(digests[0]) == {"weights.safetensors", "state_dict.pt", "train.py", *words, *THAT_PREDICT}


def test_rows_that_are_not_trained_on_change_nothing_but_their_own_metrics(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "one", table, SPEC)
    report = _json(tmp_path / "one", "report.json")
    lines = table_text(250).splitlines()
    for row in report["rows"]["validation"] + report["rows"]["test"]:
        lines[row + 1] = "1e6," + lines[row + 1].split(",", 1)[1]

    changed = read(tmp_path / "changed", "\n".join(lines) + "\n")
    _train(tmp_path / "two", changed, {**SPEC, "training": {**SPEC["training"], "stop": {"monitor": "train_loss"}}})

    other = _json(tmp_path / "two", "report.json")
    assert _json(tmp_path / "one", "preprocessing.json") == _json(tmp_path / "two", "preprocessing.json")
    assert other["rows"] == report["rows"]
    assert other["validation"]["loss"] != report["validation"]["loss"]


def test_the_spec_artifact_is_a_spec_that_trains_to_the_same_weights(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "one", table, {"target": "kind", "training": {"epochs": 2}})

    _train(tmp_path / "two", table, _json(tmp_path / "one", "spec.json"))

    one, two = ((tmp_path / name / ARTIFACTS / "weights.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_another_training_seed_gives_other_weights_on_the_same_rows(tmp_path: Path, table: Read) -> None:
    for seed in (0, 1):
        _train(tmp_path / str(seed), table, {**SPEC, "training": {"epochs": 1, "seed": seed}})

    reports = [_json(tmp_path / str(seed), "report.json") for seed in (0, 1)]
    assert reports[0]["rows"] == reports[1]["rows"]
    assert reports[0]["validation"]["loss"] != reports[1]["validation"]["loss"]


def test_a_regression_reports_its_own_metrics(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "job", table, {"target": "height", "training": {"epochs": 3}})

    assert set(_json(tmp_path / "job", "report.json")["validation"]) == {"rows", "loss", "rmse", "mae", "r2"}
    assert _json(tmp_path / "job", "preprocessing.json")["target"]["task"] == "regression"


def test_two_classes_are_one_logit(tmp_path: Path) -> None:
    table = read(tmp_path / "data", table_text(120, classes=("no", "yes")))

    _train(tmp_path / "job", table, {"target": "kind", "training": {"epochs": 3}})

    assert _weights(tmp_path / "job")["4.weight"].shape == (1, 64)
    assert _json(tmp_path / "job", "report.json")["validation"]["accuracy"] > 0.5


def test_without_validation_rows_the_monitor_is_train_loss(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, {**SPEC, "split": {"validation": 0}})

    assert heard.last.best["metric"] == "train_loss"
    assert heard.last.best["value"] == min(epoch["train_loss"] for epoch in heard.epochs)
    assert not {"validation", "test"} & _json(tmp_path / "job", "report.json").keys()


def test_a_diverged_training_says_null_and_names_what_it_was(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n" + "".join(f"{row}.5,{row}e25\n" for row in range(40)))
    heard = Listener()

    with pytest.raises(Diverged):
        _train(tmp_path / "job", table, {"target": "y", "target_scale": "none", "training": {"epochs": 5}}, heard)

    assert len(heard.epochs) == 1
    assert heard.epochs[0]["train_loss"] is None
    assert heard.epochs[0]["nonfinite"]["train_loss"] in ("inf", "nan")
    assert all(encode(message) for message in heard.said)


def test_nothing_is_saved_of_a_diverged_training(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n" + "".join(f"{row}.5,{row}e25\n" for row in range(40)))
    heard = Listener(order="drain", after_epochs=1)

    spec = {"target": "y", "target_scale": "none", "training": {"epochs": 5}}
    with pytest.raises(Diverged):
        _train(tmp_path / "job", table, spec, heard, checkpoint_seconds=0.0)

    assert not any(isinstance(message, CheckpointWritten) for message in heard.said)


def test_a_cancelled_training_keeps_its_best_weights(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, SPEC, Listener(order="cancel", after_epochs=3))

    assert isinstance(heard.last, Trained)
    report = _json(tmp_path / "job", "report.json")
    assert (report["epochs"], report["stop_reason"], heard.last.stop_reason) == (3, "user_cancel", "user_cancel")


def test_a_cancelled_training_keeps_its_last_weights_where_asked(tmp_path: Path, table: Read) -> None:
    spec = {**SPEC, "training": {"epochs": 40, "optimizer": {"name": "adam", "learning_rate": 0.2}}}
    curve = [epoch["valid_loss"] for epoch in _train(tmp_path / "whole", table, spec).epochs]
    worse = next(epoch for epoch in range(2, 40) if curve[epoch - 1] > min(curve[:epoch]))

    _train(tmp_path / "job", table, spec, Listener(order="cancel_keep_last", after_epochs=worse))

    report = _json(tmp_path / "job", "report.json")
    assert report["kept_epoch"] == worse
    assert report["validation"]["loss"] == curve[worse - 1]


def test_a_training_cancelled_before_its_first_step_has_nothing_to_keep(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, SPEC, stop="cancel")

    assert heard.last == NothingToKeep()
    assert heard.epochs == []


def test_a_drained_training_goes_on_from_its_checkpoint_to_the_same_bytes(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "whole", table, SPEC)
    first = _train(tmp_path / "first", table, SPEC, Listener(order="drain", after_epochs=3))
    assert isinstance(first.last, Drained)
    written = first.said[-2]
    assert isinstance(written, CheckpointWritten)

    second = _train(tmp_path / "second", table, SPEC, checkpoint=str(tmp_path / "first" / written.folder))

    assert [message.resumed_from_epoch for message in second.said if isinstance(message, Phase)][1] == 3
    assert [epoch["epoch"] for epoch in first.epochs + second.epochs] == list(range(1, 9))
    for file in (tmp_path / "whole" / ARTIFACTS).iterdir():
        assert (tmp_path / "second" / ARTIFACTS / file.name).read_bytes() == file.read_bytes(), file.name


def test_checkpoints_come_at_epoch_ends_and_in_mid_epoch(
    tmp_path: Path, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)
    monkeypatch.setattr("worker.trainer.main.CHECKPOINT_COST", 0)

    heard = _train(tmp_path / "job", table, SPEC, checkpoint_seconds=0.0)

    written = [message for message in heard.said if isinstance(message, CheckpointWritten)]
    steps = {int(message.folder.split("-")[1]) for message in written}
    assert len(written) > 8
    assert steps >= {1, 2, 3}
    assert all((tmp_path / "job" / message.folder / "state.json").exists() for message in written)


def test_a_time_budget_shorter_than_an_epoch_still_leaves_weights(
    tmp_path: Path, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)

    heard = _train(tmp_path / "job", table, {**SPEC, "training": {"stop": {"max_seconds": 1e-6}}})

    assert isinstance(heard.last, Trained)
    assert (heard.last.stop_reason, _json(tmp_path / "job", "report.json")["epochs"]) == ("time_budget", 0)
    assert set(_weights(tmp_path / "job")) >= {"0.weight", "0.bias"}


ENDINGS: list[tuple[str, dict[str, Any]]] = [
    ("completed", {"epochs": 4}),
    ("completed", {"epochs": 50, "steps": 9}),
    ("target_reached", {"epochs": 300, "stop": {"target_loss": 0.6}}),
    ("target_reached", {"epochs": 300, "stop": {"target_loss": 0.6, "target_monitor": "valid_loss"}}),
    ("early_stopping", {"epochs": 300, "stop": {"patience": 2, "min_delta": 10.0, "start_from_epoch": 3}}),
    ("early_stopping", {"epochs": 300, "stop": {"patience": 2, "monitor": "valid_accuracy", "min_delta": 0.9}}),
    ("time_budget", {"epochs": 100_000, "stop": {"max_seconds": 0.2}}),
]


@pytest.mark.parametrize(("reason", "training"), ENDINGS, ids=str)
def test_a_training_says_why_it_ended(tmp_path: Path, table: Read, reason: str, training: dict[str, Any]) -> None:
    optimizer = {"name": "adam", "learning_rate": 0.01}

    heard = _train(tmp_path / "job", table, {**SPEC, "training": {"optimizer": optimizer, **training}})

    report = _json(tmp_path / "job", "report.json")
    assert (heard.last.stop_reason, report["stop_reason"], heard.last.failed) == (reason, reason, None)
    assert report["epochs"] == heard.epochs[-1]["epoch"]
    assert heard.last.best["metric"] == training.get("stop", {}).get("monitor", "valid_loss")


@pytest.mark.parametrize("optimizer", words.OPTIMIZERS)
def test_every_optimizer_trains_a_table_and_goes_on_from_a_checkpoint(
    tmp_path: Path, table: Read, optimizer: str
) -> None:
    soil = {"features": {"columns": {"soil": {"encode": "embedding", "dimension": 2}}}}
    spec = {**SPEC, **soil, "training": {"epochs": 4, "optimizer": optimizer, "ema_decay": 0.9}}
    whole = _train(tmp_path / "whole", table, spec)
    first = _train(tmp_path / "first", table, spec, Listener(order="drain", after_epochs=2))

    second = _train(tmp_path / "second", table, spec, checkpoint=str(tmp_path / "first" / first.said[-2].folder))

    assert second.last == whole.last
    for file in (tmp_path / "whole" / ARTIFACTS).iterdir():
        assert (tmp_path / "second" / ARTIFACTS / file.name).read_bytes() == file.read_bytes(), file.name


def test_log_every_thins_the_epochs_but_not_the_last(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, {**SPEC, "training": {"epochs": 8, "log_every": 3}})

    assert [epoch["epoch"] for epoch in heard.epochs] == [3, 6, 8]


def test_batch_norm_refuses_batches_and_sets_of_one_row(tmp_path: Path, table: Read) -> None:
    single = {**SPEC, "training": {"batch_size": 1}}
    two_rows = read(tmp_path / "data", "height,kind\n1,ash\n2,birch\n")
    few = {**SPEC, "split": {"validation": 0.5, "method": "random"}}

    with pytest.raises(DataInvalid, match="at least 2 rows"):
        _train(tmp_path / "single", table, single)
    with pytest.raises(DatasetTooSmall):
        _train(tmp_path / "few", two_rows, few)


def test_integers_beyond_json_do_not_break_the_artifacts(tmp_path: Path) -> None:
    lines = "".join(f"{9007199254740993 + row},{row % 2}\n" for row in range(30))
    table = read(tmp_path / "data", "serial,y\n" + lines)

    _train(tmp_path / "job", table, {"target": "y", "training": {"epochs": 1}})

    assert _json(tmp_path / "job", "preprocessing.json")["inputs"][0]["type"] == "number"
