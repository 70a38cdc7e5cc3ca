"""The scaled target of a regression: from what the network says, and what the loss of it is, back to its own units."""

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor

from core.spec.losses import (
    AnyLoss,
    Auto,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Gamma,
    Hinge,
    Huber,
    LogCosh,
    Mae,
    Mse,
    Poisson,
    Quantile,
)
from worker.trainer.preprocessing import Affine


class TargetScaling:
    """What `preprocessing.json` says of the target."""

    def __init__(self, fitted: Sequence[Affine], device: torch.device) -> None:
        self._center = torch.tensor([one.center for one in fitted], device=device)
        self._scale = torch.tensor([one.scale for one in fitted], device=device)
        self._single_scale = fitted[0].scale if len(fitted) == 1 else None

    def undone(self, logits: Tensor) -> Tensor:
        """Predictions in the target's own units; (rows, outputs), or (rows, outputs x quantiles)."""
        each = logits.reshape(len(logits), len(self._scale), -1)
        return (each * self._scale.unsqueeze(1) + self._center.unsqueeze(1)).reshape(logits.shape)

    def loss_unit(self, loss: AnyLoss) -> float:
        """What a loss of the scaled target is multiplied with, to be one in the target's own units.

        Several targets have no unit in common: their losses stay as they are, each in units of its own deviation.
        """
        if self._single_scale is None:
            return 1.0
        match loss:
            case Mse() | Huber() | LogCosh():
                return self._single_scale**2
            case Mae() | Quantile():
                return self._single_scale
            case Auto() | CrossEntropy() | BinaryCrossEntropy() | Focal() | Hinge() | Poisson() | Gamma():
                raise ValueError(f"the target of {loss.name} is not scaled")
            case _:
                assert_never(loss)
