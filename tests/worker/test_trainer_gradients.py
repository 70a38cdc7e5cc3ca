"""Gradients: of every part against finite differences, and of dense networks against the chain rule written out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_ndtr, softmax
from torch import Tensor
from torch.autograd import gradcheck

from core.spec import TrainingSpec
from core.spec.network import Output
from tests.worker import words
from tests.worker.factories import NOTHING, spec_for, state_for
from tests.worker.words import PAIRS, batch
from worker.trainer.backward import gradient_of
from worker.trainer.examples import Examples
from worker.trainer.fit import fit
from worker.trainer.layers import Linear
from worker.trainer.losses import criterion_of
from worker.trainer.network import Network, as_function, build
from worker.trainer.regularization import penalty_of

Array = NDArray[np.float64]

# --- finite differences -------------------------------------------------------------------------------------------

ACTIVATIONS: list[dict[str, Any]] = [
    *({"name": name} for name in words.ACTIVATIONS),
    {"name": "leaky_relu", "negative_slope": 0.4},
    {"name": "prelu", "init": 0.0},
    {"name": "rrelu", "lower": 0.5, "upper": 0.9},
    {"name": "elu", "alpha": 0.3},
    {"name": "celu", "alpha": 2.5},
    {"name": "gelu", "approximate": "tanh"},
    {"name": "softplus", "beta": 3.0, "threshold": 2.0},
    {"name": "hardtanh", "min_val": -0.3, "max_val": 0.7},
    {"name": "hardshrink", "lambd": 0.1},
    {"name": "softshrink", "lambd": 0.0},
    {"name": "threshold", "threshold": -0.5, "value": 2.0},
]
LAYERS: list[dict[str, Any]] = [
    *(words.layer(name) for name in words.LAYERS),
    {"type": "dense", "units": 2, "activation": "linear", "bias": False},
    {"type": "dropout", "rate": 0.0},
    {"type": "batch_norm", "momentum": 1.0, "eps": 0.5},
    {"type": "layer_norm", "eps": 0.5},
    {"type": "rms_norm", "eps": 0.5},
    {"type": "residual", "layers": [{"type": "batch_norm"}, {"type": "dropout", "rate": 0.5}]},
]
LOSSES: list[tuple[str, str, dict[str, Any]]] = [
    *((name, output, {}) for name, output in PAIRS),
    ("cross_entropy", "softmax", {"label_smoothing": 0.3}),
    ("binary_cross_entropy", "sigmoid", {"label_smoothing": 0.3}),
    *(("focal", output, {"gamma": gamma}) for output in ("softmax", "sigmoid") for gamma in (0.0, 0.4, 1.0, 7.0)),
    ("huber", "linear", {"delta": 0.3}),
    ("quantile", "linear", {"quantiles": [0.9]}),
]


def _network(layers: list[dict[str, Any]], embeddings: tuple[tuple[int, int], ...] = ()) -> Network:
    spec = TrainingSpec.model_validate({"target": "t", "network": {"layers": layers}})
    output = Output(units=2, activation="linear")
    return build(spec.network.layers or [], output, 3, 0, embeddings).double()


def _agrees_with_differences(network: Network, codes: Tensor | None = None) -> bool:
    """By inputs and by every parameter; noise is drawn the same each time."""
    forward = as_function(network)
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)

    def logits(features: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(0)
        return forward(features, codes)

    return gradcheck(logits, (features, *network.parameters()))


@pytest.mark.parametrize("training", [True, False], ids=["training", "predicting"])
@pytest.mark.parametrize("chosen", ACTIVATIONS, ids=str)
def test_each_activation_has_the_gradient_of_its_differences(chosen: dict[str, Any], training: bool) -> None:
    network = _network([{"type": "activation", "activation": chosen}]).train(training)

    assert _agrees_with_differences(network)


@pytest.mark.parametrize("training", [True, False], ids=["training", "predicting"])
@pytest.mark.parametrize("chosen", LAYERS, ids=str)
def test_each_layer_has_the_gradient_of_its_differences(chosen: dict[str, Any], training: bool) -> None:
    network = _network([chosen, words.layer("dense")]).train(training)

    assert _agrees_with_differences(network)


def test_embedded_categories_have_the_gradient_of_their_differences() -> None:
    network = _network([words.layer("dense")], embeddings=((3, 2), (2, 1)))
    codes = torch.tensor([[0, 1], [3, 2], [3, 0], [1, 1]], dtype=torch.int32)

    assert _agrees_with_differences(network, codes)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("name", "output", "options"), LOSSES, ids=[str(one) for one in LOSSES])
def test_each_loss_has_the_gradient_of_its_differences(
    name: str, output: Any, options: dict[str, Any], weighted: bool
) -> None:
    logits, target = batch(name, output, rows=6)
    weight = torch.rand(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) if weighted else None
    criterion = criterion_of(words.loss(name, **options), output)

    assert gradcheck(lambda logits: criterion(logits, target, weight), (logits.requires_grad_(),))


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_shares_of_classes_have_the_gradient_of_their_differences(name: str) -> None:
    logits, shares = batch(name, "softmax", rows=6)[0], batch(name, "softmax", rows=6, seed=1)[0].softmax(1)
    criterion = criterion_of(words.loss(name), "softmax")

    assert gradcheck(lambda logits: criterion(logits, shares, None), (logits.requires_grad_(),))


def test_penalties_have_the_gradient_of_their_differences() -> None:
    network = _network([{"type": "dense", "units": 2, "l1": 0.3, "l2": 0.2}, {"type": "dense", "units": 2, "l1": 0.1}])
    penalty = penalty_of(network)
    assert penalty is not None
    matrices = [step.weight for step in network.steps[:2] if isinstance(step, Linear)]

    assert gradcheck(lambda *_: penalty(), matrices)


@pytest.mark.parametrize("name", words.ACTIVATIONS)
def test_gradients_reach_every_parameter(name: str) -> None:
    network = _network([{"type": "dense", "units": 16, "activation": name}, {"type": "batch_norm"}])
    features = torch.randn(32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parameters = list(network.parameters())

    loss = torch.nn.functional.cross_entropy(as_function(network)(features, None), torch.arange(32) % 2)
    gradients = gradient_of(parameters)(loss)

    assert len(gradients) >= 6
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


# --- the chain rule written out -----------------------------------------------------------------------------------
#
# Michael Nielsen, Neural Networks and Deep Learning, chapter 2 (http://neuralnetworksanddeeplearning.com/chap2.html),
# for a batch whose rows are those of the matrices, and with the error of the output taken at the logits:
#   BP1  delta_L = dC/dz_L
#   BP2  delta_l = (delta_(l+1) W_(l+1)) * s'(z_l)
#   BP3  dC/db_l = the sum of delta_l over the rows
#   BP4  dC/dW_l = delta_l^T a_(l-1)
# The same is algorithm 6.4 of Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.5.

_DENSITY = (2 * np.pi) ** -0.5

# Each activation and its derivative.
WRITTEN_OUT: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (expit, lambda z: expit(z) * (1 - expit(z))),
    "softplus": (lambda z: np.log1p(np.exp(z)), expit),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * (1 - expit(z)))),
    "elu": (lambda z: np.where(z > 0, z, np.exp(z) - 1), lambda z: np.where(z > 0, 1, np.exp(z))),
    "gelu": (
        lambda z: z * np.exp(log_ndtr(z)),
        lambda z: np.exp(log_ndtr(z)) + z * _DENSITY * np.exp(-(z**2) / 2),
    ),
}


def _one_hot(classes: NDArray[np.int64]) -> Array:
    return np.eye(3)[classes]


def _crammer_singer(z: Array, t: NDArray[np.int64]) -> Array:
    """The best wrong class is pushed down and the right one up, in rows within the margin."""
    rows, others = np.arange(len(z)), np.where(_one_hot(t) > 0, -np.inf, z)
    rival = others.argmax(1)
    within = (1 + others[rows, rival] - z[rows, t] > 0).astype(float)[:, None]
    return within * (_one_hot(rival) - _one_hot(t))


# BP1 of each row's loss: its derivative by the logits.
DELTA: dict[tuple[str, str], Callable[[Array, Any], Array]] = {
    ("cross_entropy", "softmax"): lambda z, t: softmax(z, 1) - _one_hot(t),
    ("binary_cross_entropy", "sigmoid"): lambda z, t: (expit(z) - t) / z.shape[1],
    ("mse", "linear"): lambda z, t: 2 * (z - t) / z.shape[1],
    ("mae", "linear"): lambda z, t: np.sign(z - t) / z.shape[1],
    ("huber", "linear"): lambda z, t: np.clip(z - t, -1, 1) / z.shape[1],
    ("log_cosh", "linear"): lambda z, t: np.tanh(z - t) / z.shape[1],
    ("poisson", "exp"): lambda z, t: (np.exp(z) - t) / z.shape[1],
    ("gamma", "exp"): lambda z, t: (1 - t * np.exp(-z)) / z.shape[1],
    ("hinge", "linear"): _crammer_singer,
}


def _backward(
    matrices: list[Array], biases: list[Array], features: Array, delta: Callable[[Array], Array], activation: str
) -> list[Array]:
    """dC/dW and dC/db of each layer in order."""
    function, derivative = WRITTEN_OUT[activation]
    outputs, sums = [features], []
    for matrix, bias in zip(matrices, biases, strict=True):
        sums.append(outputs[-1] @ matrix.T + bias)
        outputs.append(function(sums[-1]))

    error = delta(sums[-1])  # BP1
    found: list[Array] = []
    for layer in reversed(range(len(matrices))):
        found = [error.T @ outputs[layer], error.sum(0), *found]  # BP4, BP3
        if layer:
            error = (error @ matrices[layer]) * derivative(sums[layer - 1])  # BP2
    return found


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("loss", "output"), DELTA)
@pytest.mark.parametrize("activation", WRITTEN_OUT)
def test_a_step_of_gradient_descent_is_the_chain_rule_written_out(
    activation: str, loss: str, output: str, weighted: bool
) -> None:
    rows = 10
    _, target = batch(loss, output, rows)
    features = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = torch.rand(rows, generator=torch.Generator().manual_seed(2), dtype=torch.float64) if weighted else None
    hidden = [{"type": "dense", "units": units, "activation": activation} for units in (6, 5)]
    spec = spec_for(
        hidden, activation=output, loss=loss, epochs=1, batch_size=rows, optimizer={"name": "sgd", "learning_rate": 1.0}
    )
    state = state_for(spec, dtype=torch.float64)
    before = [parameter.detach().clone().numpy() for parameter in state.network.parameters()]
    share = np.full(rows, 1 / rows) if weight is None else (weight / weight.sum()).numpy()

    list(fit(spec, Examples(features, target, weight=weight), NOTHING, state))

    written_out = _backward(
        before[0::2],
        before[1::2],
        features.numpy(),
        lambda logits: share[:, None] * DELTA[loss, output](logits, target.numpy()),
        activation,
    )
    moved = [old - new.detach().numpy() for old, new in zip(before, state.network.parameters(), strict=True)]
    for mine, theirs in zip(moved, written_out, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
    assert all(np.abs(one).sum() > 0 for one in written_out)
