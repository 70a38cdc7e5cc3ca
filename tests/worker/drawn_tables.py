"""Small tables, each with something else to predict, and what a spec may ask of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.resolve.output import LEGAL
from core.spec.metrics import Task
from core.spec.network import OutputActivation

ROWS = 80
NUMBERS, CATEGORIES, EITHER = ["height", "width"], ["soil", "wet"], ["storeys"]
FEATURES = [*NUMBERS, *CATEGORIES, *EITHER]
DATES, VECTORS, GROUPS = ["sold_at", "day"], ["photo"], ["owner", "part"]
EVERY = [*FEATURES, *DATES, *VECTORS, *GROUPS]  # all of every table but target and weight
WEIGHT = "weight"
PARTS = {"train": 56, "validation": 16, "test": 8}  # rows that the column `part` says to be in each
BY = {"time": ["day", "height"], "group": ["owner", "day"], "column": ["part"]}  # what a split may go by
VALUES: dict[str, list[Any]] = {
    "soil": ["sand", "clay", "loam"],
    "wet": [False, True],
    "storeys": [0, 1, 2, 3, 4],
    "owner": [f"owner {letter}" for letter in "abcdefghijkl"],
    "part": [*PARTS],
}

Cells = Mapping[str, list[str]]


@dataclass(frozen=True, eq=False)
class Kind:
    """A target: `forms` are the output layers that it can have, with their units for each column or class."""

    name: str
    task: Task
    columns: Callable[[np.random.Generator], Cells]
    forms: dict[OutputActivation, int]
    auto: tuple[str, ...] = ()  # losses with which `task: auto` is this task
    classes: tuple[str, ...] = ()  # of one column, as keys of `class_weights`
    least: float = -np.inf  # of the numbers to predict

    @property
    def cells(self) -> Cells:
        generator = np.random.default_rng(7)
        return {**_features(generator), **self.columns(generator), **_others(np.random.default_rng(8))}

    @property
    def lines(self) -> str:
        """The table as lines of JSON."""
        rows = zip(*self.cells.values(), strict=True)
        return "".join(json.dumps(dict(zip(self.cells, map(_as_json, row), strict=True))) + "\n" for row in rows)

    @property
    def text(self) -> str:
        """The table as CSV, which has no vectors."""
        cells = {name: column for name, column in self.cells.items() if name not in VECTORS}
        return "\n".join([",".join(cells), *map(",".join, zip(*cells.values(), strict=True))]) + "\n"

    @property
    def target(self) -> str | list[str]:
        names = list(self.columns(np.random.default_rng(7)))
        return names[0] if len(names) == 1 else names

    @property
    def has_classes(self) -> bool:
        return self.task == "classification" and isinstance(self.target, str)

    def losses(self, form: OutputActivation) -> list[str]:
        """What goes with an output layer of this form."""
        found = [name for name in LEGAL[self.task][form] if self.least > 0 or name != "gamma"]
        says_itself = form in ("softmax", "sigmoid") or (form == "linear" and self.task == "regression")
        return [*found, "auto"] if says_itself else found


def _features(generator: np.random.Generator) -> Cells:
    height, width = generator.normal(3, 2, ROWS), generator.normal(-1, 0.5, ROWS)
    return {
        "height": [f"{value:.3f}" for value in height],
        "width": ["" if generator.random() < 0.15 else f"{value:.3f}" for value in width],
        "soil": [("sand", "clay", "", "loam")[place] for place in generator.integers(4, size=ROWS)],
        "wet": [("true", "false")[place] for place in generator.integers(2, size=ROWS)],
        "storeys": ["" if generator.random() < 0.1 else str(value) for value in generator.integers(5, size=ROWS)],
        WEIGHT: [("0", "0.5", "1", "3")[place] for place in generator.integers(4, size=ROWS)],
    }


def _others(generator: np.random.Generator) -> Cells:
    """Dates with hours and without, a vector, and what rows are split by."""
    moments = np.datetime64("2023-11-20T06:00") + generator.integers(120 * 24 * 60, size=ROWS)
    days = np.datetime64("2024-02-01") + generator.integers(60, size=ROWS)
    vectors = generator.normal(0, 1, (ROWS, 3)).round(3).tolist()
    vectors[5][1] = None
    return {
        "sold_at": ["" if generator.random() < 0.1 else str(moment) for moment in moments],
        "day": list(map(str, days)),
        "photo": ["" if generator.random() < 0.1 else json.dumps(vector) for vector in vectors],
        "owner": generator.choice(VALUES["owner"], ROWS).tolist(),
        "part": generator.permutation([part for part, rows in PARTS.items() for _ in range(rows)]).tolist(),
    }


def _as_json(cell: str) -> Any:
    """A number, a boolean or a list is what its text says."""
    try:
        return json.loads(cell) if cell else None
    except ValueError:
        return cell


def _one_of(*words: str) -> Callable[[np.random.Generator], Cells]:
    """Every word about as often; the last row has no target."""
    return lambda generator: {"kind": [*generator.permutation(np.resize(words, ROWS))[1:].tolist(), ""]}


def _numbers(draw: Callable[[np.random.Generator], np.ndarray], columns: int) -> Callable[[np.random.Generator], Cells]:
    return lambda generator: {f"y{place}": list(map(str, draw(generator).tolist())) for place in range(columns)}


def _labels(*words: str) -> Callable[[np.random.Generator], Cells]:
    return lambda generator: {
        f"has_{place}": [words[label] for label in generator.integers(2, size=ROWS)] for place in range(3)
    }


def _one_hot(generator: np.random.Generator) -> Cells:
    rows = np.eye(3, dtype=int)[generator.integers(3, size=ROWS)]
    return {f"is_{place}": list(map(str, column.tolist())) for place, column in enumerate(rows.T)}


def _shares(generator: np.random.Generator) -> Cells:
    rows = generator.dirichlet([1.0, 2.0, 3.0], ROWS).round(4)
    rows[:, 2] = 1 - rows[:, 0] - rows[:, 1]
    return {f"share_{place}": [f"{value:.4f}" for value in column] for place, column in enumerate(rows.T)}


_ANY_CLASS = ("auto", "cross_entropy", "focal", "binary_cross_entropy", "hinge")
_ANY_NUMBER = tuple(["auto", *(name for names in LEGAL["regression"].values() for name in names)])
_TWO: dict[OutputActivation, int] = {"softmax": 2, "sigmoid": 1, "linear": 1}
_MANY = ["ash", "beech", "cedar", "elm", "fir", "oak", "yew"]

KINDS = [
    Kind("seven", "classification", _one_of(*_MANY), {"softmax": 7, "linear": 7}, _ANY_CLASS, tuple(_MANY)),
    Kind("two", "classification", _one_of("no", "yes"), _TWO, _ANY_CLASS, ("no", "yes")),
    Kind("flag", "classification", _one_of("true", "false"), _TWO, _ANY_CLASS, ("true", "false")),
    Kind("grade", "classification", _one_of(*"1234"), {"softmax": 4, "linear": 4}, _ANY_CLASS, tuple("1234")),
    Kind("one_hot", "classification", _one_hot, {"softmax": 3}, ("cross_entropy",)),
    Kind("shares", "classification", _shares, {"softmax": 3}, ("cross_entropy",)),
    Kind("labels", "multilabel", _labels("false", "true"), {"sigmoid": 3, "linear": 3}, _ANY_CLASS),
    Kind("flags", "multilabel", _labels("0", "1"), {"sigmoid": 3, "linear": 3}, _ANY_CLASS[2:]),
    Kind("amount", "regression", _numbers(lambda one: one.normal(1, 2, ROWS).round(3), 1), {"linear": 1}, _ANY_NUMBER),
    Kind("amounts", "regression", _numbers(lambda one: one.normal(0, 1, ROWS).round(3), 2), {"linear": 2}, _ANY_NUMBER),
    Kind("counts", "regression", _numbers(lambda one: one.poisson(2, ROWS), 2), {"linear": 2, "exp": 2}, (), (), 0),
    Kind(
        "positive",
        "regression",
        _numbers(lambda one: one.gamma(2, 1, ROWS).round(3) + 0.001, 1),
        {"linear": 1, "exp": 1},
        _ANY_NUMBER,
        (),
        0.001,
    ),
]
