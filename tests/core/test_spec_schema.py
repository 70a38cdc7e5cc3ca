"""The published JSON Schema and pydantic agree: what one accepts the other does, as far as a schema can say it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from api.reference import spec_schema
from core.spec import TrainingSpec
from core.spec.training import Training
from core.spec.values import Part
from tests.core.test_spec_words import KINDS, named, smallest
from tests.drawn import PARTS, accepts, drawn

SCHEMA: dict[str, Any] = json.loads(bytes(spec_schema().body))
NUMBERS = [0, 1, -1, 2, 64, 65_537, 100_001, 2**53, 0.0, 1.0, 0.5, -0.5, 1e-7, 1e-300, 11.5, 1e7, 1e300]
TEXTS = ["", "x", "0.5", "relu", "softmax", "val_acc", "auto", "none", "y" * 257]
LISTS = [[], [0.5], [0.9, 0.1], [0.1, 0.2], [1, 2, 3], ["x"], ["x", "y"], [[]]]
OBJECTS = [{}, {"name": "relu"}, {"name": "swish"}, {"name": "x"}, {"x": 1}, {"x": 0}, {"x": {}}]
PROBES: list[Any] = [None, True, False, *NUMBERS, *TEXTS, *LISTS, *OBJECTS]


def schema_accepts(part: type[Part], body: Any) -> bool:
    place = SCHEMA if part is TrainingSpec else {"$ref": f"#/$defs/{part.__name__}", "$defs": SCHEMA["$defs"]}
    return bool(Draft202012Validator(place).is_valid(body))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("part", [TrainingSpec, *PARTS.values()], ids=lambda part: part.__name__)
def test_of_each_field_the_schema_accepts_what_pydantic_accepts(part: type[Part]) -> None:
    apart = []
    for field in [*part.model_fields, "unknown"]:
        for probe in PROBES:
            body = smallest(part) | {field: probe}
            if accepts(part, body) != schema_accepts(part, body) and not _only_between_fields(part, body):
                apart.append((field, probe))

    assert apart == []


def _only_between_fields(part: type[Part], body: Any) -> bool:
    """Whether pydantic refuses this for a rule that no schema can say."""
    try:
        part.model_validate(body)
    except ValidationError as error:
        return {one["type"] for one in error.errors()} == {"value_error"}
    return False


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, names) in KINDS.items() for name in names])
def test_the_schema_knows_other_libraries_words(kind: str, name: str) -> None:
    bodies = [_with(kind, name), _with(kind, {"name": name})]

    assert [schema_accepts(TrainingSpec, body) for body in bodies] == [accepts(TrainingSpec, body) for body in bodies]


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_refuses_a_name_that_is_none(kind: str) -> None:
    assert not schema_accepts(TrainingSpec, _with(kind, "nonsense"))
    assert not schema_accepts(TrainingSpec, _with(kind, {"name": "nonsense"}))
    assert not schema_accepts(TrainingSpec, _with(kind, {}))
    assert all(
        schema_accepts(TrainingSpec, _with(kind, name)) for name in named(KINDS[kind][0]) if name != "multi_step"
    )


def _with(kind: str, value: Any) -> dict[str, Any]:
    if kind in ("activation", "weight_initializer"):
        return {"target": "y", "network": {"layers": [{"type": "dense", "units": 4, kind: value}]}}
    return {"target": "y", "training": {kind: value}}


@settings(max_examples=100, deadline=None)
@given(drawn(Training, {}))
def test_what_is_written_out_is_accepted_by_the_schema_too(body: dict[str, Any]) -> None:
    written = Training.model_validate(body).model_dump(mode="json")

    assert schema_accepts(Training, written)
    assert Training.model_validate(written) == Training.model_validate(body)
