"""The profile: what each column holds."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from core import errors
from core.profile import MAX_VALUES, Column, ColumnType, Warning
from worker.ingest import vectors
from worker.ingest.reader import quoted

MAX_NAME = 256
MAX_INTEGER = 2**53 - 1  # JSON's: a larger one would be another number in the next program that reads it
MAX_VALUE = 256  # characters of a category; longer ones are text
STRETCH_COLUMNS, STRETCH_CELLS = 100, 1_000_000

# Digits with a sign, a separator, a unit or a base in front: what a person would read as a number.
NUMBER_LIKE = r"[-+]?[$€£¥]?\s?(0[xXbB][0-9a-fA-F]+|\.?\d[\d.,_']*(\s\d{3})*\s?([%$€£¥]|[A-Za-z]{1,3})?)"

Some = TypeVar("Some")


@dataclass(frozen=True)
class Stored:
    """A column of the canonical Parquet."""

    name: str  # as sent, trimmed
    key: str  # in the file: a reader that takes `a` and `A` for one name has renamed one of them
    kind: str
    nested: bool  # a list or a structure written as text, which no network can learn from
    size: int | None = None  # of a vector
    chosen: ColumnType | None = None  # by a user


def check_names(names: list[str]) -> list[str]:
    """The names trimmed and normalised. Raises the problem of the first that cannot be one."""
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        plain = unicodedata.normalize("NFC", name).strip()
        if not plain:
            raise errors.EmptyColumnName(f"Column {position} has no name.", position=position)
        if len(plain) > MAX_NAME or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in plain):
            raise errors.InvalidColumnName(position=position)
        if plain in seen:
            raise errors.DuplicateColumn(
                f"Columns {seen[plain]} and {position} have the same name.", positions=[seen[plain], position]
            )
        seen[plain] = position
    return list(seen)


def stretches(columns: list[Some], rows: int) -> Iterator[list[Some]]:
    """The columns some at a time: one query a column is slow in a wide table, all at once too much in a long one."""
    width = max(1, min(STRETCH_COLUMNS, STRETCH_CELLS // max(rows, 1)))
    for first in range(0, len(columns), width):
        yield columns[first : first + width]


def describe(
    connection: duckdb.DuckDBPyConnection, table: Path, stored: list[Stored], rows: int, alive: Callable[[], None]
) -> tuple[list[Column], list[Warning]]:
    """Profiles each column, and settles which row of which array it will be."""
    columns: list[Column] = []
    warnings: list[Warning] = []
    number_rows = code_rows = 0
    for stretch in stretches(stored, rows):
        alive()
        cells = ", ".join(f"{_known(one)} AS c{place}" for place, one in enumerate(stretch))
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE stretch AS SELECT {cells} FROM read_parquet(?)",  # noqa: S608
            [str(table)],
        )
        for place, one in enumerate(stretch):
            if one.size is not None:
                facts = vectors.describe(connection, table, one.key, one.size, rows)
            else:
                facts = _facts(connection, f"c{place}", one, rows)
            if facts["type"] in ("number", "integer", "vector"):
                facts["number_row"], number_rows = number_rows, number_rows + (one.size or 1)
            if facts.get("values") is not None:
                facts["code_row"], code_rows = code_rows, code_rows + 1
            column = Column(name=one.name, **facts)
            columns.append(column)
            warnings += _warnings(connection, f"c{place}", column)
    connection.execute("DROP TABLE stretch")
    return columns, warnings


def _known(stored: Stored) -> str:
    """The column with NULL for all that counts as missing."""
    key = quoted(stored.key)
    if stored.size is not None:
        return "NULL"  # described elsewhere: many times too large for a stretch
    return f"CASE WHEN NOT isnan({key}) THEN {key} END" if stored.kind in ("FLOAT", "DOUBLE") else key


def _facts(connection: duckdb.DuckDBPyConnection, cell: str, stored: Stored, rows: int) -> dict[str, Any]:
    def ask(what: str) -> list[Any]:
        return connection.execute(f"SELECT {what} FROM stretch").fetchall()  # noqa: S608

    known, distinct = ask(f"count({cell}), count(DISTINCT {cell})")[0]
    found: dict[str, Any] = {"missing": rows - known, "distinct": distinct, "type": _type(stored, known, distinct)}
    if found["type"] in ("number", "integer"):
        # `inf` counts as missing: it is left out of every figure.
        finite = f"FILTER (WHERE isfinite({cell}::DOUBLE))"
        low, high = ask(f"min({cell}::DOUBLE) {finite}, max({cell}::DOUBLE) {finite}")[0]
        if low is not None:
            scale = max(abs(low), abs(high)) or 1.0  # or squares of large numbers overflow, and of small ones vanish
            mean, std = ask(f"avg({cell} / {scale!r}) {finite}, stddev_pop({cell} / {scale!r}) {finite}")[0]
            found |= {"minimum": low, "maximum": high, "mean": mean * scale, "std": std * scale}
            if scale > MAX_INTEGER:
                found["type"] = "number"
    elif found["type"] == "category" and (ask(f"max(length({cell}))")[0][0] or 0) > MAX_VALUE:
        found["type"] = "text"
    if found["type"] in ("integer", "boolean", "category") and distinct <= MAX_VALUES:
        counted = connection.execute(
            f"SELECT {cell}, count(*) FROM stretch WHERE {cell} IS NOT NULL GROUP BY 1"  # noqa: S608
        ).fetchall()
        counted.sort(key=lambda pair: pair[0])
        found |= {"values": [value for value, _ in counted], "counts": [count for _, count in counted]}
    return found


def _type(stored: Stored, known: int, distinct: int) -> ColumnType:
    kind = stored.kind
    if stored.chosen is not None and (stored.chosen != "category" or distinct <= MAX_VALUES):
        return stored.chosen
    if kind == "BOOLEAN":
        return "boolean"
    if kind in ("FLOAT", "DOUBLE"):
        return "number"
    if kind.endswith("INT") or kind in ("INTEGER", "UINTEGER"):
        return "integer"
    if kind.startswith(("DATE", "TIME")):
        return "datetime"
    many = distinct > MAX_VALUES or (distinct > 50 and distinct > known / 2)
    return "text" if many or stored.nested else "category"


def _warnings(connection: duckdb.DuckDBPyConnection, cell: str, column: Column) -> list[Warning]:
    if column.distinct == 0:
        return [Warning(code="column_all_missing", message="The column is empty.", column=column.name)]
    if column.distinct == 1 and not column.missing:
        return [Warning(code="constant_column", message="The column has one single value.", column=column.name)]
    if column.type in ("category", "text"):
        bounds = f"SELECT min({cell}), max({cell}) FROM stretch"  # noqa: S608
        example, last = connection.execute(bounds).fetchall()[0]
        if not (re.fullmatch(NUMBER_LIKE, example) and re.fullmatch(NUMBER_LIKE, last)):
            return []
        others = f"SELECT count(*) FROM stretch WHERE NOT regexp_full_match({cell}, ?)"  # noqa: S608
        if not connection.execute(others, [NUMBER_LIKE]).fetchall()[0][0]:
            message = f"Values such as `{example[:64]}` are kept as text; as numbers they have digits and a point only."
            return [Warning(code="number_like_text", message=message, column=column.name)]
    return []
