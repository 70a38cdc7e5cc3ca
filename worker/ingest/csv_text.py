"""CSV: read once where a sample of its rows shows what they are, and once more where a later row disagrees."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from core import errors
from core.dialect import Dialect
from core.profile import Warning
from worker.ingest import csv_form, grammar, rows_checked, table
from worker.ingest.columns import check_names
from worker.ingest.compressed import expanded
from worker.ingest.csv_form import MAX_LINE, Form
from worker.ingest.encoding import as_utf8
from worker.ingest.grammar import NOTHING, TEXT, Cells, Kind, Misfit
from worker.ingest.reader import Desk, refuse_too_large
from worker.ingest.table import Cell, Written

MISSING = ["NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL"]
# Missing where they stand among numbers or dates; a value as any other in a table without such columns.
PERHAPS_MISSING = frozenset(["?", "-", "--", ".", "*", "None", "none", "n/a", "na", "<NA>", "NAN", "NaT", "missing"])
SAMPLE_ROWS, SAMPLE_CELLS = 10_000, 500_000


def convert(desk: Desk) -> tuple[Written, dict[str, Any]]:
    """The table, and the dialect that it was read with."""
    asked = desk.asked.dialect
    source, compression = expanded(desk.source, desk.folder, desk.expanded_bytes)
    source, encoding = as_utf8(source, desk.folder, asked.encoding)
    form = csv_form.inspect(source, asked)
    refuse_too_large(0, len(form.first))
    sample = max(1, min(SAMPLE_ROWS, SAMPLE_CELLS // len(form.first)))
    try:
        understood = _understand(desk, source, form, _first_thoughts(form, asked), sample)
        try:
            written = _write(desk, understood)
        except Misfit:
            understood = _understand(desk, source, form, understood.columns, None)
            written = _write(desk, understood)
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, Misfit, UnicodeDecodeError) as error:
        raise _explained(source, form, str(error)) from error
    warnings = [*written.warnings, *understood.warnings]
    if encoding != asked.encoding and not encoding.startswith("utf"):
        message = f"The file does not say its encoding; it was taken for {encoding}."
        warnings.insert(0, Warning(code="encoding_guessed", message=message))
    said = understood.dialect.model_dump(exclude={"sheet"}) | {"encoding": encoding, "compression": compression}
    return replace(written, warnings=warnings), said


@dataclass(frozen=True)
class Understood:
    """What a CSV is taken for, by the rows that were looked at."""

    call: str
    parameters: list[Any]
    names: list[str]
    columns: list[Cells]
    dialect: Dialect
    warnings: list[Warning]


def _first_thoughts(form: Form, asked: Dialect) -> list[Cells]:
    """Everything is possible that was not said otherwise; a comma between two fields is no decimal mark."""
    decimal = asked.decimal or ("." if form.delimiter == "," else None)
    dates = [*grammar.ISO, *map(grammar.dated, asked.date_formats)] if asked.date_formats else [grammar.MAYBE_A_DATE]
    numbers = [kind for kind in grammar.NUMBERS if decimal is None or kind.decimal in (None, decimal)]
    kinds = [grammar.BOOLEAN, *numbers, *dates]
    words = PERHAPS_MISSING.union(MISSING) if asked.missing_values is None else frozenset(asked.missing_values)
    return [Cells(f"c{place}", kinds, words) for place in range(len(form.first))]


def _understand(
    desk: Desk,
    source: Path,
    form: Form,
    thoughts: Sequence[Cells],
    sample: int | None,
    *,
    header: bool | None = None,
) -> Understood:
    """Decides on every part of the dialect together: what is missing, which mark is decimal, and whether the first row
    has the names all follow from what the columns hold."""
    asked = desk.asked.dialect
    header = asked.header if header is None else header
    missing = MISSING if asked.missing_values is None else asked.missing_values
    call, parameters = _call(source, form, header is not False, missing)
    if sample is not None:  # kept, as it is asked more than once
        query = f"CREATE OR REPLACE TEMP TABLE sample AS SELECT * FROM {call} LIMIT {sample}"  # noqa: S608
        desk.connection.execute(query, parameters)
        thoughts = grammar.fitting(desk.connection, "sample", [], thoughts)
    else:
        thoughts = _fitting_all(desk.connection, call, parameters, thoughts)
    day_first = form.delimiter == ";" or asked.decimal == ","
    columns, doubts = grammar.settled(thoughts, asked.decimal, day_first=day_first)
    if header is None and not _is_header(desk.connection, form.first, columns):
        return _understand(desk, source, form, thoughts, sample, header=False)

    typed = [one for one in columns if one.kind not in (TEXT, NOTHING)]
    missing = list(dict.fromkeys([*missing, *sorted({word for one in typed for word in one.used})]))
    formats = dict.fromkeys(one.kind.date_format for one in typed if one.kind.date_format)
    dialect = asked.model_copy(
        update={
            "delimiter": form.delimiter,
            "quote": form.quote,
            "header": header is not False,
            "decimal": asked.decimal or next((one.kind.decimal for one in typed if one.kind.decimal), "."),
            "missing_values": missing,
            "date_formats": list(formats) or asked.date_formats or [],
        }
    )
    names = [f"column{place}" for place in range(len(columns))] if header is False else check_names(form.first)
    warnings = [
        Warning(
            code="ambiguous_dates",
            message=f"Day and month could be the other way round; read as `{columns[place].kind.date_format}`.",
            column=names[place],
        )
        for place in doubts
    ]
    call, parameters = _call(source, form, header is not False, missing)
    return Understood(call, parameters, names, columns, dialect, warnings)


def _fitting_all(
    connection: duckdb.DuckDBPyConnection, call: str, parameters: list[Any], thoughts: Sequence[Cells]
) -> list[Cells]:
    """What fits all rows. Most columns are what the sample showed, which one scan tells of all; few are asked anew."""
    found = list(thoughts)
    odd = rows_checked.misfits(connection, call, parameters, thoughts)
    again = grammar.fitting(connection, call, parameters, [found[place] for place in odd])
    for place, one in zip(odd, again, strict=True):
        found[place] = one
    return found


def _call(source: Path, form: Form, header: bool, missing: Sequence[str]) -> tuple[str, list[Any]]:
    """The reader's call with its parameters: all columns as text, under names that say nothing."""
    columns = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(form.first)))
    call = (
        f"read_csv(?, auto_detect = false, columns = {{{columns}}}, delim = ?, quote = ?, escape = ?, header = ?, "
        f"nullstr = ?, skip = ?, comment = '', strict_mode = true, null_padding = false, max_line_size = {MAX_LINE})"
    )
    return call, [str(source), form.delimiter, form.quote, form.quote, header, ["", *missing], form.skipped]


