"""The canonical table: Parquet with only types that a profile knows, whatever the format was."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from core import errors
from core.dialect import ColumnChoice, Dialect
from core.profile import Warning
from worker.ingest import grammar
from worker.ingest.columns import Stored
from worker.ingest.grammar import Misfit
from worker.ingest.reader import MAX_VECTOR, Desk, literal, quoted, refuse_too_large

WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
MOMENTS = ("DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
SMALL = ("FLOAT", "TINYINT", "SMALLINT", "UTINYINT", "USMALLINT")  # float32 loses nothing of them
PLAIN = Dialect(decimal=".", date_formats=[])
# A dictionary of a column with many values costs a fifth of the time, and saves nothing.
# Version 2 has differences of integers and the bytes of numbers apart: at the least level of zstd its file is 8 %
# larger than one of version 1 at the usual level, and the whole takes a sixth less time.
WRITTEN_AS = "FORMAT parquet, PARQUET_VERSION V2, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 2000"
NUL = "a NUL character in a text"


@dataclass(frozen=True)
class Cell:
    """A column as it will be written."""

    name: str
    sql: str
    text: str  # the same as a text, for a type that somebody chooses
    nested: bool = False
    size: int | None = None
    chosen: ColumnChoice | None = None


@dataclass(frozen=True)
class Written:
    columns: list[Stored]
    rows: int
    warnings: list[Warning]


def typed(desk: Desk, call: str, parameters: Sequence[Any], found: Sequence[tuple[str, str, str]]) -> list[Cell]:
    """Columns that have a type already, given as name, key and type of the reader."""
    sizes = _vectors(desk, call, parameters, [(key, kind) for _, key, kind in found])
    return [_cell(name, quoted(key), kind, sizes.get(key)) for name, key, kind in found]


def _cell(name: str, column: str, kind: str, size: int | None) -> Cell:
    if size is not None:
        element = "FLOAT" if kind.split("[")[0] in SMALL else "DOUBLE"
        return Cell(name, f"CAST({column} AS {element}[{size}])", f"CAST({column} AS VARCHAR)", size=size)
    if kind in ("VARCHAR", "JSON"):
        text = column if kind == "VARCHAR" else f"({column} ->> '$')"
        return Cell(name, without_nul(text), text)
    if kind in ("FLOAT", "DOUBLE"):
        whole = f"{column} = trunc({column}) AND abs({column}) < 1e15"
        text = f"CASE WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"
        return Cell(name, column, text)
    text = f"CAST({column} AS VARCHAR)"
    nested = is_nested(kind)
    if kind in ("BOOLEAN", *WHOLE, *MOMENTS):
        return Cell(name, column, text)
    if kind in ("HUGEINT", "UHUGEINT", "UBIGINT") or (kind.startswith("DECIMAL(") and not nested):
        return Cell(name, f"CAST({column} AS DOUBLE)", text)  # more digits than a double has become one
    if kind == "TIMESTAMP WITH TIME ZONE":
        return Cell(name, f"make_timestamp(epoch_us({column}))", text)  # in UTC
    return Cell(name, without_nul(text), text, nested=nested)


def is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(("STRUCT(", "MAP(", "UNION("))


def without_nul(text: str) -> str:
    """A text with a NUL character is none in Postgres, and an end in much else."""
    return f"CASE WHEN contains({text}, chr(0)) THEN error('{NUL}') ELSE {text} END"


def _vectors(desk: Desk, call: str, parameters: Sequence[Any], found: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Lists of numbers that are all of one length, with that length."""
    lists = [(key, kind) for key, kind in found if _is_list_of_numbers(kind)]
    if not lists:
        return {}
    asked = ", ".join(f"min(len({quoted(key)})), max(len({quoted(key)}))" for key, _ in lists)
    answers = desk.connection.execute(f"SELECT {asked} FROM {call}", parameters).fetchall()[0]  # noqa: S608
    lengths = zip(lists, answers[::2], answers[1::2], strict=True)
    return {key: low for (key, _), low, high in lengths if low is not None and 0 < low == high <= MAX_VECTOR}


