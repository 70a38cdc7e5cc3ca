"""The report of every kind of job: complete, without a NaN, and the same bytes each time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.factories import Listener, Read, order_for, read, table_text
from worker.trainer import report as pages
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, Trained

SHORT: dict[str, Any] = {"network": {"hidden": [8]}}
SPLIT = {"validation": 0.2, "test": 0.2}
ALWAYS = {"intervals", "baselines", "permutation_importance"}
OF_CLASSES = {"confusion_matrix", "curves"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", _text(240))


def _text(rows: int) -> str:
    """Two and three classes, one-hot columns, labels, numbers above 0, weights, groups."""
    draw = np.random.default_rng(0)
    lines = ["height,width,soil,kind,sold,one,two,three,wet,cold,count,weight"]
    for _ in range(rows):
        kind, sold = int(draw.integers(3)), int(draw.integers(2))
        cells = [f"{draw.normal(kind, 0.6):.4f}", "" if draw.random() < 0.1 else f"{draw.normal(2 * sold):.4f}"]
        cells += [["sand", "clay", "loam"][int(draw.integers(3))], "xyz"[kind], ["no", "yes"][sold]]
        cells += [str(int(kind == place)) for place in range(3)]
        cells += [str(int(draw.random() < 0.3 + 0.4 * sold)), str(int(draw.random() < 0.5))]
        lines.append(",".join([*cells, str(draw.poisson(1 + kind) + 1), f"{0.5 + draw.random():.3f}"]))
    return "\n".join(lines) + "\n"


def _report(folder: Path, table: Read, spec: dict[str, Any], **changes: Any) -> dict[str, Any]:
    heard = Listener()
    training = {"epochs": 3, **spec.get("training", {})}
    train(order_for(folder, table, {**SHORT, **spec, "training": training}, **changes), heard)
    assert isinstance(heard.last, Trained)
    assert heard.last.failed is None
    text = (folder / ARTIFACTS / "report.json").read_text()
    found: dict[str, Any] = json.loads(text)
    assert "NaN" not in text
    assert {"train", "rows", "parity", "kept_epoch", *ALWAYS} <= {*found}
    return found


KINDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "three classes": ({"target": "kind"}, {*OF_CLASSES, "calibration"}),
    "two classes": ({"target": "sold"}, {*OF_CLASSES, "calibration"}),
    "two classes of a softmax": (
        {"target": "sold", "network": {"layers": [{"type": "dense", "units": 2, "activation": "softmax"}]}},
        {*OF_CLASSES, "calibration"},
    ),
    "one-hot classes": (
        {"target": ["one", "two", "three"], "training": {"loss": "cross_entropy"}},
        {*OF_CLASSES, "calibration"},
    ),
    "labels": ({"target": ["wet", "cold"], "task": "multilabel"}, {*OF_CLASSES, "calibration"}),
    "margins": ({"target": "kind", "training": {"loss": "hinge"}}, OF_CLASSES),
    "margins of two": ({"target": "sold", "training": {"loss": "hinge"}}, OF_CLASSES),
    "focal": ({"target": "sold", "training": {"loss": "focal"}}, {*OF_CLASSES, "calibration"}),
    "a threshold": ({"target": "sold", "training": {"threshold": {"metric": "f1"}}}, {*OF_CLASSES, "calibration"}),
    "class weights": ({"target": "kind", "training": {"class_weights": "balanced"}}, {*OF_CLASSES, "calibration"}),
    "row weights": ({"target": "kind", "sample_weight": "weight"}, {*OF_CLASSES, "calibration"}),
    "a number": ({"target": "height"}, {"residuals"}),
    "a number of weighted rows": ({"target": "height", "sample_weight": "weight"}, {"residuals"}),
    "two numbers": ({"target": ["height", "count"], "task": "regression"}, {"residuals"}),
    "quantiles": (
        {"target": "height", "training": {"loss": {"name": "quantile", "quantiles": [0.1, 0.5, 0.9]}}},
        {"residuals", "calibration"},
    ),
    "counts": ({"target": "count", "task": "regression", "training": {"loss": "poisson"}}, {"residuals"}),
    "positive numbers": ({"target": "count", "task": "regression", "training": {"loss": "gamma"}}, {"residuals"}),
    "embedded categories": (
        {"target": "kind", "features": {"columns": {"soil": {"encode": "embedding", "dimension": 2}}}},
        {*OF_CLASSES, "calibration"},
    ),
    "no features but embedded ones": (
        {"target": "height", "features": {"include": ["soil"], "columns": {"soil": {"encode": "embedding"}}}},
        {"residuals"},
    ),
    "all metrics": (
        {
            "target": "height",
            "training": {"metrics": ["rmse", "mape", "max_error", "median_absolute_error", "pearson"]},
        },
        {"residuals"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_has_its_pages(tmp_path: Path, table: Read, kind: str) -> None:
    spec, expected = KINDS[kind]

    report = _report(tmp_path / "job", table, {"split": SPLIT, **spec})

    assert {*report} & {*OF_CLASSES, "calibration", "residuals"} == expected
    for page in expected:
        assert {*report[page]} == {"validation", "test"}
    assert {*report["intervals"]} == {"level", "train", "validation", "test"}
    for part in ("train", "validation", "test"):
        for name, value in report[part].items():
            if name != "rows":
                assert report["intervals"][part][name]["value"] == pytest.approx(value, rel=1e-5, abs=1e-7), name
        assert (
            report["intervals"][part]["loss"]["low"] < report[part]["loss"] < report["intervals"][part]["loss"]["high"]
        )
    for baseline in report["baselines"].values():
        for part in ("validation", "test"):
            assert baseline[part]
            for name, one in baseline[part].items():
                mine = report["intervals"][part][name]["value"]
                assert abs(one["lift"]["value"]) == pytest.approx(abs(mine - one["value"]), abs=1e-9)
    columns = [one["column"] for one in report["permutation_importance"]["columns"]]
    order = json.loads((tmp_path / "job" / ARTIFACTS / "spec.json").read_text())
    assert sorted(columns) == sorted(order["features"]["include"])


def test_the_metrics_of_the_job_stay_as_they_are_beside_it(tmp_path: Path, table: Read) -> None:
    report = _report(tmp_path / "job", table, {"target": "height", "split": SPLIT})

    assert {*report["validation"]} == {"rows", "loss", "rmse", "mae", "r2"}


def test_a_column_that_says_the_target_matters_most(tmp_path: Path) -> None:
    table = read(tmp_path / "data", table_text(300))

    report = _report(tmp_path / "job", table, {"target": "kind", "training": {"epochs": 60}})

    by_column = report["permutation_importance"]["columns"]
    assert {one["column"] for one in by_column[:2]} == {"height", "width"}
    assert by_column[0]["low"] > 0
    assert report["permutation_importance"]["of"] == "validation"
    assert report["baselines"]["majority"]["validation"]["accuracy"]["lift"]["low"] > 0


def test_residuals_are_in_the_units_of_the_target(tmp_path: Path) -> None:
    text = table_text(300).splitlines()
    wide = [text[0], *(f"{1e6 * float(line.split(',')[0])},{line.split(',', 1)[1]}" for line in text[1:])]
    table = read(tmp_path / "data", "\n".join(wide) + "\n")

    report = _report(tmp_path / "job", table, {"target": "height", "split": SPLIT})

    [found] = report["residuals"]["test"]["targets"]
    rmse = report["test"]["rmse"]
    assert rmse > 1e5
    assert (found["mean"] ** 2 + found["deviation"] ** 2) ** 0.5 == pytest.approx(rmse, rel=1e-5)
    worst = found["largest"][0]
    assert worst["row"] in report["rows"]["test"]


def test_without_rows_that_were_held_back_the_training_rows_are_shown(tmp_path: Path, table: Read) -> None:
    report = _report(tmp_path / "job", table, {"target": "kind", "split": {"validation": 0}})

    assert {*report["intervals"]} == {"level", "train"}
    assert {*report["confusion_matrix"]} == {*report["curves"]} == {"train"}
    assert report["permutation_importance"]["of"] == "train"
    assert {*report["baselines"]["majority"]} == {"rows", "train"}


@pytest.mark.parametrize("target", ["kind", "sold", "height"])
def test_a_part_of_a_single_row_harms_nothing(tmp_path: Path, target: str) -> None:
    table = read(tmp_path / "data", _text(12))

    report = _report(tmp_path / "job", table, {"target": target, "split": {"validation": 1 / 12, "test": 1 / 12}})

    assert (report["validation"]["rows"], report["test"]["rows"]) == (1, 1)
    assert report["permutation_importance"] is None
    assert report["intervals"]["test"]["loss"]["low"] is None


def test_a_part_of_a_single_class_harms_nothing(tmp_path: Path, table: Read) -> None:
    lines = _text(240).splitlines()
    same = read(tmp_path / "same", "\n".join([lines[0], *(line for line in lines[1:] if ",yes," in line)]) + "\n")

    report = _report(tmp_path / "job", table, {"target": "sold"}, held_out={"test": same})

    assert "roc_auc" not in report["intervals"]["test"]
    assert report["curves"]["test"] == {"curves": [], "others": 1}
    assert report["baselines"]["logistic"]["test"]["accuracy"]["value"] > 0.3


def test_a_refit_shows_the_rows_that_are_left(tmp_path: Path, table: Read) -> None:
    spec = {"target": "kind", "split": SPLIT, "training": {"refit": True}}

    report = _report(tmp_path / "job", table, spec)

    assert {*report["intervals"]} == {"level", "train", "test"}
    assert {*report["confusion_matrix"]} == {"test"}
    assert report["permutation_importance"]["of"] == "train"


def test_two_hundred_classes_have_a_matrix_of_fifty(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = "".join(f"{draw.normal():.4f},{draw.normal():.4f},kind {draw.integers(200)}\n" for _ in range(3_000))
    table = read(tmp_path / "data", "x,y,kind\n" + rows)

    report = _report(tmp_path / "job", table, {"target": "kind"})

    found = report["confusion_matrix"]["validation"]
    classes = len(json.loads((tmp_path / "job" / ARTIFACTS / "preprocessing.json").read_text())["target"]["classes"])
    assert (len(found["classes"]), found["others"], len(found["matrix"])) == (50, classes - 50, 51)
    assert sum(map(sum, found["matrix"])) == report["validation"]["rows"]
    assert len(report["curves"]["validation"]["curves"]) == 10


def test_of_a_large_part_some_rows_are_looked_at(tmp_path: Path, table: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_ROWS", 30)
    monkeypatch.setattr(pages.baselines, "MOST_ROWS", 50)

    report = _report(tmp_path / "job", table, {"target": "height", "split": SPLIT})

    assert report["test"]["rows"] == 48
    assert report["intervals"]["test"]["rows"] == 30
    assert report["baselines"]["linear"]["rows"] == 50
    assert sum(one["count"] for one in report["residuals"]["test"]["targets"][0]["by_prediction"]) == 30
    assert {one["row"] for one in report["residuals"]["test"]["targets"][0]["largest"]} <= {*report["rows"]["test"]}


def test_predictions_that_are_no_number_leave_a_part_out(tmp_path: Path) -> None:
    """Rows far beyond the others, in units that are not scaled: exp of it has no number."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=120)
    known = read(tmp_path / "known", "x,count\n" + "".join(f"{one:.4f},{draw.poisson(np.exp(one)) + 1}\n" for one in x))
    far = read(tmp_path / "far", "x,count\n" + "".join(f"{one}e30,2\n" for one in range(1, 20)))
    spec = {"target": "count", "task": "regression", "training": {"loss": "poisson", "epochs": 20}}

    report = _report(tmp_path / "job", known, spec, held_out={"test": far})

    assert report["test"]["rows"] == 19
    assert {*report["intervals"]} == {"level", "train", "validation"}
    assert {*report["residuals"]} == {"validation"}


@pytest.mark.parametrize("target", ["kind", "sold", "height"])
def test_the_same_job_leaves_the_same_report(tmp_path: Path, table: Read, target: str) -> None:
    for name in ("one", "two"):
        _report(tmp_path / name, table, {"target": target, "split": SPLIT})

    one, two = ((tmp_path / name / ARTIFACTS / "report.json").read_bytes() for name in ("one", "two"))
    assert one == two
