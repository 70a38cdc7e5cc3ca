"""Pages of the report: confusion, curves, calibration, residuals; each against scikit-learn or by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve
from torch import Tensor

from core.spec.losses import Quantile
from core.spec.metrics import Task
from worker.trainer.report import calibration, confusion, curves, residuals
from worker.trainer.report.calibration import calibration_of, coverage_of
from worker.trainer.report.confusion import confusion_of
from worker.trainer.report.curves import curves_of
from worker.trainer.report.judged import Judged
from worker.trainer.report.residuals import residuals_of

ROWS = 400


def _judged(task: Task, scores: Tensor, target: Tensor, said: Tensor, weighted: bool = False, **more: Any) -> Judged:
    drawn = 0.2 + torch.rand(len(target), generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    weight = drawn if weighted else torch.ones(len(target), dtype=torch.float64)
    return Judged(task, scores, target, said, weight, weighted, **more)


def _classes(count: int, weighted: bool = False) -> Judged:
    """Each class half as large as the one before it, or nearly so; scores that are sometimes equal."""
    generator = torch.Generator().manual_seed(0)
    target = torch.distributions.Geometric(0.3).sample((ROWS,)).long().clamp(max=count - 1) if count < 9 else None
    if target is None:
        target = torch.randint(count, (ROWS,), generator=generator)
    own = torch.nn.functional.one_hot(target, count)
    scores = (torch.randn(ROWS, count, generator=generator).mul(3).round() / 3 + 1.5 * own).softmax(1)
    return _judged("classification", scores, target, scores.argmax(1), weighted)


def _labels() -> Judged:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(2, (ROWS, 3), generator=generator).double()
    scores = (torch.randn(ROWS, 3, generator=generator) + 2 * target.float() - 1).sigmoid()
    return _judged("multilabel", scores, target, scores > 0.5)


def _numbers(**more: Any) -> Judged:
    generator = torch.Generator().manual_seed(0)
    predicted = 10 * torch.randn(ROWS, 2, generator=generator, dtype=torch.float64)
    target = predicted + torch.randn(ROWS, 2, generator=generator, dtype=torch.float64) + 0.5
    return _judged("regression", predicted, target, predicted, **more)


# --- confusion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_matrix_is_scikit_learns(weighted: bool) -> None:
    judged = _classes(4, weighted)

    found = confusion_of(judged, ["a", "b", "c", "d"], ["kind"])

    weight = judged.weight.numpy() if weighted else None
    theirs = sklearn.confusion_matrix(judged.target, judged.said, labels=range(4), sample_weight=weight)
    assert found["classes"] == ["a", "b", "c", "d"]
    assert np.allclose(found["matrix"], theirs, rtol=1e-12)
    assert weighted or all(isinstance(cell, int) for row in found["matrix"] for cell in row)


def test_of_many_classes_the_largest_are_shown_and_the_others_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "MOST_CLASSES", 5)
    judged = _classes(30)

    found = confusion_of(judged, [f"class {place}" for place in range(30)], ["kind"])

    matrix, counts = np.array(found["matrix"]), np.bincount(judged.target, minlength=30)
    shown = [int(name.split()[1]) for name in found["classes"]]
    assert (len(shown), found["others"], matrix.shape) == (5, 25, (6, 6))
    assert min(counts[shown]) >= max(np.delete(counts, shown))
    assert matrix.sum() == ROWS
    assert matrix[:5].sum(1).tolist() == counts[shown].tolist()
    theirs = sklearn.confusion_matrix(judged.target, judged.said, labels=range(30))
    assert (matrix[:5, :5] == theirs[np.ix_(shown, shown)]).all()


def test_labels_have_four_counts_each() -> None:
    judged = _labels()

    found = confusion_of(judged, [], ["wet", "cold", "dark"])

    theirs = sklearn.multilabel_confusion_matrix(judged.target, judged.said)
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert [one["label"] for one in found["labels"]] == ["wet", "cold", "dark"]
    assert [[one[name] for name in names] for one in found["labels"]] == theirs.reshape(3, 4).tolist()


# --- curves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("points", [50, 10_000])
def test_every_point_lies_on_scikit_learns_curve(weighted: bool, points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_POINTS", points)
    judged = _classes(2, weighted)
    weight = judged.weight.numpy() if weighted else None

    found = curves_of(judged, [False, True], ["sold"])

    [curve] = found["curves"]
    roc, pr, score = curve["roc"], curve["precision_recall"], judged.scores[:, 1].numpy()
    assert (curve["class"], found["others"]) == (True, 0)
    fpr, tpr, thresholds = sklearn.roc_curve(judged.target, score, sample_weight=weight, drop_intermediate=False)
    theirs = dict(zip(thresholds.tolist(), zip(fpr, tpr, strict=True), strict=True))
    for place, threshold in enumerate(roc["thresholds"]):
        point = roc["false_positive_rate"][place], roc["true_positive_rate"][place]
        assert point == pytest.approx((0, 0) if threshold is None else theirs[threshold], abs=1e-9)
    assert (roc["false_positive_rate"][0], roc["true_positive_rate"][-1]) == (0, pytest.approx(1))
    precision, recall, thresholds = sklearn.precision_recall_curve(judged.target, score, sample_weight=weight)
    theirs = dict(zip(thresholds.tolist(), zip(precision[:-1], recall[:-1], strict=True), strict=True))
    for place, threshold in enumerate(pr["thresholds"]):
        assert (pr["precision"][place], pr["recall"][place]) == pytest.approx(theirs[threshold], abs=1e-9)
    assert pr["recall"][-1] == pytest.approx(1)
    assert max(len(roc["thresholds"]), len(pr["thresholds"])) <= points
    if points > ROWS:
        area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
        assert area == pytest.approx(sklearn.roc_auc_score(judged.target, score, sample_weight=weight))


def test_a_curve_with_few_points_has_nearly_the_area_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(2, (5_000,), generator=generator)
    score = (torch.randn(5_000, generator=generator) + target).sigmoid()
    judged = _judged("classification", torch.stack([1 - score, score], 1), target, (score > 0.5).long())

    [curve] = curves_of(judged, ["no", "yes"], ["sold"])["curves"]

    area = np.trapezoid(curve["roc"]["true_positive_rate"], curve["roc"]["false_positive_rate"])
    assert len(curve["roc"]["thresholds"]) <= 52
    assert area == pytest.approx(sklearn.roc_auc_score(target, score), abs=2e-3)


def test_of_many_classes_the_largest_have_curves_and_those_without_rows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_CURVES", 3)
    judged = _classes(6)
    some = judged.of(judged.target != 1)

    found = curves_of(some, list("abcdef"), ["kind"])

    largest = np.argsort(-np.bincount(some.target), kind="stable")[:3]
    assert [one["class"] for one in found["curves"]] == ["abcdef"[place] for place in sorted(largest)]
    assert found["others"] == 3


def test_rows_of_a_single_class_have_no_curve() -> None:
    judged = _classes(2)

    found = curves_of(judged.of(judged.target == 1), ["no", "yes"], ["sold"])

    assert found == {"curves": [], "others": 1}


# --- calibration --------------------------------------------------------------------------------------------------


def test_the_bins_are_scikit_learns() -> None:
    judged = _classes(2)

    found = calibration_of(judged)

    share, probability = calibration_curve(judged.target, judged.scores[:, 1], n_bins=10)
    assert found["of"] == "second_class"
    assert [one["share"] for one in found["bins"]] == pytest.approx(share, abs=1e-6)
    assert [one["probability"] for one in found["bins"]] == pytest.approx(probability, abs=1e-6)
    assert sum(one["count"] for one in found["bins"]) == ROWS
    off = sum(one["count"] * abs(one["share"] - one["probability"]) for one in found["bins"]) / ROWS
    assert found["expected_calibration_error"] == pytest.approx(off)
    assert all(one["low"] <= one["share"] <= one["high"] for one in found["bins"])


def test_of_more_classes_the_likeliest_is_held_against_how_often_it_is_right() -> None:
    judged = _classes(5)

    found = calibration_of(judged)

    right, score = judged.scores.argmax(1) == judged.target, judged.scores.max(1).values
    share, probability = calibration_curve(right, score, n_bins=10)
    assert found["of"] == "likeliest_class"
    assert [one["share"] for one in found["bins"]] == pytest.approx(share, abs=1e-6)
    assert [one["probability"] for one in found["bins"]] == pytest.approx(probability, abs=1e-6)


def test_labels_are_held_against_theirs_together() -> None:
    judged = _labels()

    found = calibration_of(judged)

    share, _ = calibration_curve(judged.target.ravel(), judged.scores.ravel(), n_bins=10)
    assert [one["share"] for one in found["bins"]] == pytest.approx(share, abs=1e-6)
    assert sum(one["count"] for one in found["bins"]) == 3 * ROWS


def test_quantiles_are_held_against_the_rows_below_them() -> None:
    levels = [0.1, 0.5, 0.9]
    spread = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(levels)).double()
    numbers = _numbers()
    judged = _numbers(quantiles=numbers.scores.unsqueeze(2) + 0.5 + spread)

    found = coverage_of(judged, Quantile(name="quantile", quantiles=levels), ["height", "width"])

    assert [(one["target"], one["quantile"]) for one in found["quantiles"]] == [
        (name, level) for name in ("height", "width") for level in levels
    ]
    assert judged.quantiles is not None
    first = float((judged.target[:, 0] <= judged.quantiles[:, 0, 0]).double().mean())
    assert found["quantiles"][0]["share"] == first
    assert all(one["share"] == pytest.approx(one["quantile"], abs=0.06) for one in found["quantiles"])
    assert all(one["low"] < one["share"] < one["high"] for one in found["quantiles"])
    assert found["others"] == 0


def test_of_many_quantiles_the_first_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_SHOWN", 3)
    numbers = _numbers()
    judged = _numbers(quantiles=numbers.scores.unsqueeze(2).repeat(1, 1, 2))

    found = coverage_of(judged, Quantile(name="quantile", quantiles=[0.2, 0.8]), ["height", "width"])

    assert (len(found["quantiles"]), found["others"]) == (3, 1)


# --- residuals ----------------------------------------------------------------------------------------------------


def test_residuals_are_what_numpy_says_of_them() -> None:
    judged = _numbers()
    rows = np.arange(1_000, 1_000 + ROWS)

    found = residuals_of(judged, ["height", "width"], rows)

    height = found["targets"][0]
    residual = (judged.target - judged.scores)[:, 0].numpy()
    counts, edges = np.histogram(residual, 20)
    assert [one["target"] for one in found["targets"]] == ["height", "width"]
    assert (height["mean"], height["deviation"]) == pytest.approx((residual.mean(), residual.std()))
    assert (height["min"], height["max"]) == (residual.min(), residual.max())
    assert height["histogram"]["counts"] == counts.tolist()
    assert height["histogram"]["edges"] == pytest.approx(edges)
    for one in height["quantiles"]:
        assert one["value"] == pytest.approx(np.quantile(residual, one["quantile"]))
    worst = np.argsort(-np.abs(residual))[:5]
    assert [(one["row"], one["residual"]) for one in height["largest"]] == [(1_000 + at, residual[at]) for at in worst]


def test_groups_go_from_the_lowest_predictions_to_the_highest() -> None:
    judged = _numbers()

    groups = residuals_of(judged, ["height", "width"], np.arange(ROWS))["targets"][0]["by_prediction"]

    order = np.argsort(judged.scores[:, 0].numpy())
    first = order[: ROWS // 10]
    assert [one["count"] for one in groups] == [ROWS // 10] * 10
    assert groups[0]["predicted"] == pytest.approx(judged.scores[first, 0].mean())
    assert groups[0]["actual"] == pytest.approx(judged.target[first, 0].mean())
    assert groups[0]["deviation"] == pytest.approx((judged.target - judged.scores)[first, 0].numpy().std())
    assert [one["predicted"] for one in groups] == sorted(one["predicted"] for one in groups)


def test_rows_that_count_more_move_mean_and_quantiles() -> None:
    residual = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    weight = torch.tensor([8.0, 1.0, 1.0], dtype=torch.float64)

    judged = Judged("regression", torch.zeros_like(residual), residual, torch.zeros_like(residual), weight, True)

    [found] = residuals_of(judged, ["height"], np.arange(3))["targets"]
    assert found["mean"] == pytest.approx(0.3)
    assert {one["quantile"]: one["value"] for one in found["quantiles"]}[0.75] == 0


@pytest.mark.parametrize("values", [[3.0], [7.0] * 5, [1e30] * 4, [1e30, 1e30 * (1 + 2e-16)]])
def test_residuals_too_near_for_a_histogram_have_one_bin(values: list[float]) -> None:
    target = torch.tensor(values, dtype=torch.float64).unsqueeze(1)

    [found] = residuals_of(
        _judged("regression", torch.zeros_like(target), target, torch.zeros_like(target)), ["height"], np.arange(9)
    )["targets"]

    assert found["histogram"]["counts"] == [len(values)]
    assert found["mean"] == pytest.approx(values[0])


def test_of_many_targets_the_first_have_residuals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residuals, "MOST_TARGETS", 1)

    found = residuals_of(_numbers(), ["height", "width"], np.arange(ROWS))

    assert ([one["target"] for one in found["targets"]], found["others"]) == (["height"], 1)
