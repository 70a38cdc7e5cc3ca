"""What `core` computes of a network without torch is what torch builds."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.spec.network import Network, Output, parameter_count, widths
from tests.core.columns import LENGTH, SPECIES, category, resolved
from tests.drawn import accepts, drawn_field
from worker.trainer.layers import Linear
from worker.trainer.network import build

SMALL = {"units": st.integers(1, 9), "max_norm": st.none()}
LAYERS = drawn_field(Network, "layers", SMALL).filter(lambda layers: accepts(Network, {"layers": layers}))
OUTPUT = Output(units=3, activation="softmax")


@settings(max_examples=150, deadline=None)
@given(LAYERS, st.integers(1, 9), st.booleans())
def test_the_count_of_parameters_is_that_of_the_network(layers: Any, inputs: int, bias: bool) -> None:
    chosen = Network.model_validate({"layers": layers}).layers or []
    output = OUTPUT.model_copy(update={"bias": bias})

    network = build(chosen, output, inputs, seed=0)

    assert parameter_count(chosen, output, inputs) == sum(one.numel() for one in network.parameters())
    assert network.steps[-1].in_features == widths(chosen, output, inputs)[-2]  # type: ignore[union-attr]
    assert widths(chosen, output, inputs)[-1] == 3


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("encode", ["one_hot", "embedding"])
def test_the_resolved_count_is_that_of_the_network_where_training_sees_all_categories(
    encode: str, missing: int
) -> None:
    soil = category("soil", "clay", "loam", "sand", missing=missing)
    found = resolved([LENGTH, soil, SPECIES], features={"columns": {"soil": {"encode": encode}}})
    dimension = found.spec.features.columns["soil"].dimension
    embeddings = [] if dimension is None else [(3 + missing, dimension)]
    assert found.spec.network.output is not None

    network = build(
        found.spec.network.layers or [],
        found.spec.network.output,
        1 if embeddings else 1 + 3 + missing,
        seed=0,
        embeddings=embeddings,
    )

    assert found.parameters == sum(one.numel() for one in network.parameters())
    assert isinstance(network.steps[0], Linear)
