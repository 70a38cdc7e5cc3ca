"""What the parts of a spec are made of: immutable objects, strict numbers, and things that are called by a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Strict,
    StringConstraints,
    Tag,
)
from pydantic_core import CoreSchema, PydanticKnownError

MAX_UNITS = 65_536  # of a layer


class Part(BaseModel):
    """Any part of a spec: immutable, and refusing what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _integral(value: Any) -> Any:
    """`50.0` is an integer: many languages have only one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


INTEGRAL = BeforeValidator(_integral)  # last in an `Annotated`: bounds after it would be lost to the JSON Schema
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
# What weights and values may be set to or held within: far beyond any use, and far within what torch takes as float32.
Value = Annotated[Number, Field(ge=-1e6, le=1e6)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Flag = Annotated[bool, Strict()]
Seed = Annotated[int, Strict(), Field(ge=0, le=2**53 - 1), INTEGRAL]
Units = Annotated[int, Strict(), Field(ge=1, le=MAX_UNITS), INTEGRAL]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Label = str  # a class as the key of a JSON object: its JSON text, without the quotes of a text


def by_name(parts: Any, synonyms: Mapping[str, str]) -> BeforeValidator:
    """Accepts a bare name for an object of that name (`"adam"` for `{"name": "adam"}`), and other libraries' names."""
    names = names_of(parts)
    synonyms = {theirs: ours for theirs, ours in synonyms.items() if ours in names}

    expected = " or ".join(", ".join(f"'{name}'" for name in names).rsplit(", ", 1))

    def as_object(value: Any) -> Any:
        if isinstance(value, str):
            if synonyms.get(value, value) not in names:
                raise PydanticKnownError("literal_error", {"expected": expected})  # here: the body holds no `name`
            value = {"name": value}
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return {**value, "name": synonyms.get(value["name"], value["name"])}
        return value

    bare = [name for name in (*names, *synonyms) if _says_enough(names[synonyms.get(name, name)])]
    as_sent: Any = (
        Annotated[parts, Field(discriminator="name"), _AlsoNamed(tuple(synonyms.items()))] | Literal[tuple(bare)]
    )
    return BeforeValidator(as_object, json_schema_input_type=as_sent)


def names_of(parts: Any) -> dict[str, type[Part]]:
    """The names of a union of parts, in the order of the union, each with the part that has it."""
    return {name: part for part in get_args(parts) for name in get_args(part.model_fields["name"].annotation)}


def _says_enough(part: type[Part]) -> bool:
    """Whether the bare name of a part will do: all else has a default."""
    return not any(field.is_required() for name, field in part.model_fields.items() if name != "name")


@dataclass(frozen=True)
class _AlsoNamed:
    """Other libraries' names in the JSON Schema of named parts: to pydantic, the name of a part is a fixed word."""

    synonyms: tuple[tuple[str, str], ...]  # theirs, ours

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        union = handler(schema)
        for reference in union["oneOf"]:
            name = handler.resolve_ref_schema(reference)["properties"]["name"]
            words = [name.pop("const")] if "const" in name else name["enum"]
            theirs = [word for word, ours in self.synonyms if ours in words]
            name["enum"] = list(dict.fromkeys([*words, *theirs]))
        return union


def one_of(literal: Any, synonyms: Mapping[str, str]) -> BeforeValidator:
    """Accepts other libraries' words for those of a `Literal`."""

    def as_ours(value: Any) -> Any:
        return synonyms.get(value, value) if isinstance(value, str) else value

    either: Any = Literal[tuple([*get_args(literal), *synonyms])]
    return BeforeValidator(as_ours, json_schema_input_type=either)


def distinct(values: list[Any]) -> list[Any]:
    """Refuses a list that says something twice."""
    if len(set(values)) != len(values):
        raise ValueError("something is named twice")
    return values


def rises(values: Sequence[float], name: str) -> None:
    """Refuses a list whose numbers do not go up."""
    if sorted(set(values)) != list(values):
        raise ValueError(f"`{name}` must rise")


# Marks of a field that takes JSON of two types: they stand in the place where pydantic found an error, and in no
# pointer. No key of a body is one of them, for none holds a NUL.
TEXT, LIST, OBJECT, NUMBER = Tag("\0text"), Tag("\0list"), Tag("\0object"), Tag("\0number")
TEXT_OR_LIST = Discriminator(lambda value: LIST.tag if isinstance(value, list) else TEXT.tag)
TEXT_OR_OBJECT = Discriminator(lambda value: OBJECT.tag if isinstance(value, dict) else TEXT.tag)
TEXT_OR_NUMBER = Discriminator(lambda value: TEXT.tag if isinstance(value, str) else NUMBER.tag)
NUMBER_OR_OBJECT = Discriminator(lambda value: OBJECT.tag if isinstance(value, dict | Part) else NUMBER.tag)
JSON_TYPES = {TEXT.tag, LIST.tag, OBJECT.tag, NUMBER.tag}
