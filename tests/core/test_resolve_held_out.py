"""Datasets whose rows only measure, against the profile of the one that is trained on."""

from typing import Any

import pytest

from core import errors
from core.profile import Column
from core.resolve import Resolved, resolve
from core.resolve.held_out import HeldOut
from core.spec import TrainingSpec
from core.spec.data import HeldOutPart
from tests.core.columns import LENGTH, PENGUINS, ROWS, SEX, SPECIES, WIDTH, category, integers, number


def _resolved(
    others: dict[HeldOutPart, list[Column]], columns: list[Column] = PENGUINS, rows: int = 10, **spec: Any
) -> Resolved:
    held_out = {part: HeldOut(theirs, rows) for part, theirs in others.items()}
    return resolve(TrainingSpec.model_validate({"target": "species"} | spec), columns, ROWS, held_out=held_out)


def test_no_row_of_the_training_dataset_is_held_back() -> None:
    found = _resolved({"validation": PENGUINS, "test": PENGUINS}).spec

    assert (found.split.validation, found.split.test) == (0, 0)
    assert found.training.stop.monitor == "valid_loss"


def test_a_test_dataset_leaves_the_validation_rows_where_they_are() -> None:
    found = _resolved({"test": PENGUINS}).spec

    assert (found.split.validation, found.split.test) == (0.2, 0)


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"split": {"validation": 0.2}}, "/spec/split/validation"),
        ({"split": {"method": "column", "by": "sex"}}, "/spec/split/method"),
        ({"training": {"refit": True}}, "/spec/training/refit"),
    ],
)
def test_what_cannot_be_said_beside_a_validation_dataset_is_refused(spec: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.DataInvalid) as refused:
        _resolved({"validation": PENGUINS}, **spec)

    assert [one["pointer"] for one in refused.value.errors] == [pointer]


def test_a_share_of_zero_says_the_same() -> None:
    assert _resolved({"validation": PENGUINS}, split={"validation": 0})


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_column_that_is_used_must_be_there(part: HeldOutPart) -> None:
    theirs = [LENGTH, number("widht"), SPECIES, SEX]

    with pytest.raises(errors.ColumnNotFound) as refused:
        _resolved({part: theirs})

    assert [(one["pointer"], one["suggestion"]) for one in refused.value.errors] == [(f"/{part}_dataset_id", "widht")]
    assert _resolved({part: theirs}, features={"exclude": ["width"]})


def test_more_columns_and_another_order_do_not_matter() -> None:
    assert _resolved({"validation": [number("more"), *reversed(PENGUINS)]})


@pytest.mark.parametrize(
    "other",
    [category("length", "long", "short"), Column(name="length", type="text", missing=0, distinct=99)],
)
def test_a_column_of_another_type_is_refused(other: Column) -> None:
    with pytest.raises(errors.ColumnTypeMismatch) as refused:
        _resolved({"validation": [other, WIDTH, SPECIES, SEX]})

    assert refused.value.facts == {"column": "length", "type": other.type, "expected": "number"}


@pytest.mark.parametrize("other", [integers("length", 5), Column(name="length", type="text", missing=10, distinct=0)])
def test_whole_numbers_and_nothing_at_all_are_numbers_too(other: Column) -> None:
    assert _resolved({"validation": [other, WIDTH, SPECIES, SEX]})


def test_many_different_texts_may_be_categories_all_the_same() -> None:
    texts = Column(name="sex", type="text", missing=0, distinct=60)

    assert _resolved({"validation": [LENGTH, WIDTH, SPECIES, texts]}, rows=60)


def test_a_class_that_training_cannot_know_is_refused() -> None:
    theirs = category("species", "adelie", "emperor", "king", counts=[5, 3, 2])

    with pytest.raises(errors.ClassUnknown) as refused:
        _resolved({"test": [LENGTH, WIDTH, theirs, SEX]})

    assert refused.value.facts == {"column": "species", "classes": 2, "rows": 5}


def test_fewer_classes_are_no_fault() -> None:
    assert _resolved({"test": [LENGTH, WIDTH, category("species", "gentoo"), SEX]})


def test_a_dataset_without_a_target_measures_nothing() -> None:
    with pytest.raises(errors.DatasetTooSmall):
        _resolved({"test": [LENGTH, WIDTH, category("species", "gentoo", missing=10), SEX]})


def test_their_rows_count_in_the_memory() -> None:
    large, small = (_resolved({"test": PENGUINS}, rows=rows).memory for rows in (1_000_000, 10))

    assert large > small + 10_000_000
