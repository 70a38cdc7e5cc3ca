"""`refit`: the best epoch count again, on training and validation rows together."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.worker.factories import Listener, Read, order_for, read, table_text
from worker.trainer import fit as loop
from worker.trainer import main
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, CheckpointWritten, Drained, Phase, Trained

FAST = {"name": "adam", "learning_rate": 0.05}
SPEC: dict[str, Any] = {
    "target": "kind",
    "split": {"validation": 0.25, "test": 0.1},
    "network": {"hidden": [8]},
    "training": {"epochs": 40, "optimizer": FAST, "refit": True, "stop": {"patience": 3}},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(200))


def _train(
    folder: Path, table: Read, training: dict[str, Any], listener: Listener | None = None, **changes: Any
) -> Any:
    heard = listener or Listener()
    spec = {**SPEC, "training": {**SPEC["training"], **training}}
    train(order_for(folder, table, spec, **changes), heard)
    return heard


def _report(folder: Path) -> Any:
    return json.loads((folder / ARTIFACTS / "report.json").read_text())


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / ARTIFACTS / "weights.safetensors")


def _same(one: Path, other: Path) -> bool:
    ours, theirs = _weights(one), _weights(other)
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def _searched(heard: Any) -> list[Any]:
    return [epoch for epoch in heard.epochs if "refit" not in epoch]


def test_it_trains_as_many_epochs_as_the_best_weights_had_on_all_rows(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, {})

    report, best = _report(tmp_path / "job"), heard.last.best["epoch"]
    refitted = [epoch for epoch in heard.epochs if "refit" in epoch]
    assert [message.phase for message in heard.said if isinstance(message, Phase)] == [
        *("loading_data", "training", "refitting", "exporting"),
    ]
    assert len(_searched(heard)) == best + 3
    assert [epoch["epoch"] for epoch in refitted] == list(range(best + 4, 2 * best + 4))
    assert all("valid_loss" not in epoch for epoch in refitted)
    assert report["rows"]["train"] == 180
    assert report["rows"]["validation"] == []
    assert (report["refitted"], report["kept_epoch"]) == (True, best)


def test_its_weights_are_those_of_a_training_without_validation_rows(tmp_path: Path, table: Read) -> None:
    best = _train(tmp_path / "refitted", table, {}).last.best["epoch"]
    plain = {**SPEC, "split": {"validation": 0, "test": 0.1}}
    plain["training"] = {"epochs": best, "optimizer": FAST, "stop": {"monitor": "train_loss"}}

    order = order_for(tmp_path / "plain", table, plain)
    train(order, Listener(order="cancel_keep_last", after_epochs=best))

    assert _same(tmp_path / "refitted", tmp_path / "plain")


def test_the_best_of_the_job_and_its_reason_are_those_of_the_search(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, {})

    curve = [epoch["valid_loss"] for epoch in _searched(heard)]
    assert heard.last.best == {"metric": "valid_loss", "value": min(curve), "epoch": curve.index(min(curve)) + 1}
    assert heard.last.stop_reason == "early_stopping"


def test_a_schedule_over_steps_is_as_long_in_the_refit_in_epochs(tmp_path: Path, table: Read) -> None:
    training = {"epochs": 50, "steps": 30, "batch_size": 13, "schedule": "cosine", "stop": {}}

    heard = _train(tmp_path / "job", table, training)

    rates = [epoch["learning_rate"] for epoch in heard.epochs]
    searched = len(_searched(heard))
    assert searched == 3
    assert rates[0] == pytest.approx(rates[searched], rel=0.1)
    assert rates[-1] < 0.3 * rates[0]


@pytest.mark.parametrize("where", ["search", "refit"])
def test_interrupted_in_either_it_ends_with_the_same_bytes(tmp_path: Path, table: Read, where: str) -> None:
    whole = _train(tmp_path / "whole", table, {})
    after = 2 if where == "search" else len(_searched(whole)) + 2

    first = _train(tmp_path / "first", table, {}, Listener(order="drain", after_epochs=after))
    assert isinstance(first.last, Drained)
    written = next(message for message in first.said if isinstance(message, CheckpointWritten))
    second = _train(tmp_path / "second", table, {}, checkpoint=str(tmp_path / "first" / written.folder))

    assert second.last == whole.last
    for file in (tmp_path / "whole" / ARTIFACTS).iterdir():
        assert (tmp_path / "second" / ARTIFACTS / file.name).read_bytes() == file.read_bytes(), file.name


def test_cancelled_in_the_refit_it_keeps_what_the_search_has_found(tmp_path: Path, table: Read) -> None:
    searched = len(_searched(_train(tmp_path / "search", table, {"refit": False})))

    heard = _train(tmp_path / "job", table, {}, Listener(order="cancel", after_epochs=searched + 1))

    report = _report(tmp_path / "job")
    assert isinstance(heard.last, Trained)
    assert heard.last.stop_reason == "user_cancel"
    assert (report["refitted"], report["kept_epoch"]) == (False, heard.last.best["epoch"])
    assert _same(tmp_path / "job", tmp_path / "search")
    assert len(report["rows"]["validation"]) == 50
    assert report["validation"]["loss"] == heard.last.best["value"]


def test_a_search_that_takes_all_the_time_is_not_refitted(
    tmp_path: Path, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "is_over_time", lambda state, stop: state.at.epoch >= 1)
    monkeypatch.setattr("worker.trainer.stopping.is_over_time", lambda state, stop: state.at.epoch >= 2)

    heard = _train(tmp_path / "job", table, {"stop": {"max_seconds": 1000}})

    assert heard.last.stop_reason == "time_budget"
    assert len(heard.epochs) == 2
    assert _report(tmp_path / "job")["refitted"] is False


def test_a_refit_that_the_time_ends_gives_way_to_what_the_search_has_found(
    tmp_path: Path, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path / "search", table, {"refit": False})
    monkeypatch.setattr("worker.trainer.stopping.is_over_time", lambda state, stop: state.at.stage == "refit")

    heard = _train(tmp_path / "job", table, {"stop": {"patience": 3, "max_seconds": 1000}})

    assert heard.last.stop_reason == "time_budget"
    assert _report(tmp_path / "job")["refitted"] is False
    assert _same(tmp_path / "job", tmp_path / "search")


def test_a_refit_that_diverges_gives_way_to_what_the_search_has_found(
    tmp_path: Path, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path / "search", table, {"refit": False})
    begin = main._begin_refit

    def spoilt(now: Any, *others: Any) -> None:
        begin(now, *others)
        with torch.no_grad():
            next(now.network.parameters()).fill_(torch.nan)

    monkeypatch.setattr(main, "_begin_refit", spoilt)
    heard = _train(tmp_path / "job", table, {})

    assert heard.last.stop_reason == "diverged"
    assert heard.last.failed is not None
    assert _same(tmp_path / "job", tmp_path / "search")


def test_without_validation_rows_there_is_nothing_to_refit(tmp_path: Path, table: Read) -> None:
    spec = {**SPEC, "split": {"validation": 0}, "training": {"epochs": 2, "refit": True}}
    heard = Listener()

    train(order_for(tmp_path / "job", table, spec), heard)

    assert len(heard.epochs) == 2
    assert not any("refit" in epoch for epoch in heard.epochs)
