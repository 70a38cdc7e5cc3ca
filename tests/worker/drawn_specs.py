"""Specs drawn at random from the classes of `core.spec` themselves: a new field, part or word is drawn without a change
here.

What one class checks by itself is met by drawing its part again. What depends on the table or on another part (a loss
that fits the target, a metric that fits the task) is steered, in `_Spec`. Numbers without a near bound are drawn near
1, and sizes only as large as a test can afford. Words are our own: synonyms are with `tests/core/test_spec.py`.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from core.spec import TrainingSpec
from core.spec.activations import AnyActivation, Plain, Softmax
from core.spec.data import Split
from core.spec.features import (
    DATETIME,
    EMBEDDING,
    NUMBER,
    ONE_HOT,
    ORDINAL,
    VECTOR,
    ColumnChoice,
    CyclicPart,
    DatePart,
    EncodeWord,
    Features,
    FeatureType,
    ImputeWord,
    ScaleWord,
)
from core.spec.features import Kind as Input
from core.spec.losses import AnyLoss
from core.spec.metrics import METRICS, MONITORS, OF_LABELS, PROBABILITY_METRICS, metrics_of
from core.spec.network import Dense, Layer, Network, Output, OutputActivation
from core.spec.optimizers import AnyOptimizer, Lbfgs, RAdam, RMSprop, Sgd
from core.spec.schedules import PlateauRate
from core.spec.training import Stop, ThresholdMetric, Trace, Training
from core.spec.values import Positive, Units
from tests.worker.drawn_tables import BY, DATES, EITHER, EVERY, KINDS, NUMBERS, PARTS, VALUES, VECTORS, WEIGHT, Kind

STEPS = 2
AFFORDABLE = {"units": 48, "hidden": 48, "threads": 1, "dimension": 16, "max_iter": 20}  # by the name of the field
MAX_ITEMS = 5  # of a list
FAR = 4.0  # what a number is at most that may be as large as float32 or nearly so
ELSEWHERE = {
    "start_from",
    "outputs",
}  # fields of a spec that need an earlier job or network, and have tests of their own
TRIES = 200
TASKS = get_args(TrainingSpec.model_fields["task"].annotation)
METHODS = get_args(Split.model_fields["method"].annotation)
SCALES = get_args(TrainingSpec.model_fields["target_scale"].annotation)
THRESHOLD_METRICS = get_args(ThresholdMetric)
CODED = [ONE_HOT, ORDINAL, EMBEDDING]

Steered = Callable[[], Any]


class Drawer:
    """Draws values of annotated types. Of words it takes those more often that it has taken less."""

    def __init__(self, random: Random, uses: Counter[Any]) -> None:
        self.random = random
        self._uses = uses
        self.steered: dict[tuple[type, str], Steered] = {}

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def word(self, words: Sequence[Any], among: Sequence[Any]) -> Any:
        """One of `words`, a part of those of a whole `Literal` or union."""
        weights = [(1 + self._uses[(*among, word)]) ** -3.0 for word in words]
        chosen = self.random.choices(words, weights)[0]
        self._uses[(*among, chosen)] += 1
        return chosen

    def some(self, words: Sequence[Any], among: Sequence[Any] = ()) -> list[Any]:
        """A few of them, each once."""
        left, chosen = list(words), []
        for _ in range(self.random.randint(1, min(len(left), MAX_ITEMS)) if left else 0):
            chosen.append(self.word(left, among))
            left.remove(chosen[-1])
        return chosen

    def part(self, kind: type[BaseModel], **said: Any) -> dict[str, Any]:
        """The JSON of one part; drawn again until its class takes it."""
        for _ in range(TRIES):
            drawn, uses = dict(said), self._uses.copy()
            for name, field in kind.model_fields.items():
                if name in said:
                    continue
                if (steered := self.steered.get((kind, name))) is not None:
                    drawn[name] = steered()
                elif field.is_required() or self.chance(0.85):
                    drawn[name] = self.value(field.annotation, field.metadata, name)
            try:
                kind.model_validate(drawn)
                return drawn
            except ValidationError:
                self._uses.clear()
                self._uses.update(uses)
        raise AssertionError(f"{kind.__name__} takes nothing that is drawn for it")

    def value(self, wanted: Any, marks: Sequence[Any], name: str) -> Any:
        """JSON of a type, within the bounds that its marks say."""
        origin, arguments = get_origin(wanted), get_args(wanted)
        if origin is Annotated:
            return self.value(arguments[0], [*marks, *_flat(arguments[1:])], name)
        if origin in (Union, UnionType):
            return self._one_of(arguments, marks, name)
        if origin is Literal:
            return self.word(arguments, arguments)
        if origin is list:
            least, most = max([0, *_said(marks, MinLen)]), min([MAX_ITEMS, *_said(marks, MaxLen)])
            count = self.random.randint(int(least), int(most))
            return [self.value(arguments[0], (), name) for _ in range(count)]
        if origin is tuple:
            return [self.value(one, (), name) for one in arguments]
        if wanted is bool:
            return self.chance(0.5)
        if wanted is int:
            return self._integer(marks, name)
        if wanted is float:
            return self._number(marks)
        if isinstance(wanted, type) and issubclass(wanted, BaseModel):
            return self.part(wanted)
        raise AssertionError(f"nobody has said how to draw {name}: {wanted}")

    def _one_of(self, kinds: Sequence[Any], marks: Sequence[Any], name: str) -> Any:
        """A member of a union. One of named parts is drawn by its name, so that each name is drawn as often."""
        if NoneType in kinds and self.chance(0.4):
            return None
        kinds = [kind for kind in kinds if kind is not NoneType]
        if len(kinds) == 1:
            return self.value(kinds[0], marks, name)
        return self.named(kinds)

    def named(self, kinds: Sequence[Any], words: Sequence[str] | None = None) -> dict[str, Any]:
        """One of these parts, called by one of these words, or by any."""
        key = "type" if "type" in kinds[0].model_fields else "name"
        by_word = {word: kind for kind in kinds for word in get_args(kind.model_fields[key].annotation)}
        chosen = self.word(list(by_word) if words is None else words, tuple(by_word))
        return self.part(by_word[chosen], **{key: chosen})

    def _integer(self, marks: Sequence[Any], name: str) -> int:
        """Small ones as often as large ones."""
        least = int(max([0, *_said(marks, Ge), *(bound + 1 for bound in _said(marks, Gt))]))
        most = int(min([2**53 - 1, *_said(marks, Le), AFFORDABLE.get(name, math.inf)]))
        return least if self.chance(0.1) else least - 1 + round((most - least + 1) ** self.random.random())

    def _number(self, marks: Sequence[Any]) -> float:
        """A bound itself, where it belongs to the range; else small ones as often as large ones."""
        least = max([-FAR / 2, *_said(marks, Ge), *_said(marks, Gt)])
        most = min([max(FAR, least + FAR), *_said(marks, Le), *_said(marks, Lt)])
        edges = [edge for edge in (*_said(marks, Ge), *_said(marks, Le)) if edge in (least, most)]
        if edges and self.chance(0.2):
            return float(self.random.choice(edges))
        if least < 0 or self.chance(0.5):
            return round(self.random.uniform(least + 1e-3, most - 1e-3), 6)
        return float(f"{least + (most - least) * 10 ** self.random.uniform(-6, -0.01):.4g}")


def _flat(marks: Sequence[Any]) -> Iterator[Any]:
    for mark in marks:
        yield from mark.metadata if isinstance(mark, FieldInfo) else [mark]


def _said(marks: Sequence[Any], kind: type[Any]) -> list[float]:
    """The bounds of this kind."""
    return [getattr(mark, name) for mark in marks if isinstance(mark, kind) for name in kind.__dataclass_fields__]


# --- what fits together -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A spec as JSON, and the table that it is for."""

    kind: Kind
    spec: dict[str, Any]


