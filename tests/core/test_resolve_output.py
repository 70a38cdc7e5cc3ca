"""Which output layer and which loss a target gets, and which it may have."""

from typing import Any

import pytest

from core import errors
from core.profile import Column
from tests.core.columns import (
    LENGTH,
    PENGUINS,
    SEX,
    SPECIES,
    WIDTH,
    boolean,
    category,
    codes,
    dense,
    form,
    integers,
    number,
    resolved,
)


@pytest.mark.parametrize(
    ("columns", "target", "output", "loss"),
    [
        ([LENGTH, SPECIES], "species", (3, "softmax"), "cross_entropy"),
        ([LENGTH, SEX], "sex", (1, "sigmoid"), "binary_cross_entropy"),
        ([LENGTH, WIDTH], "width", (1, "linear"), "mse"),
    ],
)
def test_the_output_follows_from_the_target(
    columns: list[Column], target: str, output: tuple[int, str], loss: str
) -> None:
    assert form(resolved(columns, target)) == ([64, 64], output, loss)


def test_a_last_softmax_layer_is_the_output() -> None:
    layers = [dense(8, "relu"), dense(3, "softmax")]

    assert form(resolved(PENGUINS, network={"layers": layers})) == ([8], (3, "softmax"), "cross_entropy")


def test_a_last_sigmoid_layer_is_the_output_of_a_binary_task_only() -> None:
    layers = {"layers": [dense(8, "relu"), dense(1, "sigmoid")]}

    assert form(resolved([LENGTH, SEX], "sex", network=layers)) == ([8], (1, "sigmoid"), "binary_cross_entropy")
    assert form(resolved(PENGUINS, network=layers)) == ([8, 1], (3, "softmax"), "cross_entropy")
    assert form(resolved([LENGTH, WIDTH], "width", network=layers)) == ([8, 1], (1, "linear"), "mse")


def test_two_classes_may_have_a_softmax_of_two() -> None:
    layers = {"layers": [dense(2, "softmax")]}

    assert form(resolved([LENGTH, SEX], "sex", network=layers)) == ([], (2, "softmax"), "cross_entropy")
    assert form(resolved([LENGTH, SEX], "sex", training={"loss": "cross_entropy"}))[1] == (2, "softmax")


@pytest.mark.parametrize(
    ("target", "layer"),
    [("species", dense(4, "softmax")), ("sex", dense(3, "softmax")), ("sex", dense(2, "sigmoid"))],
)
def test_an_output_of_another_width_than_the_classes_is_refused(target: str, layer: dict[str, Any]) -> None:
    with pytest.raises(errors.IncompatibleOutput) as refused:
        resolved(PENGUINS, target, network={"layers": [layer]})

    assert refused.value.errors[0]["pointer"] == "/spec/network"


def test_a_softmax_cannot_end_a_regression() -> None:
    with pytest.raises(errors.IncompatibleOutput):
        resolved([LENGTH, WIDTH], "width", network={"layers": [dense(3, "softmax")]})


CLASS_PAIRS = ("cross_entropy with softmax", "binary_cross_entropy with sigmoid", "hinge with linear")
NUMBER_PAIRS = ("mse with linear", "quantile with linear", "poisson with exp", "gamma with exp")


@pytest.mark.parametrize(
    ("target", "loss", "pairs"),
    [
        ("species", "mse", CLASS_PAIRS),
        ("species", "binary_cross_entropy", CLASS_PAIRS),
        ("sex", "mse", CLASS_PAIRS),
        ("width", "cross_entropy", NUMBER_PAIRS),
        ("width", "binary_cross_entropy", NUMBER_PAIRS),
    ],
)
def test_a_loss_that_does_not_fit_is_refused_with_the_legal_pairs(
    target: str, loss: str, pairs: tuple[str, ...]
) -> None:
    with pytest.raises(errors.IncompatibleLoss) as refused:
        resolved(PENGUINS, target, training={"loss": loss})

    assert all(pair in refused.value.detail for pair in pairs)
    assert refused.value.errors[0]["pointer"] == "/spec/training/loss"


def test_no_hidden_layer_is_a_choice() -> None:
    assert form(resolved(PENGUINS, network={"hidden": []}))[0] == []


