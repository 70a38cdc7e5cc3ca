"""`hidden`, the short form of a network: widths of layers between input and output."""

import pytest

from core.profile import Column
from core.resolve import resolve
from core.spec import TrainingSpec
from core.spec.network import Dense, Output

COLUMNS = [
    Column(name="length", type="number", missing=0, distinct=90, number_row=0),
    Column(name="sold", type="boolean", missing=0, distinct=2, values=[False, True], counts=[50, 50], code_row=0),
]


@pytest.mark.parametrize("hidden", [[24], [8, 1]])
def test_its_last_layer_is_not_the_output_of_a_binary_task(hidden: list[int]) -> None:
    asked = {"target": "sold", "network": {"hidden": hidden, "activation": "sigmoid"}}

    network = resolve(TrainingSpec.model_validate(asked), COLUMNS, 100).spec.network

    assert [layer.units for layer in network.layers or [] if isinstance(layer, Dense)] == hidden
    assert network.output == Output(units=1, activation="sigmoid")