def _is_list_of_numbers(kind: str) -> bool:
    element, bracket, rest = kind.partition("[")
    numbers = (*WHOLE, "FLOAT", "DOUBLE", "UBIGINT", "HUGEINT")
    return bool(bracket) and rest.count("]") == 1 and (element in numbers or element.startswith("DECIMAL("))


def write(
    desk: Desk,
    call: str,
    parameters: Sequence[Any],
    cells: Sequence[Cell],
    dialect: Dialect = PLAIN,
    *,
    where: str = "true",
) -> Written:
    """Writes the table, with the types that were chosen for some of its columns. `where` is true of all its rows, or
    stops the reader.

    Raises `Misfit`, or else what the reader raises.
    """
    connection, table = desk.connection, desk.folder / "dataset" / "table.parquet"
    chosen = _chosen(cells, desk.asked.columns, dialect)
    wanted = ", ".join(f"{one.sql} AS {quoted(one.name)}" for one in chosen)
    try:
        connection.execute(
            f"COPY (SELECT {wanted} FROM {call} WHERE {where}) TO {literal(table)} ({WRITTEN_AS})",  # noqa: S608
            parameters,
        )
    except duckdb.Error as error:
        if NUL in str(error):
            raise errors.NulCharacter() from error
        if Misfit.SAID in str(error):
            raise Misfit from error
        raise
    rows = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(table)]).fetchall()[0][0]
    if not rows:
        raise errors.DatasetNoRows()
    refuse_too_large(rows, len(cells), rows * sum(one.size or 1 for one in cells))
    kept = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(table)]).fetchall()
    columns = [
        Stored(one.name, key, kind, one.nested, one.size, one.chosen.type if one.chosen else None)
        for one, (key, kind, *_) in zip(chosen, kept, strict=True)
    ]
    return Written(columns, rows, _lost(desk, call, parameters, cells, columns))


def _chosen(cells: Sequence[Cell], choices: dict[str, ColumnChoice], dialect: Dialect) -> list[Cell]:
    unknown = set(choices) - {one.name for one in cells}
    if unknown:
        raise errors.ColumnUnknown(
            errors=[
                {"pointer": errors.pointer("columns", name), "code": "column_unknown", "message": "No such column."}
                for name in sorted(unknown)
            ]
        )
    return [_as_chosen(one, choices[one.name], dialect) if one.name in choices else one for one in cells]


def _as_chosen(one: Cell, choice: ColumnChoice, dialect: Dialect) -> Cell:
    value = grammar.read_as(choice.type, one.text, dialect)
    is_text = choice.type in ("category", "text")
    return replace(one, sql=without_nul(value) if is_text else value, chosen=choice, nested=False, size=None)


def _lost(
    desk: Desk, call: str, parameters: Sequence[Any], cells: Sequence[Cell], columns: Sequence[Stored]
) -> list[Warning]:
    """What became missing because it does not fit the type that was chosen."""
    table = desk.folder / "dataset" / "table.parquet"
    warnings: list[Warning] = []
    for cell, stored in zip(cells, columns, strict=True):
        if stored.chosen is None or stored.kind == "VARCHAR":
            continue
        sent = f"SELECT count({cell.text}) FROM {call}"  # noqa: S608
        kept = f"SELECT count({quoted(stored.key)}) FROM read_parquet(?)"  # noqa: S608
        before = desk.connection.execute(sent, parameters).fetchall()[0][0]
        after = desk.connection.execute(kept, [str(table)]).fetchall()[0][0]
        if before and not after:
            raise errors.ColumnTypeUnreadable(
                errors=[
                    {
                        "pointer": errors.pointer("columns", cell.name, "type"),
                        "code": "column_type_unreadable",
                        "message": f"None of the {before} values can be read as {stored.chosen}.",
                    }
                ]
            )
        if before > after:
            message = f"{before - after} of {before} values cannot be read as {stored.chosen} and count as missing."
            warnings.append(Warning(code="values_not_read", message=message, column=cell.name))
    return warnings
