"""Step 3 of backpropagation: autograd applies the chain rule, from the loss back to every parameter.

`torch.autograd.grad` spends 40 us on checks in Python around its C++ engine, a sixth of a small network's step, so the
engine is called as that function calls it. The call is private: it is tried first, and the public function stands in
where it fails or says something else.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Gradient = Callable[[Tensor], list[Tensor]]


def gradient_of(parameters: Sequence[Tensor]) -> Gradient:
    """A function from a loss to its gradient: one tensor for each parameter, of the parameter's shape."""
    inputs = tuple(parameters)
    engine: Any = getattr(getattr(torch.autograd, "Variable", None), "_execution_engine", None)
    one = torch.ones((), dtype=inputs[0].dtype, device=inputs[0].device)

    def by_engine(loss: Tensor) -> list[Tensor]:
        return list(
            engine.run_backward((loss,), (one,), False, False, inputs, allow_unreachable=False, accumulate_grad=False)
        )

    def by_function(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, inputs))

    return by_engine if _agree(by_engine, by_function, inputs) else by_function


def _agree(by_engine: Gradient, by_function: Gradient, inputs: Sequence[Tensor]) -> bool:
    def loss() -> Tensor:
        return torch.stack([parameter.square().sum() for parameter in inputs]).sum()

    try:
        return all(map(torch.equal, by_engine(loss()), by_function(loss())))
    except (AttributeError, RuntimeError, TypeError):
        return False
