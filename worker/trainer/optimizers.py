"""Weight updates by torch's fused kernels, called directly.

The `torch.optim` classes are the reference (a test compares them step by step) but cost 5 to 30 times the kernel on
a small network, and constructing one imports torch._dynamo: 1.5 to 2.4 s and 70 MB in every process.
"""

from collections.abc import Sequence
from typing import Protocol, assert_never

import torch
from torch import Tensor

from core.spec import Adam, AdamW, Optimizer, Sgd


class Updater(Protocol):
    learning_rate: float

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Moves every parameter, in place."""

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on: the tensors themselves, to be saved or overwritten."""


def updater(chosen: Optimizer, parameters: list[Tensor]) -> Updater:
    match chosen:
        case Sgd():
            return SgdUpdater(chosen, parameters)
        case Adam():
            return AdamUpdater(chosen, parameters, torch._fused_adam_)
        case AdamW():
            return AdamUpdater(chosen, parameters, torch._fused_adamw_)
        case _:
            assert_never(chosen)


class AdamUpdater:
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019): one kernel each."""

    def __init__(self, chosen: Adam | AdamW, parameters: list[Tensor], kernel: object) -> None:
        self.learning_rate = chosen.learning_rate
        self._chosen, self._kernel = chosen, kernel
        self._parameters = parameters
        self._first = [torch.zeros_like(parameter) for parameter in parameters]
        self._second = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = torch.zeros(())  # one counter for all: each would cost a kernel call of its own

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        self._steps += 1
        self._kernel(  # type: ignore[operator]
            self._parameters,
            list(gradients),
            self._first,
            self._second,
            [],
            [self._steps] * len(self._parameters),
            lr=self.learning_rate,
            beta1=self._chosen.betas[0],
            beta2=self._chosen.betas[1],
            weight_decay=self._chosen.weight_decay,
            eps=self._chosen.eps,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        return {
            "steps": self._steps,
            **{f"first.{place}": tensor for place, tensor in enumerate(self._first)},
            **{f"second.{place}": tensor for place, tensor in enumerate(self._second)},
        }


class SgdUpdater:
    """Gradient descent, with momentum where asked (Sutskever et al. 2013, in torch's form)."""

    def __init__(self, chosen: Sgd, parameters: list[Tensor]) -> None:
        self.learning_rate = chosen.learning_rate
        self._chosen = chosen
        self._parameters = parameters
        self._velocity = [torch.zeros_like(parameter) for parameter in parameters] if chosen.momentum else []

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        torch._fused_sgd_(
            self._parameters,
            list(gradients),
            self._velocity,
            weight_decay=self._chosen.weight_decay,
            momentum=self._chosen.momentum,
            lr=self.learning_rate,
            dampening=0.0,
            nesterov=self._chosen.nesterov,
            maximize=False,
            is_first_step=False,  # with a velocity of zero the first step is the same
        )

    def state(self) -> dict[str, Tensor]:
        return {f"velocity.{place}": tensor for place, tensor in enumerate(self._velocity)}
