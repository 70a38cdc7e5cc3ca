"""Linear models against scikit-learn's, the network's lift over them, and what it loses with a column."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from torch import Tensor

from core.spec import TrainingSpec
from core.spec.metrics import metrics_of
from tests.worker.factories import spec_for
from worker.trainer.examples import Examples
from worker.trainer.report import baselines, linear
from worker.trainer.report.baselines import Sample, baselines_of
from worker.trainer.report.intervals import measure_all
from worker.trainer.report.judged import judge
from worker.trainer.report.linear import fit_inputs, logistic, ridge

ROWS, WIDTH = 400, 6


def _features(rows: int = ROWS, width: int = WIDTH) -> Tensor:
    """Each on a scale of its own."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, width, generator=generator) * torch.logspace(-2, 3, width) + 5


def _weight(weighted: bool, rows: int = ROWS) -> Tensor:
    drawn = 0.1 + torch.rand(rows, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return drawn if weighted else torch.ones(rows, dtype=torch.float64)


def _scaled(features: Tensor, weight: Tensor) -> Any:
    """Standard scores, weighted."""
    values, each = features.double().numpy(), weight.numpy()
    mean = np.average(values, axis=0, weights=each)
    return (values - mean) / np.sqrt(np.average((values - mean) ** 2, axis=0, weights=each))


def _classes(count: int) -> Tensor:
    scaled = torch.from_numpy(_scaled(_features(), _weight(False)))
    generator = torch.Generator().manual_seed(1)
    pull = torch.randn(WIDTH, count, generator=generator, dtype=torch.float64)
    return (scaled @ pull + torch.randn(ROWS, count, generator=generator, dtype=torch.float64)).argmax(1)


# --- the models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [2, 4])
def test_logistic_regression_that_runs_to_its_end_is_scikit_learns(
    count: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "TOLERANCE", 1e-5)
    codes, weight, features = _classes(count), _weight(weighted), _features()
    inputs, scaled = fit_inputs(Examples(features, codes), weight)
    two = count == 2
    target = codes.float().unsqueeze(1) if two else torch.nn.functional.one_hot(codes, count).float()

    model, iterations, converged = logistic(inputs, scaled, target, weight, softmax=not two, iterations=500)

    theirs = LogisticRegression(max_iter=1000, tol=1e-8).fit(_scaled(features, weight), codes, weight.numpy())
    outputs = model.outputs(Examples(features, codes), torch.arange(ROWS), 100)
    mine = torch.cat([1 - outputs.sigmoid(), outputs.sigmoid()], 1) if two else outputs.softmax(1)
    assert converged
    assert iterations < 500
    assert np.abs(mine.numpy() - theirs.predict_proba(_scaled(features, weight))).max() < 2e-3


def test_labels_are_learned_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "TOLERANCE", 1e-5)
    codes = torch.stack([_classes(2), (_features()[:, 1] > 5).long()], 1)
    weight, features = _weight(False), _features()
    inputs, scaled = fit_inputs(Examples(features, codes), weight)

    model, _, _ = logistic(inputs, scaled, codes.float(), weight, softmax=False, iterations=500)

    mine = model.outputs(Examples(features, codes), torch.arange(ROWS), 1024).sigmoid().numpy()
    for place in range(2):
        theirs = LogisticRegression(max_iter=1000, tol=1e-8).fit(_scaled(features, weight), codes[:, place])
        assert np.abs(mine[:, place] - theirs.predict_proba(_scaled(features, weight))[:, 1]).max() < 2e-3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("width", [WIDTH, 600])  # fewer columns than rows, and more
def test_ridge_is_scikit_learns(width: int, weighted: bool) -> None:
    features, weight = _features(width=width), _weight(weighted)
    target = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 100 + 3
    inputs, scaled = fit_inputs(Examples(features, target), weight)

    model = ridge(inputs, scaled, target, weight)

    theirs = Ridge().fit(_scaled(features, weight), target, weight.numpy()).predict(_scaled(features, weight))
    mine = model.outputs(Examples(features, target), torch.arange(ROWS), 100)
    assert np.abs(mine.numpy() - theirs).max() < 0.05


def test_frequent_codes_of_embedded_categories_are_features_of_their_own() -> None:
    codes = torch.tensor([[1], [2], [1], [3], [2], [1]], dtype=torch.int32)
    target = torch.tensor([[1.0], [5.0], [1.0], [9.0], [5.0], [1.0]], dtype=torch.float64).repeat(50, 1)
    train = Examples(torch.empty(300, 0), target, codes.repeat(50, 1))
    weight = torch.ones(300, dtype=torch.float64)
    inputs, scaled = fit_inputs(train, weight)

    model = ridge(inputs, scaled, target, weight)

    said = model.outputs(
        Examples(torch.empty(4, 0), target[:4], torch.tensor([[1], [2], [3], [0]])), torch.arange(4), 2
    )
    assert said[:3, 0].tolist() == pytest.approx([1, 5, 9], abs=0.1)
    assert [one.tolist() for one in inputs.codes] == [[1, 2, 3]]


def test_features_that_say_nothing_or_are_no_number_harm_nothing() -> None:
    features = _features()
    features[:, 0] = 3.0
    features[5, 1] = float("inf")
    weight = _weight(False)
    inputs, scaled = fit_inputs(Examples(features, _classes(2)), weight)

    model = ridge(inputs, scaled, _classes(2).double().unsqueeze(1), weight)

    assert bool(scaled.isfinite().all())
    assert bool(model.outputs(Examples(features, _classes(2)), torch.arange(ROWS), 100).isfinite().all())


# --- baselines ----------------------------------------------------------------------------------------------------


