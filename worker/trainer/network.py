"""From spec to torch: the module whose `state_dict()` users download, and the function that the loop calls."""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.spec import BatchNorm, Dense, Dropout, HiddenActivation, Layer, Output

Forward = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[HiddenActivation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


def build(layers: list[Layer], output: Output, inputs: int, seed: int) -> nn.Sequential:
    """The network from raw features to logits, (rows, inputs) -> (rows, output.units).

    Activations and dropouts are modules of their own, so that the keys of `state_dict()` are those of the layer table.
    Weights are Glorot uniform and biases zero, as in Keras: torch's own default ends with 2-3 times the loss at equal
    steps (Glorot and Bengio 2010; measured in docs/performance.md).
    """
    generator = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = []
    width = inputs
    for layer in layers:
        match layer:
            case Dense():
                modules.append(_linear(width, layer.units, layer.bias, generator))
                width = layer.units
                if layer.activation != "linear" and layer.activation != "softmax":
                    modules.append(ACTIVATIONS[layer.activation]())
            case Dropout():
                modules.append(nn.Dropout(layer.rate))
            case BatchNorm():
                modules.append(nn.BatchNorm1d(width, eps=layer.eps, momentum=layer.momentum))
            case _:
                assert_never(layer)
    modules.append(_linear(width, output.units, output.bias, generator))
    return nn.Sequential(*modules)


def _linear(inputs: int, units: int, bias: bool, generator: torch.Generator) -> nn.Linear:
    linear = nn.Linear(inputs, units, bias=bias)  # not `skip_init`: that imports sympy, 0.5 s in each child
    nn.init.xavier_uniform_(linear.weight, generator=generator)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def as_function(network: nn.Sequential) -> Forward:
    """The same forward pass without the cost of calling modules: a quarter of a small network's step.

    The tensors are the module's own; dropout and batch norm follow `network.train()` and `network.eval()`.
    """
    steps = [_step(module) for module in network]

    def forward(features: Tensor) -> Tensor:
        for step in steps:
            features = step(features)
        return features

    return forward


def _step(module: nn.Module) -> Forward:
    match module:
        case nn.Linear():
            return partial(functional.linear, weight=module.weight, bias=module.bias)
        case nn.ReLU():
            return torch.relu
        case nn.Tanh():
            return torch.tanh
        case nn.Sigmoid():
            return torch.sigmoid
        case _:
            return module
