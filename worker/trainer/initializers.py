"""Fills weights and biases with what they begin as, by Keras's definitions.

`fan_in` and `fan_out` are those of torch's `[out, in]` matrices. A normal distribution that is cut off at two
deviations has .87962566 of its deviation left: Keras divides by that, and so does this.
"""

import math
from typing import assert_never

import torch
from torch import Tensor, nn

from core.spec.initializers import (
    AnyBiasInitializer,
    AnyInitializer,
    Constant,
    Distribution,
    Fan,
    Identity,
    Normal,
    Orthogonal,
    PlainBias,
    PlainInitializer,
    Uniform,
    VarianceScaling,
)

LEFT_OF_DEVIATION = 0.87962566103423978


@torch.no_grad()
def fill(tensor: Tensor, chosen: AnyInitializer | AnyBiasInitializer, generator: torch.Generator) -> None:
    match chosen:
        case PlainInitializer() | PlainBias():
            _fill_plain(tensor, chosen, generator)
        case Constant(name="constant"):
            tensor.fill_(chosen.value)
        case Identity(name="identity"):
            tensor.copy_(torch.eye(*tensor.shape) * chosen.gain)
        case Orthogonal(name="orthogonal"):
            nn.init.orthogonal_(tensor, chosen.gain, generator)
        case Normal():
            _fill_normal(tensor, chosen, generator)
        case Uniform(name="random_uniform"):
            tensor.uniform_(chosen.minval, chosen.maxval, generator=generator)
        case VarianceScaling(name="variance_scaling"):
            _scaled(tensor, chosen.scale, chosen.mode, chosen.distribution, generator)
        case _:
            assert_never(chosen)


def _fill_plain(tensor: Tensor, chosen: PlainInitializer | PlainBias, generator: torch.Generator) -> None:
    match chosen.name:
        case "zeros":
            tensor.zero_()
        case "ones":
            tensor.fill_(1.0)
        case "glorot_uniform":
            _scaled(tensor, 1.0, "fan_avg", "uniform", generator)
        case "glorot_normal":
            _scaled(tensor, 1.0, "fan_avg", "truncated_normal", generator)
        case "he_uniform":
            _scaled(tensor, 2.0, "fan_in", "uniform", generator)
        case "he_normal":
            _scaled(tensor, 2.0, "fan_in", "truncated_normal", generator)
        case "lecun_uniform":
            _scaled(tensor, 1.0, "fan_in", "uniform", generator)
        case "lecun_normal":
            _scaled(tensor, 1.0, "fan_in", "truncated_normal", generator)
        case _:
            assert_never(chosen.name)


def _fill_normal(tensor: Tensor, chosen: Normal, generator: torch.Generator) -> None:
    match chosen.name:
        case "random_normal":
            tensor.normal_(chosen.mean, chosen.stddev, generator=generator)
        case "truncated_normal":
            _truncated_normal(tensor, chosen.mean, chosen.stddev, generator)
        case _:
            assert_never(chosen.name)


def _scaled(tensor: Tensor, scale: float, mode: Fan, distribution: Distribution, generator: torch.Generator) -> None:
    """Draws with variance `scale / fan`."""
    deviation = math.sqrt(scale / max(1.0, _fan(tensor, mode)))
    match distribution:
        case "uniform":
            limit = math.sqrt(3.0) * deviation
            tensor.uniform_(-limit, limit, generator=generator)
        case "untruncated_normal":
            tensor.normal_(0.0, deviation, generator=generator)
        case "truncated_normal":
            _truncated_normal(tensor, 0.0, deviation / LEFT_OF_DEVIATION, generator)
        case _:
            assert_never(distribution)


def _fan(tensor: Tensor, mode: Fan) -> float:
    fan_out, fan_in = tensor.shape
    match mode:
        case "fan_in":
            return fan_in
        case "fan_out":
            return fan_out
        case "fan_avg":
            return (fan_in + fan_out) / 2
        case _:
            assert_never(mode)


def _truncated_normal(tensor: Tensor, mean: float, stddev: float, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(tensor, mean, stddev, mean - 2 * stddev, mean + 2 * stddev, generator)
