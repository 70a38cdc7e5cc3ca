"""Columns of a dataset's profile for tests, and specs resolved against them."""

from typing import Any

from core.profile import Column
from core.resolve import Resolved, resolve
from core.spec import TrainingSpec

ROWS = 150


def number(name: str, **facts: Any) -> Column:
    return Column(**{"name": name, "type": "number", "missing": 0, "distinct": 100, "number_row": 0} | facts)


def integers(name: str, distinct: int, **facts: Any) -> Column:
    """A column of the integers 0, 1, 2, ..., each equally often."""
    own = {"type": "integer", "distinct": distinct, "number_row": 0, "code_row": 0, "minimum": 0}
    own |= {"values": list(range(distinct)), "counts": [ROWS // distinct] * distinct, "maximum": distinct - 1}
    return Column(**{"name": name, "missing": 0} | own | facts)


def category(name: str, *values: Any, **facts: Any) -> Column:
    own = {"type": "category", "missing": 0, "distinct": len(values), "values": list(values), "code_row": 0}
    return Column(**{"name": name, "counts": [ROWS // len(values)] * len(values)} | own | facts)


def boolean(name: str, **facts: Any) -> Column:
    return category(name, False, True, **{"type": "boolean"} | facts)


LENGTH, WIDTH = number("length"), number("width")
SPECIES = category("species", "adelie", "chinstrap", "gentoo")
SEX = category("sex", "female", "male")
PENGUINS = [LENGTH, WIDTH, SPECIES, SEX]


def resolved(columns: list[Column], target: str | list[str] = "species", rows: int = ROWS, **parts: Any) -> Resolved:
    return resolve(TrainingSpec.model_validate({"target": target} | parts), columns, rows)


def codes(found: Resolved) -> list[tuple[str, str | None]]:
    return [(warning.code, warning.column) for warning in found.warnings]


def dense(units: int, activation: str) -> dict[str, Any]:
    return {"type": "dense", "units": units, "activation": activation}


def form(found: Resolved) -> tuple[list[int], tuple[int, str], str]:
    """Widths of the hidden layers, output, loss."""
    network = found.spec.network
    assert network.output is not None
    hidden = [layer.units for layer in network.layers or [] if layer.type == "dense"]
    return hidden, (network.output.units, network.output.activation), found.spec.training.loss.name
