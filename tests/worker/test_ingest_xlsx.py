"""XLSX: cells with their types, the sheet that is meant, and workbooks that blow up."""

import datetime
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from core import errors
from tests.worker.factories import Read, read

ROWS: list[list[Any]] = [
    ["n", "x", "b", "c", "code", "day", "moment", "iso"],
    [
        1,
        1.5,
        True,
        "red",
        "007",
        datetime.date(2020, 1, 31),
        datetime.datetime.fromisoformat("2020-01-31T10:30:00"),
        "2020-01-31",
    ],
    [2, None, False, None, "012", None, None, None],
    [
        3,
        "NA",
        None,
        "NA",
        "300",
        datetime.date(2021, 2, 28),
        datetime.datetime.fromisoformat("2021-02-28T01:02:03"),
        "2021-02-28",
    ],
]


def _workbook(**sheets: list[list[Any]]) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        formats = {
            datetime.datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            datetime.date: book.add_format({"num_format": "yyyy-mm-dd"}),
        }
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for at, row in enumerate(rows):
                for column, value in enumerate(row):
                    if type(value) in formats:
                        sheet.write_datetime(at, column, value, formats[type(value)])
                    elif value is not None:
                        sheet.write(at, column, value)
    return file.getvalue()


def _changed(data: bytes, member: str, change: Any) -> bytes:
    """The workbook with another text in one of its parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.infolist():
            text = old.read(one)
            new.writestr(one.filename, change(text) if one.filename == member else text)
    return file.getvalue()


def _table(tmp_path: Path, data: bytes, **options: Any) -> Read:
    return read(tmp_path / "data", data, "xlsx", **options)


def test_cells_keep_their_types(tmp_path: Path) -> None:
    table = _table(tmp_path, _workbook(Sheet1=ROWS))

    assert table.types == {
        "n": "integer",
        "x": "number",
        "b": "boolean",
        "c": "category",
        "code": "category",
        "day": "datetime",
        "moment": "datetime",
        "iso": "datetime",
    }
    assert table.values("code") == ["007", "012", "300"]
    assert table.values("c") == ["red", None, None]
    assert table.column("x").missing == 2
    assert table.said.dialect is not None
    assert (table.said.dialect["sheet"], table.said.dialect["header"]) == ("Sheet1", True)


def test_the_first_sheet_is_read_unless_another_is_named(tmp_path: Path) -> None:
    data = _workbook(One=[["a"], [1]], Two=[["b"], [2]])

    assert list(_table(tmp_path / "1", data).types) == ["a"]
    assert list(_table(tmp_path / "2", data, sheet="Two").types) == ["b"]
    with pytest.raises(errors.SheetNotFound):
        _table(tmp_path / "3", data, sheet="Three")


def test_empty_rows_around_a_table_are_none_of_it(tmp_path: Path) -> None:
    table = _table(tmp_path, _workbook(S=[[], [None, None], ["a", "b"], [1, "x"], [], [2, "y"]]))

    assert (table.rows, list(table.types)) == (2, ["a", "b"])


def test_a_sheet_of_numbers_has_no_header(tmp_path: Path) -> None:
    table = _table(tmp_path, _workbook(S=[[1, 2.5], [3, 4]]))

    assert table.types == {"column0": "integer", "column1": "number"}
    assert table.rows == 2


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "dataset_empty"),
        ([["a", "b"]], "dataset_no_rows"),
        ([["a", None, "b"], [1, 2, 3]], "empty_column_name"),
        ([["a", "a"], [1, 2]], "duplicate_column"),
        ([["a"], [1, 2]], "xlsx_malformed"),
    ],
)
def test_a_sheet_that_is_no_table_is_refused(tmp_path: Path, rows: list[list[Any]], code: str) -> None:
    with pytest.raises(errors.DatasetProblem) as problem:
        _table(tmp_path, _workbook(S=rows))

    assert problem.value.code == code


def test_a_cell_in_the_last_corner_is_refused_before_all_others_are_allocated(tmp_path: Path) -> None:
    data = _workbook(S=[["a"], [1]])
    corner = _changed(data, "xl/worksheets/sheet1.xml", lambda text: text.replace(b'r="A2"', b'r="XFD1048576"'))

    with pytest.raises(errors.DatasetTooLarge):
        _table(tmp_path, corner)


def test_a_bomb_is_refused_by_what_it_would_hold(tmp_path: Path) -> None:
    data = _workbook(S=[["a"], [1]])
    bomb = _changed(data, "xl/worksheets/sheet1.xml", lambda text: text + b" " * 50_000_000)
    assert len(bomb) < 200_000

    with pytest.raises(errors.DatasetTooLarge):
        _table(tmp_path, bomb, expanded_bytes=1 << 24)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_truncated_workbook_is_malformed(tmp_path: Path, part: float) -> None:
    data = _workbook(S=ROWS)

    with pytest.raises(errors.XlsxMalformed):
        _table(tmp_path, data[: int(len(data) * part)])


def test_what_is_no_workbook_is_malformed(tmp_path: Path) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.txt", "x")
    files = [b"a,b\n1,2\n", b"\xd0\xcf\x11\xe0" + b"\0" * 600, zipped.getvalue()]

    for place, file in enumerate(files):
        with pytest.raises(errors.XlsxMalformed):
            _table(tmp_path / str(place), file)
