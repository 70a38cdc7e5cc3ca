"""What becomes of a spec when it meets a dataset's profile."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import errors
from core.profile import Column
from core.resolve import Resolved, memory_needed, resolve
from core.spec import TrainingSpec

ROWS = 150


def number(name: str, **facts: Any) -> Column:
    return Column(**{"name": name, "type": "number", "missing": 0, "distinct": 100, "number_row": 0} | facts)


def integers(name: str, distinct: int, **facts: Any) -> Column:
    """A column of the integers 0, 1, 2, ..., each equally often."""
    own = {"type": "integer", "distinct": distinct, "number_row": 0, "code_row": 0}
    own |= {"values": list(range(distinct)), "counts": [ROWS // distinct] * distinct}
    return Column(**{"name": name, "missing": 0} | own | facts)


def category(name: str, *values: Any, **facts: Any) -> Column:
    own = {"type": "category", "missing": 0, "distinct": len(values), "values": list(values), "code_row": 0}
    return Column(**{"name": name, "counts": [ROWS // len(values)] * len(values)} | own | facts)


LENGTH, WIDTH = number("length"), number("width")
SPECIES = category("species", "adelie", "chinstrap", "gentoo")
SEX = category("sex", "female", "male")
PENGUINS = [LENGTH, WIDTH, SPECIES, SEX]


def resolved(columns: list[Column], target: str = "species", rows: int = ROWS, **parts: Any) -> Resolved:
    return resolve(TrainingSpec.model_validate({"target": target} | parts), columns, rows)


def codes(found: Resolved) -> list[tuple[str, str | None]]:
    return [(warning.code, warning.column) for warning in found.warnings]


# --- task and classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        category("y", "a", "b", "c"),
        category("y", "a", "b"),
        category("y", False, True, type="boolean"),
        category("y", *(f"v{n}" for n in range(60)), type="text", counts=[5] * 60),
    ],
)
def test_words_and_booleans_are_classes(target: Column) -> None:
    found = resolved([LENGTH, target], "y")

    assert found.spec.task == "classification"
    assert found.outputs == {"task": "classification", "classes": target.values, "names": ["y"]}
    assert codes(found) == []


@pytest.mark.parametrize(
    ("distinct", "rows", "task"),
    [
        (2, 10, "classification"),  # two values are classes in however few rows
        (3, 60, "classification"),
        (3, 59, "regression"),  # more than 5 % of the rows
        (20, 400, "classification"),
        (20, 399, "regression"),
        (21, 100_000, "regression"),  # more than 20
    ],
)
def test_few_integers_are_classes_and_many_are_numbers(distinct: int, rows: int, task: str) -> None:
    found = resolved([LENGTH, integers("y", distinct)], "y", rows)

    assert found.spec.task == task


def test_integers_taken_as_classes_are_said_in_a_warning() -> None:
    guessed = resolved([LENGTH, integers("y", 2)], "y")
    said = resolved([LENGTH, integers("y", 2)], "y", task="classification")
    numbers = resolved([LENGTH, integers("y", 100)], "y")

    assert codes(guessed) == [("integers_taken_as_classes", "y")]
    assert codes(said) == codes(numbers) == []


def test_other_numbers_are_a_regression() -> None:
    found = resolved([LENGTH, WIDTH], "width")

    assert found.outputs == {"task": "regression", "classes": None, "names": ["width"]}


def test_the_task_that_is_asked_for_wins() -> None:
    assert resolved([LENGTH, integers("y", 2)], "y", task="regression").spec.task == "regression"
    assert resolved([LENGTH, integers("y", 30)], "y", task="classification").spec.task == "classification"


@pytest.mark.parametrize(
    ("target", "task"),
    [(SPECIES, "regression"), (Column(name="species", type="datetime", missing=0, distinct=9), "auto")],
)
def test_a_regression_needs_numbers(target: Column, task: str) -> None:
    with pytest.raises(errors.TargetNotNumeric) as refused:
        resolved([LENGTH, target], task=task)

    assert refused.value.facts == {"column": "species", "type": target.type}


def test_classes_stand_in_the_order_of_the_profile() -> None:
    target = category("y", -1, 0, 10, 9 + 20, type="integer", number_row=0)

    assert resolved([LENGTH, target], "y", task="classification").outputs["classes"] == [-1, 0, 10, 29]


def test_one_single_class_is_nothing_to_learn() -> None:
    with pytest.raises(errors.TargetSingleClass):
        resolved([LENGTH, category("y", "always")], "y")


def test_too_many_different_values_are_no_classes() -> None:
    with pytest.raises(errors.TooManyClasses) as refused:
        resolved([LENGTH, Column(name="y", type="text", missing=0, distinct=5000)], "y", 9000)

    assert refused.value.facts == {"column": "y", "distinct": 5000}


def test_an_unknown_target_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(errors.TargetNotFound) as near:
        resolved(PENGUINS, "specie")
    with pytest.raises(errors.TargetNotFound) as far:
        resolved(PENGUINS, "zzz")

    assert near.value.errors[0]["pointer"] == "/spec/target"
    assert near.value.errors[0]["suggestion"] == "species"
    assert "suggestion" not in far.value.errors[0]


# --- features -----------------------------------------------------------------------------------------------------


def test_all_usable_columns_but_the_target_are_features() -> None:
    features = resolved(PENGUINS).spec.features

    assert features.include == ["length", "width", "sex"]
    assert features.exclude == []
    assert features.columns["length"].model_dump() == {
        "type": "number",
        "impute": "median",
        "scale": "standard",
        "encode": None,
    }
    assert features.columns["sex"].model_dump() == {
        "type": "category",
        "impute": None,
        "scale": None,
        "encode": "one_hot",
    }


@pytest.mark.parametrize("kind", ["text", "datetime"])
def test_text_and_times_are_left_out_with_a_warning(kind: str) -> None:
    odd = Column(name="odd", type=kind, missing=0, distinct=90)  # type: ignore[arg-type]

    found = resolved([*PENGUINS, odd])

    assert found.spec.features.include == ["length", "width", "sex"]
    assert codes(found) == [("column_not_used", "odd")]


@pytest.mark.parametrize("features", [{"include": ["odd"]}, {"columns": {"odd": {"type": "category"}}}])
def test_text_that_is_asked_for_by_name_is_refused(features: dict[str, Any]) -> None:
    odd = Column(name="odd", type="text", missing=0, distinct=9000)

    with pytest.raises(errors.FeatureNotSupported) as refused:
        resolved([*PENGUINS, odd], features=features)

    assert refused.value.facts == {"column": "odd", "type": "text"}


def test_include_and_exclude_choose_in_the_order_of_the_table() -> None:
    assert resolved(PENGUINS, features={"include": ["sex", "length"]}).spec.features.include == ["length", "sex"]
    assert resolved(PENGUINS, features={"exclude": ["sex"]}).spec.features.include == ["length", "width"]


@pytest.mark.parametrize(
    ("features", "pointer"),
    [
        ({"include": ["length", "widht"]}, "/spec/features/include/1"),
        ({"exclude": ["widht"]}, "/spec/features/exclude/0"),
        ({"columns": {"widht": {"scale": "none"}}}, "/spec/features/columns/widht"),
    ],
)
def test_an_unknown_feature_is_refused_with_the_nearest_name(features: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.ColumnNotFound) as refused:
        resolved(PENGUINS, features=features)

    assert refused.value.errors == [
        {
            "pointer": pointer,
            "code": "column_not_found",
            "message": "The dataset has no column with a name that the spec uses.",
            "suggestion": "width",
        }
    ]


def test_the_pointer_to_a_column_escapes_slashes_and_tildes() -> None:
    with pytest.raises(errors.ColumnNotFound) as refused:
        resolved(PENGUINS, features={"columns": {"a/b~c": {}}})

    assert refused.value.errors[0]["pointer"] == "/spec/features/columns/a~1b~0c"


def test_the_target_cannot_be_a_feature() -> None:
    with pytest.raises(errors.ColumnNotFound) as refused:
        resolved(PENGUINS, features={"include": ["length", "species"]})

    assert refused.value.facts == {"column": "species"}


def test_an_empty_column_is_left_out_with_a_warning() -> None:
    empty = number("empty", distinct=0, missing=ROWS)

    found = resolved([*PENGUINS, empty])

    assert "empty" not in (found.spec.features.include or [])
    assert codes(found) == [("column_all_missing", "empty")]


def test_a_constant_column_is_used_with_a_warning() -> None:
    found = resolved([*PENGUINS, number("one", distinct=1)])

    assert "one" in (found.spec.features.include or [])
    assert codes(found) == [("constant_feature", "one")]


def test_one_value_and_missing_ones_are_not_constant() -> None:
    assert codes(resolved([*PENGUINS, number("one", distinct=1, missing=3)])) == []


@pytest.mark.parametrize(
    ("columns", "features"),
    [
        ([SPECIES], {}),
        ([SPECIES, number("empty", distinct=0, missing=ROWS)], {}),
        ([SPECIES, LENGTH], {"exclude": ["length"]}),
        ([SPECIES, LENGTH], {"include": []}),
    ],
)
def test_nothing_to_learn_from_is_refused(columns: list[Column], features: dict[str, Any]) -> None:
    with pytest.raises(errors.NoFeatures):
        resolved(columns, features=features)


def test_integers_can_be_taken_as_categories_and_categories_not_as_numbers() -> None:
    found = resolved([integers("zip", 5), SPECIES], features={"columns": {"zip": {"type": "category"}}})

    assert found.spec.features.columns["zip"].encode == "one_hot"
    with pytest.raises(errors.FeatureNotSupported):
        resolved(PENGUINS, features={"columns": {"sex": {"type": "number"}}})


def test_a_choice_that_does_not_fit_its_type_is_refused() -> None:
    for choice in ({"length": {"encode": "one_hot"}}, {"sex": {"scale": "none"}}, {"sex": {"impute": "mean"}}):
        with pytest.raises(errors.FeatureNotSupported):
            resolved(PENGUINS, features={"columns": choice})


# --- network and loss ---------------------------------------------------------------------------------------------


def dense(units: int, activation: str) -> dict[str, Any]:
    return {"type": "dense", "units": units, "activation": activation}


def form(found: Resolved) -> tuple[list[int], tuple[int, str], str]:
    """Widths of the hidden layers, output, loss."""
    network = found.spec.network
    assert network.output is not None
    hidden = [layer.units for layer in network.layers or [] if layer.type == "dense"]
    return hidden, (network.output.units, network.output.activation), found.spec.training.loss.name


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


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        ("species", "mse"),
        ("species", "binary_cross_entropy"),
        ("width", "cross_entropy"),
        ("width", "binary_cross_entropy"),
        ("sex", "mse"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused_with_the_legal_pairs(target: str, loss: str) -> None:
    with pytest.raises(errors.IncompatibleLoss) as refused:
        resolved(PENGUINS, target, training={"loss": loss})

    for pair in ("cross_entropy with softmax", "binary_cross_entropy with sigmoid", "mse with linear"):
        assert pair in refused.value.detail
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


# --- rows and split -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "split"),
    [(2, {}), (1, {"validation": 0.9}), (3, {"validation": 0.1}), (4, {"validation": 0.5, "test": 0.1}), (0, {})],
)
def test_too_few_rows_for_the_split_are_refused(rows: int, split: dict[str, Any]) -> None:
    with pytest.raises(errors.DatasetTooSmall) as refused:
        resolved([LENGTH, WIDTH], "width", rows, split=split)

    assert refused.value.facts == {"rows": rows}


def test_rows_without_a_target_do_not_count() -> None:
    with pytest.raises(errors.DatasetTooSmall) as refused:
        resolved([LENGTH, number("width", missing=8)], "width", 10)

    assert refused.value.facts == {"rows": 2}


def test_without_validation_one_row_is_enough() -> None:
    assert resolved([LENGTH, WIDTH], "width", 1, split={"validation": 0})


def test_classes_are_split_stratified_and_numbers_at_random() -> None:
    assert resolved(PENGUINS).spec.split.method == "stratified"
    assert resolved(PENGUINS, split={"method": "random"}).spec.split.method == "random"
    assert resolved([LENGTH, WIDTH], "width").spec.split.method == "random"


def test_a_regression_cannot_be_stratified() -> None:
    with pytest.raises(errors.DataInvalid):
        resolved([LENGTH, WIDTH], "width", split={"method": "stratified"})


def test_a_class_of_one_row_cannot_be_stratified_by_name() -> None:
    target = category("species", "adelie", "dodo", "gentoo", counts=[100, 1, 49])

    with pytest.raises(errors.ClassTooSmall) as refused:
        resolved([LENGTH, target], split={"method": "stratified"})

    assert refused.value.facts == {"column": "species", "rows": 1}
    assert refused.value.errors[0]["pointer"] == "/spec/split/method"


def test_a_class_of_one_row_stops_nothing_else() -> None:
    target = category("species", "adelie", "dodo", "gentoo", counts=[100, 1, 49])

    found = resolved([LENGTH, target])
    assert found.spec.split.method == "random"
    assert ("class_too_small", "species") in codes(found)
    assert resolved([LENGTH, target], split=found.spec.split.model_dump()).spec == found.spec
    assert resolved([LENGTH, SPECIES], split={"method": "stratified"})


def test_a_batch_larger_than_the_table_is_a_warning() -> None:
    found = resolved(PENGUINS, training={"batch_size": ROWS + 1})

    assert codes(found) == [("batch_larger_than_rows", None)]
    assert codes(resolved(PENGUINS, training={"batch_size": ROWS})) == []


# --- training -----------------------------------------------------------------------------------------------------


def test_without_validation_rows_the_training_loss_is_watched() -> None:
    assert resolved(PENGUINS, split={"validation": 0}).spec.training.stop.monitor == "train_loss"
    assert resolved(PENGUINS).spec.training.stop.monitor == "valid_loss"


@pytest.mark.parametrize(("epochs", "log_every"), [(50, 1), (10_000, 1), (10_001, 2), (20_000, 2), (100_000, 10)])
def test_a_log_holds_at_most_ten_thousand_epochs(epochs: int, log_every: int) -> None:
    assert resolved(PENGUINS, training={"epochs": epochs}).spec.training.log_every == log_every


def test_a_chosen_log_interval_is_kept() -> None:
    assert resolved(PENGUINS, training={"log_every": 7}).spec.training.log_every == 7


COUNTS = st.integers(1, 10**6)


@settings(max_examples=50, deadline=None)
@given(COUNTS, COUNTS, COUNTS, st.lists(st.integers(1, 4096), min_size=1, max_size=4), COUNTS)
def test_more_of_anything_never_needs_less_memory(
    parameters: int, batch: int, rows: int, layers: list[int], more: int
) -> None:
    needed = memory_needed(parameters, layers, batch, rows)

    assert memory_needed(parameters + more, layers, batch, rows) > needed
    assert memory_needed(parameters, layers, batch + more, rows) >= needed
    assert memory_needed(parameters, layers, batch, rows + more) >= needed
    assert memory_needed(parameters, [*layers, more], batch, rows) >= needed
    assert needed > 256 * 1024 * 1024


# --- the whole ----------------------------------------------------------------------------------------------------

ASKED = st.fixed_dictionaries(
    {"target": st.sampled_from(["species", "sex", "width"])},
    optional={
        "network": st.sampled_from(
            [{"hidden": [8]}, {"hidden": []}, {"layers": [dense(8, "swish"), {"type": "dropout", "rate": 0.1}]}]
        ),
        "split": st.sampled_from([{"validation": 0}, {"test": 0.2}, {"method": "random"}]),
        "training": st.fixed_dictionaries(
            {}, optional={"epochs": st.integers(1, 100_000), "batch_size": st.integers(1, 500)}
        ),
        "features": st.sampled_from([{"include": ["length"]}, {"exclude": ["length"]}]),
    },
)


@settings(max_examples=50, deadline=None)
@given(ASKED)
def test_a_resolved_spec_is_a_spec_and_resolves_to_itself(asked: dict[str, Any]) -> None:
    first = resolve(TrainingSpec.model_validate(asked), PENGUINS, ROWS)

    sent_again = TrainingSpec.model_validate_json(first.spec.model_dump_json())
    second = resolve(sent_again, PENGUINS, ROWS)

    assert second.spec == first.spec
    assert (second.outputs, second.memory, second.parameters) == (first.outputs, first.memory, first.parameters)


def test_the_keras_example_and_its_short_form_resolve_alike() -> None:
    layers = [dense(64, "relu"), dense(64, "relu"), dense(3, "softmax")]

    typed = resolved(PENGUINS, network={"layers": layers}, training={"loss": "categorical_crossentropy"})
    short = resolved(PENGUINS, network={"hidden": [64, 64], "activation": "relu"})

    assert typed == short
