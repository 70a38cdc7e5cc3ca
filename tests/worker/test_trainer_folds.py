"""Cross-validation in the training process: which rows each fold has, what it measures, and the network after it."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from core import errors
from core.spec.data import Split
from tests.worker.factories import Listener, Read, order_for, read, table_text, without_timing
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, CheckpointWritten, Drained, FoldTrained, Phase
from worker.trainer.preparation import prepare
from worker.trainer.split import Parts, draw

SKEWED = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [70, 20, 9, 3]))
SPEC: dict[str, Any] = {
    "target": "kind",
    "split": {"folds": 4, "seed": 5},
    "network": {"hidden": [8]},
    "training": {"epochs": 6, "optimizer": {"name": "adam", "learning_rate": 0.05}},
}
DONE = {"folds": [], "mean": {"loss": 0.5}, "std": {"loss": 0.1}, "epochs": 4}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(200))


def _train(folder: Path, table: Read, spec: dict[str, Any] = SPEC, listener: Listener | None = None, **ch: Any) -> Any:
    heard = listener or Listener()
    train(order_for(folder, table, spec, **ch), heard)
    return heard


def _draw(method: str, target: NDArray[Any], keys: Any = None, **split: Any) -> Parts:
    asked = {"method": method, "folds": 5, "seed": 7, "validation": 0.0, "by": None if keys is None else "key"} | split
    return draw(Split.model_validate(asked), np.arange(len(target)), target, keys)


# --- membership -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_are_those_of_scikit_learn(folds: int, seed: int) -> None:
    same: dict[str, Any] = {"n_splits": folds, "shuffle": True, "random_state": seed}
    groups = np.random.default_rng(1).integers(0, 23, len(SKEWED))
    everything = np.zeros((len(SKEWED), 1))

    theirs = KFold(**same).split(everything)
    _agree(_draw("random", SKEWED, folds=folds, seed=seed), theirs)
    with warnings.catch_warnings(action="ignore"):  # of scikit-learn, where a class has fewer rows than folds
        stratified = list(StratifiedKFold(**same).split(everything, SKEWED))
    _agree(_draw("stratified", SKEWED, folds=folds, seed=seed), iter(stratified))
    theirs = GroupKFold(**same).split(everything, groups=groups)
    _agree(_draw("group", SKEWED, groups, folds=folds, seed=seed), theirs)


def _agree(parts: Parts, theirs: Iterator[tuple[Any, Any]]) -> None:
    for number, (trains, measures) in enumerate(theirs, 1):
        fold = parts.of_fold(number)
        assert fold.train.tolist() == trains.tolist()
        assert fold.validation.tolist() == measures.tolist()
        assert len(fold.test) == 0
    assert number == len(parts.folds)


def test_rows_without_a_target_and_rows_that_test_are_in_no_fold() -> None:
    rows = np.flatnonzero(np.arange(len(SKEWED)) % 5)
    split = Split.model_validate({"method": "random", "folds": 3, "test": 0.2, "validation": 0.0})

    parts = draw(split, rows, SKEWED)

    assert len(parts.test) == round(len(rows) * 0.2)
    assert sorted(np.concatenate([*parts.folds, parts.test]).tolist()) == rows.tolist()
    expected = [parts.train[own].tolist() for _, own in KFold(3, shuffle=True, random_state=0).split(parts.train)]
    assert [fold.tolist() for fold in parts.folds] == expected


@pytest.mark.parametrize("method", ["random", "stratified", "group"])
def test_too_few_rows_classes_or_groups_for_the_folds_are_refused(method: str) -> None:
    few = np.repeat([0, 1], 2)

    with pytest.raises(errors.DatasetTooSmall):
        _draw(method, few, few if method == "group" else None)


def test_a_table_is_drawn_by_its_groups_as_scikit_learn_draws_their_names(tmp_path: Path) -> None:
    people = [f"person {place % 31}" for place in range(310)]
    text = "\n".join(["who,x,y", *(f"{who},{row},{row * 0.5}" for row, who in enumerate(people))])
    spec = {"target": "y", "split": {"method": "group", "by": "who", "folds": 4, "seed": 3}}
    order = order_for(tmp_path / "job", read(tmp_path / "data", text), spec)

    found = prepare(order, torch.device("cpu"), refit=False).parts.folds

    theirs = GroupKFold(4, shuffle=True, random_state=3).split(people, groups=people)
    assert [fold.tolist() for fold in found] == [own.tolist() for _, own in theirs]


# --- a fold -----------------------------------------------------------------------------------------------------------


def test_a_fold_is_the_training_of_the_other_rows_and_leaves_no_files(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "fold", table, fold=2)
    order = order_for(tmp_path / "again", table, SPEC)
    prepared = prepare(order, torch.device("cpu"), refit=False, fold=2)

    assert isinstance(heard.last, FoldTrained)
    assert not (tmp_path / "fold" / ARTIFACTS).exists()
    result, losses = heard.last.result, [epoch["valid_loss"] for epoch in heard.epochs]
    assert (result["rows"], result["stop_reason"]) == (50, "completed")
    assert result["epoch"] == 1 + int(np.argmin(losses))
    assert result["loss"] == pytest.approx(min(losses), rel=1e-6)
    assert result["accuracy"] == heard.epochs[result["epoch"] - 1]["valid_accuracy"]
    assert (len(prepared.train), len(prepared.validation), len(prepared.test)) == (150, 50, 0)


def test_what_is_fitted_never_saw_the_rows_of_the_fold(tmp_path: Path) -> None:
    rows = 40
    own = next(KFold(4, shuffle=True, random_state=0).split(np.zeros(rows)))[1]
    values = np.arange(rows) % 7 + 0.0
    values[own[0]] = 1e9
    text = "\n".join(["x,y", *(f"{value},{row * 0.5}" for row, value in enumerate(values))])
    order = order_for(tmp_path / "job", read(tmp_path / "data", text), {"target": "y", "split": {"folds": 4}})

    def farthest(fold: int) -> float:
        prepared = prepare(order, torch.device("cpu"), refit=False, fold=fold)
        return float(prepared.validation.features.abs().max())

    assert farthest(1) > 1e6
    assert farthest(2) < 10


def test_a_fold_that_diverges_says_so_though_it_has_an_epoch_to_keep(tmp_path: Path, table: Read) -> None:
    training = {"epochs": 400, "optimizer": {"name": "sgd", "learning_rate": 10.0}, "loss": "mse"}
    rows = "\n".join(["x,y", *(f"{row},{row * row}" for row in range(40))])
    wild = {"target": "y", "split": {"folds": 4}, "network": {"hidden": [8], "activation": "linear"}}

    with pytest.raises(errors.Diverged):
        _train(tmp_path / "job", read(tmp_path / "data", rows), {**wild, "training": training}, fold=1)


def test_a_fold_that_made_room_goes_on_to_the_same_bits(tmp_path: Path, table: Read) -> None:
    whole = _train(tmp_path / "whole", table, fold=3)
    first = _train(tmp_path / "first", table, listener=Listener("drain", after_epochs=2), fold=3)
    assert isinstance(first.last, Drained)
    saved = next(one for one in first.said if isinstance(one, CheckpointWritten))

    rest = _train(tmp_path / "rest", table, fold=3, checkpoint=str(tmp_path / "first" / saved.folder))

    assert rest.last == whole.last
    assert [without_timing(one) for one in first.epochs + rest.epochs] == [without_timing(one) for one in whole.epochs]


# --- the network of all rows ------------------------------------------------------------------------------------------


def test_the_network_is_trained_on_all_rows_for_the_epochs_of_the_folds(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, cross_validation=DONE)
    plain = {**SPEC, "split": {"validation": 0.0}, "training": {**SPEC["training"], "epochs": 4}}
    _train(tmp_path / "plain", table, plain)

    report = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())
    assert [one.phase for one in heard.said if isinstance(one, Phase)] == ["loading_data", "refitting", "exporting"]
    assert len(heard.epochs) == 4
    assert all("valid_loss" not in epoch for epoch in heard.epochs)
    assert heard.last.stop_reason == "completed"
    assert (report["kept_epoch"], report["refitted"], report["cross_validation"]) == (4, True, DONE)
    ours, theirs = (load_file(tmp_path / name / ARTIFACTS / "weights.safetensors") for name in ("job", "plain"))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_report_lists_the_rows_of_each_fold(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "job", table, cross_validation=DONE)

    report = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())
    theirs = StratifiedKFold(4, shuffle=True, random_state=5).split(np.zeros(200), table.codes("kind"))
    assert report["rows"]["folds"] == [own.tolist() for _, own in theirs]
    assert (report["rows"]["train"], report["rows"]["validation"], report["rows"]["test"]) == (200, [], [])


def test_its_steps_grow_with_the_rows(tmp_path: Path, table: Read) -> None:
    spec = {**SPEC, "training": {**SPEC["training"], "epochs": 50, "steps": 12}}

    heard = _train(tmp_path / "job", table, spec, cross_validation={**DONE, "epochs": 50})

    assert heard.epochs[-1]["step"] == 16


def test_it_made_room_and_goes_on_to_the_same_bits(tmp_path: Path, table: Read) -> None:
    _train(tmp_path / "whole", table, cross_validation=DONE)
    first = _train(tmp_path / "first", table, listener=Listener("drain", after_epochs=2), cross_validation=DONE)
    saved = next(one for one in first.said if isinstance(one, CheckpointWritten))

    checkpoint = str(tmp_path / "first" / saved.folder)
    _train(tmp_path / "rest", table, cross_validation=DONE, checkpoint=checkpoint)

    whole, rest = (load_file(tmp_path / name / ARTIFACTS / "weights.safetensors") for name in ("whole", "rest"))
    assert all(torch.equal(tensor, rest[name]) for name, tensor in whole.items())


def test_a_cancel_leaves_the_last_weights(tmp_path: Path, table: Read) -> None:
    heard = _train(tmp_path / "job", table, listener=Listener("cancel", after_epochs=2), cross_validation=DONE)

    assert (heard.last.stop_reason, heard.last.best) == ("user_cancel", None)
    assert (tmp_path / "job" / ARTIFACTS / "weights.safetensors").exists()
