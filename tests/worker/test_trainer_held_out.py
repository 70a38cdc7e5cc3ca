"""Rows of datasets of their own: they measure, and nothing is fitted to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.spec.data import HeldOutPart
from tests.worker.factories import Listener, Read, order_for, read, table_text
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, Logged, Trained
from worker.trainer.preparation import Prepared, prepare
from worker.trainer.preprocessing import Affine, NumberInput

SPEC: dict[str, Any] = {"target": "kind", "network": {"hidden": [8]}, "training": {"epochs": 5}}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(200))


def _other(folder: Path, text: str) -> Read:
    return read(folder / f"other-{len(list(folder.iterdir())) if folder.exists() else 0}", text)


def _prepared(
    folder: Path, table: Read, held_out: Mapping[HeldOutPart, Read], spec: Mapping[str, Any] = SPEC, name: str = "job"
) -> Prepared:
    return prepare(order_for(folder / name, table, spec, held_out), torch.device("cpu"), refit=False)


def test_all_rows_train_and_the_others_measure(tmp_path: Path, table: Read) -> None:
    validation, test = _other(tmp_path, table_text(50, seed=1)), _other(tmp_path, table_text(30, seed=2))

    found = _prepared(tmp_path, table, {"validation": validation, "test": test})

    assert (len(found.train), len(found.validation), len(found.test)) == (200, 50, 30)
    assert found.parts.validation.tolist() == list(range(50))


def test_an_outlier_among_rows_that_measure_reaches_no_fitted_value(tmp_path: Path, table: Read) -> None:
    plain = table_text(50, seed=1)
    others = [_other(tmp_path, text) for text in (plain, plain + "1e9,-1e9,peat,true,ash\n")]

    found = [
        _prepared(tmp_path, table, {"validation": other, "test": other}, name=f"job-{place}")
        for place, other in enumerate(others)
    ]

    assert found[0].preprocessing == found[1].preprocessing
    assert torch.equal(found[0].train.features, found[1].train.features)
    assert found[1].validation.features.abs().max() > 1e8


def test_a_row_is_the_same_for_the_network_in_either_table(tmp_path: Path, table: Read) -> None:
    """Its categories and classes have other codes there, and its columns another order."""
    lines = table_text(200).splitlines()
    some = [line for line in lines[1:] if line.split(",")[2] != "clay" and line.split(",")[4] != "ash"]
    turned = [",".join(reversed(line.split(","))) for line in (lines[0], *some)]

    found = _prepared(tmp_path, table, {"validation": _other(tmp_path, "\n".join(turned) + "\n")})

    kept = [place for place, line in enumerate(lines[1:]) if line in set(some)]
    assert torch.equal(found.validation.features, found.train.features[kept])
    assert torch.equal(found.validation.target, found.train.target[kept])


def test_categories_that_no_training_row_has_are_unknown_with_a_warning(tmp_path: Path, table: Read) -> None:
    other = _other(tmp_path, "height,width,soil,wet,kind\n1.5,2.5,peat,true,ash\n1.5,2.5,sand,true,birch\n")
    heard = Listener()

    train(order_for(tmp_path / "job", table, SPEC, {"validation": other}), heard)

    warnings = [one.data for one in heard.said if isinstance(one, Logged) and one.type == "warning"]
    assert [(one["code"], one["column"], one["rows"]) for one in warnings] == [("unseen_categories", "soil", 1)]
    assert "validation dataset" in warnings[0]["message"]


def test_a_column_that_is_empty_there_is_missing_in_each_row(tmp_path: Path, table: Read) -> None:
    other = _other(tmp_path, "height,width,soil,wet,kind\n1.5,,,true,ash\n2.5,,,true,birch\n")

    found = _prepared(tmp_path, table, {"validation": other})

    width = next(one for one in found.preprocessing.inputs if one.name == "width")
    column = found.preprocessing.features.index("width")
    assert isinstance(width, NumberInput)
    assert isinstance(width.scaling, Affine)
    imputed = np.float32(
        (np.float32(width.imputed) - np.float32(width.scaling.center)) / np.float32(width.scaling.scale)
    )
    assert found.validation.features[:, column].tolist() == [imputed, imputed]
    assert found.validation.features[:, found.preprocessing.features.index("soil=")].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("encode", ["one_hot", "embedding"])
def test_so_many_categories_that_they_are_texts_there_are_looked_up_all_the_same(tmp_path: Path, encode: str) -> None:
    towns = [f"town {number % 80}" for number in range(400)]
    table = read(tmp_path / "data", "town,y\n" + "".join(f"{town},{row * 0.5}\n" for row, town in enumerate(towns)))
    there = [*towns[79::-1], "Atlantis", ""]
    other = _other(tmp_path, "town,y\n" + "".join(f"{town},0.5\n" for town in there))
    assert (table.types["town"], other.types["town"]) == ("category", "text")
    spec = {"target": "y", "features": {"columns": {"town": {"encode": encode}}}}

    found = _prepared(tmp_path, table, {"validation": other}, spec)

    if encode == "one_hot":
        assert torch.equal(found.validation.features[:80], found.train.features[:80].flip(0))
        assert found.validation.features[80:].sum() == 0
    else:
        assert found.train.codes is not None
        assert found.validation.codes is not None
        assert torch.equal(found.validation.codes[:80], found.train.codes[:80].flip(0))
        assert found.validation.codes[80:].tolist() == [[0], [0]]
    assert [(one["column"], one["rows"]) for one in found.unseen] == [("town", 2)]


def test_whole_numbers_there_are_numbers_here(tmp_path: Path, table: Read) -> None:
    other = _other(tmp_path, "height,width,soil,wet,kind\n1,2,sand,true,ash\n3,4,sand,true,birch\n")

    found = _prepared(tmp_path, table, {"test": other})

    assert len(found.test) == 2


def test_their_weights_are_on_the_scale_of_the_training_rows(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,trust,y\n" + "".join(f"{row},{1 + row % 3},{row * 0.5}\n" for row in range(90)))
    other = _other(tmp_path, "x,trust,y\n1,4,0.5\n2,0,1.5\n3,2,2.5\n")

    found = _prepared(tmp_path, table, {"validation": other}, {"target": "y", "sample_weight": "trust"})

    assert found.parts.validation.tolist() == [0, 2]
    assert found.validation.weight is not None
    assert found.validation.weight.tolist() == [2.0, 1.0]


def test_the_test_rows_are_measured_once_and_said_at_the_end(tmp_path: Path, table: Read) -> None:
    heard, other = Listener(), _other(tmp_path, table_text(40, seed=3))

    train(order_for(tmp_path / "job", table, SPEC, {"test": other}), heard)

    report = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())
    assert isinstance(heard.last, Trained)
    assert heard.last.test == report["test"]
    assert set(report["test"]) == {"rows", "loss", "accuracy"}
    assert report["test"]["rows"] == 40
    assert report["rows"]["test"] == list(range(40))


def test_without_test_rows_nothing_is_said_of_them(tmp_path: Path, table: Read) -> None:
    heard = Listener()

    train(order_for(tmp_path / "job", table, SPEC), heard)

    assert heard.last.test is None
