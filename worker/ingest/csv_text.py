"""CSV as text: encoding, dialect, and where exactly a broken file is broken.

The dialect is settled here and handed to the reader. Left to guess, it would rather skip the first rows of a ragged
file than refuse it.
"""

import codecs
import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import duckdb

from core import errors
from worker.ingest.columns import check_names, quoted

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = ",;\t|"
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL"]
BLOCK = 1024 * 1024
MAX_LINE = 1024 * 1024

PADDED = "PADDED"  # numbers with spaces around them, some of which the reader takes for text
NUMBER = r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?"
# By what the reader finds: how to tell that it is wrong.
MISREAD = {
    "BOOLEAN": "bool_or(lower({0}) NOT IN ('true', 'false'))",
    "BIGINT": "bool_or(contains(lower({0}), 'x') OR contains(lower({0}), 'b'))",
    "VARCHAR": "bool_or({0} <> trim({0}))",
}
IS_PADDED = (
    f"bool_and(regexp_full_match(trim({{0}}), '{NUMBER}|{'|'.join(MISSING)}')) "
    f"AND bool_or(regexp_full_match(trim({{0}}), '{NUMBER}'))"
)


@dataclass(frozen=True)
class Dialect:
    delimiter: str
    header: bool
    names: list[str] | None  # of the header, where there is one
    blank_lines: int  # before the first row: the reader would take them for it

    def as_json(self) -> dict[str, Any]:
        return {
            "delimiter": self.delimiter,
            "quote": '"',
            "header": self.header,
            "encoding": "utf-8",
            "missing_values": MISSING,
        }


def inspect(source: Path) -> Dialect:
    """Checks that the whole file is text, and reads its first line.

    Raises `CsvEncoding`, `CsvMalformed`, `DatasetEmpty` or a problem of its column names.
    """
    _check_text(source)
    with source.open(encoding="utf-8-sig", newline="") as text:
        first, blank_lines = text.readline(MAX_LINE), 0
        while first and not first.strip():
            first, blank_lines = text.readline(MAX_LINE), blank_lines + 1
        if not first.strip():
            raise errors.DatasetEmpty()
        outside_quotes = re.sub(r'"[^"]*"?', "", first)
        delimiter = max(DELIMITERS, key=lambda candidate: (outside_quotes.count(candidate), candidate == ","))
        rows = _rows(text, delimiter, blank_lines)
        try:
            names = next(rows)
        except csv.Error as error:
            raise _broken(error, rows.line_num) from error
    header = not all(_is_number(name) for name in names)
    return Dialect(delimiter, header, check_names(names) if header else None, blank_lines)


def scan(
    connection: duckdb.DuckDBPyConnection, source: Path, dialect: Dialect
) -> tuple[str, list[Any], list[tuple[str, str]]]:
    """The reader's call with its parameters, and the columns it finds: key and type.

    Types are those of the whole file by a strict grammar: the reader would take `yes` for true and `0x10` for 16.
    """
    call = (
        "read_csv(?, delim = ?, header = ?, nullstr = ?, skip = ?, quote = '\"', escape = '\"', comment = '', "
        f"sample_size = -1, strict_mode = true, null_padding = false, max_line_size = {MAX_LINE}"
    )
    parameters: list[Any] = [str(source), dialect.delimiter, dialect.header, MISSING, dialect.blank_lines]
    found = connection.execute(f"DESCRIBE SELECT * FROM {call})", parameters).fetchall()  # noqa: S608
    columns = [(key, kind) for key, kind, *_ in found]

    def which(checks: dict[int, str]) -> list[int]:
        """The columns of which a check over all their cells as text is true."""
        if not checks:
            return []
        asked = ", ".join(check.format(quoted(columns[place][0])) for place, check in checks.items())
        text = f"SELECT {asked} FROM {call}, all_varchar = true)"  # noqa: S608
        answers = connection.execute(text, parameters).fetchall()[0]
        return [place for place, answer in zip(checks, answers, strict=True) if answer]

    misread = which({place: MISREAD[kind] for place, (_, kind) in enumerate(columns) if kind in MISREAD})
    padded = which({place: IS_PADDED for place in misread if columns[place][1] == "VARCHAR"})
    for place in misread:
        columns[place] = (columns[place][0], PADDED if place in padded else "VARCHAR")
    types = ["VARCHAR" if kind == PADDED else kind for _, kind in columns]
    return f"{call}, types = ?)", [*parameters, types], columns


def explain(source: Path, message: str) -> errors.CsvMalformed:
    """Why the reader gave up, with the row: ours to find, for the reader's own text quotes the data."""
    dialect = inspect(source)
    with source.open(encoding="utf-8-sig", newline="") as text:
        rows = _rows(text, dialect.delimiter, dialect.blank_lines)
        try:
            expected = len(next(rows))
            for number, row in enumerate(rows, 2):
                if row and len(row) != expected:
                    return errors.CsvMalformed(
                        f"Row {number} has {len(row)} fields where the header has {expected}.",
                        row=number,
                        fields=len(row),
                        expected=expected,
                    )
        except csv.Error as error:
            return _broken(error, rows.line_num)
        if isinstance(text.newlines, tuple):
            return errors.CsvMalformed("The lines end in different ways (LF, CRLF, CR); save the file with one.")
    if re.search(r"maximum line size of \d+ bytes exceeded", message, re.IGNORECASE):
        return _too_long()
    line = re.search(r"Line: (\d+)", message)
    return errors.CsvMalformed(row=int(line[1])) if line else errors.CsvMalformed()


def _rows(text: TextIO, delimiter: str, blank_lines: int) -> "Reader":
    """The rows from the first that is not blank."""
    csv.field_size_limit(MAX_LINE)
    text.seek(0)
    for _ in range(blank_lines):
        text.readline()
    return csv.reader(text, delimiter=delimiter, strict=True)


def _broken(error: csv.Error, line: int) -> errors.CsvMalformed:
    if "field limit" in str(error):
        return _too_long()
    return errors.CsvMalformed(
        f"A quotation mark is not closed, or stands in mid field, at or before line {line}.", row=line
    )


def _too_long() -> errors.CsvMalformed:
    return errors.CsvMalformed(f"A line is longer than {MAX_LINE:,} bytes.", limit_bytes=MAX_LINE)


def _check_text(source: Path) -> None:
    decoder, offset, tail = codecs.getincrementaldecoder("utf-8")(), 0, b""
    with source.open("rb") as file:
        while block := file.read(BLOCK):
            if not offset and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise errors.CsvEncoding("The file is UTF-16; save it as UTF-8 and send it again.", offset=0)
            if (nul := block.find(b"\0")) >= 0:
                raise errors.CsvMalformed(
                    f"The file holds a NUL byte at offset {offset + nul}; is it text?", offset=offset + nul
                )
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                at = offset - len(tail) + error.start
                raise errors.CsvEncoding(f"The file is not UTF-8 text at byte {at}.", offset=at) from error
            tail = decoder.getstate()[0]
            offset += len(block)
        if tail:
            at = offset - len(tail)
            raise errors.CsvEncoding(f"The file ends in mid character, at byte {at}.", offset=at)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?\d+(\.\d+)?([eE][+-]?\d+)?\s*", text) is not None