def _case(count: int, units: int) -> tuple[TrainingSpec, Examples, dict[str, Sample]]:
    """Half of the rows train; of the others the network knows nothing but noise."""
    spec = spec_for(units=units, activation="sigmoid" if units == 1 else "softmax")
    codes = _classes(count)
    target = codes.float().unsqueeze(1) if units == 1 else codes
    train, test = (Examples(_features()[rows], target[rows]) for rows in (slice(0, 200), slice(200, None)))
    scores = torch.randn(200, count, generator=torch.Generator().manual_seed(5)).softmax(1)
    return spec, train, {"test": _sample(spec, scores, test)}


def _sample(spec: TrainingSpec, scores: Tensor, test: Examples) -> Sample:
    judged = judge(spec, scores, test)
    assert spec.task != "auto"
    known = measure_all(metrics_of(spec.task, judged.scores.shape[1]), judged)
    return Sample(test, torch.arange(len(test)), judged, known)


@pytest.mark.parametrize(("count", "units"), [(2, 1), (2, 2), (4, 4)])
def test_baselines_of_classes_are_the_shares_and_a_logistic_regression(count: int, units: int) -> None:
    spec, train, parts = _case(count, units)

    found = baselines_of(spec, ["accuracy", "log_loss"], train, torch.arange(200), parts)

    codes, scaled = _classes(count).numpy(), _scaled(_features(), _weight(False))
    models = {"majority": DummyClassifier(strategy="prior"), "logistic": LogisticRegression(max_iter=1000)}
    for name, model in models.items():
        mine = found[name]["test"]
        theirs = model.fit(scaled[:200], codes[:200]).predict_proba(scaled[200:])
        assert mine["accuracy"]["value"] == pytest.approx(accuracy_score(codes[200:], theirs.argmax(1)), abs=0.011)
        assert mine["log_loss"]["value"] == pytest.approx(log_loss(codes[200:], theirs, labels=range(count)), rel=0.02)
    assert found["majority"]["rows"] == found["logistic"]["rows"] == 200
    assert (found["logistic"]["features"], found["logistic"]["converged"]) == (WIDTH, True)


def test_the_lift_is_above_0_where_the_network_is_better() -> None:
    spec, train, parts = _case(2, 1)

    found = baselines_of(spec, ["accuracy", "log_loss", "roc_auc"], train, torch.arange(200), parts)

    codes = _classes(2).numpy()[200:]
    scores = parts["test"].judged.scores.numpy()
    logistic = found["logistic"]["test"]
    assert logistic["accuracy"]["lift"]["value"] < 0  # a network of noise
    assert logistic["log_loss"]["lift"]["value"] == pytest.approx(
        logistic["log_loss"]["value"] - log_loss(codes, scores)
    )
    assert logistic["roc_auc"]["lift"]["value"] == pytest.approx(
        roc_auc_score(codes, scores[:, 1]) - logistic["roc_auc"]["value"]
    )
    for one in logistic.values():
        assert one["lift"]["low"] < one["lift"]["value"] < one["lift"]["high"]


def test_the_interval_of_a_lift_is_over_pairs_of_rows() -> None:
    spec, train, parts = _case(2, 1)
    base = baselines_of(spec, ["log_loss"], train, torch.arange(200), parts)["logistic"]["test"]["log_loss"]

    codes = _classes(2)[200:]
    mine = parts["test"].judged.scores.double().gather(1, codes.unsqueeze(1)).log().squeeze(1)
    theirs = LogisticRegression(max_iter=1000).fit(_scaled(_features()[:200], _weight(False)[:200]), _classes(2)[:200])
    learned = _features()[:200].double()
    unseen = (_features()[200:].double() - learned.mean(0)) / learned.std(0, correction=0)
    said = theirs.predict_proba(unseen.numpy())[np.arange(200), codes.numpy()]
    apart = mine.numpy() - np.log(said)
    width = 2 * 1.972 * apart.std(ddof=1) / np.sqrt(200)  # Student's t with 199 degrees of freedom
    assert base["lift"]["high"] - base["lift"]["low"] == pytest.approx(width, rel=0.02)


def test_baselines_of_a_number_are_the_mean_and_a_ridge() -> None:
    spec = spec_for(task="regression", units=1, activation="linear", loss="mse")
    scaled = torch.from_numpy(_scaled(_features(), _weight(False)))
    target = (scaled @ torch.arange(WIDTH).double() + 100).float().unsqueeze(1)
    train, test = (Examples(_features()[rows], target[rows]) for rows in (slice(0, 200), slice(200, None)))
    parts = {"test": _sample(spec, test.target + 1, test)}

    found = baselines_of(spec, ["rmse", "r2"], train, torch.arange(200), parts)

    y = target.numpy()
    theirs = DummyRegressor().fit(y[:200], y[:200]).predict(y[200:])
    rmse = float(np.sqrt(((theirs - y[200:, 0]) ** 2).mean()))
    assert found["mean"]["test"]["rmse"]["value"] == pytest.approx(rmse, rel=1e-5)
    assert found["mean"]["test"]["rmse"]["lift"]["value"] == pytest.approx(rmse - 1, rel=1e-5)
    assert found["linear"]["test"]["rmse"]["value"] < 0.2
    assert found["linear"]["test"]["r2"]["lift"]["value"] < 0


def test_a_linear_model_of_too_many_outputs_is_left_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_MULTIPLICATIONS", 1_000)
    spec, train, parts = _case(4, 4)

    found = baselines_of(spec, ["accuracy"], train, torch.arange(200), parts)

    assert found["logistic"] == {"rows": 0, "features": WIDTH, "left_out": "too_many_outputs"}
    assert "test" in found["majority"]
