"""XLSX: one sheet, rewritten as JSON lines and then read as those. What the zip holds is counted before it is read."""

import datetime
import errno
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook

from core import errors
from worker.ingest import json_text
from worker.ingest.csv_text import MISSING
from worker.ingest.reader import Desk, refuse_too_large
from worker.ingest.table import Written

MAX_EXPANDED = 512 * 1024 * 1024  # bytes: a sheet is held in memory as a whole
MAX_SHEET_CELLS = 20_000_000
BLOCK = 1024 * 1024
OTHERS = {b"\xd0\xcf\x11\xe0": "This is an .xls, or a workbook with a password; save it as .xlsx without one."}


def convert(desk: Desk) -> tuple[Written, dict[str, Any]]:
    """The table, and which sheet it was and how it was read."""
    with desk.source.open("rb") as file:
        head = file.read(4)
    if head in OTHERS:
        raise errors.XlsxMalformed(OTHERS[head])
    try:
        _count(desk)
        with CalamineWorkbook.from_path(desk.source) as workbook:
            sheet = _sheet(workbook, desk.asked.dialect.sheet)
            names, header, rows = _table(sheet, desk.asked.dialect.header)
            refuse_too_large(sheet.height, len(names))
            lines = desk.folder / "rows.jsonl"
            json_text.lines_written(lines, rows)
        written, dialect = json_text.copy(desk, lines, "newline_delimited", names, MISSING)
    except (duckdb.OutOfMemoryException, errors.Problem):
        raise
    except (CalamineError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise errors.XlsxMalformed() from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the beginning of the file
            raise
        raise errors.XlsxMalformed() from error
    said = dialect.model_dump(include={"missing_values", "date_formats"})
    return written, {"sheet": sheet.name, "header": header, **said}


def _count(desk: Desk) -> None:
    """Unpacks everything once, to nowhere: what a member really holds, and how far its cells reach. One cell in the
    last corner of a sheet makes its reader allocate all the others."""
    left = min(desk.expanded_bytes, MAX_EXPANDED)
    with zipfile.ZipFile(desk.source) as archive:
        for member in archive.infolist():
            if member.file_size > left:
                raise errors.DatasetTooLarge(f"The workbook holds more than {MAX_EXPANDED:,} bytes.")
            left -= member.file_size
            sheet = re.fullmatch(r"xl/worksheets/[^/]+\.xml", member.filename)
            column, row, tail = 1, 1, b""
            with archive.open(member) as packed:
                while block := packed.read(BLOCK):
                    if sheet:
                        for found in re.finditer(rb'\br="([A-Z]{1,4})(\d{1,8})"', tail + block):
                            column, row = max(column, _number(found[1])), max(row, int(found[2]))
                        tail = block[-32:]
            if column * row > MAX_SHEET_CELLS:
                raise errors.DatasetTooLarge(
                    f"A sheet reaches over more than {MAX_SHEET_CELLS:,} cells, empty ones included.",
                    rows=row,
                    columns=column,
                )
            desk.alive()


def _number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number


def _sheet(workbook: CalamineWorkbook, asked: str | None) -> CalamineSheet:
    if not workbook.sheet_names:
        raise errors.DatasetEmpty()
    if asked is None:
        return workbook.get_sheet_by_index(0)
    if asked not in workbook.sheet_names:
        raise errors.SheetNotFound()
    return workbook.get_sheet_by_name(asked)


def _table(sheet: CalamineSheet, asked: bool | None) -> tuple[list[str], bool, Iterator[list[Any]]]:
    """Names, whether they stood in the first row, and the rows below. Empty rows around the table are none of it."""
    rows = (row for row in map(_plain, sheet.iter_rows()) if any(value is not None for value in row))
    first = next(rows, None)
    if first is None:
        raise errors.DatasetEmpty()
    while first and first[-1] is None and asked is not False:
        first.pop()  # a sheet is as wide as its widest row
    header = asked if asked is not None else not all(isinstance(value, int | float) for value in first)
    if header:
        return ["" if name is None else str(name) for name in first], True, _cut(rows, len(first))

    def all_rows() -> Iterator[list[Any]]:
        yield first
        yield from rows

    return [f"column{place}" for place in range(len(first))], False, _cut(all_rows(), len(first))


def _cut(rows: Iterator[list[Any]], width: int) -> Iterator[list[Any]]:
    for number, row in enumerate(rows, 2):
        if any(value is not None for value in row[width:]):
            raise errors.XlsxMalformed(f"Row {number} has more cells than the first has names.", row=number)
        yield row[:width] + [None] * (width - len(row))


def _plain(row: Sequence[Any]) -> list[Any]:
    return [_value(value) for value in row]


def _value(value: Any) -> Any:
    """A cell as JSON has it: numbers are floats in every sheet, so a whole one may be an integer."""
    match value:
        case "":
            return None
        case bool() | int() | str():
            return value
        case float():
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
    return str(value)
