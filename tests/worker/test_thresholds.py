"""Thresholds: the best there is, by a search that tries them all with scikit-learn; and what is said by them."""

import json
import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import sklearn.metrics as sklearn
import torch

from core.spec.training import ThresholdMetric
from tests.worker.factories import Listener, Read, order_for, read, spec_for
from worker.trainer.examples import Examples
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, Trained
from worker.trainer.metrics import measure
from worker.trainer.thresholds import best_threshold

SCORES: dict[str, Any] = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "f1": lambda y, p, **options: sklearn.f1_score(y, p, zero_division=0.0, **options),
    "matthews_corrcoef": sklearn.matthews_corrcoef,
    "cohen_kappa": sklearn.cohen_kappa_score,
}
METRICS = get_args(ThresholdMetric)


def _rows(seed: int, rows: int, digits: int) -> tuple[Any, Any]:
    """Probabilities, many of them the same where they have few digits, and which rows are of the second class."""
    draw = np.random.default_rng(seed)
    truth = draw.random(rows) < 0.3
    guessed = 1 / (1 + np.exp(-draw.normal(2 * truth - 2, 1.5)))
    return np.round(guessed, digits).astype(np.float32), truth


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("digits", [1, 2, 7])
@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_best_of_all(metric: Any, digits: int, weighted: bool) -> None:
    score = SCORES[metric]
    for seed, rows in enumerate([2, 3, 10, 60, 200]):
        p, truth = _rows(seed, rows, digits)
        weight = np.random.default_rng(seed).random(rows).round(2) + 0.01 if weighted else None

        threshold, reached = best_threshold(metric, p, truth, weight)

        def at(limit: float) -> float:
            found = float(score(truth, p > np.float32(limit), sample_weight=weight))  # noqa: B023
            return 0.0 if found != found else found

        every = {limit: at(limit) for limit in [0.5, *(value for value in np.unique(p).tolist())]}
        every |= {float(np.float32(np.unique(p)[0]) / 2): at(float(np.unique(p)[0]) / 2)} if p.min() > 0 else {}
        assert reached == pytest.approx(max(every.values()), abs=1e-9)
        assert at(threshold) == pytest.approx(reached, abs=1e-9)
        assert threshold == 0.5 or every[0.5] < reached - 1e-12
        assert 0 <= threshold <= 1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("is_second", [True, False])
def test_rows_that_say_nothing_leave_a_threshold_all_the_same(metric: Any, value: float, is_second: bool) -> None:
    p, truth = np.full(5, value, np.float32), np.full(5, is_second)

    threshold, reached = best_threshold(metric, p, truth)

    assert 0 <= threshold <= 1
    assert 0 <= reached <= 1


def test_neighbouring_numbers_are_told_apart() -> None:
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    p, truth = np.array([low, high], np.float32), np.array([False, True])

    threshold, reached = best_threshold("f1", p, truth)

    assert reached == 1.0
    assert (p > np.float32(threshold)).tolist() == [False, True]
    assert np.float32(threshold) == threshold


@pytest.mark.parametrize(("activation", "units"), [("sigmoid", 1), ("softmax", 2)])
def test_a_given_threshold_says_the_labels_of_every_epoch(activation: str, units: int) -> None:
    p, truth = _rows(1, 100, 7)
    logits = torch.logit(torch.from_numpy(p)).unsqueeze(1)
    logits = logits if units == 1 else torch.cat([torch.zeros_like(logits), logits], 1)
    target = torch.from_numpy(truth)
    rows = Examples(torch.empty(100, 0), target.float().unsqueeze(1) if units == 1 else target.long())
    spec = spec_for(activation=activation, units=units, threshold=0.2)

    found = measure(["accuracy", "f1", "recall", "roc_auc"], spec, logits, rows)

    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, p > 0.2))
    assert found["f1"] == pytest.approx(sklearn.f1_score(truth, p > 0.2))
    assert found["recall"] == pytest.approx(sklearn.recall_score(truth, p > 0.2))
    assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, p)), "which knows no threshold"


