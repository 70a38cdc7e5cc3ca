"""Raw columns as ONNX inputs, and the arithmetic of the fitted preprocessing on them.

Each step is float32 (of dates int64) and in the order of `worker.trainer.preprocessing`, so that the same bits go into
the first layer.
"""

from dataclasses import dataclass, field
from typing import Any, assert_never

import numpy as np

from core.spec.features import DatePart
from worker.trainer.exports.numpy_functions import known_texts, text
from worker.trainer.exports.onnx_graph import FLOAT, INT64, STRING, Graph, Value
from worker.trainer.preprocessing import (
    Affine,
    CategoryInput,
    DatetimeInput,
    EmbeddingInput,
    NumberInput,
    OrdinalInput,
    Preprocessing,
    Quantiles,
    VectorInput,
)
from worker.trainer.preprocessing.dates import FIRST_WEEKDAY, SECONDS_A_DAY, Cycle, PlainPart
from worker.trainer.preprocessing.table import MISSING_MOMENT

MOST_SEPARATE = 100  # columns of numbers with an input each; more of them come as one
BLOCK = "numbers"
DAYS_TO_1970, DAYS_A_CYCLE = 719_468, 146_097  # from 1 March of the year 0; of 400 years


@dataclass
class Inputs:
    """What has become of the columns: `features` in the order of `preprocessing.json`, and the vectors' codes."""

    described: list[dict[str, Any]] = field(default_factory=list)  # of each input: name, type, ...
    features: Value | None = None
    codes: list[Value] = field(default_factory=list)  # each (rows, 1) int64


def category_texts(fitted: CategoryInput | OrdinalInput | EmbeddingInput) -> tuple[dict[str, int], str]:
    """The place of each category, by its JSON text; and the text that stands for a missing value.

    A text that says two categories (the number 1, which a fill value has brought, and "1") is the first of them.
    """
    places = known_texts(fitted.categories)
    missing = ""
    while missing in places or missing in map(text, [] if isinstance(fitted, OrdinalInput) else fitted.rare):
        missing += "\0"
    return places, missing


