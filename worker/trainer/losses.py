"""Loss of logits against the target, and the metrics of a whole set of rows."""

from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional

from core.spec import Auto, BinaryCrossEntropy, CrossEntropy, Loss, Mse

Criterion = Callable[[Tensor, Tensor], Tensor]

EVALUATION_ROWS = 8192  # rows a forward pass without gradients takes at once


def criterion_of(loss: Loss) -> Criterion:
    """Mean over the batch: (rows, units) logits and (rows,) classes or numbers -> one number."""
    match loss:
        case CrossEntropy():
            return functional.cross_entropy
        case BinaryCrossEntropy():
            return lambda logits, target: functional.binary_cross_entropy_with_logits(logits.squeeze(1), target)
        case Mse():
            return lambda logits, target: functional.mse_loss(logits.squeeze(1), target)
        case Auto():
            raise ValueError("a resolved spec names its loss")
        case _:
            assert_never(loss)


def target_tensor(loss: Loss, target: Tensor) -> Tensor:
    """The target in the type that the criterion wants: int64 classes, or float32."""
    return target.long() if isinstance(loss, CrossEntropy) else target.float()


@torch.no_grad()
def predict(forward: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """Logits of all rows, (rows, inputs) -> (rows, units); the network must be in `eval()`."""
    return torch.cat([forward(part) for part in torch.split(features, EVALUATION_ROWS)])


def metrics(loss: Loss, logits: Tensor, target: Tensor) -> dict[str, float]:
    """`loss`, and what a user reads: `accuracy` of classes; `rmse`, `mae` and `r2` of numbers."""
    found = {"loss": float(criterion_of(loss)(logits, target))}
    match loss:
        case CrossEntropy():
            found["accuracy"] = float((logits.argmax(1) == target).double().mean())
        case BinaryCrossEntropy():
            found["accuracy"] = float(((logits.squeeze(1) > 0) == (target > 0.5)).double().mean())
        case Mse():
            error = (logits.squeeze(1) - target).double()
            spread = (target.double() - target.double().mean()).square().sum()
            found["rmse"] = float(error.square().mean().sqrt())
            found["mae"] = float(error.abs().mean())
            found["r2"] = float(1 - error.square().sum() / spread) if spread > 0 else 0.0
        case Auto():
            raise ValueError("a resolved spec names its loss")
        case _:
            assert_never(loss)
    return found
