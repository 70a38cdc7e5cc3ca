"""Which rows train, validate and test."""

import numpy as np
import pytest
from numpy.typing import NDArray

from core.spec import Split
from worker.trainer.split import draw

SHARES = [(0.2, 0.0), (0.2, 0.1), (0.5, 0.25), (0.05, 0.9), (0.0, 0.3)]
SKEWED = np.repeat([0, 1, 2, 3], [700, 200, 90, 13])
MANY_SMALL = np.concatenate([np.zeros(1000, np.int64), np.repeat(np.arange(1, 101), 3)])


def _split(method: str = "random", validation: float = 0.2, test: float = 0.0, seed: int = 0) -> Split:
    return Split.model_validate({"method": method, "validation": validation, "test": test, "seed": seed})


@pytest.mark.parametrize("method", ["random", "stratified"])
@pytest.mark.parametrize(("validation", "test"), SHARES)
@pytest.mark.parametrize("classes", [SKEWED, MANY_SMALL], ids=["skewed", "many-small"])
def test_sizes_are_the_rounded_shares(method: str, validation: float, test: float, classes: NDArray[np.int64]) -> None:
    rows = np.arange(len(classes))

    parts = draw(_split(method, validation, test), rows, classes)

    assert len(parts.validation) == round(len(rows) * validation)
    assert len(parts.test) == round(len(rows) * test)
    assert len(parts.train) == len(rows) - len(parts.validation) - len(parts.test)


@pytest.mark.parametrize("method", ["random", "stratified"])
def test_each_row_with_a_target_is_in_one_part_and_parts_ascend(method: str) -> None:
    rows = np.flatnonzero(np.arange(len(SKEWED)) % 7)

    parts = draw(_split(method, 0.2, 0.1), rows, SKEWED)

    everything = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(everything.tolist()) == rows.tolist()
    assert all((np.diff(part) > 0).all() for part in (parts.train, parts.validation, parts.test))


@pytest.mark.parametrize(("validation", "test"), [(0.2, 0.0), (0.2, 0.1), (0.16, 0.0), (0.3, 0.3)])
@pytest.mark.parametrize("classes", [SKEWED, MANY_SMALL], ids=["skewed", "many-small"])
def test_a_stratified_part_has_each_class_in_proportion_give_or_take_a_row(
    validation: float, test: float, classes: NDArray[np.int64]
) -> None:
    parts = draw(_split("stratified", validation, test), np.arange(len(classes)), classes)

    for part, share in ((parts.validation, validation), (parts.test, test)):
        wanted = np.bincount(classes) * share
        found = np.bincount(classes[part], minlength=len(wanted))
        assert (np.abs(found - wanted) <= 1).all()


def test_an_extra_row_comes_from_the_class_that_lacks_the_most() -> None:
    classes = np.repeat([0, 1, 2], [59, 21, 20])

    for seed in range(5):
        parts = draw(_split("stratified", 0.1, 0.0, seed), np.arange(100), classes)

        assert np.bincount(classes[parts.validation]).tolist() == [6, 2, 2]


def test_a_class_of_one_row_trains() -> None:
    classes = np.array([0] * 50 + [1] * 50 + [2] + [3])

    for seed in range(20):
        parts = draw(_split("stratified", 0.4, 0.4, seed), np.arange(len(classes)), classes)

        assert {100, 101} <= set(parts.train.tolist())


def test_every_class_has_a_row_to_train_on_where_there_are_enough() -> None:
    classes = np.repeat(np.arange(30), 2)

    parts = draw(_split("stratified", 0.25, 0.25), np.arange(60), classes)

    assert set(classes[parts.train]) == set(range(30))


def test_which_of_equal_classes_give_an_extra_row_depends_on_the_seed() -> None:
    classes = np.repeat(np.arange(40), 3)
    rows = np.arange(len(classes))

    given = {
        tuple(sorted(set(classes[draw(_split("stratified", 0.1, 0.0, s), rows, classes).validation]))) for s in range(3)
    }

    assert len(given) == 3


def test_more_rows_held_back_than_classes_can_spare_still_fill_the_parts() -> None:
    classes = np.arange(10)

    parts = draw(_split("stratified", 0.3, 0.2), np.arange(10), classes)

    assert (len(parts.train), len(parts.validation), len(parts.test)) == (5, 3, 2)


@pytest.mark.parametrize("method", ["random", "stratified"])
def test_the_seed_decides_and_nothing_else(method: str) -> None:
    rows = np.arange(len(SKEWED))
    first = draw(_split(method), rows, SKEWED)
    np.random.seed(12345)

    again, other = draw(_split(method), rows, SKEWED), draw(_split(method, seed=1), rows, SKEWED)

    assert again.validation.tolist() == first.validation.tolist()
    assert other.validation.tolist() != first.validation.tolist()
