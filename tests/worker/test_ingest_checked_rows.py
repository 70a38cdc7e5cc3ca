"""CSV: rows after the sample are held to what it showed, all columns of a kind at once."""

from pathlib import Path

import pyarrow.parquet
import pytest

from tests.worker.factories import read
from worker.ingest.csv_text import SAMPLE_ROWS
from worker.ingest.rows_checked import SEPARATOR

KINDS = {
    "integer": "7",
    "number": "1.5",
    "boolean": "true",
    "date": "2020-01-31",
    "moment": "2020-01-31 10:00:00",
    "zone": "2020-01-31T10:00:00+02:00",
    "clock": "10:00",
    "format": "31.01.2020",
    "month": "5 Jan 2020",
}
BEYOND_SAMPLE = SAMPLE_ROWS + 50


def _rows(*cells: str) -> str:
    return ",".join(cells) + "\n"


@pytest.mark.parametrize(("kind", "cell"), KINDS.items())
def test_two_values_in_one_late_cell_are_a_text(tmp_path: Path, kind: str, cell: str) -> None:
    late, place = [cell, cell, cell], list(KINDS).index(kind) % 3
    late[place] = cell + SEPARATOR + cell
    table = read(tmp_path / "data", _rows("a", "b", "c") + _rows(cell, cell, cell) * BEYOND_SAMPLE + _rows(*late))

    others = {name for index, name in enumerate("abc") if index != place}
    assert table.types["abc"[place]] == "category"
    assert {table.types[name] for name in others} == {kind if kind in ("integer", "number", "boolean") else "datetime"}


@pytest.mark.parametrize(
    ("cell", "late"),
    [
        ("7", "07"),
        ("7", "1_000"),
        ("7", "0x10"),
        ("1.5", "01.5"),
        ("1.5", "1.5 kg"),
        ("true", "yes"),
        ("true", "fal\u017fe"),
        ("2020-01-31", "2020-02-30"),
        ("2020-01-31 10:00:00", "2020-01-31 25:00:00"),
        ("10:00", "25:00"),
        ("31.01.2020", "31.02.2020"),
        ("5 Jan 2020", "5 Foo 2020"),
    ],
    ids=str,
)
def test_a_late_cell_that_does_not_fit_is_a_text(tmp_path: Path, cell: str, late: str) -> None:
    table = read(tmp_path / "data", _rows("a", "b") + _rows(cell, cell) * BEYOND_SAMPLE + _rows(cell, late))

    assert table.types["b"] == "category"
    assert table.types["a"] != "category"


def test_missing_cells_anywhere_in_a_row_leave_the_others_as_they_are(tmp_path: Path) -> None:
    full = list(KINDS.values())
    holed = [["" if place in (hole, hole + 1) else cell for place, cell in enumerate(full)] for hole in range(9)]
    late = "".join(_rows(*row) for row in [*holed, full])
    table = read(tmp_path / "data", _rows(*KINDS) + _rows(*full) * BEYOND_SAMPLE + late)

    kept = pyarrow.parquet.read_table(table.folder / "table.parquet").slice(BEYOND_SAMPLE - 1).to_pylist()
    for hole, row in enumerate(kept[1:-1]):
        missing = list(KINDS)[hole : hole + 2]
        assert row == {name: None if name in missing else value for name, value in kept[0].items()}
    assert kept[-1] == kept[0]


def test_a_late_word_for_a_missing_value_with_spaces_around_it_is_one(tmp_path: Path) -> None:
    text = "a,b\n" + "1, 2.5 \n" * 20 + " ? , ? \n" + "1, 2.5 \n" * BEYOND_SAMPLE + " ? , ? \n"
    table = read(tmp_path / "data", text)

    assert table.types == {"a": "integer", "b": "number"}
    assert [column.missing for column in table.columns] == [2, 2]