def test_a_network_beyond_the_limit_is_refused_with_both_numbers() -> None:
    with pytest.raises(errors.ResourcesExceeded) as refused:
        resolved(PENGUINS, network={"hidden": [65_536, 65_536]})

    assert refused.value.facts["parameters"] > refused.value.facts["limit"] == 100_000_000


def test_missing_values_of_a_category_are_one_more_input() -> None:
    whole = resolved([LENGTH, SEX, SPECIES], network={"hidden": [10]})
    holed = resolved([LENGTH, category("sex", "female", "male", missing=1), SPECIES], network={"hidden": [10]})

    assert whole.parameters == (1 + 2) * 10 + 10 + 10 * 3 + 3
    assert holed.parameters == whole.parameters + 10


# --- pairs of output and loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "loss", "output"),
    [
        ("species", "focal", (3, "softmax")),
        ("species", "hinge", (3, "linear")),
        ("sex", "focal", (1, "sigmoid")),
        ("sex", "hinge", (1, "linear")),
        ("sex", "cross_entropy", (2, "softmax")),
        ("width", "mae", (1, "linear")),
        ("width", "huber", (1, "linear")),
        ("width", "log_cosh", (1, "linear")),
        ("width", {"name": "quantile", "quantiles": [0.1, 0.5, 0.9]}, (3, "linear")),
        ("width", "poisson", (1, "exp")),
        ("width", "gamma", (1, "exp")),
    ],
)
def test_the_output_follows_from_the_loss(target: str, loss: Any, output: tuple[int, str]) -> None:
    columns = [LENGTH, number("width", minimum=0.5, maximum=9.0), SPECIES, SEX]

    assert form(resolved(columns, target, training={"loss": loss}))[1] == output


@pytest.mark.parametrize(
    ("target", "output", "loss"),
    [
        ("species", (3, "softmax"), "hinge"),
        ("species", (3, "linear"), "cross_entropy"),
        ("sex", (1, "sigmoid"), "cross_entropy"),
        ("sex", (2, "softmax"), "binary_cross_entropy"),
        ("width", (1, "exp"), "mse"),
        ("width", (1, "linear"), "poisson"),
    ],
)
def test_a_loss_that_does_not_fit_the_output_is_refused(target: str, output: tuple[int, str], loss: str) -> None:
    columns = [LENGTH, number("width", minimum=0.5, maximum=9.0), SPECIES, SEX]
    network = {"hidden": [4], "output": {"units": output[0], "activation": output[1]}}

    with pytest.raises(errors.IncompatibleLoss) as refused:
        resolved(columns, target, network=network, training={"loss": loss})

    assert "The legal pairs are: " in refused.value.detail
    assert refused.value.errors[0]["message"].startswith("Use one of ")


@pytest.mark.parametrize(("units", "activation"), [(3, "sigmoid"), (2, "softmax"), (1, "linear"), (3, "exp")])
def test_an_output_that_does_not_fit_is_refused_with_those_that_do(units: int, activation: str) -> None:
    network = {"hidden": [4], "output": {"units": units, "activation": activation}}

    with pytest.raises(errors.IncompatibleOutput) as refused:
        resolved(PENGUINS, network=network)

    assert refused.value.errors[0]["message"] == "Use 3 units with softmax or 3 units with linear."


def test_a_linear_output_of_classes_needs_a_loss_by_name() -> None:
    network = {"hidden": [4], "output": {"units": 3, "activation": "linear"}}

    with pytest.raises(errors.IncompatibleLoss):
        resolved(PENGUINS, network=network)
    assert form(resolved(PENGUINS, network=network, training={"loss": "hinge"}))[2] == "hinge"


def test_the_output_keeps_what_a_last_layer_says_of_its_weights() -> None:
    last = dense(3, "softmax") | {"bias": False, "weight_initializer": "he_normal", "l2": 0.01, "max_norm": 2.0}

    output = resolved(PENGUINS, network={"layers": [last]}).spec.network.output

    assert output is not None
    assert output.model_dump(mode="json", include={"bias", "weight_initializer", "l2", "max_norm"}) == {
        "bias": False,
        "weight_initializer": "he_normal",
        "l2": 0.01,
        "max_norm": 2.0,
    }


