"""What a row counts: sample weights and class weights, from the table to the loss."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.errors import DatasetTooSmall, SampleWeightInvalid
from tests.worker.factories import Listener, Read, order_for, read
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS
from worker.trainer.preparation import prepare

CPU = torch.device("cpu")
PLAIN: dict[str, Any] = {"target": "kind", "split": {"validation": 0}, "network": {"hidden": [6]}}


def _table(weights: list[Any], kinds: str = "abc", seed: int = 0) -> str:
    generator = np.random.default_rng(seed)
    lines = ["x,soil,kind,weight"]
    for row, weight in enumerate(weights):
        kind = kinds[row % len(kinds)]
        lines.append(f"{generator.normal(ord(kind), 2):.4f},{'clay' if row % 4 else 'sand'},{kind},{weight}")
    return "\n".join(lines) + "\n"


def _spec(**training: Any) -> dict[str, Any]:
    chosen = {"epochs": 3, "stop": {"monitor": "train_loss"}, **training}
    return {**PLAIN, "sample_weight": "weight", "training": chosen}


def _train(folder: Path, table: Read, spec: dict[str, Any]) -> Any:
    heard = Listener()
    train(order_for(folder, table, spec), heard)
    return heard


def _weights_of(folder: Path) -> bytes:
    return (folder / ARTIFACTS / "weights.safetensors").read_bytes()


def _prepared(folder: Path, table: Read, spec: dict[str, Any]) -> Any:
    return prepare(order_for(folder, table, spec), CPU, refit=False)


def test_weights_of_the_training_rows_are_1_on_average_and_keep_their_ratios(tmp_path: Path) -> None:
    given = [1.0 + row % 5 for row in range(60)]
    table = read(tmp_path / "data", _table(given))

    train = _prepared(tmp_path / "job", table, _spec()).train

    assert train.weight.mean().item() == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(train.weight, torch.tensor(given) / np.mean(given))
    assert train.sample_weight.tolist() == given


def test_rows_that_weigh_nothing_might_as_well_not_be_there(tmp_path: Path) -> None:
    given = [0 if row % 3 == 1 else 1.5 for row in range(60)]
    with_zeros = read(tmp_path / "zeros", _table(given, kinds="abbc"))
    kept = [line for line in _table(given, kinds="abbc").splitlines() if not line.endswith(",0")]
    without = read(tmp_path / "without", "\n".join(kept) + "\n")
    spec = _spec(batch_size=2, class_weights="balanced")

    one, other = _train(tmp_path / "one", with_zeros, spec), _train(tmp_path / "two", without, spec)

    assert [epoch["train_loss"] for epoch in one.epochs] == [epoch["train_loss"] for epoch in other.epochs]
    assert _weights_of(tmp_path / "one") == _weights_of(tmp_path / "two")


def test_a_weight_of_two_is_the_row_twice(tmp_path: Path) -> None:
    given = [2 if row % 3 == 0 else 1 for row in range(30)]
    lines = _table(given).splitlines()
    twice = [lines[0], *(line for line in lines[1:] for _ in range(2 if line.endswith(",2") else 1))]
    columns = {"x": {"scale": "none", "type": "number"}}
    spec = _spec(batch_size=1000, optimizer={"name": "sgd", "learning_rate": 0.01})
    spec |= {"features": {"include": ["x"], "columns": columns}}

    _train(tmp_path / "one", read(tmp_path / "weighted", "\n".join(lines) + "\n"), spec)
    del spec["sample_weight"]
    _train(tmp_path / "two", read(tmp_path / "twice", "\n".join(twice) + "\n"), spec)

    ours, theirs = (load_file(tmp_path / name / ARTIFACTS / "weights.safetensors") for name in ("one", "two"))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5)


def test_equal_weights_are_no_weights(tmp_path: Path) -> None:
    table = read(tmp_path / "data", _table([7.0] * 40))

    weighted = _train(tmp_path / "one", table, _spec())
    plain = _train(tmp_path / "two", table, {**_spec(), "sample_weight": None, "features": {"exclude": ["weight"]}})

    assert [epoch["train_loss"] for epoch in weighted.epochs] == pytest.approx(
        [epoch["train_loss"] for epoch in plain.epochs], rel=1e-5
    )


def test_balanced_classes_count_the_same_together(tmp_path: Path) -> None:
    table = read(tmp_path / "data", _table([1 + row % 2 for row in range(60)], kinds="aaaab"))

    train = _prepared(tmp_path / "job", table, _spec(class_weights="balanced")).train

    of_each = [train.weight[train.target.flatten() == kind].sum().item() for kind in (0, 1)]
    assert of_each[0] == pytest.approx(of_each[1], rel=1e-5)
    assert train.weight.mean().item() == pytest.approx(1.0, abs=1e-6)


def test_named_classes_count_what_is_said_and_the_others_1(tmp_path: Path) -> None:
    table = read(tmp_path / "data", _table([1] * 60))

    train = _prepared(tmp_path / "job", table, _spec(class_weights={"b": 4.0})).train

    of_each = [train.weight[train.target == kind][0].item() for kind in range(3)]
    assert of_each == pytest.approx([0.5, 2.0, 0.5])
    assert train.sample_weight.unique().tolist() == [1.0]


def test_a_validation_row_is_weighed_as_a_training_row(tmp_path: Path) -> None:
    given = [1.0 + row % 5 for row in range(60)]
    table = read(tmp_path / "data", _table(given))
    spec = {**_spec(stop={}), "split": {"validation": 0.3, "method": "random"}}

    heard = _train(tmp_path / "job", table, spec)

    report = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())
    assert report["validation"]["loss"] == heard.last.best["value"]
    prepared = _prepared(tmp_path / "again", table, spec)
    rows = torch.from_numpy(prepared.parts.validation)
    factor = np.mean([given[row] for row in prepared.parts.train])
    torch.testing.assert_close(prepared.validation.weight, torch.tensor(given)[rows] / factor, rtol=1e-5, atol=0)


@pytest.mark.parametrize("spoilt", ["inf", "-inf"])
def test_a_weight_without_end_is_refused(tmp_path: Path, spoilt: str) -> None:
    table = read(tmp_path / "data", _table([1.0] * 20 + [spoilt]))
    order = order_for(tmp_path / "job", table, {**PLAIN, "target": "kind"})
    order = order.model_copy(update={"spec": order.spec.model_copy(update={"sample_weight": "weight"})})

    with pytest.raises(SampleWeightInvalid):
        prepare(order, CPU, refit=False)


def test_a_table_where_no_row_counts_is_refused(tmp_path: Path) -> None:
    table = read(tmp_path / "data", _table([0] * 20))

    with pytest.raises(SampleWeightInvalid):
        _prepared(tmp_path / "job", table, _spec())


def test_too_few_rows_that_count_for_the_split_are_refused(tmp_path: Path) -> None:
    table = read(tmp_path / "data", _table([1, 1] + [0] * 30))

    with pytest.raises(DatasetTooSmall):
        _prepared(tmp_path / "job", table, {**_spec(stop={}), "split": {"validation": 0.2, "method": "random"}})
