"""Every word that a spec knows, from the spec's own `Literal`s, so that a new one is tested by itself."""

from typing import Any, get_args

import torch
from pydantic import TypeAdapter
from torch import Tensor

from core.resolve.output import LEGAL
from core.spec.activations import Activation, AnyActivation
from core.spec.losses import AnyLoss, Loss
from core.spec.network import AnyLayer
from core.spec.optimizers import AnyOptimizer, Optimizer
from core.spec.schedules import AnySchedule, Schedule
from core.spec.values import names_of

ACTIVATIONS = names_of(AnyActivation)
LOSSES = [name for name in names_of(AnyLoss) if name != "auto"]
OPTIMIZERS = names_of(AnyOptimizer)
SCHEDULES = names_of(AnySchedule)
LAYERS = [name for layer in get_args(AnyLayer) for name in get_args(layer.model_fields["type"].annotation)]

_REQUIRED: dict[str, dict[str, Any]] = {
    "dense": {"units": 5, "activation": "tanh"},
    "activation": {"activation": "softplus"},
    "dropout": {"rate": 0.3},
    "alpha_dropout": {"rate": 0.3},
    "gaussian_noise": {"stddev": 0.2},
    "gaussian_dropout": {"rate": 0.3},
    "residual": {"layers": [{"type": "dense", "units": 6, "activation": "silu"}, {"type": "layer_norm"}]},
}


def layer(name: str, **options: Any) -> dict[str, Any]:
    """A layer of this type, with what it cannot do without."""
    return {"type": name, **_REQUIRED.get(name, {}), **options}


def activation(name: str, **options: Any) -> AnyActivation:
    chosen: AnyActivation = TypeAdapter(Activation).validate_python({"name": name, **options})
    return chosen


def loss(name: str, **options: Any) -> AnyLoss:
    chosen: AnyLoss = TypeAdapter(Loss).validate_python({"name": name, **options})
    return chosen


def optimizer(name: str, **options: Any) -> AnyOptimizer:
    chosen: AnyOptimizer = TypeAdapter(Optimizer).validate_python({"name": name, **options})
    return chosen


def schedule(name: str, **options: Any) -> AnySchedule:
    required = {"milestones": [1, 3]} if name == "multi_step" else {}
    chosen: AnySchedule = TypeAdapter(Schedule).validate_python({"name": name, **required, **options})
    return chosen


# --- losses and the outputs they go with --------------------------------------------------------------------------

PAIRS = sorted({(name, output) for of_task in LEGAL.values() for output, names in of_task.items() for name in names})


def batch(name: str, output: str, rows: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits in float64, (rows, 3), and targets that this loss takes."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    if output == "softmax" or name == "hinge":
        return logits, torch.randint(3, (rows,), generator=generator)
    if output == "sigmoid":
        return logits, torch.randint(2, (rows, 3), generator=generator).double()
    if name == "poisson":
        return logits, torch.randint(5, (rows, 3), generator=generator).double()
    if name == "gamma":
        return logits, torch.rand(rows, 3, generator=generator, dtype=torch.float64) + 0.1
    return logits, torch.randn(rows, 3, generator=generator, dtype=torch.float64)
