"""`get_params()` of scikit-learn's own estimators, and what trains the same here."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from core import errors
from core.importers.notes import Imported
from core.importers.sklearn_mlp import from_sklearn


def _params(estimator: Any) -> dict[str, Any]:
    """As a client sends them."""
    found: dict[str, Any] = json.loads(json.dumps(estimator.get_params()))
    return found


def _outcomes(found: Imported) -> dict[str, str]:
    return {one.pointer.removeprefix("/params/"): one.outcome for one in found.options}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_every_parameter_is_said(kind: Any, solver: str, early: bool) -> None:
    params = _params(kind(solver=solver, early_stopping=early, random_state=3))

    found = from_sklearn(kind.__name__, params, "y")

    assert {name for name, value in params.items() if value is not None} <= set(_outcomes(found))
    assert found.spec["training"]["seed"] == 3
    assert found.spec["features"]["numbers"] == {"scale": "none"}


def test_the_defaults_of_a_classifier() -> None:
    spec = from_sklearn("MLPClassifier", _params(MLPClassifier()), "y", classes=3).spec

    weighted = {"weight_initializer": "glorot_uniform", "l2": pytest.approx(0.0001 / 2 / 200)}
    assert spec["network"] == {
        "layers": [{"type": "dense", "units": 100, "activation": "relu", **weighted}],
        "output": {"units": 3, "activation": "softmax", **weighted},
    }
    assert spec["training"] == {
        "loss": "auto",
        "optimizer": {"name": "adam", "learning_rate": 0.001, "betas": [0.9, 0.999], "eps": 1e-8},
        "batch_size": 200,
        "epochs": 200,
        "stop": {"monitor": "train_loss", "patience": 10, "min_delta": 0.0001},
    }


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_step_of_sgd_moves_the_weights_of_a_regressor_as_there(outputs: int) -> None:
    """One step on one batch, from the weights that scikit-learn begins with, with the rate and penalty of the spec."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 4)), generator.normal(size=(20, outputs))
    theirs = MLPRegressor(
        hidden_layer_sizes=[5], solver="sgd", momentum=0.0, alpha=0.5, learning_rate_init=0.1, max_iter=1, batch_size=20
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is one step
        theirs.set_params(learning_rate_init=1e-12, random_state=1).fit(x, y if outputs > 1 else y[:, 0])
        first = [torch.tensor(one, requires_grad=True) for one in (*theirs.coefs_, *theirs.intercepts_)]
        theirs.set_params(learning_rate_init=0.1).fit(x, y if outputs > 1 else y[:, 0])
    target = [f"y{place}" for place in range(outputs)]
    spec = from_sklearn("MLPRegressor", _params(theirs), target).spec

    w1, w2, b1, b2 = first
    predicted = torch.relu(torch.tensor(x) @ w1 + b1) @ w2 + b2
    l2 = spec["network"]["output"]["l2"]
    loss = (predicted - torch.tensor(y)).square().mean() + l2 * (w1.square().sum() + w2.square().sum())
    loss.backward()
    rate = spec["training"]["optimizer"]["learning_rate"]

    for ours, own in zip(first, (*theirs.coefs_, *theirs.intercepts_), strict=True):
        assert ours.grad is not None
        assert (ours - rate * ours.grad).detach().numpy() == pytest.approx(own, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"solver": "lbfgs"}, "/params/alpha"),
        ({"shuffle": False}, "/params/shuffle"),
        ({"warm_start": True}, "/params/warm_start"),
        ({"solver": "sgd", "learning_rate": "invscaling"}, "/params/learning_rate"),
        ({"activation": "softmax"}, "/params/activation"),
        ({"solver": "rmsprop"}, "/params/solver"),
        ({"hidden_layer_sizes": ["wide"]}, "/params/hidden_layer_sizes/0"),
        ({"batch_size": 0}, "/params/batch_size"),
        ({"of_tomorrow": 1}, "/params/of_tomorrow"),
    ],
    ids=str,
)
def test_what_has_no_counterpart_is_refused_by_name(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.ModelNotMappable) as refused:
        from_sklearn("MLPClassifier", {**_params(MLPClassifier()), **changes}, "y")

    assert refused.value.errors[0]["pointer"] == pointer
