"""Splits by a column, against the dataset's profile."""

from typing import Any

import pytest

from core import errors
from core.profile import Column
from core.resolve import Resolved
from tests.core.columns import LENGTH, SEX, SPECIES, category, codes, integers, number, resolved

DAY = Column(name="day", type="datetime", missing=0, distinct=100)
PARTS = category("part", "Train", "test", "valid")


def _names(found: Resolved) -> list[str]:
    return found.spec.features.include or []


@pytest.mark.parametrize(("method", "by"), [("time", DAY), ("group", SEX), ("column", PARTS)])
def test_the_column_of_the_split_is_no_feature_unless_it_is_named(method: str, by: Column) -> None:
    columns, split = [LENGTH, SPECIES, by], {"method": method, "by": by.name}

    assert _names(resolved(columns, split=split)) == ["length"]
    assert codes(resolved(columns, split=split)) == []
    if by is not DAY:
        assert _names(resolved(columns, split=split, features={"include": ["length", by.name]})) == ["length", by.name]
        chosen = {"columns": {by.name: {"type": "category"}}}
        assert _names(resolved(columns, split=split, features=chosen)) == ["length", by.name]


def test_a_column_of_the_split_says_the_shares() -> None:
    found = resolved([LENGTH, SPECIES, PARTS], split={"method": "column", "by": "part"})

    assert (found.spec.split.validation, found.spec.split.test) == (50 / 150, 50 / 150)
    assert resolved([LENGTH, SPECIES, PARTS], split=found.spec.split.model_dump()).spec == found.spec


def test_without_rows_that_validate_the_training_rows_are_monitored() -> None:
    found = resolved([LENGTH, SPECIES, category("part", "train", "test")], split={"method": "column", "by": "part"})

    assert found.spec.split.validation == 0
    assert found.spec.training.stop.monitor == "train_loss"


@pytest.mark.parametrize(
    ("column", "split", "pointer"),
    [
        (SEX, {"method": "column", "by": "sex"}, "/spec/split/by"),
        (number("year"), {"method": "column", "by": "year"}, "/spec/split/by"),
        (PARTS, {"method": "column", "by": "part", "validation": 0.5}, "/spec/split/validation"),
        (PARTS, {"method": "column", "by": "part", "test": 0.0}, "/spec/split/test"),
        (category("part", "train", "valid", missing=3), {"method": "column", "by": "part"}, "/spec/split/by"),
        (SEX, {"method": "time", "by": "sex"}, "/spec/split/by"),
        (SEX, {"method": "group", "by": "species"}, "/spec/split/by"),
        (category("who", "a", "b", "c", missing=1), {"method": "group", "by": "who"}, "/spec/split/by"),
    ],
)
def test_a_column_that_cannot_split_is_refused(column: Column, split: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.SplitColumnInvalid) as refused:
        resolved([LENGTH, SPECIES, column], split=split)

    assert [one["pointer"] for one in refused.value.errors] == [pointer]


def test_a_column_of_the_split_that_is_not_there_is_named_with_what_was_meant() -> None:
    with pytest.raises(errors.ColumnNotFound) as refused:
        resolved([LENGTH, SPECIES, DAY], split={"method": "time", "by": "days"})

    assert [(one["pointer"], one["suggestion"]) for one in refused.value.errors] == [("/spec/split/by", "day")]


@pytest.mark.parametrize(
    "split",
    [
        {"method": "group", "by": "sex", "test": 0.2},
        {"method": "time", "by": "year", "test": 0.2},
        {"method": "column", "by": "only"},
    ],
)
def test_fewer_groups_or_moments_than_parts_are_too_few(split: dict[str, Any]) -> None:
    columns = [LENGTH, SPECIES, SEX, integers("year", 2), category("only", "valid", "test")]

    with pytest.raises(errors.DatasetTooSmall):
        resolved(columns, split=split)