@pytest.mark.parametrize(
    ("loss", "minimum", "is_legal"),
    [("poisson", 0.0, True), ("poisson", -0.1, False), ("gamma", 0.1, True), ("gamma", 0.0, False)],
)
def test_a_loss_of_positive_numbers_needs_them(loss: str, minimum: float, is_legal: bool) -> None:
    columns = [LENGTH, number("width", minimum=minimum, maximum=9.0)]

    if is_legal:
        assert form(resolved(columns, "width", training={"loss": loss}))[2] == loss
    else:
        with pytest.raises(errors.TargetNotPositive) as refused:
            resolved(columns, "width", training={"loss": loss})
        assert refused.value.facts["column"] == "width"


# --- several targets ----------------------------------------------------------------------------------------------

ONE_HOT = [integers(name, 2) for name in ("adelie", "chinstrap", "gentoo")]
NAMES = [column.name for column in ONE_HOT]
FLAGS = [boolean(name) for name in ("wet", "warm")]


def test_several_numbers_are_predicted_at_once() -> None:
    found = resolved([LENGTH, WIDTH, number("mass")], ["width", "mass"])

    assert form(found)[1:] == ((2, "linear"), "mse")
    assert found.outputs == {"task": "regression", "classes": None, "names": ["width", "mass"]}
    assert found.spec.features.include == ["length"]
    assert found.spec.training.metrics == ["rmse", "mae", "r2"]


def test_several_quantiles_are_of_each_target() -> None:
    loss = {"name": "quantile", "quantiles": [0.1, 0.5, 0.9]}

    assert form(resolved([LENGTH, WIDTH, number("mass")], ["width", "mass"], training={"loss": loss}))[1][0] == 6


def test_more_quantiles_than_a_layer_has_units_are_refused() -> None:
    names = [f"y{place}" for place in range(700)]
    loss = {"name": "quantile", "quantiles": [place / 100 for place in range(1, 100)]}

    with pytest.raises(errors.ResourcesExceeded) as refused:
        resolved([LENGTH, *map(number, names)], names, training={"loss": loss})

    assert refused.value.facts == {"limit": 65_536}


def test_several_booleans_are_labels() -> None:
    found = resolved([LENGTH, *FLAGS], ["wet", "warm"])

    assert form(found)[1:] == ((2, "sigmoid"), "binary_cross_entropy")
    assert found.outputs == {
        "task": "multilabel",
        "classes": None,
        "names": ["wet", "warm"],
        "thresholds": [0.5, 0.5],
    }
    assert found.spec.training.metrics == ["accuracy"]
    assert found.spec.split.method == "random"


def test_zeros_and_ones_are_labels_where_the_spec_says_so() -> None:
    said = resolved([LENGTH, *ONE_HOT], NAMES, task="multilabel")
    by_loss = resolved([LENGTH, *ONE_HOT], NAMES, training={"loss": "binary_crossentropy"})
    guessed = resolved([LENGTH, *ONE_HOT], NAMES)

    assert (said.spec.task, by_loss.spec.task) == ("multilabel", "multilabel")
    assert guessed.spec.task == "regression"


def test_one_column_may_be_a_label() -> None:
    assert form(resolved([LENGTH, *FLAGS], "wet", task="multilabel"))[1:] == ((1, "sigmoid"), "binary_cross_entropy")


def test_labels_may_end_in_a_sigmoid_layer_or_have_margins() -> None:
    layers = {"layers": [dense(4, "relu"), dense(2, "sigmoid")]}

    assert form(resolved([LENGTH, *FLAGS], ["wet", "warm"], network=layers))[:2] == ([4], (2, "sigmoid"))
    assert form(resolved([LENGTH, *FLAGS], ["wet", "warm"], training={"loss": "hinge"}))[1] == (2, "linear")


@pytest.mark.parametrize("column", [number("wet", minimum=0, maximum=1), SPECIES, integers("wet", 3)])
def test_what_is_no_label_is_refused(column: Column) -> None:
    with pytest.raises(errors.TargetNotLabels) as refused:
        resolved([LENGTH, column, FLAGS[1]], [column.name, "warm"], task="multilabel")

    assert refused.value.facts == {"column": column.name, "type": column.type}


