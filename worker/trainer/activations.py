"""From the name of an activation to its torch module."""

from typing import assert_never

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
        case LeakyRelu():
            return nn.LeakyReLU(chosen.negative_slope)
        case Prelu():
            return nn.PReLU(init=chosen.init)
        case Rrelu():
            return nn.RReLU(chosen.lower, chosen.upper)
        case Elu():
            return nn.ELU(chosen.alpha)
        case Celu():
            return nn.CELU(chosen.alpha)
        case Gelu():
            return nn.GELU(chosen.approximate)
        case Softplus():
            return nn.Softplus(chosen.beta, chosen.threshold)
        case Hardtanh():
            return nn.Hardtanh(chosen.min_val, chosen.max_val)
        case Shrink(name="hardshrink"):
            return nn.Hardshrink(chosen.lambd)
        case Shrink():
            return nn.Softshrink(chosen.lambd)
        case Threshold():
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