# --- a training ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """One row in eight is `yes`, and so is `hot`; `wet` is every other."""
    draw = random.Random(0)
    lines = ["x,y,hot,wet"]
    for row in range(400):
        second, wet = row % 8 == 0, row % 2 == 0
        value = draw.gauss(1.2 * second + 0.3 * wet, 1)
        lines.append(f"{value:.4f},{'yes' if second else 'no'},{str(second).lower()},{str(wet).lower()}")
    return read(tmp_path_factory.mktemp("table") / "data", "\n".join(lines))


def _trained(folder: Path, table: Read, **parts: Any) -> tuple[Trained, dict[str, Any], dict[str, Any]]:
    """What it said last, its report and its preprocessing."""
    heard = Listener()
    spec = {"target": "y", "features": {"include": ["x"]}, "split": {"validation": 0.4, "test": 0.2}} | parts
    train(order_for(folder, table, spec), heard)
    assert isinstance(heard.last, Trained)
    read_json = [json.loads((folder / ARTIFACTS / f"{name}.json").read_text()) for name in ("report", "preprocessing")]
    return heard.last, *read_json


TRAINING = {"epochs": 8, "metrics": ["f1", "accuracy"]}


def test_the_chosen_threshold_is_reported_kept_and_measured_by(tmp_path: Path, table: Read) -> None:
    said, report, fitted = _trained(tmp_path / "best", table, training={**TRAINING, "threshold": {"metric": "f1"}})
    _, plain, even = _trained(tmp_path / "even", table, training=TRAINING)

    chosen = report["threshold"]
    assert (chosen["metric"], chosen["rows"]) == ("f1", 160)
    assert said.thresholds == chosen["values"] == fitted["target"]["thresholds"] != [0.5]
    assert chosen["reached"] == [pytest.approx(report["validation"]["f1"])]
    assert report["validation"]["f1"] > plain["validation"]["f1"]
    assert report["test"]["f1"] != plain["test"]["f1"], "the test rows are told apart by it as well"
    assert said.test == report["test"]
    assert (plain["threshold"], even["target"]["thresholds"]) == ({"values": [0.5]}, [0.5])
    assert report["test"]["loss"] == plain["test"]["loss"], "it changes what is said, and no weight"


def test_each_label_has_its_own(tmp_path: Path, table: Read) -> None:
    training = {**TRAINING, "threshold": {"metric": "f1"}}
    said, report, _ = _trained(tmp_path / "labels", table, target=["hot", "wet"], training=training)

    hot, wet = said.thresholds or []
    assert hot != wet
    assert report["validation"]["f1"] == pytest.approx(sum(report["threshold"]["reached"]) / 2)


def test_without_validation_rows_it_is_chosen_on_those_that_trained(tmp_path: Path, table: Read) -> None:
    training = {**TRAINING, "threshold": {"metric": "f1"}}
    _, report, _ = _trained(tmp_path / "all", table, split={"validation": 0}, training=training)

    assert report["threshold"]["rows"] == 400
    assert report["threshold"]["reached"] == [pytest.approx(report["train"]["f1"])]


def test_a_refit_keeps_the_threshold_of_its_search(tmp_path: Path, table: Read) -> None:
    training = {**TRAINING, "threshold": {"metric": "f1"}}
    _, searched, _ = _trained(tmp_path / "search", table, training=training)
    _, refitted, fitted = _trained(tmp_path / "refit", table, training={**training, "refit": True})

    assert refitted["refitted"]
    assert refitted["threshold"] == searched["threshold"]
    assert fitted["target"]["thresholds"] == searched["threshold"]["values"]


def test_three_classes_have_none(tmp_path: Path) -> None:
    table = read(tmp_path / "table", "x,y\n" + "".join(f"{row},{'abc'[row % 3]}\n" for row in range(30)))
    said, report, fitted = _trained(tmp_path / "job", table, training={"epochs": 1})

    assert said.thresholds is None
    assert "threshold" not in report
    assert fitted["target"]["thresholds"] is None
