"""Every word of a spec: ours are accepted, other libraries' become ours, and what is close to one is suggested."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from api.problems import from_validation
from core.spec import TrainingSpec
from core.spec.activations import ACTIVATION_SYNONYMS, AnyActivation
from core.spec.initializers import INITIALIZER_SYNONYMS, AnyInitializer
from core.spec.losses import LOSS_SYNONYMS, AnyLoss
from core.spec.metrics import METRIC_SYNONYMS, METRICS, MONITOR_SYNONYMS, MONITORS, lower_is_better
from core.spec.optimizers import OPTIMIZER_SYNONYMS, AnyOptimizer
from core.spec.schedules import SCHEDULE_SYNONYMS, AnySchedule
from core.spec.training import LOSS_MONITOR_SYNONYMS, PRECISION_SYNONYMS
from core.spec.values import Part
from tests.drawn import PARTS

REQUIRED: dict[str, Any] = {
    "units": 8,
    "rate": 0.5,
    "stddev": 0.1,
    "milestones": [2],
    "layers": [{"type": "dropout", "rate": 0.5}],
    "activation": "relu",
    "target": "y",
}


BESIDE = {  # what a word cannot do without
    **{("method", method): {"by": "x"} for method in ("time", "group", "column")},
    ("impute", "constant"): {"fill_value": 0},
}


def smallest(part: type[Part]) -> dict[str, Any]:
    """The least that this part takes."""
    fields = {name: field for name, field in part.model_fields.items() if field.is_required()}
    return {name: next(iter(words(field.annotation)), REQUIRED.get(name)) for name, field in fields.items()}


def words(annotation: Any) -> Iterator[str]:
    """The words of the Literals in an annotation, without those of lists and of parts that are objects."""
    if get_origin(annotation) is Literal:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
    elif get_origin(annotation) is not list:
        for inner in get_args(annotation):
            yield from words(inner)


def named(parts: Any) -> list[str]:
    return [name for part in get_args(parts) for name in get_args(part.model_fields["name"].annotation)]


# --- each word is accepted ----------------------------------------------------------------------------------------

WORDS = [
    pytest.param(part, field, word, id=f"{part.__name__}.{field}={word}")
    for part in (TrainingSpec, *PARTS.values())
    for field, info in part.model_fields.items()
    for word in words(info.annotation)
]


@pytest.mark.parametrize(("part", "field", "word"), WORDS)
def test_each_word_of_a_literal_is_accepted(part: type[Part], field: str, word: str) -> None:
    read = part.model_validate(smallest(part) | BESIDE.get((field, word), {}) | {field: word})

    assert getattr(read, field) == word


def test_each_metric_is_accepted() -> None:
    for name in METRICS:
        assert read("metrics", [name]) == [name]
        assert read("stop", {"monitor": f"valid_{name}"}).monitor == f"valid_{name}"


KINDS = {
    "loss": (AnyLoss, LOSS_SYNONYMS),
    "optimizer": (AnyOptimizer, OPTIMIZER_SYNONYMS),
    "schedule": (AnySchedule, SCHEDULE_SYNONYMS),
    "activation": (AnyActivation, ACTIVATION_SYNONYMS),
    "weight_initializer": (AnyInitializer, INITIALIZER_SYNONYMS),
}


def read(kind: str, value: Any) -> Any:
    """What a spec makes of this value of this kind."""
    if kind in ("activation", "weight_initializer"):
        layer = {"type": "dense", "units": 4, kind: value}
        spec = TrainingSpec.model_validate({"target": "y", "network": {"layers": [layer]}})
        assert spec.network.layers is not None
        return getattr(spec.network.layers[0], kind)
    return getattr(TrainingSpec.model_validate({"target": "y", "training": {kind: value}}).training, kind)


NAMES = [(kind, name) for kind, (parts, _) in KINDS.items() for name in named(parts)]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_each_name_is_accepted_as_an_object_and_alone(kind: str, name: str) -> None:
    body = {"name": name} | ({"milestones": [2]} if name == "multi_step" else {})

    found = read(kind, body)

    assert found.name == name
    if len(body) == 1:
        assert read(kind, name) == found


def test_a_name_that_needs_more_is_refused_where_that_is_missing() -> None:
    with pytest.raises(ValidationError) as refused:
        read("schedule", "multi_step")

    problem = from_validation(refused.value, TrainingSpec)
    assert [(one["pointer"], one["code"]) for one in problem.errors] == [
        ("/training/schedule/milestones", "missing_field")
    ]


# --- other libraries' words ---------------------------------------------------------------------------------------

SYNONYMS = [(kind, theirs, ours) for kind, (_, synonyms) in KINDS.items() for theirs, ours in synonyms.items()]


@pytest.mark.parametrize(("kind", "theirs", "ours"), SYNONYMS)
def test_each_synonym_becomes_our_word(kind: str, theirs: str, ours: str) -> None:
    body = {"milestones": [2]} if ours == "multi_step" else {}

    assert read(kind, {"name": theirs, **body}) == read(kind, {"name": ours, **body})
    if not body:
        assert read(kind, theirs) == read(kind, ours)


@pytest.mark.parametrize(("theirs", "ours"), METRIC_SYNONYMS.items())
def test_each_synonym_of_a_metric_becomes_our_word(theirs: str, ours: str) -> None:
    assert read("metrics", [theirs]) == [ours]


@pytest.mark.parametrize(("theirs", "ours"), MONITOR_SYNONYMS.items())
def test_each_synonym_of_a_monitor_becomes_our_word(theirs: str, ours: str) -> None:
    assert read("stop", {"monitor": theirs}).monitor == ours
    assert read("schedule", {"name": "reduce_on_plateau", "monitor": theirs}).monitor == ours


def test_each_synonym_of_the_rest_becomes_our_word() -> None:
    for theirs, ours in LOSS_MONITOR_SYNONYMS.items():
        assert read("stop", {"target_monitor": theirs}).target_monitor == ours
    for theirs, ours in PRECISION_SYNONYMS.items():
        assert read("precision", theirs) == ours
    assert read("weight_initializer", "eye").name == "identity"


@pytest.mark.parametrize(
    ("own", "synonyms"),
    [(set(named(parts)), synonyms) for parts, synonyms in KINDS.values()]
    + [(set(METRICS), METRIC_SYNONYMS), (set(MONITORS), MONITOR_SYNONYMS)],
)
def test_no_synonym_takes_the_place_of_a_word_of_ours(own: set[str], synonyms: dict[str, str]) -> None:
    assert own.isdisjoint(synonyms)
    assert own.issuperset(synonyms.values())


def test_kerass_names_of_softmax_are_those_of_the_output() -> None:
    spec = TrainingSpec.model_validate(
        {"target": "y", "network": {"layers": [{"type": "dense", "units": 3, "activation": "Softmax"}]}}
    )

    assert spec.model_dump(mode="json")["network"]["layers"][0]["activation"] == "softmax"


def test_errors_get_better_downwards_and_scores_upwards() -> None:
    assert all(map(lower_is_better, ("valid_loss", "train_rmse", "valid_brier", "valid_log_loss", "valid_max_error")))
    assert not any(map(lower_is_better, ("valid_accuracy", "train_r2", "valid_roc_auc", "valid_pearson", "valid_f1")))


# --- words that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "pointer", "meant"),
    [
        ({"sample_weights": "w"}, "/sample_weights", "sample_weight"),
        ({"training": {"clipnorm": 1.0}}, "/training/clipnorm", "clip_norm"),
        ({"training": {"class_weight": "balanced"}}, "/training/class_weight", "class_weights"),
        ({"training": {"lr_scheduler": "cosine"}}, "/training/lr_scheduler", "schedule"),
        ({"training": {"min_delta": 0.1}}, "/training/min_delta", "stop.min_delta"),
        ({"training": {"optimizer": {"name": "adam", "epsilon": 1e-7}}}, "/training/optimizer/epsilon", "eps"),
        ({"training": {"optimizer": {"name": "lbfgs", "history": 5}}}, "/training/optimizer/history", "history_size"),
        ({"training": {"schedule": {"name": "cosine", "warmup": 3}}}, "/training/schedule/warmup", "warmup_epochs"),
        ({"training": {"schedule": {"name": "reduce_on_plateau", "min_lr": 0.1}}}, None, "min_factor"),
        ({"training": {"loss": {"name": "huber", "detla": 2}}}, "/training/loss/detla", "delta"),
        ({"training": {"loss": {"name": "gamma", "gama": 2}}}, "/training/loss/gama", None),
        ({"training": {"stop": {"baseline": 1}}}, "/training/stop/baseline", None),
        (
            {"network": {"layers": [{"type": "dense", "units": 2, "kernel_initializer": "zeros"}]}},
            "/network/layers/0/kernel_initializer",
            "weight_initializer",
        ),
        (
            {"network": {"layers": [{"type": "residual", "layers": [{"type": "layer_norm", "epsilon": 1e-3}]}]}},
            "/network/layers/0/layers/0/epsilon",
            "eps",
        ),
        (
            {"network": {"layers": [{"type": "activation", "activation": {"name": "threshold", "values": 1}}]}},
            "/network/layers/0/activation/values",
            "value",
        ),
        (
            {"network": {"hidden": [2], "activation": {"name": "leaky_relu", "slope": 0.2}}},
            "/network/activation/slope",
            "negative_slope",
        ),
        ({"features": {"columns": {"zip": {"embedding_dim": 3}}}}, "/features/columns/zip/embedding_dim", "dimension"),
        ({"resources": {"gpu": True}}, "/resources/gpu", None),
        ({"device": "cpu"}, "/device", "resources.device"),
        ({"trace": {"row": 2}}, "/trace/row", "rows"),
    ],
)
def test_an_unknown_field_of_a_part_is_refused_with_what_was_meant(
    part: dict[str, Any], pointer: str | None, meant: str | None
) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingSpec.model_validate({"target": "y"} | part)

    [found] = from_validation(refused.value, TrainingSpec).errors
    assert found["code"] == "unknown_field"
    assert found.get("suggestion") == meant
    assert pointer is None or found["pointer"] == pointer


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ({"network": {"hidden": [4], "activation": {"name": "threshold", "threshold": "x"}}}, "activation/threshold"),
        ({"network": {"layers": [{"type": "activation", "activation": "rleu"}]}}, "layers/0/activation"),
        ({"network": {"layers": [{"type": "activation", "activation": {"name": "x"}}]}}, "layers/0/activation/name"),
        ({"network": {"layers": [{"type": "activation"}]}}, "layers/0/activation"),
        ({"network": {"layers": [{"type": "residual", "layers": [{"type": "residual"}]}]}}, "layers/0/layers/0/type"),
    ],
)
def test_a_part_that_is_named_like_a_field_is_pointed_at_where_it_stands(part: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingSpec.model_validate({"target": "y"} | part)

    found = from_validation(refused.value, TrainingSpec).errors
    assert [one["pointer"] for one in found] == [f"/network/{pointer}"]


def test_a_wrong_name_is_refused_with_all_that_are_right() -> None:
    with pytest.raises(ValidationError) as alone:
        read("optimizer", "lion")
    with pytest.raises(ValidationError) as in_an_object:
        read("optimizer", {"name": "lion"})

    for refused, pointer in ((alone, "/training/optimizer"), (in_an_object, "/training/optimizer/name")):
        [found] = from_validation(refused.value, TrainingSpec).errors
        assert found["pointer"] == pointer
        assert all(f"'{name}'" in found["message"] for name in named(AnyOptimizer))
        assert "lion" not in found["message"]
