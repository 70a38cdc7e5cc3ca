"""Cross-validation against the dataset's profile."""

from typing import Any

import pytest
from pydantic import ValidationError

from core import errors
from core.profile import Column
from core.resolve import resolve
from core.resolve.held_out import HeldOut
from core.resolve.plan import planned_folds
from core.spec import TrainingSpec
from core.spec.data import Split
from tests.core.columns import LENGTH, PENGUINS, ROWS, SEX, SPECIES, category, codes, number, resolved


@pytest.mark.parametrize(
    "split",
    [
        {"method": "time", "by": "day"},
        {"method": "column", "by": "part"},
        {"method": "last"},
        {"validation": 0.2},
        {"seed": 2**32},
        {"folds": 1},
        {"folds": 101},
        {"folds": "5"},
    ],
)
def test_folds_that_make_no_sense_are_refused_by_the_spec(split: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Split.model_validate({"folds": 5} | split)


def test_folds_validate_in_the_place_of_a_share() -> None:
    found = resolved(PENGUINS, split={"folds": 5, "test": 0.9})

    assert (found.spec.split.method, found.spec.split.validation, found.spec.split.folds) == ("stratified", 0.0, 5)
    assert found.spec.training.stop.monitor == "valid_loss"
    assert found.rows == {"train": 15, "validation": 0, "test": 135}
    again = resolve(TrainingSpec.model_validate(found.spec.model_dump(mode="json")), PENGUINS, ROWS)
    assert again.spec == found.spec


@pytest.mark.parametrize(
    ("training", "pointer"), [({"refit": True}, "/spec/training/refit"), ({"epochs": 0}, "/spec/training/epochs")]
)
def test_what_makes_no_sense_beside_folds_is_refused_with_its_place(training: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.DataInvalid) as refused:
        resolved(PENGUINS, split={"folds": 5}, training=training)

    assert [one["pointer"] for one in refused.value.errors] == [pointer]


def test_a_validation_dataset_is_refused_and_a_test_dataset_is_not() -> None:
    spec, other = TrainingSpec.model_validate({"target": "species", "split": {"folds": 5}}), HeldOut(PENGUINS, 30)

    with pytest.raises(errors.DataInvalid) as refused:
        resolve(spec, PENGUINS, ROWS, held_out={"validation": other})

    assert [one["pointer"] for one in refused.value.errors] == ["/validation_dataset_id"]
    assert resolve(spec, PENGUINS, ROWS, held_out={"test": other}).rows["test"] == 30


@pytest.mark.parametrize(
    ("columns", "rows", "split"),
    [
        ([LENGTH, SPECIES], 4, {"method": "random"}),
        ([LENGTH, category("species", "a", "b", counts=[4, 4])], 8, {"method": "stratified"}),
        ([LENGTH, SPECIES, category("who", "a", "b", "c", "d")], ROWS, {"method": "group", "by": "who"}),
        ([LENGTH, SPECIES, category("who", *"abcde")], ROWS, {"method": "group", "by": "who", "test": 0.2}),
    ],
    ids=["rows", "classes", "groups", "groups-beside-test"],
)
def test_too_few_for_the_folds_is_refused(columns: list[Column], rows: int, split: dict[str, Any]) -> None:
    with pytest.raises(errors.DatasetTooSmall) as refused:
        resolved(columns, rows=rows, split={"folds": 5, **split})

    assert [one["pointer"] for one in refused.value.errors] == ["/spec/split/folds"]


def test_a_class_of_fewer_rows_than_folds_is_a_warning() -> None:
    rare = category("species", "a", "b", counts=[147, 3])

    assert ("class_too_small", "species") in codes(resolved([LENGTH, rare], split={"folds": 5}))
    assert ("class_too_small", "species") not in codes(resolved([LENGTH, rare], split={"folds": 3}))


def test_a_plan_has_the_rows_and_the_steps_of_each_fold() -> None:
    found = resolved([LENGTH, number("y"), SEX], "y", rows=152, split={"folds": 3}, training={"epochs": 2})

    assert [(one.fold, one.train, one.validation, one.steps) for one in planned_folds(found.spec, 152)] == [
        (1, 101, 51, 8),
        (2, 101, 51, 8),
        (3, 102, 50, 8),
    ]
    assert planned_folds(resolved(PENGUINS).spec, 150) == []


def test_steps_on_all_rows_are_as_many_more_as_the_rows() -> None:
    assert [Split(folds=folds).steps_after_folds(10) for folds in (2, 3, 5, 6, 11)] == [20, 15, 13, 12, 11]
