"""Loss of logits against the target: what is minimised.

Of every loss there is the value of each row; the loss of a batch is their mean, weighted where rows have weights:
sum(w l) / sum(w). Several outputs of a row are averaged.
"""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional

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
from core.spec.network import OutputActivation

RowLosses = Callable[[Tensor, Tensor], Tensor]
Criterion = Callable[[Tensor, Tensor, Tensor | None], Tensor]

SMALLEST = torch.finfo(torch.float32).tiny  # of a sum of weights: rows that all count nothing have a loss of 0


def criterion_of(loss: AnyLoss, output: OutputActivation) -> Criterion:
    """(rows, units) logits, targets, (rows,) weights or None -> one number.

    Targets are (rows,) int64 classes, or (rows, outputs) float32: numbers, labels of 0 and 1, or shares of each class.
    """
    each, mean = row_losses(loss, output), _mean_in_one_call(loss, output)

    def criterion(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        if weight is not None:
            return torch.dot(each(logits, target), weight) / weight.sum().clamp_min(SMALLEST)
        return mean(logits, target)

    return criterion


def _mean_in_one_call(loss: AnyLoss, output: OutputActivation) -> RowLosses:
    """The unweighted mean: torch's own kernels where they exist, which small networks feel."""
    match loss:
        case CrossEntropy():
            return partial(functional.cross_entropy, label_smoothing=loss.label_smoothing)
        case BinaryCrossEntropy(label_smoothing=0.0):
            return functional.binary_cross_entropy_with_logits
        case Mse():
            return functional.mse_loss
        case _:
            each = row_losses(loss, output)
            return lambda logits, target: each(logits, target).mean()


def row_losses(loss: AnyLoss, output: OutputActivation) -> RowLosses:
    """(rows, units) logits and targets -> (rows,)."""
    match loss:
        case CrossEntropy():
            return partial(functional.cross_entropy, label_smoothing=loss.label_smoothing, reduction="none")
        case BinaryCrossEntropy():
            return partial(_binary_cross_entropy, smoothing=loss.label_smoothing)
        case Focal():
            return partial(_focal if output == "softmax" else _binary_focal, gamma=loss.gamma)
        case Hinge():
            return _hinge
        case Mse():
            return lambda logits, target: (logits - target).square().mean(1)
        case Mae():
            return lambda logits, target: (logits - target).abs().mean(1)
        case Huber():
            return lambda logits, target: functional.huber_loss(
                logits, target, reduction="none", delta=loss.delta
            ).mean(1)
        case LogCosh():
            return _log_cosh
        case Quantile():
            return partial(_pinball, quantiles=torch.tensor(loss.quantiles))
        case Poisson():
            return lambda logits, target: (logits.exp() - target * logits).mean(1)
        case Gamma():
            return lambda logits, target: (logits + target * (-logits).exp()).mean(1)
        case Auto():
            raise ValueError("a resolved spec names its loss")
        case _:
            assert_never(loss)


def _binary_cross_entropy(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    smoothed = target * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(1)


def _focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """-sum(t (1 - p)^gamma log p) over the classes (Lin et al. 2017, equation 4)."""
    log_p = functional.log_softmax(logits, 1)
    if target.dtype == torch.int64:
        log_p = log_p.gather(1, target.unsqueeze(1))
        return -(_power(-torch.expm1(log_p), gamma) * log_p).squeeze(1)
    return -(target * _power(-torch.expm1(log_p), gamma) * log_p).sum(1)


def _binary_focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = logits.sigmoid() * (1 - target) + (-logits).sigmoid() * target
    return (_power(wrong, gamma) * entropy).mean(1)


def _power(wrong: Tensor, gamma: float) -> Tensor:
    """To the power of gamma, kept above 0, the share of a row known for sure: the slope there is infinite below 1."""
    return wrong.clamp(min=1e-30) ** gamma


def _hinge(logits: Tensor, target: Tensor) -> Tensor:
    """Binary: max(0, 1 - s f) with s of -1 or 1. More classes: max(0, 1 + the best wrong logit - the right one)."""
    if target.dtype != torch.int64:
        return functional.relu(1 - (2 * target - 1) * logits).mean(1)
    right = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    wrong = logits.scatter(1, target.unsqueeze(1), -torch.inf).amax(1)
    return functional.relu(1 + wrong - right)


def _log_cosh(logits: Tensor, target: Tensor) -> Tensor:
    """log cosh e = |e| + log(1 + exp(-2 |e|)) - log 2, which does not overflow."""
    error = logits - target
    return (error + functional.softplus(-2 * error) - torch.log(torch.tensor(2.0, dtype=error.dtype))).mean(1)


def _pinball(logits: Tensor, target: Tensor, quantiles: Tensor) -> Tensor:
    """q e where the prediction is too low by e, (1 - q) e where it is too high (Koenker and Bassett 1978).

    Logits are (rows, targets x quantiles), the quantiles of a target side by side.
    """
    error = target.unsqueeze(2) - logits.reshape(*target.shape, len(quantiles))
    levels = quantiles.to(error)
    return torch.maximum(levels * error, (levels - 1) * error).mean((1, 2))
