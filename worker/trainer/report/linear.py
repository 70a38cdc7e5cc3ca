"""The linear models that a network should beat: ridge and logistic regression with scikit-learn's default penalty.

Written with torch, as scikit-learn's cannot learn shares of classes or several labels at once, computes in all threads
of the machine, and checks what is known to be right. Tests hold both against scikit-learn.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from worker.trainer.examples import Examples

PENALTY = 1.0  # of half the squared weights beside the summed loss of rows: C = 1; alpha = 1 for numbers
TOLERANCE = 1e-3  # of the gradient: a probability is off by less than 0.01
CATEGORIES = 500  # of all embedded columns together that get a feature of their own, the most frequent ones
FAR = 1e30


@dataclass(frozen=True)
class Inputs:
    """The network's features, and a feature for each frequent code of its embedded categories, on one scale."""

    codes: list[Tensor]  # of each embedded column, those with a feature
    center: Tensor
    scale: Tensor

    def of(self, examples: Examples) -> Tensor:
        """(rows, inputs) float32, centered and scaled."""
        return (_joined(examples, self.codes) - self.center) / self.scale


def fit_inputs(examples: Examples, weight: Tensor) -> tuple[Inputs, Tensor]:
    """And what the rows of the fit become."""
    codes = list[Tensor]()
    if examples.codes is not None:
        most = max(1, CATEGORIES // examples.codes.shape[1])
        codes = [_frequent(examples.codes[:, place], most) for place in range(examples.codes.shape[1])]
    joined = _joined(examples, codes)
    share = (weight / weight.sum()).float().unsqueeze(1)
    center = (joined * share).sum(0)
    scale = joined.sub_(center).square().mul_(share).sum(0).sqrt()
    scale[~(scale > 0) | ~scale.isfinite()] = 1
    return Inputs(codes, center, scale), joined.div_(scale)


def _frequent(codes: Tensor, most: int) -> Tensor:
    counts = codes.cpu().bincount()
    known = counts.argsort(descending=True, stable=True)[: min(most, int((counts > 0).sum()))]
    return known.sort().values


def _joined(examples: Examples, codes: list[Tensor]) -> Tensor:
    """A tensor of its own, to be changed in place."""
    features = examples.features.cpu()
    rows, width = features.shape
    joined = torch.empty(rows, width + sum(map(len, codes)))
    torch.nan_to_num(features.float(), 0, FAR, -FAR, out=joined[:, :width])
    for place, own in enumerate(codes):
        assert examples.codes is not None, "they were found there"
        joined[:, width : width + len(own)] = examples.codes[:, place : place + 1].cpu() == own
        width += len(own)
    return joined


@dataclass(frozen=True)
class Linear:
    """(inputs, outputs) weights, and what is added."""

    inputs: Inputs
    weights: Tensor
    bias: Tensor

    def outputs(self, examples: Examples, rows: Tensor, at_once: int) -> Tensor:
        """(rows, outputs) of some rows, a part of them at once."""
        parts = (examples.of(some) for some in torch.split(rows, at_once))
        return torch.cat([self.inputs.of(one) @ self.weights + self.bias for one in parts])


def ridge(inputs: Inputs, features: Tensor, target: Tensor, weight: Tensor) -> Linear:
    """Least squares of (rows, outputs) numbers."""
    share = weight / weight.sum()
    middle, mean = share.float() @ features, share @ target
    root = weight.sqrt().unsqueeze(1)
    x, y = (features - middle) * root.float(), (target - mean) * root
    rows, width = x.shape
    penalty = PENALTY * torch.eye(min(rows, width), dtype=torch.float64)
    if width <= rows:
        weights = torch.linalg.solve((x.T @ x).double() + penalty, x.T.double() @ y)
    else:
        weights = x.T.double() @ torch.linalg.solve((x @ x.T).double() + penalty, y)
    middle = middle.double()
    return Linear(inputs, weights.float(), (mean - middle @ weights).float())


def logistic(
    inputs: Inputs, features: Tensor, target: Tensor, weight: Tensor, *, softmax: bool, iterations: int
) -> tuple[Linear, int, bool]:
    """Cross-entropy of (rows, outputs) shares: of one class each row, or of each label by itself. With how many
    iterations L-BFGS took, and whether it came to its end."""
    width, outputs = features.shape[1], target.shape[1]
    share = (weight / weight.sum()).float()
    penalty = PENALTY / float(weight.sum())

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = torch.from_numpy(flat).reshape(width + 1, outputs)
        weights, bias = parameters[:-1].float(), parameters[-1].float()
        logits = torch.addmm(bias, features, weights)
        if softmax:
            log = logits.log_softmax(1)
            losses, wrong = -(target * log).sum(1), log.exp() - target
        else:
            losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
            wrong = logits.sigmoid() - target
        wrong = wrong * share.unsqueeze(1)
        slope = torch.empty_like(parameters)
        slope[:-1] = (features.T @ wrong).double() + penalty * parameters[:-1]
        slope[-1] = wrong.sum(0)
        value = float(share.double() @ losses.double()) + penalty / 2 * float(parameters[:-1].square().sum())
        return value, slope.ravel().numpy()

    begin = np.zeros((width + 1, outputs))
    mean = (share.double() @ target.double()).clamp(1e-6, 1 - 1e-6)
    begin[-1] = (mean.log() if softmax else mean.logit()).numpy()
    done = minimize(
        objective, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": iterations, "gtol": TOLERANCE}
    )
    found = torch.from_numpy(done.x).reshape(width + 1, outputs).float()
    return Linear(inputs, found[:-1], found[-1]), int(done.nit), bool(done.success)
