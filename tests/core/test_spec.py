"""What a spec may say, what it means when it says nothing, and where it is wrong."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.problems import from_validation
from core.spec import TrainingSpec
from core.spec.data import Resources, Split
from core.spec.features import Features
from core.spec.network import AnyLayer, Dense, Dropout, Network, Output, widths
from core.spec.optimizers import Adam
from core.spec.training import Trace, Training
from tests.drawn import accepts, drawn, drawn_field

SMALLEST = {"target": "species"}
DENSE = {"type": "dense", "units": 8, "activation": "relu"}


def read(**parts: Any) -> TrainingSpec:
    return TrainingSpec.model_validate(SMALLEST | parts)


def refusals(body: Any) -> dict[str, str]:
    """Pointer -> code of all that is wrong with a body, as a client is told."""
    with pytest.raises(ValidationError) as refused:
        TrainingSpec.model_validate(body)
    return {one["pointer"]: one["code"] for one in from_validation(refused.value, TrainingSpec).errors}


# --- defaults and synonyms ----------------------------------------------------------------------------------------


def test_a_target_is_enough() -> None:
    spec = read()

    assert (spec.version, spec.task) == (1, "auto")
    shares = {"validation": 0.2, "test": 0.0, "folds": None, "seed": 0}
    assert spec.split.model_dump() == {"method": "auto", "by": None, **shares}
    assert spec.training.optimizer == Adam(name="adam", learning_rate=0.001, betas=(0.9, 0.999), eps=1e-8)
    assert (spec.training.epochs, spec.training.batch_size, spec.training.seed) == (100, 32, 0)
    assert spec.training.stop.target_loss is None
    assert spec.training.stop.monitor == "valid_loss"


def test_keras_names_of_monitors_become_ours() -> None:
    stop = read(training={"stop": {"monitor": "val_loss", "target_monitor": "loss"}}).training.stop

    assert (stop.monitor, stop.target_monitor) == ("valid_loss", "train_loss")


def test_a_bare_optimizer_is_one_with_its_defaults() -> None:
    assert read(training={"optimizer": "adamw"}) == read(training={"optimizer": {"name": "adamw"}})


def test_integral_floats_are_integers() -> None:
    spec = read(training={"epochs": 50.0, "batch_size": 8.0}, network={"hidden": [16.0]})

    assert spec == read(training={"epochs": 50, "batch_size": 8}, network={"hidden": [16]})
    assert '"epochs":50,' in spec.model_dump_json()


def test_an_integer_is_a_number() -> None:
    assert read(training={"optimizer": {"name": "sgd", "learning_rate": 1}}).training.optimizer.learning_rate == 1.0


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"targets": "a", "target": "a"}, "/targets"),
        (SMALLEST | {"training": {"lr": 0.1}}, "/training/lr"),
        (SMALLEST | {"training": {"optimizer": {"name": "adam", "momentum": 0.9}}}, "/training/optimizer/momentum"),
        (SMALLEST | {"network": {"layers": [DENSE | {"size": 3}]}}, "/network/layers/0/size"),
        (SMALLEST | {"features": {"columns": {"a/b~c": {"scaling": 1}}}}, "/features/columns/a~1b~0c/scaling"),
    ],
)
def test_an_unknown_field_is_refused_where_it_stands(body: dict[str, Any], pointer: str) -> None:
    assert refusals(body) == {pointer: "unknown_field"}


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ({"training": {"epochs": "50"}}, "/training/epochs"),
        ({"training": {"epochs": True}}, "/training/epochs"),
        ({"training": {"epochs": 1.5}}, "/training/epochs"),
        ({"training": {"epochs": None}}, "/training/epochs"),
        ({"split": {"validation": "0.1"}}, "/split/validation"),
        ({"split": {"validation": True}}, "/split/validation"),
        ({"training": {"optimizer": {"name": "adam", "learning_rate": "0.1"}}}, "/training/optimizer/learning_rate"),
        ({"training": {"optimizer": {"name": "sgd", "nesterov": 1}}}, "/training/optimizer/nesterov"),
        ({"network": {"layers": [{"type": "dense", "units": 8, "bias": "yes"}]}}, "/network/layers/0/bias"),
        ({"network": {"hidden": 64}}, "/network/hidden"),
        ({"network": {"hidden": ["64"]}}, "/network/hidden/0"),
        ({"target": 5}, "/target"),
        ({"training": []}, "/training"),
    ],
)
def test_a_wrong_type_is_refused_and_never_converted(parts: dict[str, Any], pointer: str) -> None:
    assert list(refusals(SMALLEST | parts)) == [pointer]


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ({"training": {"epochs": -1}}, "/training/epochs"),
        ({"training": {"epochs": 100_001}}, "/training/epochs"),
        ({"training": {"epochs": 1e300}}, "/training/epochs"),
        ({"training": {"batch_size": 0}}, "/training/batch_size"),
        ({"training": {"seed": -1}}, "/training/seed"),
        ({"training": {"seed": 2**53}}, "/training/seed"),
        ({"training": {"optimizer": {"name": "adam", "learning_rate": 0}}}, "/training/optimizer/learning_rate"),
        ({"training": {"optimizer": {"name": "adam", "learning_rate": -0.1}}}, "/training/optimizer/learning_rate"),
        ({"training": {"optimizer": {"name": "adam", "learning_rate": 10.1}}}, "/training/optimizer/learning_rate"),
        (
            {"training": {"optimizer": {"name": "adam", "learning_rate": float("nan")}}},
            "/training/optimizer/learning_rate",
        ),
        ({"training": {"optimizer": {"name": "adam", "betas": [0.9, 1.0]}}}, "/training/optimizer/betas/1"),
        ({"training": {"optimizer": {"name": "adam", "eps": 0}}}, "/training/optimizer/eps"),
        ({"training": {"optimizer": {"name": "sgd", "momentum": 1}}}, "/training/optimizer/momentum"),
        ({"training": {"stop": {"patience": 0}}}, "/training/stop/patience"),
        ({"training": {"stop": {"max_seconds": 0}}}, "/training/stop/max_seconds"),
        ({"network": {"layers": [{"type": "dropout", "rate": 1.0}]}}, "/network/layers/0/rate"),
        ({"network": {"layers": [{"type": "dense", "units": 0}]}}, "/network/layers/0/units"),
        ({"network": {"hidden": [65_537]}}, "/network/hidden/0"),
        ({"network": {"hidden": [1] * 65}}, "/network/hidden"),
        ({"network": {"layers": [DENSE] * 65}}, "/network/layers"),
        ({"split": {"validation": 1.0}}, "/split/validation"),
        ({"split": {"test": -0.1}}, "/split/test"),
        ({"split": {"validation": 0.5, "test": 0.5}}, "/split"),
        ({"split": {"method": "time"}}, "/split"),
        ({"split": {"by": "year"}}, "/split"),
        ({"split": {"method": "last", "by": "year"}}, "/split"),
        ({"target": ""}, "/target"),
        ({"target": "x" * 257}, "/target"),
        ({"version": 2}, "/version"),
        ({"resources": {"threads": 0}}, "/resources/threads"),
        ({"features": {"include": ["a", "a"]}}, "/features/include"),
        ({"target": []}, "/target"),
        ({"target": ["a", "a"]}, "/target"),
        ({"target": ["a", ""]}, "/target/1"),
        ({"training": {"metrics": ["acc", "accuracy"]}}, "/training/metrics"),
        ({"training": {"class_weights": {"a": 0}}}, "/training/class_weights/a"),
        ({"training": {"class_weights": "equal"}}, "/training/class_weights"),
        ({"training": {"ema_decay": 1}}, "/training/ema_decay"),
        ({"training": {"clip_norm": 0}}, "/training/clip_norm"),
        ({"training": {"loss": {"name": "quantile", "quantiles": [0.5, 1.0]}}}, "/training/loss/quantiles/1"),
        ({"training": {"loss": {"name": "cross_entropy", "label_smoothing": 1}}}, "/training/loss/label_smoothing"),
        ({"training": {"schedule": {"name": "reduce_on_plateau", "factor": 0}}}, "/training/schedule/factor"),
        ({"training": {"schedule": {"name": "one_cycle", "pct_start": 1.0}}}, "/training/schedule/pct_start"),
        ({"training": {"optimizer": {"name": "adafactor", "beta2_decay": 0}}}, "/training/optimizer/beta2_decay"),
        ({"network": {"hidden": [4], "activation": {"name": "celu", "alpha": 1e-300}}}, "/network/activation/alpha"),
        ({"network": {"layers": [{"type": "gaussian_noise", "stddev": 1e300}]}}, "/network/layers/0/stddev"),
        ({"network": {"layers": [DENSE | {"max_norm": 0}]}}, "/network/layers/0/max_norm"),
        ({"network": {"layers": [{"type": "residual", "layers": []}]}}, "/network/layers/0/layers"),
        ({"trace": {"rows": 33}}, "/trace/rows"),
    ],
)
def test_what_is_out_of_bounds_is_refused(parts: dict[str, Any], pointer: str) -> None:
    assert list(refusals(SMALLEST | parts)) == [pointer]


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ({"training": {"loss": "dice"}}, "/training/loss"),
        ({"training": {"loss": {"name": "dice"}}}, "/training/loss/name"),
        ({"training": {"optimizer": "lion"}}, "/training/optimizer"),
        ({"network": {"layers": [{"type": "conv", "units": 1}]}}, "/network/layers/0/type"),
        ({"network": {"layers": [DENSE | {"activation": "rleu"}]}}, "/network/layers/0/activation"),
        ({"task": "clustering"}, "/task"),
    ],
)
def test_an_unknown_name_is_refused(parts: dict[str, Any], pointer: str) -> None:
    assert list(refusals(SMALLEST | parts)) == [pointer]


@pytest.mark.parametrize("body", [[], "species", 1, None, {}])
def test_a_spec_is_an_object_with_a_target(body: Any) -> None:
    assert refusals(body)


def test_softmax_belongs_to_the_last_layer() -> None:
    softmax = DENSE | {"activation": "softmax"}

    assert list(refusals(SMALLEST | {"network": {"layers": [softmax, DENSE]}})) == ["/network"]
    assert list(refusals(SMALLEST | {"network": {"hidden": [8], "activation": "softmax"}})) == ["/network/activation"]
    assert read(network={"layers": [DENSE, softmax]})


def test_softmax_in_the_last_hidden_layer_is_refused_beside_an_output() -> None:
    layers = {"layers": [DENSE | {"activation": "softmax"}], "output": {"units": 3, "activation": "softmax"}}

    assert list(refusals(SMALLEST | {"network": layers})) == ["/network"]


def test_layers_and_their_short_form_exclude_each_other() -> None:
    assert refusals(SMALLEST | {"network": {"layers": [DENSE], "hidden": [8]}}) == {"/network": "invalid_value"}
    assert refusals(SMALLEST | {"network": {"layers": [DENSE], "activation": "relu"}}) == {"/network": "invalid_value"}


def test_nesterov_needs_momentum() -> None:
    sgd = {"name": "sgd", "nesterov": True}

    assert list(refusals(SMALLEST | {"training": {"optimizer": sgd}})) == ["/training/optimizer"]
    assert read(training={"optimizer": sgd | {"momentum": 0.9}})


@pytest.mark.parametrize(
    ("parts", "pointer", "sentence"),
    [
        ({"training": {"clip_norm": 1, "clip_value": 1}}, "/training", "`clip_norm` or `clip_value`"),
        ({"training": {"loss": {"name": "quantile", "quantiles": [0.9, 0.1]}}}, "/training/loss", "must rise"),
        ({"training": {"schedule": {"name": "multi_step", "milestones": [3, 3]}}}, "/training/schedule", "must rise"),
        ({"network": {"hidden": [4], "activation": {"name": "rrelu", "lower": 1}}}, "/network/activation", "`upper`"),
        (
            {"network": {"hidden": [4], "activation": {"name": "hardtanh", "max_val": -2}}},
            "/network/activation",
            "below",
        ),
        (
            {"network": {"layers": [DENSE | {"bias_initializer": {"name": "random_uniform", "minval": 1}}]}},
            "/network/layers/0/bias_initializer",
            "`maxval`",
        ),
        ({"features": {"columns": {"a": {"dimension": 4}}}}, "/features/columns/a", "`encode: embedding`"),
        ({"features": {"columns": {"a": {"encode": "one_hot", "dimension": 4}}}}, "/features/columns/a", "embedding"),
        ({"features": {"columns": {"a": {"encode": "one_hot", "scale": "none"}}}}, "/features/columns/a", "categories"),
        ({"features": {"columns": {"a": {"type": "category", "impute": "mean"}}}}, "/features/columns/a", "together"),
        ({"features": {"columns": {"a": {"type": "number", "encode": "one_hot"}}}}, "/features/columns/a", "numbers"),
    ],
)
def test_fields_that_exclude_each_other_are_refused_with_why(
    parts: dict[str, Any], pointer: str, sentence: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingSpec.model_validate(SMALLEST | parts)

    [found] = from_validation(refused.value, TrainingSpec).errors
    assert (found["pointer"], found["code"]) == (pointer, "invalid_value")
    assert sentence in found["message"]


def test_softmax_belongs_to_no_residual_block() -> None:
    block = {"type": "residual", "layers": [DENSE | {"activation": "softmax"}]}

    assert list(refusals(SMALLEST | {"network": {"layers": [block]}})) == ["/network"]


def test_no_epochs_are_left_to_the_job_to_allow() -> None:
    assert read(training={"epochs": 0}).training.epochs == 0


def test_all_that_is_wrong_is_said_at_once() -> None:
    body = {"training": {"epochs": -1, "lr": 1}, "split": {"seed": "x"}}

    assert set(refusals(body)) == {"/target", "/training/epochs", "/training/lr", "/split/seed"}


# --- round trip ---------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
LAYERED = st.fixed_dictionaries(
    {"layers": drawn_field(Network, "layers", {})}, optional={"output": drawn_field(Network, "output", {})}
)
SHORT = st.fixed_dictionaries(
    {}, optional={name: drawn_field(Network, name, {}) for name in ("hidden", "activation", "output")}
)
SPECS = st.fixed_dictionaries(
    {"target": NAMES | st.lists(NAMES, min_size=1, max_size=3, unique=True)},
    optional={
        "task": st.sampled_from(["auto", "classification", "multilabel", "regression"]),
        "sample_weight": NAMES,
        "network": (LAYERED | SHORT).filter(lambda body: accepts(Network, body)),
        "training": drawn(Training, {}),
        "split": drawn(Split, {}),
        "features": drawn(Features, {}),
        "trace": drawn(Trace, {}),
        "resources": drawn(Resources, {}),
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(SPECS)
def test_a_spec_survives_its_json(body: dict[str, Any]) -> None:
    spec = TrainingSpec.model_validate(body)

    again = TrainingSpec.model_validate_json(spec.model_dump_json())

    assert again == spec
    assert again.model_dump_json() == spec.model_dump_json()
    assert TrainingSpec.model_validate(spec.model_dump(mode="json")) == spec


# --- arithmetic ---------------------------------------------------------------------------------------------------


def test_widths_are_those_of_the_input_and_of_what_each_layer_gives() -> None:
    layers: list[AnyLayer] = [
        Dense(type="dense", units=8),
        Dropout(type="dropout", rate=0.1),
        Dense(type="dense", units=5),
    ]

    assert widths(layers, Output(units=3, activation="softmax"), 4) == [4, 8, 8, 5, 3]
