"""From spec to module: keys, initial weights, and the function that the loop calls."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from core.spec import TrainingSpec
from core.spec.network import Output, flat, parameter_count
from tests.worker import words
from worker.trainer.layers import Linear
from worker.trainer.network import Network, as_function, build

DEEP = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "batch_norm"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 6, "activation": "gelu"},
]
IN_TORCH = {"linear": lambda x: x, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
WITH_A_WEIGHT = {"prelu": (torch.tensor([0.25]),), "threshold": (1.0, 0.0)}


def _build(
    layers: list[dict[str, Any]],
    seed: int = 0,
    units: int = 3,
    bias: bool = True,
    embeddings: Sequence[tuple[int, int]] = (),
) -> Network:
    spec = TrainingSpec.model_validate({"target": "t", "network": {"layers": layers}})
    return build(spec.network.layers or [], Output(units=units, activation="softmax", bias=bias), 5, seed, embeddings)


def _features(rows: int = 32) -> torch.Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", words.ACTIVATIONS)
def test_each_activation_is_the_function_of_its_name(name: str) -> None:
    network = _build([{"type": "dense", "units": 9, "activation": name}]).eval()
    function = IN_TORCH.get(name) or getattr(functional, name)

    logits = as_function(network)(_features(), None)

    first, last = (step for step in network.steps if isinstance(step, Linear))
    hidden = function(functional.linear(_features(), first.weight, first.bias), *WITH_A_WEIGHT.get(name, ()))
    assert torch.equal(logits, functional.linear(hidden, last.weight, last.bias))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"name": "leaky_relu", "negative_slope": 0.3}, lambda x: functional.leaky_relu(x, 0.3)),
        ({"name": "prelu", "init": 0.7}, lambda x: functional.prelu(x, torch.tensor([0.7]))),
        ({"name": "rrelu", "lower": 0.2, "upper": 0.4}, lambda x: functional.rrelu(x, 0.2, 0.4)),
        ({"name": "elu", "alpha": 0.5}, lambda x: functional.elu(x, 0.5)),
        ({"name": "celu", "alpha": 0.5}, lambda x: functional.celu(x, 0.5)),
        ({"name": "gelu", "approximate": "tanh"}, lambda x: functional.gelu(x, approximate="tanh")),
        ({"name": "softplus", "beta": 2.0, "threshold": 1.0}, lambda x: functional.softplus(x, 2.0, 1.0)),
        ({"name": "hardtanh", "min_val": -0.2, "max_val": 0.1}, lambda x: functional.hardtanh(x, -0.2, 0.1)),
        ({"name": "hardshrink", "lambd": 0.2}, lambda x: functional.hardshrink(x, 0.2)),
        ({"name": "softshrink", "lambd": 0.2}, lambda x: functional.softshrink(x, 0.2)),
        ({"name": "threshold", "threshold": 0.1, "value": -3.0}, lambda x: functional.threshold(x, 0.1, -3.0)),
    ],
    ids=lambda chosen: chosen["name"] if isinstance(chosen, dict) else "",
)
def test_parameters_of_an_activation_reach_it(chosen: dict[str, Any], expected: Any) -> None:
    network = _build([{"type": "activation", "activation": chosen}]).eval()

    found = network.steps[0](_features())

    assert torch.equal(found, expected(_features()))


@pytest.mark.parametrize("name", words.ACTIVATIONS)
@pytest.mark.parametrize("training", [True, False])
def test_the_function_equals_the_module_bit_for_bit(name: str, training: bool) -> None:
    layers = [*DEEP, {"type": "dense", "units": 7, "activation": name}]
    network, twin = _build(layers).train(training), _build(layers).train(training)

    torch.manual_seed(7)
    by_function = as_function(network)(_features(), None)
    torch.manual_seed(7)
    by_module = twin(_features())

    assert torch.equal(by_function, by_module)
    for name_of_tensor, tensor in network.state_dict().items():
        assert torch.equal(tensor, twin.state_dict()[name_of_tensor]), name_of_tensor


@pytest.mark.parametrize("name", words.LAYERS)
def test_each_layer_says_the_same_as_function_and_as_module(name: str) -> None:
    layers = [words.layer("dense"), words.layer(name)]
    network, twin = _build(layers), _build(layers)

    torch.manual_seed(7)
    by_function = as_function(network)(_features(), None)
    torch.manual_seed(7)
    by_module = twin(_features())

    assert torch.equal(by_function, by_module)


@pytest.mark.parametrize("name", words.LAYERS)
def test_the_parameters_of_each_layer_are_those_that_admission_counts(name: str) -> None:
    layers = [words.layer(name), {"type": "dense", "units": 4, "activation": "prelu"}]
    spec = TrainingSpec.model_validate({"target": "t", "network": {"layers": layers}})
    output = Output(units=3, activation="softmax")

    network = build(spec.network.layers or [], output, 5, 0)

    counted = parameter_count(spec.network.layers or [], output, 5)
    assert counted == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "gaussian_noise", "gaussian_dropout"])
def test_noise_is_of_training_alone_and_keeps_the_mean(name: str) -> None:
    (noise,) = _build([words.layer(name)]).steps[:-1]
    ones = torch.ones(100_000, 1)

    torch.manual_seed(0)
    noisy = noise.train()(ones)
    quiet = noise.eval()(ones)

    assert torch.equal(quiet, ones)
    assert noisy.std() > 0.1
    if name != "alpha_dropout":  # that one keeps the mean of inputs of mean 0
        assert noisy.mean().item() == pytest.approx(1.0, abs=0.01)


def test_gaussian_noise_has_the_deviation_that_is_asked_for() -> None:
    noise, dropout = (
        _build([one]).steps[0]
        for one in ({"type": "gaussian_noise", "stddev": 0.3}, {"type": "gaussian_dropout", "rate": 0.2})
    )

    torch.manual_seed(0)
    added, multiplied = noise(torch.zeros(200_000, 1)), dropout(2 * torch.ones(200_000, 1))

    assert added.std().item() == pytest.approx(0.3, rel=0.01)
    assert multiplied.std().item() == pytest.approx(2 * (0.2 / 0.8) ** 0.5, rel=0.01)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    noise = _build([{"type": "alpha_dropout", "rate": 0.3}]).steps[0]

    torch.manual_seed(0)
    noisy = noise(torch.randn(200_000, 1))

    assert noisy.mean().item() == pytest.approx(0.0, abs=0.02)
    assert noisy.std().item() == pytest.approx(1.0, rel=0.02)


def test_batch_norm_takes_momentum_and_eps_in_torchs_convention() -> None:
    norm = _build([{"type": "batch_norm", "momentum": 0.3, "eps": 0.01}]).steps[0]
    values = _features()

    found = norm.train()(values)

    mean, variance = values.mean(0), values.var(0, unbiased=False)
    torch.testing.assert_close(found, (values - mean) / (variance + 0.01).sqrt())
    torch.testing.assert_close(norm.running_mean, 0.3 * mean)
    torch.testing.assert_close(norm.running_var, 0.7 + 0.3 * values.var(0))


def test_norms_of_a_row_follow_their_formulas() -> None:
    layer_norm, rms_norm = (_build([{"type": name, "eps": 0.1}]).steps[0] for name in ("layer_norm", "rms_norm"))
    values = _features()

    of_layer, of_rms = layer_norm(values), rms_norm(values)

    centred = values - values.mean(1, keepdim=True)
    torch.testing.assert_close(of_layer, centred / (values.var(1, unbiased=False, keepdim=True) + 0.1).sqrt())
    torch.testing.assert_close(of_rms, values / (values.square().mean(1, keepdim=True) + 0.1).sqrt())


def test_a_residual_block_adds_its_input_and_projects_it_where_widths_differ() -> None:
    same, wider = (
        _build([{"type": "residual", "layers": [{"type": "dense", "units": units, "activation": "tanh"}]}])
        for units in (5, 7)
    )
    values = _features()

    for network in (same, wider):
        residual: Any = network.steps[0]
        inner = torch.tanh(functional.linear(values, residual.block[0].weight, residual.block[0].bias))
        shortcut = values if residual.projection is None else values @ residual.projection.weight.T
        torch.testing.assert_close(residual(values), shortcut + inner)
    assert "0.projection.weight" in wider.state_dict()
    assert "0.projection.bias" not in wider.state_dict()
    assert "0.projection.weight" not in same.state_dict()


def test_vectors_of_embedded_categories_follow_the_features() -> None:
    network = _build([], embeddings=[(3, 2), (4, 1)])
    codes = torch.tensor([[1, 4], [3, 0]], dtype=torch.int32)
    first, second = (table.weight for table in network.embeddings)

    logits = as_function(network)(_features(2), codes)

    inputs = torch.cat([_features(2), first[[1, 3]], second[[4, 0]]], 1)
    output: Any = network.steps[-1]
    assert torch.equal(logits, functional.linear(inputs, output.weight, output.bias))
    assert torch.equal(network(_features(2), codes), logits)


def test_an_unknown_category_begins_at_zero_and_the_others_within_bounds() -> None:
    network = _build([], embeddings=[(500, 8)])

    (weight,) = (table.weight.detach() for table in network.embeddings)

    assert weight.shape == (501, 8)
    assert not weight[0].any()
    assert weight[1:].abs().max().item() == pytest.approx(0.05, rel=0.01)
    assert weight[1:].std().item() == pytest.approx(0.05 / 3**0.5, rel=0.05)


def test_the_function_sees_weights_that_are_loaded_later() -> None:
    network = _build(DEEP)
    forward = as_function(network)

    network.load_state_dict(_build(DEEP, seed=1).state_dict())
    network.eval()

    features = torch.ones(2, 5)
    assert torch.equal(forward(features, None), _build(DEEP, seed=1).eval()(features))


def test_keys_count_activations_and_dropouts() -> None:
    layers = [
        {"type": "dense", "units": 8, "activation": "relu"},
        {"type": "dropout", "rate": 0.1},
        {"type": "dense", "units": 6, "activation": "linear"},
    ]

    keys = list(_build(layers, embeddings=[(3, 2)]).state_dict())

    assert keys == [
        *("embeddings.0.weight", "0.weight", "0.bias", "3.weight", "3.bias", "4.weight", "4.bias"),
    ]


def test_matrices_are_out_by_in_and_a_layer_without_bias_has_none() -> None:
    layers = [{"type": "dense", "units": 8, "activation": "tanh", "bias": False}]

    shapes = {name: tuple(tensor.shape) for name, tensor in _build(layers, bias=False).state_dict().items()}

    assert shapes == {"0.weight": (8, 5), "2.weight": (3, 8)}


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    first = _build(DEEP, seed=3, embeddings=[(4, 2)]).state_dict()
    torch.manual_seed(2)

    second, other = (_build(DEEP, seed=seed, embeddings=[(4, 2)]).state_dict() for seed in (3, 4))

    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_every_layer_is_seen_through_residual_blocks() -> None:
    layers = [words.layer("residual"), words.layer("dense")]
    spec = TrainingSpec.model_validate({"target": "t", "network": {"layers": layers}})

    types = [one.type for one in flat(spec.network.layers or [])]

    assert types == ["dense", "layer_norm", "dense"]
    assert sum(isinstance(module, nn.LayerNorm) for module in _build(layers).modules()) == 1