class _Pieces:
    """Columns of features in the order in which they are made, and which of them belong to which column."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.places: dict[str, list[int]] = {}
        self._width = 0

    def add(self, value: Value, *names: str) -> None:
        """`names` say of each feature whose it is."""
        self.values.append(value)
        for name in names:
            self.places.setdefault(name, []).append(self._width)
            self._width += 1

    def in_order(self, graph: Graph, names: list[str]) -> Value | None:
        """All features, column by column in this order. What nobody takes is left out."""
        places = [place for name in names for place in self.places.get(name, [])]
        if not places:
            return None
        whole = graph.joined(self.values)
        return whole if places == list(range(self._width)) else _columns(graph, whole, places)


def read_inputs(graph: Graph, fitted: Preprocessing) -> Inputs:
    """Declares an input for each column, and lays out what becomes of it."""
    found, pieces = Inputs(), _Pieces()
    _numbers(graph, [one for one in fitted.inputs if isinstance(one, NumberInput)], found, pieces)
    for one in fitted.inputs:
        match one:
            case NumberInput():
                pass  # all of them at once
            case VectorInput():
                _vector(graph, one, found, pieces)
            case CategoryInput():
                _one_hot(graph, one, found, pieces)
            case OrdinalInput():
                _ordinal(graph, one, found, pieces)
            case DatetimeInput():
                _datetime(graph, one, found, pieces)
            case EmbeddingInput():
                place = _place(graph, one, found, unknown=-1)
                found.codes.append(graph.node("Add", place, graph.constant(1, np.int64)))
            case _:
                assert_never(one)
    found.features = pieces.in_order(graph, [one.name for one in fitted.inputs])
    return found


def _columns(graph: Graph, values: Value, places: list[int]) -> Value:
    return graph.node("Gather", values, graph.constant(places, np.int64), axis=1)


# --- numbers ------------------------------------------------------------------------------------------------------


def _numbers(graph: Graph, numbers: list[NumberInput], found: Inputs, pieces: _Pieces) -> None:
    """All columns of numbers beside each other, so that a hundred of them are not a thousand nodes."""
    if not numbers:
        return
    missing, filled = _filled(graph, _raw_numbers(graph, numbers, found), [one.imputed for one in numbers])
    affine = [place for place, one in enumerate(numbers) if isinstance(one.scaling, Affine)]
    if affine:
        scalings = [one.scaling for one in numbers if isinstance(one.scaling, Affine)]
        chosen = filled if len(affine) == len(numbers) else _columns(graph, filled, affine)
        scaled = _affine(graph, chosen, [one.center for one in scalings], [one.scale for one in scalings])
        pieces.add(scaled, *(numbers[place].name for place in affine))
    for place, one in enumerate(numbers):
        if isinstance(one.scaling, Quantiles):
            column = filled if len(numbers) == 1 else _columns(graph, filled, [place])
            pieces.add(_interpolated(graph, column, one.scaling), one.name)
    indicated = [place for place, one in enumerate(numbers) if one.missing_indicator]
    if indicated:
        flags = graph.cast(missing, FLOAT)
        flags = flags if len(indicated) == len(numbers) else _columns(graph, flags, indicated)
        pieces.add(flags, *(numbers[place].name for place in indicated))


def _raw_numbers(graph: Graph, numbers: list[NumberInput], found: Inputs) -> Value:
    names = [one.name for one in numbers]
    if len(numbers) > MOST_SEPARATE:
        block = graph.free(BLOCK)
        found.described.append({"name": block, "type": "numbers", "columns": names})
        return graph.input(block, FLOAT, len(names))
    found.described += [{"name": name, "type": "number"} for name in names]
    return graph.joined([graph.input(name, FLOAT, 1) for name in names])


def _filled(graph: Graph, raw: Value, imputed: list[float]) -> tuple[Value, Value]:
    """What is missing or infinite, and the values with what stands for it."""
    missing = graph.node("Or", graph.node("IsNaN", raw), graph.node("IsInf", raw))
    return missing, graph.node("Where", missing, graph.constant([imputed]), raw)


def _affine(graph: Graph, values: Value, center: list[float], scale: list[float]) -> Value:
    if any(center):
        values = graph.node("Sub", values, graph.constant([center]))
    if any(one != 1 for one in scale):
        values = graph.node("Div", values, graph.constant([scale]))
    return values


def _scaled(graph: Graph, values: Value, scaling: Affine | Quantiles) -> Value:
    """Of one column."""
    match scaling:
        case Affine():
            return _affine(graph, values, [scaling.center], [scaling.scale])
        case Quantiles():
            return _interpolated(graph, values, scaling)
        case _:
            assert_never(scaling)


def _interpolated(graph: Graph, values: Value, scaling: Quantiles) -> Value:
    knots, deviates = np.array(scaling.knots, np.float32), np.array(scaling.deviates, np.float32)
    if len(knots) == 1:
        return graph.node("Add", graph.node("Mul", values, graph.constant(0)), graph.constant(deviates[0]))
    held = graph.node("Clip", values, graph.constant(knots[0]), graph.constant(knots[-1]))
    if len(knots) == 2:
        share = graph.node(
            "Div", graph.node("Sub", held, graph.constant(knots[0])), graph.constant(knots[1] - knots[0])
        )
        risen = graph.node("Mul", share, graph.constant(deviates[1] - deviates[0]))
        return graph.node("Add", graph.constant(deviates[0]), risen)
    passed = graph.cast(graph.node("GreaterOrEqual", held, graph.constant(knots[None, 1:-1])), INT64)
    place = graph.node("ReduceSum", passed, graph.constant([1], np.int64), keepdims=1)

    def at(array: Any) -> Value:
        return graph.node("Gather", graph.constant(array), place, axis=0)

    share = graph.node("Div", graph.node("Sub", held, at(knots[:-1])), at(np.diff(knots)))
    return graph.node("Add", at(deviates[:-1]), graph.node("Mul", share, at(np.diff(deviates))))


def _vector(graph: Graph, one: VectorInput, found: Inputs, pieces: _Pieces) -> None:
    found.described.append({"name": one.name, "type": "vector", "size": one.size})
    missing, filled = _filled(graph, graph.input(one.name, FLOAT, one.size), one.imputed)
    pieces.add(_affine(graph, filled, one.center, one.scale), *[one.name] * one.size)
    if one.missing_indicator:
        flags = graph.cast(missing, FLOAT)
        pieces.add(graph.node("ReduceMax", flags, graph.constant([1], np.int64), keepdims=1), one.name)


# --- categories ---------------------------------------------------------------------------------------------------


def _place(graph: Graph, one: CategoryInput | OrdinalInput | EmbeddingInput, found: Inputs, *, unknown: int) -> Value:
    """The place of each value in `categories`, (rows, 1) int64."""
    places, missing = category_texts(one)
    stands_for_missing = None if isinstance(one, OrdinalInput) else one.imputed
    by_value = {value: place for place, value in enumerate(one.categories)}
    places[missing] = by_value.get(stands_for_missing, unknown)
    found.described.append({"name": one.name, "type": "category", "missing": missing})
    return graph.node(
        "LabelEncoder",
        graph.input(one.name, STRING, 1),
        domain="ai.onnx.ml",
        keys_strings=list(places),
        values_int64s=list(places.values()),
        default_int64=unknown,
    )


def _one_hot(graph: Graph, one: CategoryInput, found: Inputs, pieces: _Pieces) -> None:
    width = len(one.features)
    place = _place(graph, one, found, unknown=len(one.categories) if one.rare else -1)
    features = graph.cast(graph.node("Equal", place, graph.constant([range(width)], np.int64)), FLOAT)
    pieces.add(features, *[one.name] * width)


def _ordinal(graph: Graph, one: OrdinalInput, found: Inputs, pieces: _Pieces) -> None:
    place = _place(graph, one, found, unknown=-1)
    missing = graph.node("Less", place, graph.constant(0, np.int64))
    filled = graph.node("Where", missing, graph.constant(one.imputed), graph.cast(place, FLOAT))
    pieces.add(_scaled(graph, filled, one.scaling), one.name)
    if one.missing_indicator:
        pieces.add(graph.cast(missing, FLOAT), one.name)


# --- dates --------------------------------------------------------------------------------------------------------


def _datetime(graph: Graph, one: DatetimeInput, found: Inputs, pieces: _Pieces) -> None:
    found.described.append({"name": one.name, "type": "datetime", "missing": MISSING_MOMENT})
    raw = graph.input(one.name, INT64, 1)
    missing = graph.node("Equal", raw, graph.constant(MISSING_MOMENT, np.int64))
    moments = graph.node("Where", missing, graph.constant(one.imputed, np.int64), raw)
    for made in one.parts:
        part = _part(graph, moments, made.part)
        match made:
            case PlainPart():
                passed = graph.node("Sub", part, graph.constant(made.origin, np.int64))
                pieces.add(_scaled(graph, graph.cast(passed, FLOAT), made.scaling), one.name)
            case Cycle():
                angles = 2 * np.pi * np.arange(made.period) / made.period
                place = graph.node("Sub", part, graph.constant(made.first, np.int64))
                for wave in (np.sin(angles), np.cos(angles)):
                    pieces.add(graph.node("Gather", graph.constant(wave), place, axis=0), one.name)
            case _:
                assert_never(made)
    if one.missing_indicator:
        pieces.add(graph.cast(missing, FLOAT), one.name)


def _part(graph: Graph, moments: Value, part: DatePart) -> Value:
    """A part of each moment, by integers alone."""

    def whole(value: Value, divisor: int) -> Value:
        """Divided, and rounded down: ONNX rounds towards 0."""
        divided = graph.constant(divisor, np.int64)
        return graph.node("Div", graph.node("Sub", value, graph.node("Mod", value, divided)), divided)

    match part:
        case "elapsed":
            return moments
        case "year" | "month" | "day":
            return _calendar(graph, whole(moments, SECONDS_A_DAY), part)
        case "weekday":
            days = graph.node("Add", whole(moments, SECONDS_A_DAY), graph.constant(FIRST_WEEKDAY, np.int64))
            return graph.node("Mod", days, graph.constant(7, np.int64))
        case "hour":
            return graph.node("Mod", whole(moments, 3600), graph.constant(24, np.int64))
        case "minute":
            return graph.node("Mod", whole(moments, 60), graph.constant(60, np.int64))
        case _:
            assert_never(part)


class _Integers:
    """Integer arithmetic on tensors of a graph, in the signs of Python: for formulas of many steps."""

    def __init__(self, graph: Graph, value: Value) -> None:
        self.graph, self.value = graph, value

    def _with(self, operator: str, other: "_Integers | int") -> "_Integers":
        value = self.graph.constant(other, np.int64) if isinstance(other, int) else other.value
        return _Integers(self.graph, self.graph.node(operator, self.value, value))

    def __add__(self, other: "_Integers | int") -> "_Integers":
        return self._with("Add", other)

    def __sub__(self, other: "_Integers | int") -> "_Integers":
        return self._with("Sub", other)

    def __mul__(self, other: int) -> "_Integers":
        return self._with("Mul", other)

    def __floordiv__(self, other: int) -> "_Integers":
        return (self - self._with("Mod", other))._with("Div", other)

    def at_least(self, other: int) -> "_Integers":
        """1 or 0"""
        compared = self._with("GreaterOrEqual", other).value
        return _Integers(self.graph, self.graph.cast(compared, INT64))


def _calendar(graph: Graph, days_since_1970: Value, part: DatePart) -> Value:
    """Of the proleptic Gregorian calendar: years that begin in March, in cycles of 400 (Hinnant, `civil_from_days`)."""
    days = _Integers(graph, days_since_1970) + DAYS_TO_1970
    cycle = days // DAYS_A_CYCLE
    day_of_cycle = days - cycle * DAYS_A_CYCLE
    year_of_cycle = (
        day_of_cycle - day_of_cycle // 1460 + day_of_cycle // 36_524 - day_of_cycle // (DAYS_A_CYCLE - 1)
    ) // 365
    day_of_year = day_of_cycle - (year_of_cycle * 365 + year_of_cycle // 4 - year_of_cycle // 100)
    month_from_march = (day_of_year * 5 + 2) // 153
    if part == "day":
        return (day_of_year - (month_from_march * 153 + 2) // 5 + 1).value
    january_or_february = month_from_march.at_least(10)
    if part == "month":
        return (month_from_march + 3 - january_or_february * 12).value
    return (year_of_cycle + cycle * 400 + january_or_february).value
