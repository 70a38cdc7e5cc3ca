"""JSON: lines or a list of objects by the table reader; other forms, which are small, rewritten as such lines first."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import duckdb

from core import errors
from core.dialect import Dialect
from worker.ingest import grammar, table
from worker.ingest.columns import check_names
from worker.ingest.compressed import expanded
from worker.ingest.encoding import as_utf8
from worker.ingest.grammar import NOTHING, TEXT, Cells
from worker.ingest.reader import Desk, literal, refuse_too_large
from worker.ingest.table import Written

MAX_WHOLE = 64 * 1024 * 1024  # bytes of a text that has to be held as a whole
MAX_OBJECT = 16 * 1024 * 1024  # bytes of one row
Shape = Literal["newline_delimited", "array"]


def convert(desk: Desk) -> tuple[Written, dict[str, Any]]:
    """The table, and the dialect that it was read with."""
    source, compression = expanded(desk.source, desk.folder, desk.expanded_bytes)
    source, encoding = as_utf8(source, desk.folder, desk.asked.dialect.encoding)
    try:
        shape, names = _shape(source), None
        if shape is None:
            rewritten = desk.folder / "rows.jsonl"
            names = _rewrite(source, rewritten)
            source, shape = rewritten, "newline_delimited"
        written, dialect = copy(desk, source, shape, names)
    except (duckdb.OutOfMemoryException, errors.Problem):
        raise
    except (duckdb.Error, UnicodeDecodeError, RecursionError) as error:
        raise _explained(source) from error
    said = dialect.model_dump(include={"missing_values", "date_formats"})
    return written, {"encoding": encoding, "compression": compression, **said}


def copy(
    desk: Desk, source: Path, shape: Shape, names: Sequence[str] | None = None, missing: Sequence[str] = ()
) -> tuple[Written, Dialect]:
    """The table of a file of objects, with other names for its keys where those are only numbered. Numbers and booleans
    are what JSON says; texts may be dates. Raises what the reader raises."""
    options = (
        f"format = '{shape}', records = 'true', sample_size = -1, maximum_depth = 3, map_inference_threshold = -1, "
        f"field_appearance_threshold = 0, maximum_object_size = {MAX_OBJECT}"
    )
    found = desk.connection.execute(
        f"DESCRIBE SELECT * FROM read_json(?, {options})",  # noqa: S608
        [str(source)],
    ).fetchall()
    keys = [key for key, *_ in found]
    refuse_too_large(0, len(keys))
    kinds, own = [kind for _, kind, *_ in found], _names(desk, source, options, keys)
    call = f"read_json(?, {options})"
    if own == keys:  # or a key that the reader has renamed would not be found again
        kinds = [_kind(kind) for kind in kinds]
        columns = ", ".join(f"{literal(key)}: {literal(kind)}" for key, kind in zip(keys, kinds, strict=True))
        call = f"read_json(?, {options}, columns = {{{columns}}})"
    names = check_names(list(names or own))
    return _with_dates(desk, call, [str(source)], list(zip(names, keys, kinds, strict=True)), missing)


def _kind(kind: str) -> str:
    """What a text looks like is asked by our own grammar."""
    return "VARCHAR" if kind in ("UUID", *table.MOMENTS, "TIMESTAMP WITH TIME ZONE") else kind


def _names(desk: Desk, source: Path, options: str, keys: list[str]) -> list[str]:
    """The keys as the file has them: of two that differ in case only, the reader renames one."""
    plain = {key.lower() for key in keys}
    if not any(key.rpartition("_")[0].lower() in plain and key.rpartition("_")[2].isdigit() for key in keys):
        return keys
    shape = options.partition(",")[0]
    query = (
        "SELECT key FROM (SELECT unnest(json_keys(json)) AS key, row_number() OVER () AS place "  # noqa: S608
        f"FROM read_json_objects(?, {shape}, maximum_object_size = {MAX_OBJECT})) GROUP BY key ORDER BY min(place)"
    )
    found = [key for (key,) in desk.connection.execute(query, [str(source)]).fetchall()]
    return found if len(found) == len(keys) else keys


def _with_dates(
    desk: Desk, call: str, parameters: list[Any], found: list[tuple[str, str, str]], missing: Sequence[str]
) -> tuple[Written, Dialect]:
    asked = desk.asked.dialect
    missing = list(missing) if asked.missing_values is None else asked.missing_values
    cells = table.typed(desk, call, parameters, found)
    texts = [place for place, (_, _, kind) in enumerate(found) if kind in ("VARCHAR", "JSON")]
    words = f"({', '.join(map(literal, missing))})"
    for place in texts if missing else ():
        text = f"CASE WHEN trim({cells[place].text}) NOT IN {words} THEN {cells[place].text} END"
        cells[place] = replace(cells[place], sql=table.without_nul(text), text=text)
    dates = [grammar.MAYBE_A_DATE]
    if asked.date_formats is not None:
        dates = [*grammar.ISO, *map(grammar.dated, asked.date_formats)]
    # A column that mixes numbers and texts may be numbers but for the words that mean missing.
    thoughts = [Cells(cells[place].text, _thoughts(found[place][2], dates, mixed=bool(missing))) for place in texts]
    columns = grammar.fitting(desk.connection, call, parameters, thoughts) if texts else []
    columns, _ = grammar.settled(columns, ".", day_first=False)
    for place, column in zip(texts, columns, strict=True):
        if column.kind not in (NOTHING, TEXT):
            cells[place] = replace(cells[place], sql=grammar.checked(column))
    formats = dict.fromkeys(one.kind.date_format for one in columns if one.known and one.kind.date_format)
    dialect = Dialect(decimal=".", missing_values=missing, date_formats=list(formats) or asked.date_formats or [])
    return table.write(desk, call, parameters, cells, dialect), dialect


def _thoughts(kind: str, dates: list[grammar.Kind], *, mixed: bool) -> list[grammar.Kind]:
    if kind == "JSON" and mixed:
        return [grammar.BOOLEAN, grammar.INTEGER, grammar.POINT, *dates]
    return list(dates)


# --- other forms ------------------------------------------------------------------------------------------------------


def _shape(source: Path) -> Shape | None:
    """Objects by lines or in a list; None is another form."""
    with source.open(encoding="utf-8-sig") as file:
        head = file.read(1024 * 1024).lstrip()
    if not head:
        raise errors.DatasetEmpty()
    if head[0] == "[":
        return "array" if head[1:].lstrip()[:1] in ("{", "") else None
    first, _, rest = head.partition("\n")
    try:
        found = json.loads(first)
    except (ValueError, RecursionError):
        return None if head[0] == "{" else "newline_delimited"
    return (
        None if isinstance(found, dict) and not rest.strip() and (not found or _is_form(found)) else "newline_delimited"
    )


def _is_form(found: dict[str, Any]) -> bool:
    return any(isinstance(value, list | dict) for value in found.values())


def _rewrite(source: Path, target: Path) -> Sequence[str]:
    """Writes the rows as objects by lines, keyed by the numbers of the columns; returns their names."""
    if source.stat().st_size > MAX_WHOLE:
        raise errors.DatasetTooLarge(
            f"JSON of this form is read up to {MAX_WHOLE:,} bytes; larger tables as JSON lines.", limit_bytes=MAX_WHOLE
        )
    try:
        found = json.loads(source.read_text("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise errors.JsonMalformed(
            f"The file is not JSON from line {error.lineno}, column {error.colno}.", line=error.lineno
        ) from error
    except RecursionError as error:
        raise errors.JsonMalformed("The JSON is nested too deeply.") from error
    names, rows = _rows(found)
    lines_written(target, rows)
    return names


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise errors.JsonMalformed("An object has the same key twice.")
    return found


def _rows(found: Any) -> tuple[list[str], Iterable[Sequence[Any]]]:
    """Names and rows of each form that a table is known to have in JSON."""
    match found:
        case {"columns": list(names), "rows": list(rows)} | {"columns": list(names), "data": list(rows)}:
            return _texts(names), _of_width(rows, len(names))
        case {"rows": list(rows), **others} if not others:
            return _of_objects(rows)
        case dict() if found and all(isinstance(value, list) for value in found.values()):
            if len({len(value) for value in found.values()}) > 1:
                raise errors.JsonMalformed("The columns are not all of one length.")
            return list(found), zip(*found.values(), strict=True)
        case dict() if found and all(isinstance(value, dict) for value in found.values()):  # pandas' `columns`
            index = list(dict.fromkeys(key for column in found.values() for key in column))
            return list(found), ([column.get(key) for column in found.values()] for key in index)
        case dict() if found:
            return _of_objects([found])
        case list(rows) if rows and isinstance(rows[0], list):
            return [f"column{place}" for place in range(len(rows[0]))], _of_width(rows, len(rows[0]))
        case [] | {}:
            raise errors.DatasetNoRows()
    raise errors.JsonMalformed()


def _texts(names: list[Any]) -> list[str]:
    if not all(isinstance(name, str) for name in names):
        raise errors.JsonMalformed("The names in `columns` must be texts.")
    return names


def _of_width(rows: list[Any], width: int) -> Iterable[Sequence[Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != width:
            raise errors.JsonMalformed(f"Row {number} is not a list of {width} values.", row=number)
        yield row


def _of_objects(rows: list[Any]) -> tuple[list[str], Iterable[Sequence[Any]]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise errors.JsonMalformed(f"Row {number} is not an object.", row=number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, ([row.get(name) for name in names] for row in rows)


def lines_written(target: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Rows as JSON lines, keyed by the numbers of the columns. Raises `DatasetNoRows` without any."""
    some = False
    with target.open("w", encoding="utf-8", errors="strict") as file:
        for row in rows:
            some = True
            file.write(json.dumps({str(place): value for place, value in enumerate(row)}, ensure_ascii=True) + "\n")
    if not some:
        raise errors.DatasetNoRows()


def _explained(source: Path) -> errors.JsonMalformed:
    """What is wrong with the first line that is: ours to find, for the reader's own text quotes the data."""
    with source.open(encoding="utf-8-sig") as file:
        if file.read(1).strip() in ("[", ""):
            return errors.JsonMalformed()
        file.seek(0)
        for number, line in enumerate(iter(lambda: file.readline(MAX_OBJECT), ""), 1):
            try:
                if line.strip() and not isinstance(json.loads(line, object_pairs_hook=_without_duplicates), dict):
                    return errors.JsonMalformed(f"Line {number} is not an object.", line=number)
            except errors.JsonMalformed:
                return errors.JsonMalformed(f"Line {number} has the same key twice.", line=number)
            except (ValueError, RecursionError):
                return errors.JsonMalformed(f"Line {number} is not a JSON object.", line=number)
    return errors.JsonMalformed()
