"""Parts of a spec for property tests, drawn from the published JSON Schema: what is new there is drawn from then on."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from hypothesis import strategies as st
from pydantic import ValidationError

from core.spec import TrainingSpec
from core.spec.values import Part

Json = st.SearchStrategy[Any]
DEFINITIONS = TrainingSpec.model_json_schema()["$defs"]


def parts(root: type[Part] = Part) -> Iterator[type[Part]]:
    """Every part that the schema defines, in the order of the classes."""
    for part in root.__subclasses__():
        if part.__name__ in DEFINITIONS:
            yield part
        yield from parts(part)


PARTS = {part.__name__: part for part in parts()}


def drawn(part: type[Part], chosen: Mapping[str, Json]) -> Json:
    """JSON that this part accepts; fields of a name in `chosen` come from there, at any depth.

    What the schema cannot say, the rules between two fields, is left to pydantic.
    """
    schema = DEFINITIONS[part.__name__]
    required = schema.get("required", ())
    if "name" in part.model_fields:
        own = get_args(part.model_fields["name"].annotation)  # a part by itself knows no synonyms
        chosen = {**chosen, "name": st.sampled_from(own)}
    fields = {
        name: chosen[name] if name in chosen else _value(field, chosen) for name, field in schema["properties"].items()
    }
    always = {name: one for name, one in fields.items() if name in required}
    return st.fixed_dictionaries(
        always, optional={name: one for name, one in fields.items() if name not in required}
    ).filter(lambda body: accepts(part, body))


def drawn_field(part: type[Part], name: str, chosen: Mapping[str, Json]) -> Json:
    return _value(DEFINITIONS[part.__name__]["properties"][name], chosen)


def accepts(part: type[Part], body: Any) -> bool:
    try:
        part.model_validate(body)
    except ValidationError:
        return False
    return True


def _value(schema: Mapping[str, Any], chosen: Mapping[str, Json]) -> Json:
    match schema:
        case {"const": word}:
            return st.just(word)
        case {"enum": words}:
            return st.sampled_from(words)
        case {"$ref": reference}:
            return drawn(PARTS[reference.rpartition("/")[2]], chosen)
        case {"anyOf": choices} | {"oneOf": choices}:
            return st.one_of([_value(choice, chosen) for choice in choices])
        case {"prefixItems": items}:
            return st.tuples(*(_value(item, chosen) for item in items)).map(list)
        case {"type": "array"}:
            least = schema.get("minItems", 0)
            return st.lists(_value(schema["items"], chosen), min_size=least, max_size=max(least, 3))
        case {"type": "object"}:
            return st.dictionaries(st.sampled_from("abc"), _value(schema["additionalProperties"], chosen), max_size=2)
        case {"type": "integer"}:
            return st.integers(schema["minimum"], schema["maximum"])
        case {"type": "number"}:
            return _number(schema)
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "string"}:
            return st.text("abc", min_size=1, max_size=3)
        case {"type": "null"}:
            return st.none()
        case _:
            raise AssertionError(f"nothing draws {schema}")


def _number(schema: Mapping[str, Any]) -> Json:
    """Near the lower bound where there is no upper one."""
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    least = above if above is not None else schema.get("minimum", -1e3)
    most = below if below is not None else schema.get("maximum", least + 1e3)
    return st.floats(least, most, exclude_min=above is not None, exclude_max=below is not None)
