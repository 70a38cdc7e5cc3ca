"""What a spec may say, what it means when it says nothing, and where it is wrong."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.problems import from_validation
from core.spec import TrainingSpec
from core.spec.activations import Plain
from core.spec.network import AnyLayer, BatchNorm, Dense, Dropout, Output, parameter_count, widths
from core.spec.optimizers import Adam
from worker.trainer.network import build

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
    assert spec.split.model_dump() == {"method": "auto", "validation": 0.2, "test": 0.0, "seed": 0}
    assert spec.training.optimizer == Adam(name="adam", learning_rate=0.001, betas=(0.9, 0.999), eps=1e-8)
    assert (spec.training.epochs, spec.training.batch_size, spec.training.seed) == (50, 32, 0)
    assert spec.training.stop.target_loss is None
    assert spec.training.stop.monitor == "valid_loss"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("categorical_crossentropy", "cross_entropy"),
        ("sparse_categorical_crossentropy", "cross_entropy"),
        ("binary_crossentropy", "binary_cross_entropy"),
        ("mean_squared_error", "mse"),
    ],
)
def test_other_libraries_losses_become_ours(name: str, canonical: str) -> None:
    assert read(training={"loss": name}).training.loss.name == canonical
    assert read(training={"loss": {"name": name}}).training.loss.name == canonical


@pytest.mark.parametrize(("name", "canonical"), [("swish", "silu"), ("logistic", "sigmoid"), ("identity", "linear")])
def test_other_libraries_activations_become_ours(name: str, canonical: str) -> None:
    layered = read(network={"layers": [DENSE | {"activation": name}]}).network
    short = read(network={"hidden": [8], "activation": name}).network

    assert layered.layers == [Dense.model_validate({"type": "dense", "units": 8, "activation": canonical})]
    assert short.activation == Plain.model_validate({"name": canonical})


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
        ({"target": ""}, "/target"),
        ({"target": "x" * 257}, "/target"),
        ({"version": 2}, "/version"),
        ({"resources": {"threads": 0}}, "/resources/threads"),
        ({"features": {"include": ["a", "a"]}}, "/features/include"),
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


def test_all_that_is_wrong_is_said_at_once() -> None:
    body = {"training": {"epochs": -1, "lr": 1}, "split": {"seed": "x"}}

    assert set(refusals(body)) == {"/target", "/training/epochs", "/training/lr", "/split/seed"}


# --- round trip ---------------------------------------------------------------------------------------------------

HIDDEN = st.sampled_from(["linear", "relu", "leaky_relu", "elu", "gelu", "silu", "swish", "tanh", "sigmoid"])
UNIT_INTERVAL = st.floats(0, 0.999, allow_nan=False)
LAYERS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("dense"), "units": st.integers(1, 65_536)},
            optional={"activation": HIDDEN, "bias": st.booleans()},
        ),
        st.fixed_dictionaries({"type": st.just("dropout"), "rate": UNIT_INTERVAL}),
        st.fixed_dictionaries({"type": st.just("batch_norm")}, optional={"momentum": st.floats(0.001, 1)}),
    ),
    max_size=5,
)
NETWORKS = st.one_of(
    st.fixed_dictionaries({}, optional={"hidden": st.lists(st.integers(1, 512), max_size=4), "activation": HIDDEN}),
    st.fixed_dictionaries(
        {"layers": LAYERS},
        optional={
            "output": st.fixed_dictionaries(
                {"units": st.integers(1, 9), "activation": st.sampled_from(["linear", "sigmoid", "softmax"])}
            )
        },
    ),
)
RATES = st.floats(1e-8, 10)
OPTIMIZERS = st.one_of(
    st.sampled_from(["sgd", "adam", "adamw"]),
    st.fixed_dictionaries(
        {"name": st.just("sgd"), "momentum": st.floats(0.1, 0.99)}, optional={"nesterov": st.booleans()}
    ),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["adam", "adamw"]), "learning_rate": RATES},
        optional={"betas": st.tuples(UNIT_INTERVAL, UNIT_INTERVAL).map(list), "weight_decay": st.floats(0, 1)},
    ),
)
TRAININGS = st.fixed_dictionaries(
    {},
    optional={
        "loss": st.sampled_from(["auto", "mse", "categorical_crossentropy", {"name": "binary_cross_entropy"}]),
        "optimizer": OPTIMIZERS,
        "batch_size": st.integers(1, 10_000) | st.just(32.0),
        "epochs": st.integers(1, 100_000),
        "seed": st.integers(0, 2**53 - 1),
        "log_every": st.integers(1, 1000),
        "stop": st.fixed_dictionaries(
            {},
            optional={
                "target_loss": st.floats(0, 100),
                "patience": st.integers(1, 100),
                "monitor": st.sampled_from(["valid_loss", "val_loss", "train_loss"]),
                "max_seconds": st.floats(0.1, 1000),
            },
        ),
    },
)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
SPECS = st.fixed_dictionaries(
    {"target": NAMES},
    optional={
        "task": st.sampled_from(["auto", "classification", "regression"]),
        "network": NETWORKS,
        "training": TRAININGS,
        "split": st.fixed_dictionaries({"validation": st.floats(0, 0.5), "test": st.floats(0, 0.4)}),
        "features": st.fixed_dictionaries(
            {},
            optional={
                "exclude": st.lists(NAMES, max_size=3, unique=True),
                "columns": st.dictionaries(NAMES, st.just({"type": "number", "impute": "mean"}), max_size=2),
            },
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(SPECS)
def test_a_spec_survives_its_json(body: dict[str, Any]) -> None:
    spec = TrainingSpec.model_validate(body)

    again = TrainingSpec.model_validate_json(spec.model_dump_json())

    assert again == spec
    assert again.model_dump_json() == spec.model_dump_json()
    assert TrainingSpec.model_validate(spec.model_dump(mode="json")) == spec


# --- arithmetic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "output", "inputs"),
    [
        ([], Output(units=1, activation="linear"), 1),
        ([], Output(units=3, activation="softmax", bias=False), 7),
        ([Dense(type="dense", units=64, activation="relu")], Output(units=3, activation="softmax"), 4),
        (
            [Dense(type="dense", units=5, bias=False), Dropout(type="dropout", rate=0.5)],
            Output(units=1, activation="sigmoid"),
            11,
        ),
        (
            [
                BatchNorm(type="batch_norm"),
                Dense(type="dense", units=16, activation="tanh"),
                BatchNorm(type="batch_norm"),
                Dropout(type="dropout", rate=0.1),
                Dense(type="dense", units=2, activation="selu", bias=False),
            ],
            Output(units=10, activation="softmax"),
            9,
        ),
    ],
)
def test_the_count_of_parameters_is_that_of_the_network(layers: list[AnyLayer], output: Output, inputs: int) -> None:
    network = build(layers, output, inputs, seed=0)

    counted = parameter_count(layers, output, inputs)

    assert counted == sum(parameter.numel() for parameter in network.parameters())


def test_widths_are_those_of_the_input_and_of_what_each_layer_gives() -> None:
    layers: list[AnyLayer] = [
        Dense(type="dense", units=8),
        Dropout(type="dropout", rate=0.1),
        Dense(type="dense", units=5),
    ]

    assert widths(layers, Output(units=3, activation="softmax"), 4) == [4, 8, 8, 5, 3]
