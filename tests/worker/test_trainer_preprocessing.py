"""Preprocessing is parameters, fitted on training rows only."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.errors import TargetHasInfinity
from tests.worker.factories import Read, order_for, read, table_text
from worker.trainer.preprocessing import (
    Affine,
    CategoryInput,
    NumberInput,
    Preprocessing,
    Table,
    fit,
    read_target,
    transform,
)

FIRST_THREE = np.array([0, 1, 2])


def _fit(
    tmp_path: Path, table: Read, columns: dict[str, Any], rows: NDArray[np.int64] | None = None
) -> tuple[Preprocessing, NDArray[np.float32]]:
    """Fitted values, and the network's inputs of all rows; the target is `y`."""
    spec = {"target": "y", "features": {"columns": columns}, "split": {"validation": 0}}
    order = order_for(tmp_path / "job", table, spec)
    arrays = Table(order)
    target, _, with_target = read_target(order, arrays)
    fitted = fit(order, arrays, target, with_target if rows is None else rows)
    return fitted, transform(fitted, order, arrays, np.arange(table.rows))[0]


def _by_hand(described: dict[str, Any], table: Read) -> NDArray[np.float32]:
    """What a user's ten lines do with `preprocessing.json`."""
    columns = []
    for one in described["inputs"]:
        if one["type"] == "number":
            raw = table.numbers(one["name"])
            filled = np.where(np.isfinite(raw), raw, np.float32(one["imputed"]))
            scaling = one["scaling"]
            columns.append((filled - np.float32(scaling["center"])) / np.float32(scaling["scale"]))
        else:
            values = table.values(one["name"])
            columns += [np.array([value == category for value in values], np.float32) for category in one["categories"]]
    return np.stack(columns, 1)