def draw(count: int, seed: int = 0) -> list[Drawn]:
    """So many specs, the same ones for a seed. Each trains for two steps, most of them in the same epoch."""
    random, uses = Random(seed), Counter[Any]()
    return [_Spec(Drawer(random, uses)).drawn() for _ in range(count)]


class _Spec:
    """One spec: first the choices that others depend on, then all of it."""

    def __init__(self, drawer: Drawer) -> None:
        self._drawer = drawer
        self._kind = kind = drawer.word(KINDS, ["kind"])
        self._form = form = drawer.word(list(kind.forms), [kind.task, "form"])
        drawer.steered = {(Dense, "activation"): lambda: drawer.named(get_args(AnyActivation))}
        for one in get_args(AnyOptimizer):
            drawer.steered[one, "learning_rate"] = partial(self._learning_rate, one)
            # Squares that are forgotten at once make of torch's step, too, one of any size, or no number.
            drawer.steered[one, "betas"] = lambda: [drawer.random.uniform(0, 0.95), drawer.random.uniform(0.5, 0.999)]
        drawer.steered[RMSprop, "alpha"] = lambda: drawer.random.uniform(0.5, 0.99)
        self._loss = drawer.named(get_args(AnyLoss), [drawer.word(kind.losses(form), [kind.task, form])])
        self._optimizer = drawer.named(get_args(AnyOptimizer))
        self._one_step_an_epoch = self._optimizer["name"] == "lbfgs" or drawer.chance(0.1)
        units = kind.forms[form] * len(self._loss.get("quantiles", [0]))
        drawer.steered |= {
            (Output, "units"): lambda: units,
            (Output, "activation"): lambda: drawer.word([form], get_args(OutputActivation)),
        }
        self._network = self._draw_network(units)
        self._is_balanced = False

    def drawn(self) -> Drawn:
        drawer, kind = self._drawer, self._kind
        include = drawer.some(EVERY) if drawer.chance(0.3) else None
        drawer.steered |= {(TrainingSpec, name): lambda: None for name in ELSEWHERE}
        drawer.steered[TrainingSpec, "outputs"] = list
        drawer.steered |= {
            (Features, "include"): lambda: include,
            (Features, "exclude"): lambda: drawer.some([one for one in EVERY if one not in (include or [])])[:3],
            (Features, "columns"): lambda: {name: self._choice_of(name) for name in drawer.some(EVERY)},
            (Features, "numbers"): lambda: self._choice([NUMBER]),
            (Features, "categories"): lambda: self._choice(CODED, "soil", "wet"),
            (Features, "datetimes"): lambda: self._choice([DATETIME]),
            (Features, "vectors"): lambda: self._choice([VECTOR]),
            (TrainingSpec, "target_scale"): self._target_scale,
            (TrainingSpec, "split"): self._split,
            (Split, "validation"): lambda: drawer.random.choice([0, 0.1, 0.2, 0.3]),
            (Split, "test"): lambda: drawer.random.choice([0, 0.05, 0.1, 0.2]),
            (Trace, "rows"): lambda: drawer.random.randint(self._least_rows, 32),
            (Training, "loss"): lambda: self._loss,
            (Training, "optimizer"): lambda: self._optimizer,
            (Training, "batch_size"): self._batch_size,
            (Training, "accumulate"): lambda: 1 if self._one_step_an_epoch else drawer.random.randint(1, 2),
            (Training, "clip_norm"): partial(self._clip, "clip_norm"),
            (Training, "clip_value"): partial(self._clip, "clip_value"),
            (Training, "epochs"): lambda: 1 + round(99_999 ** drawer.random.random()),
            (Training, "steps"): lambda: STEPS,
            (Training, "refit"): lambda: self._optimizer.get("learning_rate", 0) < 0.1 and drawer.chance(0.4),
            (Training, "class_weights"): self._class_weights,
            (Training, "oversample"): self._oversample,
            (Training, "threshold"): self._threshold,
            (Training, "metrics"): lambda: None if drawer.chance(0.3) else drawer.some(self._metrics, METRICS),
            (Training, "stop"): lambda: drawer.part(Stop),
            (Stop, "monitor"): self._monitor,
            (Stop, "target_loss"): lambda: None if self._one_step_an_epoch else drawer.random.random(),
            (Stop, "max_seconds"): lambda: drawer.random.uniform(600, 30 * 86_400),
            (PlateauRate, "monitor"): self._monitor,
        }
        task = drawer.word([kind.task, "auto"] if self._loss["name"] in kind.auto else [kind.task], TASKS)
        weight = WEIGHT if drawer.chance(0.4) else None
        drawn = {"target": kind.target, "task": task, "sample_weight": weight, "network": self._network}
        return Drawn(kind, drawer.part(TrainingSpec, **drawn, training=drawer.part(Training)))

    def _draw_network(self, units: int) -> dict[str, Any]:
        """In one of the three forms. Layers before an exponential keep it within float32."""
        drawer, form = self._drawer, self._form
        if form == "exp":
            return {"hidden": drawer.value(list[Units], [MinLen(1)], "hidden"), "activation": "tanh"} | (
                {"output": {"units": units, "activation": "exp"}} if drawer.chance(0.5) else {}
            )
        output = {"output": drawer.part(Output)} if drawer.chance(0.5) else {}
        if drawer.chance(0.15):
            return output
        if drawer.chance(0.15):
            return drawer.part(Network, layers=None, **output or {"output": None})
        layers = drawer.value(list[Layer], [], "layers")
        if drawer.chance(0.7):
            layers.insert(0, drawer.part(Dense, type="dense"))
        if not output and form in ("softmax", "sigmoid") and drawer.chance(0.6):
            last = drawer.named([Softmax if form == "softmax" else Plain], [form])
            layers.append(drawer.part(Dense, type="dense", units=units, activation=last))
        elif not output and layers and layers[-1].get("activation") == {"name": "sigmoid"}:
            layers.pop()  # of some targets it would be taken for the output
        return {"layers": layers, **output}

    def _learning_rate(self, optimizer: type) -> float:
        """Up to the largest, where two steps that grow with the gradient, or an exponential, stay within float32."""
        highest = 0.03 if self._form == "exp" or optimizer in (Sgd, RAdam, Lbfgs) else 10
        return float(f"{1e-5 * (highest / 1e-5) ** self._drawer.random.random():.3g}")

    def _clip(self, name: str) -> float | None:
        """Nothing for L-BFGS, which searches along the gradient as it is."""
        field = Training.model_fields[name]
        is_lbfgs = self._optimizer["name"] == "lbfgs"
        return None if is_lbfgs else self._drawer.value(field.annotation, field.metadata, name)

    def _batch_size(self) -> int:
        if self._one_step_an_epoch:
            return self._drawer.random.choice([80, 1_000, 1_000_000])
        return self._drawer.random.randint(self._least_rows, 12)

    @property
    def _least_rows(self) -> int:
        """Of a batch: a single row has no variance."""
        return 2 if "batch_norm" in json.dumps(self._network) else 1

    @property
    def _metrics(self) -> list[str]:
        found = metrics_of(self._kind.task, len(self._kind.classes) or self._kind.forms[self._form])
        return [name for name in found if self._loss["name"] != "hinge" or name not in PROBABILITY_METRICS]

    def _monitor(self) -> str:
        words = [f"{rows}_{name}" for rows in ("train", "valid") for name in ("loss", *self._metrics)]
        return str(self._drawer.word(words, MONITORS))

    def _oversample(self) -> Any:
        """Not for what sees all rows in each step, nor beside the balanced weights that were drawn before it."""
        drawer, is_lbfgs = self._drawer, self._optimizer["name"] == "lbfgs"
        if not self._kind.has_classes or is_lbfgs or self._is_balanced or drawer.chance(0.4):
            return None
        return drawer.random.choice(["balanced", 1, 0.7, 0.01])

    def _threshold(self) -> Any:
        drawer, kind = self._drawer, self._kind
        has_one = kind.task == "multilabel" or (kind.has_classes and len(kind.classes) == 2)
        if not has_one or self._loss["name"] == "hinge" or drawer.chance(0.1):
            return None
        if drawer.chance(0.15):
            return drawer.random.choice([0.5, 0.01, 0.99])
        legal = [one for one in THRESHOLD_METRICS if kind.task != "multilabel" or one in OF_LABELS]
        return {"metric": drawer.word(legal, THRESHOLD_METRICS)}

    def _class_weights(self) -> Any:
        drawer = self._drawer
        self._is_balanced = False
        if not self._kind.has_classes or drawer.chance(0.4):
            return None
        if drawer.chance(0.5):
            self._is_balanced = True
            return "balanced"
        return {name: drawer.value(Positive, [], "class_weights") for name in drawer.some(self._kind.classes)}

    def _target_scale(self) -> str:
        scales = self._kind.task == "regression" and self._loss["name"] not in ("poisson", "gamma")
        return str(self._drawer.word([word for word in SCALES if scales or word != "standard"], SCALES))

    def _split(self) -> dict[str, Any]:
        """By any column that it can go by, which may be a feature as well."""
        drawer = self._drawer
        method = drawer.word([word for word in METHODS if self._kind.has_classes or word != "stratified"], METHODS)
        drawn = drawer.part(Split, method=method, by=drawer.random.choice(BY.get(method, [None])))
        if method != "column":
            return drawn
        for part in ("validation", "test"):  # that the column says: it may be said again
            drawn[part] = PARTS[part] / sum(PARTS.values())
            if drawer.chance(0.5):
                del drawn[part]
        return drawn

    # --- of one column, or of all of a type ---------------------------------------------------------------------------

    def _choice_of(self, name: str) -> dict[str, Any]:
        number = name in NUMBERS or (name in EITHER and self._drawer.chance(0.5))
        inputs = [NUMBER] if number else [DATETIME] if name in DATES else [VECTOR] if name in VECTORS else CODED
        return self._choice(inputs, name)

    def _choice(self, inputs: Sequence[Input], *names: str) -> dict[str, Any]:
        """What may be said of one of these kinds of inputs; `names` are columns that it is said of."""
        drawer = self._drawer
        kind = drawer.word(inputs, ["input"])
        impute = self._maybe(kind.impute, ImputeWord)
        if kind == ORDINAL:  # whose fill value is of its own order, not of one that is said for all columns
            words = kind.impute if len(names) == 1 else [word for word in kind.impute if word != "constant"]
            impute = drawer.word(words, get_args(ImputeWord))
        parts = drawer.some(get_args(DatePart), get_args(DatePart)) if drawer.chance(0.6) else None
        values = [value for name in names for value in VALUES.get(name, [])]
        drawer.steered |= {
            (ColumnChoice, "type"): lambda: self._maybe([kind.type], FeatureType),
            (ColumnChoice, "impute"): lambda: impute,
            (ColumnChoice, "fill_value"): lambda: self._fill_value(kind, values) if impute == "constant" else None,
            (ColumnChoice, "scale"): lambda: self._maybe(kind.scale, ScaleWord),
            (ColumnChoice, "encode"): lambda: drawer.word([kind.encode], get_args(EncodeWord)),
            (ColumnChoice, "min_frequency"): lambda: drawer.random.choice([None, 0.01, 0.3, 1, 5, 30]),
            (ColumnChoice, "order"): lambda: self._order(values, whole=impute == "constant"),
            (ColumnChoice, "parts"): lambda: parts,
            (ColumnChoice, "cyclic"): lambda: self._cyclic(parts),
        }
        drawn = drawer.part(
            ColumnChoice, **{name: None for name in ColumnChoice.model_fields if name not in kind.fields}
        )
        return {name: value for name, value in drawn.items() if value is not None}

    def _maybe(self, words: Sequence[str], literal: Any) -> Any:
        return self._drawer.word(words, get_args(literal)) if self._drawer.chance(0.6) else None

    def _fill_value(self, kind: Input, values: Sequence[Any]) -> Any:
        """Of a category also one that no row has."""
        random = self._drawer.random
        if kind == DATETIME:
            return random.choice(["1999-12-31", "2024-02-29T12:30:00", "2024-01-01T00:00:00+02:00"])
        if kind in (NUMBER, VECTOR):
            return random.choice([0, -1.5, 7])
        return random.choice([*values, *([] if kind == ORDINAL else [99 if 0 in values else "none of them"])])

    def _order(self, values: Sequence[Any], *, whole: bool) -> list[Any] | None:
        """Of all values; or of some, and the others count as missing."""
        random, most = self._drawer.random, len(values)
        count = most if whole else random.choice([0, most, random.randint(1, most)])
        return random.sample(values, count) or None

    def _cyclic(self, parts: list[str] | None) -> list[str] | None:
        cyclic = get_args(CyclicPart)
        among = [part for part in cyclic if part in (parts or [])]
        if self._drawer.chance(0.4) or not parts:
            return None
        return self._drawer.some(among, cyclic)
