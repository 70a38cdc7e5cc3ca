"""A resolved spec is a spec, and resolves to itself: over specs that are drawn from the published schema."""

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st

from core import errors
from core.profile import Column
from core.resolve import resolve
from core.resolve.output import LEGAL
from core.spec import TrainingSpec
from core.spec.data import Split
from core.spec.features import ColumnChoice
from core.spec.metrics import CLASS_METRICS, NUMBER_METRICS, OF_LABELS, Task
from core.spec.network import Network, Output
from core.spec.training import Trace, Training
from tests.core.columns import PENGUINS, ROWS, boolean, integers, number
from tests.drawn import Json, accepts, drawn, drawn_field

COLUMNS = [
    *PENGUINS,
    number("mass", minimum=1.0, maximum=9.0, missing=2),
    number("trust", minimum=0.0, maximum=2.0),
    integers("year", 4),
    boolean("wet"),
    boolean("warm"),
    *(integers(name, 2) for name in ("a", "b", "c")),
    Column(name="remark", type="text", missing=0, distinct=140),
]
METRICS: dict[Task, Sequence[str]] = {
    "classification": CLASS_METRICS[:7],
    "multilabel": OF_LABELS[:4],
    "regression": NUMBER_METRICS,
}
TARGETS: dict[Task, list[str | list[str]]] = {
    "classification": ["species", "sex", "wet", ["a", "b", "c"]],
    "multilabel": [["wet", "warm"], "wet", ["a", "b"]],
    "regression": ["mass", ["mass", "trust"], ["mass"]],
}


def specs_of(task: Task) -> Json:
    """Specs that mostly fit the table."""
    losses = sorted({name for names in LEGAL[task].values() for name in names})
    names = st.sampled_from(METRICS[task])
    chosen: dict[str, Json] = {
        "loss": st.sampled_from(["auto", *losses]),
        "metrics": st.lists(names, max_size=3, unique=True),
        "monitor": st.just("val_loss") | names.map("valid_{}".format) | names.map("train_{}".format),
        "class_weights": st.sampled_from([None, "balanced"] if task == "classification" else [None]),
        "accumulate": st.just(1),
        "units": st.integers(1, 64),
        "hidden": st.lists(st.integers(1, 64), max_size=3),
        "output": st.none(),
        "validation": st.sampled_from([0.0, 0.1, 0.5]),
        "test": st.sampled_from([0.0, 0.3]),
        "method": st.sampled_from(["auto", "random"]),
    }
    choice = drawn(ColumnChoice, {})
    features = st.fixed_dictionaries(
        {},
        optional={
            "exclude": st.lists(st.sampled_from(["width", "year"]), unique=True),
            "columns": st.fixed_dictionaries({}, optional={"year": choice, "width": choice, "remark": choice}),
        },
    )
    layers = st.fixed_dictionaries({"layers": drawn_field(Network, "layers", chosen)})
    short = {name: drawn_field(Network, name, chosen) for name in ("hidden", "activation")}
    network = layers | st.fixed_dictionaries({}, optional=short)
    return st.fixed_dictionaries(
        {"target": st.sampled_from(TARGETS[task]), "task": st.just(task)},
        optional={
            "sample_weight": st.just("length"),
            "features": features,
            "split": drawn(Split, chosen),
            "network": network.filter(lambda body: accepts(Network, body)),
            "training": drawn(Training, chosen),
            "trace": drawn(Trace, {}),
        },
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.one_of([specs_of(task) for task in TARGETS]))
def test_a_resolved_spec_is_a_spec_and_resolves_to_itself(asked: dict[str, Any]) -> None:
    try:
        first = resolve(TrainingSpec.model_validate(asked), COLUMNS, ROWS)
    except errors.DataInvalid as refused:
        event(refused.code)
        reject()

    sent_again = TrainingSpec.model_validate_json(first.spec.model_dump_json())
    second = resolve(sent_again, COLUMNS, ROWS)

    assert sent_again == first.spec
    assert second.spec == first.spec
    assert (second.outputs, second.memory, second.parameters) == (first.outputs, first.memory, first.parameters)
    event("resolved")


NAMES = st.sampled_from([column.name for column in COLUMNS])
SMALL = {"units": st.integers(1, 2000), "hidden": st.lists(st.integers(1, 2000), max_size=3)}
ANYTHING = st.fixed_dictionaries(
    {
        "target": NAMES | st.lists(NAMES, min_size=1, max_size=4, unique=True),
        "task": st.sampled_from(["auto", "auto", "classification", "multilabel", "regression"]),
        "network": st.fixed_dictionaries({"hidden": st.just([3])}, optional={"output": drawn(Output, SMALL)}),
        "training": drawn(Training, SMALL),
        "split": drawn(Split, {}),
    }
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(ANYTHING)
def test_whatever_a_spec_asks_is_resolved_or_refused(asked: dict[str, Any]) -> None:
    try:
        found = resolve(TrainingSpec.model_validate(asked), COLUMNS, ROWS)
    except errors.DataInvalid as refused:
        event(refused.code)
    else:
        assert found.spec.task in TARGETS
        assert found.spec.network.output is not None
        assert found.spec.training.loss.name != "auto"
        assert found.spec.training.metrics is not None
