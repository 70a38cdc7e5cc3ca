"""From spec to module: keys, initial weights, and the function that the loop calls."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import nn

from core.spec import HiddenActivation, Output, TrainingSpec
from worker.trainer.network import as_function, build

ACTIVATIONS = get_args(HiddenActivation)
DEEP = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "batch_norm"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 6, "activation": "gelu"},
]


def _build(layers: list[dict[str, Any]], seed: int = 0, units: int = 3, bias: bool = True) -> nn.Sequential:
    spec = TrainingSpec.model_validate({"target": "t", "network": {"layers": layers}})
    return build(spec.network.layers or [], Output(units=units, activation="softmax", bias=bias), 5, seed)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_reach_every_parameter(activation: str) -> None:
    network = _build([{"type": "dense", "units": 16, "activation": activation}, {"type": "batch_norm"}])
    forward = as_function(network)
    features = torch.randn(32, 5, generator=torch.Generator().manual_seed(0))

    loss = nn.functional.cross_entropy(forward(features), torch.arange(32) % 3)
    gradients = torch.autograd.grad(loss, list(network.parameters()))

    assert len(gradients) == 6
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_the_function_of_its_name(activation: str) -> None:
    network = _build([{"type": "dense", "units": 9, "activation": activation}])
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    expected = {"linear": lambda x: x, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    function = expected.get(activation) or getattr(nn.functional, activation)

    logits = as_function(network)(features)

    hidden = function(nn.functional.linear(features, network[0].weight, network[0].bias))
    assert torch.equal(logits, nn.functional.linear(hidden, network[-1].weight, network[-1].bias))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("training", [True, False])
def test_the_function_equals_the_module_bit_for_bit(activation: str, training: bool) -> None:
    layers = [*DEEP, {"type": "dense", "units": 7, "activation": activation}]
    network, twin = _build(layers).train(training), _build(layers).train(training)
    features = torch.randn(32, 5, generator=torch.Generator().manual_seed(1))

    torch.manual_seed(7)
    by_function = as_function(network)(features)
    torch.manual_seed(7)
    by_module = twin(features)

    assert torch.equal(by_function, by_module)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, twin.state_dict()[name]), name


def test_the_function_sees_weights_that_are_loaded_later() -> None:
    network = _build(DEEP)
    forward = as_function(network)

    network.load_state_dict(_build(DEEP, seed=1).state_dict())
    network.eval()

    features = torch.ones(2, 5)
    assert torch.equal(forward(features), _build(DEEP, seed=1).eval()(features))


def test_keys_count_activations_and_dropouts() -> None:
    layers = [
        {"type": "dense", "units": 8, "activation": "relu"},
        {"type": "dropout", "rate": 0.1},
        {"type": "dense", "units": 6, "activation": "linear"},
    ]

    keys = list(_build(layers).state_dict())

    assert keys == ["0.weight", "0.bias", "3.weight", "3.bias", "4.weight", "4.bias"]


def test_matrices_are_out_by_in_and_a_layer_without_bias_has_none() -> None:
    layers = [{"type": "dense", "units": 8, "activation": "tanh", "bias": False}]

    shapes = {name: tuple(tensor.shape) for name, tensor in _build(layers, bias=False).state_dict().items()}

    assert shapes == {"0.weight": (8, 5), "2.weight": (3, 8)}


def test_weights_are_glorot_uniform_and_biases_zero() -> None:
    network = _build([{"type": "dense", "units": 400, "activation": "relu"}])

    bound = math.sqrt(6 / (5 + 400))
    weight = network[0].weight.detach()
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert all(not layer.bias.any() for layer in network if isinstance(layer, nn.Linear))


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    first = _build(DEEP, seed=3).state_dict()
    torch.manual_seed(2)

    second, other = _build(DEEP, seed=3).state_dict(), _build(DEEP, seed=4).state_dict()

    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["0.weight"], other["0.weight"])
