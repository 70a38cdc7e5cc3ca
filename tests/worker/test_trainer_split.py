"""Which rows train, validate and test."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core import errors
from core.spec.data import Split
from tests.worker.factories import order_for, read
from worker.trainer.preparation import Prepared, prepare
from worker.trainer.split import Parts, draw

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


# --- the last rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [10, 97, 344, 1001])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.33])
def test_the_last_rows_are_those_that_keras_takes(rows: int, share: float) -> None:
    parts = draw(_split("last", share), np.arange(rows), np.zeros(rows))

    keras = int(np.floor(rows * (1.0 - share)))
    assert parts.train.tolist() == list(range(keras))
    assert parts.validation.tolist() == list(range(keras, rows))


def test_the_very_last_rows_test() -> None:
    parts = draw(_split("last", 0.2, 0.1), np.arange(10, 30), np.zeros(30))

    assert parts.validation.tolist() == [24, 25, 26, 27]
    assert parts.test.tolist() == [28, 29]


# --- by time, by group ------------------------------------------------------------------------------------------------


def _by(method: str, keys: Any, validation: float = 0.2, test: float = 0.0, seed: int = 0) -> Parts:
    split = Split(method=method, by="key", validation=validation, test=test, seed=seed)  # type: ignore[arg-type]
    return draw(split, np.arange(len(keys)), np.zeros(len(keys)), np.asarray(keys))


def test_the_latest_rows_test_and_those_before_them_validate() -> None:
    moments = np.random.default_rng(0).permutation(100)

    parts = _by("time", moments, 0.2, 0.1)

    assert sorted(moments[parts.test]) == list(range(90, 100))
    assert sorted(moments[parts.validation]) == list(range(70, 90))
    assert sorted(moments[parts.train]) == list(range(70))


def test_rows_of_one_moment_stay_together_and_the_part_is_as_near_to_its_share_as_that_allows() -> None:
    moments = np.repeat([0, 1, 2, 3], [50, 30, 15, 5])

    assert set(moments[_by("time", moments, 0.1).validation]) == {3}  # 5 rows are as near to 10 as 20
    assert set(moments[_by("time", moments, 0.2).validation]) == {2, 3}
    assert set(moments[_by("time", moments, 0.9).validation]) == {1, 2, 3}  # one moment is left to train on


def test_no_group_is_in_two_parts() -> None:
    groups = np.random.default_rng(0).integers(0, 60, 1000)

    for seed in range(10):
        parts = _by("group", groups, 0.2, 0.1, seed)

        members = [set(groups[part]) for part in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, members)) == len(set().union(*members))
        assert len(parts.validation) == pytest.approx(200, abs=10)
        assert len(parts.test) == pytest.approx(100, abs=10)


@pytest.mark.parametrize("method", ["time", "group"])
@pytest.mark.parametrize("counts", [[97, 1, 1], [1, 1, 97], [1, 97, 1], [34, 33, 33]])
def test_every_part_has_rows_where_there_are_as_many_groups_or_moments(method: str, counts: list[int]) -> None:
    keys = np.repeat([0, 1, 2], counts)

    parts = _by(method, keys, 0.3, 0.3)

    assert all(len(part) for part in (parts.train, parts.validation, parts.test))


@pytest.mark.parametrize("method", ["time", "group"])
def test_fewer_groups_or_moments_than_parts_are_refused(method: str) -> None:
    with pytest.raises(errors.DatasetTooSmall) as refused:
        _by(method, np.repeat([0, 1], 50), 0.2, 0.2)

    assert refused.value.facts == {"column": "key", "distinct": 2}


def test_the_seed_decides_which_groups_and_the_rows_order_does_not() -> None:
    groups = np.random.default_rng(0).integers(0, 60, 1000)
    first, again, other = _by("group", groups), _by("group", groups), _by("group", groups, seed=1)

    turned = _by("group", groups[::-1])

    assert first.validation.tolist() == again.validation.tolist()
    assert first.validation.tolist() != other.validation.tolist()
    assert set(groups[::-1][turned.validation]) == set(groups[first.validation])


# --- from a table -----------------------------------------------------------------------------------------------------


def _prepared(folder: Path, table: str, split: dict[str, Any], **spec: Any) -> Prepared:
    order = order_for(folder / "job", read(folder / "data", table), {"target": "y", "split": split, **spec})
    return prepare(order, torch.device("cpu"), refit=False)


def _rows(text: str, *columns: Any) -> str:
    return "\n".join([text, *(",".join(map(str, cells)) for cells in zip(*columns, strict=True))]) + "\n"


DAYS = [f"2024-{1 + day // 28:02}-{1 + day % 28:02}" for day in range(50)]
EXACT = [1_700_000_000 + place for place in range(50)]  # float32 would take all of these for one


@pytest.mark.parametrize(
    "moments", [DAYS, EXACT, [f"{day} 10:00:0{day[-1]}" for day in DAYS]], ids=["day", "second", "t"]
)
def test_a_table_is_split_by_its_column_of_time(tmp_path: Path, moments: list[Any]) -> None:
    shuffled = np.random.default_rng(1).permutation(50)
    table = _rows("when,x,y", [moments[place] for place in shuffled], shuffled, shuffled * 0.5)

    found = _prepared(tmp_path, table, {"method": "time", "by": "when", "validation": 0.2, "test": 0.1})

    assert sorted(shuffled[found.parts.test]) == list(range(45, 50))
    assert sorted(shuffled[found.parts.validation]) == list(range(35, 45))
    assert found.preprocessing.features == ["x"]


@pytest.mark.parametrize("people", [[f"person {place // 2}" for place in range(3000)], [p % 7 for p in range(3000)]])
def test_a_table_is_split_by_its_groups_however_many(tmp_path: Path, people: list[Any]) -> None:
    table = _rows("who,x,y", people, range(3000), np.arange(3000) * 0.5)

    found = _prepared(tmp_path, table, {"method": "group", "by": "who", "validation": 0.2})

    parts = [{people[row] for row in part} for part in (found.parts.train, found.parts.validation)]
    assert not parts[0] & parts[1]
    assert len(found.parts.validation) == pytest.approx(600, abs=200)
    assert found.preprocessing.features == ["x"]


def test_names_of_columns_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    ascending, descending = np.arange(2000) + 0.5, np.arange(2000)[::-1] + 0.5
    table = _rows("t,T,y", ascending, descending, np.arange(2000) * 0.5)

    found = _prepared(tmp_path, table, {"method": "time", "by": "T", "validation": 0.1})

    assert found.parts.validation.tolist() == list(range(200))


def test_a_column_of_the_table_says_which_rows_go_where(tmp_path: Path) -> None:
    words = ["train", "Training", " train", "valid", "val", "VALIDATION", "test", "train"]
    table = _rows("part,x,y", words, range(8), np.arange(8) * 0.5)

    found = _prepared(tmp_path, table, {"method": "column", "by": "part"})

    assert found.parts.train.tolist() == [0, 1, 2, 7]
    assert found.parts.validation.tolist() == [3, 4, 5]
    assert found.parts.test.tolist() == [6]


@pytest.mark.parametrize("method", ["time", "group", "column"])
def test_rows_that_cannot_be_placed_are_named(tmp_path: Path, method: str) -> None:
    cells: dict[str, list[Any]] = {"time": [1, 2, 3, 4], "group": ["a", "b", "c", "d"]}
    values = cells.get(method, ["train", "train", "valid", "train"])
    table = _rows("key,x,y", ["", *values], range(5), [1.5, 2.5, 3.5, 4.5, ""])

    with pytest.raises(errors.SplitColumnInvalid) as refused:
        _prepared(tmp_path, table, {"method": method, "by": "key"})

    assert refused.value.facts == {"column": "key", "rows": [0]}


def test_a_row_without_a_target_needs_no_value_to_be_placed_by(tmp_path: Path) -> None:
    table = _rows("key,x,y", ["", "train", "train", "valid"], range(4), ["", 2.5, 3.5, 4.5])

    found = _prepared(tmp_path, table, {"method": "column", "by": "key"})

    assert (found.parts.train.tolist(), found.parts.validation.tolist()) == ([1, 2], [3])
