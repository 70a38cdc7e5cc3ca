"""Layers that torch has no module for."""

import torch
from torch import Tensor, nn

from core.spec.network import Weighted
from worker.trainer.initializers import fill


class Linear(nn.Linear):
    """A matrix of weights that remembers what the spec says of it, (rows, inputs) -> (rows, units)."""

    def __init__(self, inputs: int, units: int, chosen: Weighted, generator: torch.Generator) -> None:
        super().__init__(inputs, units, bias=chosen.bias)  # not `skip_init`: that imports sympy, 0.5 s in each child
        self.chosen = chosen
        fill(self.weight, chosen.weight_initializer, generator)
        if chosen.bias:
            fill(self.bias, chosen.bias_initializer, generator)


class GaussianNoise(nn.Module):
    """Adds noise while training, (rows, width) -> (rows, width)."""

    def __init__(self, stddev: float) -> None:
        super().__init__()
        self.stddev = stddev

    def forward(self, values: Tensor) -> Tensor:
        return values + self.stddev * torch.randn_like(values) if self.training else values


class GaussianDropout(nn.Module):
    """Multiplies by noise of mean 1 while training (Srivastava et al. 2014, section 10)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.stddev = (rate / (1 - rate)) ** 0.5

    def forward(self, values: Tensor) -> Tensor:
        return values * (1 + self.stddev * torch.randn_like(values)) if self.training else values


class RmsNorm(nn.RMSNorm):
    """In the precision of its weights: torch has no kernel for two, and says so to the user's log."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.weight is None else x.to(self.weight.dtype))


class Residual(nn.Module):
    """What comes in, added to what comes out of a block; through a learned matrix where the block changes the width."""

    def __init__(self, block: nn.Sequential, projection: nn.Linear | None) -> None:
        super().__init__()
        self.block = block
        self.projection = projection

    def forward(self, values: Tensor) -> Tensor:
        shortcut: Tensor = values if self.projection is None else self.projection(values)
        through: Tensor = self.block(values)
        return shortcut + through