def _is_header(connection: duckdb.DuckDBPyConnection, first: Sequence[str], columns: Sequence[Cells]) -> bool:
    """A word above a column of numbers is its name; a number there is not, unless it may be a year."""
    numbers = [name for name in first if re.fullmatch(grammar.ANY_NUMBER, name.strip())]
    if len(numbers) == len(first):
        return False
    above: dict[Kind, list[str]] = {}
    for name, one in zip(first, columns, strict=True):
        if one.kind not in (TEXT, NOTHING):
            above.setdefault(one.kind, []).append(name.strip())
    for kind, names in above.items():
        query = f"SELECT bool_and({kind.check.format('name')}) FROM (SELECT unnest(?) AS name)"  # noqa: S608
        if not connection.execute(query, [names]).fetchall()[0][0]:
            return True
    years = {name for name in numbers if re.fullmatch(r"(19|20)\d\d", name)}
    return not above or (len(numbers) > 1 and len(years) == len(numbers))


def _write(desk: Desk, understood: Understood) -> Written:
    named = list(zip(understood.names, understood.columns, strict=True))
    cells = [Cell(name, rows_checked.value(one), one.sql) for name, one in named]
    where = rows_checked.condition([one for name, one in named if name not in desk.asked.columns])
    try:
        return table.write(desk, understood.call, understood.parameters, cells, understood.dialect, where=where)
    except duckdb.ConversionException as error:
        raise Misfit from error


def _explained(source: Path, form: Form, message: str) -> errors.CsvMalformed:
    """Why the reader gave up, with the row: ours to find, for the reader's own text quotes the data."""
    with csv_form.opened(source) as text:
        rows = csv_form.rows(text, form)
        try:
            expected = len(next(rows))
            for number, row in enumerate(rows, 2):
                if row and len(row) != expected:
                    return errors.CsvMalformed(
                        f"Row {number} has {len(row)} fields where the first has {expected}.",
                        row=number,
                        fields=len(row),
                        expected=expected,
                    )
        except csv.Error as error:
            return csv_form.broken(error, rows.line_num)
        if isinstance(text.newlines, tuple):
            return errors.CsvMalformed("The lines end in different ways (LF, CRLF, CR); save the file with one.")
    if re.search(r"maximum line size of \d+ bytes exceeded", message, re.IGNORECASE):
        return csv_form.too_long()
    line = re.search(r"Line: (\d+)", message)
    return errors.CsvMalformed(row=int(line[1])) if line else errors.CsvMalformed()
