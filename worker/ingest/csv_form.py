"""The form of a CSV: where its table begins, what stands between its fields and around them. Found in its first MiB.

It is settled here and handed to the reader. Left to guess, that would rather skip the first rows of a ragged file than
refuse it.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from core import errors
from core.dialect import Dialect

if TYPE_CHECKING:
    from _csv import Reader

BLOCK = 1024 * 1024
MAX_LINE = 1024 * 1024
LOOKED_AT = 200  # rows that the delimiter is found by

LIKELY, RARE = ",;\t|", ": ^~"


@dataclass(frozen=True)
class Form:
    delimiter: str
    quote: str  # empty where quotation marks are part of the text
    skipped: int  # lines before the first row: the reader would take blank ones for it
    first: list[str]  # the first row, which may be the header


def inspect(source: Path, asked: Dialect) -> Form:
    """Raises `CsvMalformed` or `DatasetEmpty`."""
    refuse_nul(source)
    with opened(source) as text:
        first, skipped = text.readline(MAX_LINE), 0
        while first and not first.strip():
            first, skipped = text.readline(MAX_LINE), skipped + 1
        if not first.strip():
            raise errors.DatasetEmpty()
        delimiter = asked.delimiter
        if said := re.fullmatch(r'"?sep=(.)"?\s*', first):  # a line that Excel writes for itself
            delimiter, first, skipped = delimiter or said[1], text.readline(MAX_LINE), skipped + 1
        text.seek(0)
        head = text.read(BLOCK).split("\n", skipped)[-1]
    quote = _quote(head) if asked.quote is None else asked.quote
    form = Form(delimiter or _delimiter(head, first, quote), quote, skipped, [])
    with opened(source) as text:
        lines = rows(text, form)
        try:
            return Form(form.delimiter, quote, skipped, next(lines))
        except csv.Error as error:
            raise broken(error, lines.line_num) from error
        except StopIteration:
            raise errors.DatasetEmpty() from None


def opened(source: Path) -> TextIO:
    return source.open(encoding="utf-8-sig", newline="")


def rows(text: TextIO, form: Form) -> "Reader":
    """The rows from the first that is not blank."""
    text.seek(0)
    for _ in range(form.skipped):
        text.readline()
    return _reader(text, form.delimiter, form.quote)


def _reader(lines: Iterator[str], delimiter: str, quote: str) -> "Reader":
    csv.field_size_limit(MAX_LINE)
    if not quote:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)


def broken(error: csv.Error, line: int) -> errors.CsvMalformed:
    if "field limit" in str(error):
        return too_long()
    return errors.CsvMalformed(
        f"A quotation mark is not closed, or stands in mid field, at or before line {line}.", row=line
    )


def too_long() -> errors.CsvMalformed:
    return errors.CsvMalformed(f"A line is longer than {MAX_LINE:,} bytes.", limit_bytes=MAX_LINE)


def refuse_nul(source: Path) -> None:
    offset = 0
    with source.open("rb") as file:
        while block := file.read(BLOCK):
            if (nul := block.find(b"\0")) >= 0:
                raise errors.CsvMalformed(
                    f"The file holds a NUL byte at offset {offset + nul}; is it text?", offset=offset + nul
                )
            offset += len(block)


def _quote(head: str) -> str:
    """A quotation mark stands at both ends of a field."""

    def fields(mark: str) -> int:
        return len(
            re.findall(rf"(?:^|[{LIKELY}]){mark}[^{mark}\n]*{mark}(?=[{LIKELY}]|\r?$)", head[: BLOCK // 8], re.M)
        )

    return "'" if fields("'") > fields('"') else '"'


def _delimiter(head: str, first: str, quote: str) -> str:
    """What splits the most rows into equally many fields, or at least the first row into most."""
    whole = head if len(head) < BLOCK - 4096 else head.rpartition("\n")[0]
    found = {mark: width for mark in LIKELY if (width := _width(whole, mark, quote)) > 1}
    if "," in found and len(found) > 1 and not re.search(r",(?!\d)|(?<!\d),", re.sub(r'"[^"]*"', "", whole)):
        del found[","]  # it stands in numbers only: a decimal mark
    if found:
        return max(found, key=lambda mark: (found[mark], -LIKELY.index(mark)))
    outside_quotes = re.sub(f"{quote}[^{quote}]*{quote}?", "", first) if quote else first
    if not any(mark in outside_quotes for mark in LIKELY):
        long = whole.count("\n") > 2  # words between spaces in a line or two are no table
        return next((mark for mark in RARE if long and _width(whole, mark, quote) > 1), ",")
    return max(LIKELY, key=lambda mark: (outside_quotes.count(mark), mark == ","))


def _width(text: str, delimiter: str, quote: str) -> int:
    """How many fields each row has, or 0 where they differ."""
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    try:
        widths = {len(row) for row in islice(_reader(iter(lines), delimiter, quote), LOOKED_AT) if row}
    except csv.Error:
        return 0
    return widths.pop() if len(widths) == 1 else 0
