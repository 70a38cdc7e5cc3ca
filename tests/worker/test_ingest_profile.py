"""Profile and arrays against numpy and against the table itself."""

import json
from pathlib import Path

import numpy as np
import pytest

from core import errors
from tests.worker.factories import read
from worker.ingest import reader


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-200, 1e25, 1e300])
def test_figures_are_those_of_numpy_at_any_scale(tmp_path: Path, scale: float) -> None:
    values = np.random.default_rng(0).normal(3, 2, 1000) * scale
    table = read(
        tmp_path / "data", "x,y\n" + "".join(f"{value!r},{row % 2}\n" for row, value in enumerate(values.tolist()))
    )

    column = table.column("x")

    assert (column.type, column.missing, column.distinct) == ("number", 0, 1000)
    assert (column.minimum, column.maximum) == (values.min(), values.max())
    assert column.mean == pytest.approx(values.mean(), rel=1e-9)
    assert column.std == pytest.approx((values / scale).std() * scale, rel=1e-9)


def test_infinity_is_left_out_of_every_figure(tmp_path: Path) -> None:
    column = read(tmp_path / "data", "x,y\n1.5,0\ninf,1\n2.5,0\n-inf,1\n").column("x")

    assert (column.minimum, column.maximum, column.mean) == (1.5, 2.5, 2.0)
    assert column.std == pytest.approx(0.5)


def test_not_a_number_counts_as_missing(tmp_path: Path) -> None:
    column = read(tmp_path / "data", "x,y\n1.5,0\nNAN,1\n2.5,0\n,1\n").column("x")

    assert (column.type, column.missing, column.distinct) == ("number", 2, 2)


def test_values_are_sorted_and_counted(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "i,b,c\n10,true,b\n2,false,B\n10,true,a\n-3,true,b\n")

    assert (table.column("i").values, table.column("i").counts) == ([-3, 2, 10], [1, 1, 2])
    assert (table.column("b").values, table.column("b").counts) == ([False, True], [1, 3])
    assert (table.column("c").values, table.column("c").counts) == (["B", "a", "b"], [1, 1, 2])


def test_more_than_a_thousand_values_are_not_listed(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "i,y\n" + "".join(f"{row},{row % 2}\n" for row in range(1001)))

    assert table.column("i").type == "integer"
    assert table.column("i").values is None
    assert table.column("i").code_row is None


def test_arrays_match_the_table_exactly(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    numbers = generator.normal(0, 1e3, 5000)
    words = generator.choice(["x", "y", "", "zed"], 5000).tolist()
    whole = generator.integers(-5, 5, 5000)
    data = "".join(
        f"{'' if row % 7 == 0 else repr(float(numbers[row]))},{words[row]},{whole[row]}\n" for row in range(5000)
    )

    table = read(tmp_path / "data", "n,c,i\n" + data)

    expected = np.where(np.arange(5000) % 7 == 0, np.nan, numbers).astype(np.float32)
    assert np.array_equal(table.numbers("n"), expected, equal_nan=True)
    assert table.values("c") == [word or None for word in words]
    assert np.array_equal(table.numbers("i"), whole.astype(np.float32))
    assert table.values("i") == whole.tolist()


def test_arrays_are_float32_and_int32_of_columns_by_rows(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "n,c,b\n1.5,x,true\n2.5,,false\n3.5,y,true\n")

    numbers, codes = np.load(table.folder / "numbers.npy"), np.load(table.folder / "codes.npy")

    assert (numbers.dtype, numbers.shape) == (np.float32, (1, 3))
    assert (codes.dtype, codes.shape) == (np.int32, (2, 3))
    assert codes.tolist() == [[0, -1, 1], [1, 0, 1]]


def test_a_table_wider_than_a_stretch_keeps_its_columns_apart(tmp_path: Path) -> None:
    width = 250
    header = ",".join(f"c{place}" for place in range(width))
    rows = [
        ",".join(str(place * 10 + row) if place % 2 else f"w{place}_{row}" for place in range(width)) for row in (0, 1)
    ]

    table = read(tmp_path / "data", "\n".join([header, *rows]) + "\n")

    assert [column.name for column in table.columns] == header.split(",")
    assert all(table.numbers(f"c{place}").tolist() == [place * 10, place * 10 + 1] for place in range(1, width, 2))
    assert all(table.values(f"c{place}") == [f"w{place}_0", f"w{place}_1"] for place in range(0, width, 2))


def test_rounding_to_float32_is_said_where_it_costs(tmp_path: Path) -> None:
    rows = "".join(f"{1_600_000_000 + row},{row}.25,{row % 2}\n" for row in range(100))

    warnings = read(tmp_path / "data", "big,small,y\n" + rows).warnings

    assert ("float32_rounding", "big") in warnings
    assert ("float32_rounding", "small") not in warnings


def test_integers_beyond_json_are_numbers_without_a_list(tmp_path: Path) -> None:
    column = read(tmp_path / "data", "x,y\n9007199254740993,0\n1,1\n").column("x")

    assert (column.type, column.values) == ("number", None)


def test_empty_and_constant_columns_are_said(tmp_path: Path) -> None:
    warnings = read(tmp_path / "data", "a,b,c,d\n,1,,x\n,1,2,x\n").warnings

    assert warnings == {("column_all_missing", "a"), ("constant_column", "b"), ("constant_column", "d")}


def test_the_preview_is_the_first_rows(tmp_path: Path) -> None:
    data = "n,c,d\n" + "".join(f"{'inf' if row == 1 else row},v{row % 3},2020-01-01\n" for row in range(150))

    table = read(tmp_path / "data", data)

    preview = json.loads((table.folder / "preview.json").read_text())
    assert len(preview) == 100
    assert preview[0] == {"n": 0.0, "c": "v0", "d": "2020-01-01"}
    assert preview[1]["n"] is None


def test_what_is_left_in_the_folder_is_the_same_every_time(tmp_path: Path) -> None:
    data = "n,c\n" + "".join(f"{row / 7},v{row % 3}\n" for row in range(500))

    first, second = read(tmp_path / "one", data), read(tmp_path / "two", data)

    assert first.said == second.said
    names = sorted(file.name for file in first.folder.iterdir())
    assert names == ["codes.npy", "numbers.npy", "preview.json", "table.parquet"]
    assert all((first.folder / name).read_bytes() == (second.folder / name).read_bytes() for name in names)


def test_a_table_over_the_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_CELLS", 10)
    monkeypatch.setattr(reader, "MAX_COLUMNS", 3)

    with pytest.raises(errors.DatasetTooLarge) as cells:
        read(tmp_path / "cells", "a,b\n" + "1,2\n" * 6)
    with pytest.raises(errors.DatasetTooLarge) as columns:
        read(tmp_path / "columns", "a,b,c,d\n1,2,3,4\n")

    assert cells.value.facts["rows"] == 6
    assert columns.value.facts["columns"] == 4


def test_a_column_of_nothing_but_true_says_true_again(tmp_path: Path) -> None:
    assert list(read(tmp_path / "data", "x,y\n1,true\n2,true\n3,\n").values("y")) == [True, True, None]
