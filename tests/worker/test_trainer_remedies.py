"""Remedies: each is a patch that its spec takes, and that resolves again, for every form of a network."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from jsonpatch import JsonPatch

from core.resolve import resolve
from core.spec import TrainingSpec
from tests.worker.factories import Read, read, table_text
from worker.trainer import remedies
from worker.trainer.course import Opening
from worker.trainer.remedies import MOST_OPERATIONS, Patch

DENSE: dict[str, Any] = {"type": "dense", "units": 8, "activation": "sigmoid"}
RELU: dict[str, Any] = {"type": "dense", "units": 8, "activation": "relu"}
BLOCK = {"type": "residual", "layers": [{"type": "batch_norm"}, RELU, {"type": "dense", "units": 16}]}
BIASED = {**RELU, "bias_initializer": {"name": "constant", "value": -5.0}, "weight_initializer": "random_normal"}
NETWORKS: dict[str, dict[str, Any]] = {
    "none": {},
    "short": {"hidden": [32, 16], "activation": "tanh"},
    "no hidden layer": {"hidden": []},
    "layers": {"layers": [DENSE, {"type": "activation", "activation": "hardtanh"}, RELU]},
    "dropout": {"layers": [RELU, {"type": "dropout", "rate": 0.1}, RELU, {"type": "dropout", "rate": 0.6}]},
    "output among them": {"layers": [BIASED, {**BIASED, "units": 3, "activation": "softmax"}]},
    "residual": {"layers": [RELU, BLOCK, BLOCK]},
    "very deep": {"layers": [{**DENSE, **{"bias_initializer": "ones"}}] * 64},
}
OPENING = Opening(loss=2.0, gradient_norm=1e6, weight_norm=9.0, update_ratio=0.5, dead_units=0.0, layers=[])
REMEDIES: dict[str, Callable[[TrainingSpec], Patch]] = {
    "too large a start": lambda spec: remedies.of_an_exploding_gradient(spec, OPENING, begins_too_large=True),
    "no start": lambda spec: remedies.of_an_exploding_gradient(spec, None, begins_too_large=False),
    "too large a target": lambda spec: remedies.of_an_exploding_gradient(spec, OPENING, begins_too_large=False),
    "dead": lambda spec: remedies.of_dying_units(spec, from_the_start=True),
    "died": lambda spec: remedies.of_dying_units(spec, from_the_start=False),
    "vanishing": remedies.of_a_vanishing_gradient,
    "high rate": lambda spec: remedies.of_a_high_rate(spec, OPENING),
    "low rate": lambda spec: remedies.of_a_low_rate(spec, OPENING),
    "early end": remedies.of_an_early_end,
    "overfitting": remedies.of_overfitting,
    "hovering": remedies.of_hovering,
    "standing": remedies.of_standing,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table"), table_text(100))


def _resolved(table: Read, spec: dict[str, Any]) -> TrainingSpec:
    return resolve(TrainingSpec.model_validate(spec), table.columns, table.rows).spec


def _patched(spec: TrainingSpec, patch: Patch) -> dict[str, Any]:
    found: dict[str, Any] = JsonPatch(patch).apply(spec.model_dump(mode="json"))
    return found


@pytest.mark.parametrize(
    ("network", "remedy"),
    [pair for pair in product(NETWORKS, REMEDIES) if pair != ("no hidden layer", "dead")],  # nothing there can die
)
def test_a_remedy_changes_a_spec_to_one_that_resolves(table: Read, network: str, remedy: str) -> None:
    clipped = {"clip_value": 1.0, "schedule": {"name": "exponential", "warmup_epochs": 2}}
    for training in ({}, clipped):
        spec = _resolved(table, {"target": "kind", "network": NETWORKS[network], "training": training})

        patch = REMEDIES[remedy](spec)

        changed = _resolved(table, _patched(spec, patch))
        assert 0 < len(patch) <= MOST_OPERATIONS
        assert changed != spec


def test_overfitting_again_ends_in_a_narrower_network(table: Read) -> None:
    spec = _resolved(table, {"target": "kind", "network": {"hidden": [64, 32]}})
    patches = []
    for _ in range(3):
        patches.append(remedies.of_overfitting(spec))
        spec = _resolved(table, _patched(spec, patches[-1]))

    assert [layer.rate for layer in spec.network.layers or [] if layer.type == "dropout"] == [0.5, 0.5]
    assert [layer.units for layer in spec.network.layers or [] if layer.type == "dense"] == [32, 16]


def test_a_rate_is_never_beyond_what_a_spec_takes(table: Read) -> None:
    spec = _resolved(table, {"target": "kind", "training": {"optimizer": {"name": "sgd", "learning_rate": 5.0}}})

    [operation] = remedies.of_a_low_rate(spec, OPENING)

    assert operation["value"] == 10.0


def test_the_new_rate_is_that_of_a_first_step_of_a_hundredth(table: Read) -> None:
    spec = _resolved(table, {"target": "kind", "training": {"optimizer": {"name": "adam", "learning_rate": 0.1}}})

    [operation] = remedies.of_a_high_rate(spec, OPENING)

    assert operation == {"op": "add", "path": "/training/optimizer/learning_rate", "value": 0.002}
