"""Defaults of the spec are torch's, but for those that are listed here with their reason."""

import inspect
from typing import Any, get_args

import pytest
import torch
from torch import nn

from core.spec.activations import AnyActivation
from core.spec.network import BatchNorm, LayerNorm
from core.spec.optimizers import AnyOptimizer
from core.spec.schedules import CosineRestartsRate, OneCycleRate, PlateauRate, StepRate

THEIR_NAMES = {"learning_rate": "lr"}
DIFFERENT = {
    "sgd.learning_rate": "Keras's .01: torch's .001 is of 2024, and slow without momentum",
    "lbfgs.history_size": "scikit-learn's 10: 100 copies of the weights are much memory",
    "lbfgs.line_search_fn": "without one L-BFGS diverges on most networks",
}
OPTIMIZERS = {name: part for part in get_args(AnyOptimizer) for name in get_args(part.model_fields["name"].annotation)}
ACTIVATIONS = {
    name: part for part in get_args(AnyActivation) for name in get_args(part.model_fields["name"].annotation)
}


def torch_class(module: Any, name: str) -> Any:
    return next(found for key, found in vars(module).items() if key.lower() == name.replace("_", "").lower())


def defaults_of(function: Any) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(function).parameters.items()}


def ours(part: Any) -> dict[str, Any]:
    return {name: field.default for name, field in part.model_fields.items() if name not in ("name", "type")}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_begins_as_torchs(name: str) -> None:
    theirs = defaults_of(torch_class(torch.optim, name))

    for field, value in ours(OPTIMIZERS[name]).items():
        default = theirs[THEIR_NAMES.get(field, field)]
        assert (value == default) == (f"{name}.{field}" not in DIFFERENT), (field, value, default)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ("linear", "threshold")])
def test_an_activation_is_torchs_by_default(name: str) -> None:
    theirs = defaults_of(torch_class(nn, name))

    for field, value in ours(ACTIVATIONS[name]).items():
        assert value == theirs[field], field


@pytest.mark.parametrize(("part", "module"), [(BatchNorm, nn.BatchNorm1d), (LayerNorm, nn.LayerNorm)])
def test_a_norm_is_torchs_by_default(part: Any, module: Any) -> None:
    theirs = defaults_of(module)

    assert ours(part) == {name: theirs[name] for name in ours(part)}


@pytest.mark.parametrize(
    ("part", "scheduler", "fields"),
    [
        (StepRate, "StepLR", ["gamma"]),
        (CosineRestartsRate, "CosineAnnealingWarmRestarts", ["t_mult"]),
        (OneCycleRate, "OneCycleLR", ["pct_start", "div_factor", "final_div_factor", "anneal_strategy"]),
        (PlateauRate, "ReduceLROnPlateau", ["factor", "patience", "cooldown"]),
    ],
)
def test_a_schedule_is_torchs_by_default(part: Any, scheduler: str, fields: list[str]) -> None:
    theirs = {name.lower(): value for name, value in defaults_of(getattr(torch.optim.lr_scheduler, scheduler)).items()}

    assert {name: ours(part)[name] for name in fields} == {name: theirs[name] for name in fields}
    assert ours(part)["warmup_epochs"] == 0
