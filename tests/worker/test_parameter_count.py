"""What `core` computes of a network without torch is what torch builds."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.resolve.plan import layer_table, steps_of
from core.spec.network import Network, Output, parameter_count, widths
from tests.core.columns import LENGTH, SPECIES, category, resolved
from tests.drawn import accepts, drawn_field
from tests.worker.factories import spec_for
from worker.trainer.fit import updates_of
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


@settings(max_examples=150, deadline=None)
@given(LAYERS, st.integers(1, 9), st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), max_size=2))
def test_the_table_of_layers_is_that_of_the_network(
    layers: Any, inputs: int, embeddings: list[tuple[int, int]]
) -> None:
    """By their names: of each module its own parameters, and together all of them."""
    chosen = Network.model_validate({"layers": layers}).layers or []
    network = build(chosen, OUTPUT, inputs, seed=0, embeddings=embeddings)
    modules = dict(network.named_modules())

    table = layer_table(
        chosen,
        OUTPUT,
        inputs + sum(width for _, width in embeddings),
        [(categories + 1, width) for categories, width in embeddings],
    )

    assert [one.name for one in table if "." not in one.name] == [name for name in modules if name.isdigit()]
    for one in table:
        own = modules[one.name].parameters(recurse=one.type != "residual")
        assert one.parameters == sum(tensor.numel() for tensor in own), one
        if isinstance(module := modules[one.name], Linear):
            assert one.output_shape == [module.out_features]
    assert sum(one.parameters for one in table) == sum(tensor.numel() for tensor in network.parameters())


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("layers", [[], [{"type": "residual", "layers": [{"type": "batch_norm"}]}]])
@pytest.mark.parametrize(
    ("rows", "batch_size", "accumulate"), [(33, 8, 1), (33, 8, 3), (5, 8, 1), (17, 16, 1), (1, 4, 1)]
)
def test_the_steps_of_an_epoch_are_those_of_the_training(
    optimizer: str, layers: list[Any], rows: int, batch_size: int, accumulate: int
) -> None:
    spec = spec_for(layers, optimizer=optimizer, batch_size=batch_size, accumulate=accumulate, epochs=7)
    assert spec.network.output is not None
    network = build(spec.network.layers or [], spec.network.output, 4, seed=0)

    steps = len(updates_of(spec, 1, rows, network))

    assert steps_of(spec, rows) == (steps, 7 * steps)


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