def test_the_keras_example_with_one_hot_classes_is_one_class_each_row() -> None:
    layers = [dense(64, "relu"), dense(64, "relu"), dense(3, "softmax")]
    training = {"loss": "categorical_crossentropy", "optimizer": "adam", "epochs": 20, "batch_size": 32}

    found = resolved([LENGTH, WIDTH, *ONE_HOT], NAMES, network={"layers": layers}, training=training)

    assert form(found) == ([64, 64], (3, "softmax"), "cross_entropy")
    assert found.outputs == {"task": "classification", "classes": NAMES, "names": NAMES}
    assert found.spec.features.include == ["length", "width"]
    assert found.spec.split.method == "random"
    assert found.spec.training.metrics == ["accuracy"]
    assert codes(found) == []


@pytest.mark.parametrize("columns", [ONE_HOT, [boolean(name) for name in NAMES]])
@pytest.mark.parametrize("loss", ["auto", "categorical_focal_crossentropy"])
def test_a_last_softmax_layer_makes_several_columns_one_class(columns: list[Column], loss: str) -> None:
    network = {"layers": [dense(8, "relu"), dense(3, "softmax")]}

    found = resolved([LENGTH, *columns], NAMES, network=network, training={"loss": loss})
    again = resolved([LENGTH, *columns], NAMES, network=found.spec.network.model_dump(), training={"loss": loss})

    assert found.outputs == {"task": "classification", "classes": NAMES, "names": NAMES}
    assert form(found)[1] == (3, "softmax")
    assert again.outputs == found.outputs


def test_columns_of_shares_are_one_class_each_row() -> None:
    shares = [number(name, minimum=0.0, maximum=1.0) for name in NAMES]

    assert form(resolved([LENGTH, *shares], NAMES, task="classification"))[1:] == ((3, "softmax"), "cross_entropy")
    assert form(resolved([LENGTH, *shares[:2]], NAMES[:2], task="classification"))[1] == (2, "softmax")


@pytest.mark.parametrize("column", [number("adelie", minimum=0.0, maximum=1.5), category("adelie", "a", "b")])
def test_what_is_no_share_is_refused(column: Column) -> None:
    with pytest.raises(errors.TargetNotShares) as refused:
        resolved([LENGTH, column, *ONE_HOT[1:]], NAMES, task="classification")

    assert refused.value.facts == {"column": "adelie"}


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy", "hinge"])
def test_one_hot_classes_take_the_losses_of_softmax_alone(loss: str) -> None:
    with pytest.raises(errors.IncompatibleLoss):
        resolved([LENGTH, *ONE_HOT], NAMES, task="classification", training={"loss": loss})


def test_a_regression_of_several_needs_numbers_in_each() -> None:
    with pytest.raises(errors.TargetNotNumeric) as refused:
        resolved([LENGTH, WIDTH, SPECIES], ["width", "species"])

    assert refused.value.facts == {"column": "species", "type": "category"}


def test_an_unknown_one_of_several_targets_is_pointed_at() -> None:
    with pytest.raises(errors.TargetNotFound) as refused:
        resolved([LENGTH, *ONE_HOT], ["adelie", "chinstrp"])

    [found] = refused.value.errors
    assert (found["pointer"], found["suggestion"]) == ("/spec/target/1", "chinstrap")


def test_a_list_of_one_target_is_that_target() -> None:
    alone, listed = resolved(PENGUINS, "species"), resolved(PENGUINS, ["species"])

    assert listed.outputs == alone.outputs
    assert listed.spec.model_copy(update={"target": "species"}) == alone.spec


def test_rows_that_lack_one_target_do_not_count() -> None:
    columns = [LENGTH, WIDTH, number("mass", missing=8)]

    with pytest.raises(errors.DatasetTooSmall) as refused:
        resolved(columns, ["width", "mass"], 10)

    assert refused.value.facts == {"rows": 2}


def test_the_keras_example_and_its_short_form_resolve_alike() -> None:
    layers = [dense(64, "relu"), dense(64, "relu"), dense(3, "softmax")]

    typed = resolved(PENGUINS, network={"layers": layers}, training={"loss": "categorical_crossentropy"})
    short = resolved(PENGUINS, network={"hidden": [64, 64], "activation": "relu"})

    assert typed == short
