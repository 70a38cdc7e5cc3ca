"""CSV as text: encoding, dialect, and where exactly a broken file is broken.

The dialect is settled here and handed to the reader. Left to guess, it would rather skip the first rows of a ragged
file than refuse it.
"""

import codecs
import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import errors
from worker.ingest.columns import check_names

DELIMITERS = ",;\t|"
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL"]
BLOCK = 1024 * 1024
MAX_LINE = 1024 * 1024


@dataclass(frozen=True)
class Dialect:
    delimiter: str
    header: bool

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
        first = text.readline(MAX_LINE)
        while first and not first.strip():
            first = text.readline(MAX_LINE)
        if not first.strip():
            raise errors.DatasetEmpty()
        outside_quotes = re.sub(r'"[^"]*"?', "", first)
        delimiter = max(DELIMITERS, key=lambda candidate: (outside_quotes.count(candidate), candidate == ","))
        text.seek(0)
        names = next(csv.reader(text, delimiter=delimiter))
    header = not all(_is_number(name) for name in names)
    if header:
        check_names(names)
    return Dialect(delimiter, header)


def scan(source: Path, dialect: Dialect) -> tuple[str, list[Any]]:
    """The reader's call: types over the whole file, everything else as settled."""
    return (
        "read_csv(?, delim = ?, header = ?, nullstr = ?, quote = '\"', escape = '\"', comment = '', skip = 0, "
        f"sample_size = -1, strict_mode = true, null_padding = false, max_line_size = {MAX_LINE})",
        [str(source), dialect.delimiter, dialect.header, MISSING],
    )


def explain(source: Path, message: str) -> errors.CsvMalformed:
    """Why the reader gave up, with the row: ours to find, for the reader's own text quotes the data."""
    with source.open(encoding="utf-8-sig", newline="") as text:
        delimiter = inspect(source).delimiter
        rows = csv.reader(text, delimiter=delimiter, strict=True)
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
        except csv.Error:
            return errors.CsvMalformed(
                f"A quotation mark is not closed, or stands in mid field, at or before line {rows.line_num}.",
                row=rows.line_num,
            )
    if "maximum line size" in message.lower():
        return errors.CsvMalformed(f"A line is longer than {MAX_LINE:,} bytes.", limit_bytes=MAX_LINE)
    line = re.search(r"Line: (\d+)", message)
    return errors.CsvMalformed(row=int(line[1])) if line else errors.CsvMalformed()


def _check_text(source: Path) -> None:
    decoder, offset, tail = codecs.getincrementaldecoder("utf-8")(), 0, b""
    with source.open("rb") as file:
        while block := file.read(BLOCK):
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
            raise errors.CsvEncoding(f"The file ends in mid character, at byte {offset}.", offset=offset)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?\d+(\.\d+)?([eE][+-]?\d+)?\s*", text) is not None
