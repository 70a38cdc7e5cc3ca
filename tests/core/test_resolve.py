"""What becomes of a spec when it meets a dataset's profile."""

from typing import Any

import pytest

from core import errors
from core.profile import Column
from core.resolve import Resolved
from tests.core.columns import (
    LENGTH,
    PENGUINS,
    ROWS,
    SPECIES,
    WIDTH,
    category,
    codes,
    integers,
    number,
    resolved,
)

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
    threshold = {"thresholds": [0.5]} if len(target.values or []) == 2 else {}
    assert found.outputs == {"task": "classification", "classes": target.values, "names": ["y"], **threshold}
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
    of_number = {"type": "number", "impute": "median", "missing_indicator": False, "scale": "standard"}
    assert features.columns["length"].said == of_number
    of_category = {"type": "category", "impute": "none", "encode": "one_hot", "min_frequency": 1.0}
    assert features.columns["sex"].said == of_category


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
    assert refused.value.errors[0]["pointer"] in ("/spec/features/include/0", "/spec/features/columns/odd")


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


@pytest.mark.parametrize(
    ("features", "pointer"),
    [
        ({"include": ["length", "species"]}, "/spec/features/include/1"),
        ({"columns": {"species": {"encode": "one_hot"}}}, "/spec/features/columns/species"),
    ],
)
def test_the_target_cannot_be_a_feature(features: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.ColumnNotFound) as refused:
        resolved(PENGUINS, features=features)

    assert refused.value.facts == {"column": "species"}
    assert refused.value.errors[0]["pointer"] == pointer


def test_an_empty_column_is_left_out_with_a_warning() -> None:
    empty = number("empty", distinct=0, missing=ROWS)

    found = resolved([*PENGUINS, empty])

    assert "empty" not in (found.spec.features.include or [])
    assert codes(found) == [("column_all_missing", "empty")]


def test_a_constant_column_is_left_out_with_a_warning() -> None:
    found = resolved([*PENGUINS, number("one", distinct=1)])

    assert "one" not in (found.spec.features.include or [])
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


# --- embeddings ---------------------------------------------------------------------------------------------------


def embedded(column: Column, **choice: Any) -> Resolved:
    columns = {column.name: {"encode": "embedding"} | choice}
    return resolved([LENGTH, column, SPECIES], network={"hidden": [10]}, features={"columns": columns})


@pytest.mark.parametrize(
    ("distinct", "missing", "dimension"), [(1, 0, 2), (2, 0, 2), (7, 0, 5), (7, 1, 5), (100, 0, 21), (1000, 0, 77)]
)
def test_the_default_width_of_an_embedding_is_fastais(distinct: int, missing: int, dimension: int) -> None:
    found = embedded(category("zip", *map(str, range(distinct)), missing=missing, counts=None))

    assert dimension == min(600, round(1.6 * (distinct + missing) ** 0.56))
    assert found.spec.features.columns["zip"].said == {
        "type": "category",
        "impute": "none",
        "encode": "embedding",
        "min_frequency": 1.0,
        "dimension": dimension,
    }


def test_a_chosen_width_of_an_embedding_is_kept() -> None:
    assert embedded(category("zip", "a", "b"), dimension=9).spec.features.columns["zip"].dimension == 9


@pytest.mark.parametrize("missing", [0, 3])
def test_an_embedding_counts_a_vector_for_each_category_and_one_for_the_unknown(missing: int) -> None:
    found = embedded(category("zip", "a", "b", "c", missing=missing), dimension=4)

    vectors = 3 + bool(missing) + 1
    assert found.parameters == vectors * 4 + (1 + 4) * 10 + 10 + 10 * 3 + 3


def test_integers_can_be_embedded_and_numbers_cannot() -> None:
    assert embedded(integers("zip", 5)).spec.features.columns["zip"].type == "category"
    with pytest.raises(errors.FeatureNotSupported) as refused:
        embedded(number("zip"))

    assert refused.value.errors[0]["pointer"] == "/spec/features/columns/zip"


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
