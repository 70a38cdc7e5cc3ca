"""What becomes of each option of another library's model, and what is refused."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from core import errors
from core.spec import TrainingSpec
from core.spec.values import JSON_TYPES

Outcome = Literal["mapped", "mapped_with_difference", "not_mapped"]
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Option:
    option: str  # as the other library calls it, e.g. `BatchNormalization.momentum`
    pointer: str  # into the request
    outcome: Outcome
    note: str


@dataclass(frozen=True)
class Imported:
    """`spec` holds what was said and no more: the defaults are filled in when it is resolved."""

    spec: dict[str, Any]
    options: list[Option]


@dataclass
class Notes:
    """Collects all of them, so that one answer names everything that is refused."""

    options: list[Option] = field(default_factory=list)
    refused: list[errors.FieldError] = field(default_factory=list)

    def say(self, outcome: Outcome, option: str, path: Path, note: str = "") -> None:
        self.options.append(Option(option, errors.pointer(*path), outcome, note))

    def refuse(self, option: str, path: Path, message: str, code: str = "no_counterpart") -> None:
        self.refused.append({"pointer": errors.pointer(*path), "code": code, "message": f"{option}: {message}"})

    def part(self, kind: TypeAdapter[Any], part: dict[str, Any], option: str, path: Path) -> dict[str, Any]:
        """This part of a spec, which must be one; what is wrong with it is said where it came from."""
        try:
            kind.validate_python(part)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                at = ".".join(str(place) for place in one["loc"][-1:] if place not in JSON_TYPES)
                self.refuse(option, path, f"{at}: {_sentence(one)}".removeprefix(": "), "invalid_value")
        return part

    def imported(self, spec: dict[str, Any]) -> Imported:
        """Raises `ModelNotMappable` with everything that was refused."""
        if not self.refused:
            try:
                TrainingSpec.model_validate(spec)
            except ValidationError as error:
                for one in error.errors(include_url=False, include_input=False):
                    self.refuse("spec" + errors.pointer(*one["loc"]), (), _sentence(one), "invalid_value")
        if self.refused:
            raise errors.ModelNotMappable(errors=self.refused[:100])
        return Imported(spec, self.options)


def _sentence(error: Mapping[str, Any]) -> str:
    """Pydantic's message, which may quote the input only where a tag is wrong."""
    if error["type"] == "value_error":
        return str((error.get("ctx") or {}).get("error", "not acceptable"))
    return "not one of ours" if error["type"] == "union_tag_invalid" else str(error["msg"])


class Config:
    """The options of one object of theirs. Each must be taken: what nobody has asked for is refused at the end."""

    def __init__(self, notes: Notes, values: Mapping[str, Any], path: Path, named: str) -> None:
        self.notes, self.values, self.path, self.named = notes, values, path, named
        self._left = set(values)

    @property
    def left(self) -> set[str]:
        """What nobody has asked for so far."""
        return self._left

    def take(self, key: str, default: Any = None) -> Any:
        """Its value, or what the other library has in its place."""
        self._left.discard(key)
        return self.values.get(key, default)

    def skip(self, *keys: str) -> None:
        """Names and the like, which say nothing of the training."""
        self._left -= set(keys)

    def mapped(self, key: str, default: Any = None, note: str = "") -> Any:
        """Takes it, and says that it was mapped where it was said."""
        return self._said("mapped", key, default, note)

    def differs(self, key: str, default: Any, note: str) -> Any:
        """Takes it, and says what is not quite the same; also where it was not said, and is so by default."""
        value = self.take(key, default)
        self.notes.say("mapped_with_difference", f"{self.named}.{key}", (*self.path, key), note)
        return value

    def ignored(self, key: str, note: str) -> Any:
        return self._said("not_mapped", key, None, note)

    def _said(self, outcome: Outcome, key: str, default: Any, note: str) -> Any:
        value = self.take(key, default)
        if self.values.get(key) is not None:
            self.notes.say(outcome, f"{self.named}.{key}", (*self.path, key), note)
        return value

    def only(self, key: str, *allowed: Any, why: str) -> None:
        """Takes an option of which only these values, or none at all, are the same here."""
        value = self.take(key)
        if value is None or any(value == one and type(value) in (type(one), float, int) for one in allowed):
            if value is not None:
                self.notes.say("mapped", f"{self.named}.{key}", (*self.path, key))
            return
        self.refuse(key, why)

    def refuse(self, key: str, message: str, code: str = "no_counterpart") -> None:
        self.notes.refuse(f"{self.named}.{key}", (*self.path, key), message, code)

    def number(self, key: str, default: float) -> float:
        """A number; refused where it is none."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._left.discard(key)
            self.refuse(key, "must be a number.", "invalid_value")
            return default
        return shortest(value)

    def finish(self) -> None:
        for key in sorted(self._left):
            self.refuse(key, "this option is not known here, so it is not known what it changes.", "unknown_option")


def shortest(value: float) -> float:
    """0.001 for 0.0010000000474974513: a number that went through float32, as it was typed."""
    try:
        as_float32 = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return value
    if isinstance(value, int) or as_float32 != value:
        return value
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if struct.unpack("f", struct.pack("f", short))[0] == value:
            return short
    return value
