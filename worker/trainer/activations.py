"""From the name of an activation to its torch module."""

from typing import Literal, assert_never

from torch import nn

from core.spec.activations import (
    AnyActivation,
    Celu,
    Elu,
    Gelu,
    Hardtanh,
    LeakyRelu,
    Plain,
    PlainName,
    Prelu,
    Rrelu,
    Shrink,
    Softplus,
    Threshold,
)


def activation(chosen: AnyActivation) -> nn.Module | None:
    """The module, or None where nothing is applied."""
    match chosen:
        case Plain(name=name):
            return _plain(name)
        case LeakyRelu(name="leaky_relu"):
            return nn.LeakyReLU(chosen.negative_slope)
        case Prelu(name="prelu"):
            return nn.PReLU(init=chosen.init)
        case Rrelu(name="rrelu"):
            return nn.RReLU(chosen.lower, chosen.upper)
        case Elu(name="elu"):
            return nn.ELU(chosen.alpha)
        case Celu(name="celu"):
            return nn.CELU(chosen.alpha)
        case Gelu(name="gelu"):
            approximate: Literal["none", "tanh"] = chosen.approximate  # all that torch takes
            return nn.GELU(approximate)
        case Softplus(name="softplus"):
            return nn.Softplus(chosen.beta, chosen.threshold)
        case Hardtanh(name="hardtanh"):
            return nn.Hardtanh(chosen.min_val, chosen.max_val)
        case Shrink():
            return _shrink(chosen)
        case Threshold(name="threshold"):
            return nn.Threshold(chosen.threshold, chosen.value)
        case _:
            assert_never(chosen)


def _plain(name: PlainName) -> nn.Module | None:
    match name:
        case "linear":
            return None
        case "relu":
            return nn.ReLU()
        case "relu6":
            return nn.ReLU6()
        case "selu":
            return nn.SELU()
        case "silu":
            return nn.SiLU()
        case "mish":
            return nn.Mish()
        case "hardswish":
            return nn.Hardswish()
        case "tanh":
            return nn.Tanh()
        case "hardsigmoid":
            return nn.Hardsigmoid()
        case "sigmoid":
            return nn.Sigmoid()
        case "logsigmoid":
            return nn.LogSigmoid()
        case "softsign":
            return nn.Softsign()
        case "tanhshrink":
            return nn.Tanhshrink()
        case _:
            assert_never(name)


def _shrink(chosen: Shrink) -> nn.Module:
    match chosen.name:
        case "hardshrink":
            return nn.Hardshrink(chosen.lambd)
        case "softshrink":
            return nn.Softshrink(chosen.lambd)
        case _:
            assert_never(chosen.name)
