"""How large a trace may be is known from the spec, and said before a job is accepted."""

from typing import Any

import pytest

from core import errors
from core.profile import Column
from core.resolve import Resolved, resolve
from core.resolve.trace import MAX_NUMBERS
from core.spec import TrainingSpec

COLUMNS = [
    Column(name="length", type="number", missing=0, distinct=90, number_row=0),
    Column(name="species", type="category", missing=0, distinct=2, values=["a", "b"], counts=[50, 50], code_row=0),
]


def resolved(trace: dict[str, Any], *layers: dict[str, Any]) -> Resolved:
    spec = {"target": "species", "network": {"layers": list(layers)}, "trace": trace}
    return resolve(TrainingSpec.model_validate(spec), COLUMNS, 100)


def test_a_trace_stays_in_the_resolved_spec() -> None:
    found = resolved({"epochs": [10, 1]}, {"type": "dense", "units": 3})

    assert found.spec.trace is not None
    assert (found.spec.trace.epochs, found.spec.trace.rows) == ([10, 1], 4)


@pytest.mark.parametrize(
    ("trace", "units"),
    [({"epochs": [1]}, 40_000), ({"epochs": [1, 2, 3, 4]}, 10_000), ({"epochs": [1], "rows": 32}, 5_000)],
)
def test_what_would_be_too_many_numbers_is_refused_with_the_limit(trace: dict[str, Any], units: int) -> None:
    with pytest.raises(errors.TraceTooLarge) as refused:
        resolved(trace, {"type": "dense", "units": units})

    assert refused.value.status == 422
    assert refused.value.facts["numbers"] > refused.value.facts["limit"] == MAX_NUMBERS
    assert f"{MAX_NUMBERS:,}" in refused.value.detail
    assert resolved(trace, {"type": "dense", "units": units // 10}).spec.trace is not None


def test_layers_without_parameters_count_as_well() -> None:
    wide = [{"type": "dense", "units": 5000}, *[{"type": "activation", "activation": "relu"}] * 10]

    with pytest.raises(errors.TraceTooLarge):
        resolved({}, *wide)


def test_batch_norm_needs_two_rows_to_trace() -> None:
    layers = [{"type": "dense", "units": 3}, {"type": "batch_norm"}]

    assert resolved({"rows": 2}, *layers).spec.trace is not None
    with pytest.raises(errors.DataInvalid, match="Batch norm"):
        resolved({"rows": 1}, *layers)