def test_a_missing_number_becomes_the_median(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n1,0\n,1\n2,0\n9,1\n")

    fitted, features = _fit(tmp_path, table, {"x": {"scale": "none", "missing_indicator": False}})

    unscaled = Affine(center=0.0, scale=1.0)
    assert fitted.inputs == [NumberInput(name="x", imputed=2.0, scaling=unscaled, minimum=1.0, maximum=9.0)]
    assert features[:, 0].tolist() == [1, 2, 2, 9]


def test_a_missing_number_becomes_the_mean_where_asked(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n1,0\n,1\n2,0\n9,1\n")

    _, features = _fit(tmp_path, table, {"x": {"impute": "mean", "scale": "none"}})

    assert features[:, 0].tolist() == [1, 4, 2, 9]


def test_infinity_counts_as_missing(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n1.5,0\ninf,1\n2.5,0\n-inf,1\n3.5,0\n")

    _, features = _fit(tmp_path, table, {"x": {"scale": "none"}})

    assert features[:, 0].tolist() == [1.5, 2.5, 2.5, 2.5, 3.5]


def test_standard_scaling_gives_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).normal(50, 7, 500)
    table = read(tmp_path / "data", "x,y\n" + "".join(f"{value:.6f},{row % 2}\n" for row, value in enumerate(raw)))

    _, features = _fit(tmp_path, table, {})

    assert features.mean() == pytest.approx(0, abs=1e-5)
    assert features.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", ["5", "0.1", "123456789.123", "1e-30"])
def test_a_constant_column_becomes_zeros(tmp_path: Path, value: str) -> None:
    table = read(tmp_path / "data", "x,z,y\n" + "".join(f"{value},{row},{row % 2}\n" for row in range(60)))

    fitted, features = _fit(tmp_path, table, {"x": {"type": "number"}})

    assert isinstance(fitted.inputs[0], NumberInput)
    assert isinstance(fitted.inputs[0].scaling, Affine)
    assert fitted.inputs[0].scaling.scale == 1.0
    assert features[:, 0].tolist() == [0.0] * 60


def test_a_column_without_a_value_in_the_training_rows_is_harmless(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,z,y\n,1,0\n,2,1\n,3,0\n7,4,1\n")

    _, features = _fit(tmp_path, table, {}, rows=FIRST_THREE)

    assert np.isfinite(features).all()


def test_a_category_has_a_place_for_each_value_and_one_for_missing(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "c,y\nred,0\nblue,1\n,0\nred,1\n")

    fitted, features = _fit(tmp_path, table, {})

    assert fitted.inputs == [CategoryInput(name="c", categories=["blue", "red", None])]
    assert fitted.features == ["c=blue", "c=red", "c="]
    assert features.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_without_missing_values_there_is_no_place_for_them(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "c,y\nred,0\nblue,1\nred,1\n")

    fitted, _ = _fit(tmp_path, table, {})

    assert fitted.features == ["c=blue", "c=red"]


def test_a_value_that_no_training_row_has_is_all_zeros(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "c,y\nred,0\nblue,1\nred,0\ngreen,1\n,1\n")

    fitted, features = _fit(tmp_path, table, {}, rows=FIRST_THREE)

    assert fitted.features == ["c=blue", "c=red"]
    assert features[3:].tolist() == [[0, 0], [0, 0]]


def test_a_boolean_is_a_category_of_two(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "b,y\ntrue,0\nFALSE,1\ntrue,0\n")

    fitted, features = _fit(tmp_path, table, {})

    assert fitted.inputs == [CategoryInput(name="b", categories=[False, True])]
    assert fitted.features == ["b=false", "b=true"]
    assert features.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_integers_may_be_taken_as_categories(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "zone,y\n10,0\n2,1\n10,1\n")

    fitted, _ = _fit(tmp_path, table, {"zone": {"type": "category"}})

    assert fitted.inputs == [CategoryInput(name="zone", categories=[2, 10])]


def test_rows_outside_the_training_rows_change_nothing(tmp_path: Path) -> None:
    head = "x,c,y\n1,red,0\n2,blue,1\n4,red,0\n"
    tame = read(tmp_path / "tame", head + "3,red,1\n5,blue,0\n")
    wild = read(tmp_path / "wild", head + "-1e30,green,1\n,,0\n")

    choice = {"x": {"missing_indicator": False}}
    fitted = [_fit(tmp_path / name, table, choice, rows=FIRST_THREE)[0] for name, table in (("a", tame), ("b", wild))]

    assert fitted[0] == fitted[1]


def test_ten_lines_of_numpy_agree_to_the_bit(tmp_path: Path) -> None:
    table = read(tmp_path / "data", table_text(300).replace("kind", "y"))

    choices = {"wet": {"type": "category"}, "width": {"missing_indicator": False}}
    fitted, features = _fit(tmp_path, table, choices, rows=np.arange(100))

    assert features.dtype == np.float32
    assert features.shape[1] == len(fitted.features) == 8
    assert np.array_equal(features, _by_hand(fitted.model_dump(mode="json"), table))


def test_the_target_of_classes_is_their_position_and_a_missing_one_is_no_row(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n1,pear\n2,\n3,apple\n4,quince\n5,pear\n")
    order = order_for(tmp_path / "job", table, {"target": "y", "split": {"validation": 0}})

    target, codes, rows = read_target(order, Table(order))

    assert target.classes == ["apple", "pear", "quince"]
    assert rows.tolist() == [0, 2, 3, 4]
    assert codes[rows].tolist() == [1, 0, 2, 1]


def test_the_second_of_two_classes_is_a_one(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n1,pear\n2,\n3,apple\n4,pear\n")
    order = order_for(tmp_path / "job", table, {"target": "y", "split": {"validation": 0}})

    _, labels, rows = read_target(order, Table(order))

    assert labels[rows].tolist() == [[1.0], [0.0], [1.0]]


def test_an_infinite_number_to_predict_is_refused_with_its_rows(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n1,0.5\n2,inf\n3,1.5\n4,\n")
    order = order_for(tmp_path / "job", table, {"target": "y", "split": {"validation": 0}})

    with pytest.raises(TargetHasInfinity) as problem:
        read_target(order, Table(order))

    assert problem.value.facts == {"column": "y", "rows": [1]}


def test_one_column_of_a_wide_table_is_read_alone(tmp_path: Path) -> None:
    names = [f"n{place}" for place in range(40)]
    table = read(tmp_path / "data", ",".join([*names, "y"]) + "\n" + (",".join(["1.5"] * 40) + ",0\n") * 5000)
    spec = {"target": "y", "task": "regression", "split": {"validation": 0}, "features": {"include": names}}
    order = order_for(tmp_path / "job", table, spec)

    column = Table(order).number(order.column("n7"))

    assert column.base is None
    assert column.nbytes == 5000 * 4
    assert np.array_equal(column, table.numbers("n7"))
