"""The columns of a table: their names, and what each of them holds."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
from numpy.typing import NDArray

from core import errors
from core.profile import Column, ColumnType, Warning
from worker.ingest import dates, identifiers, vectors
from worker.ingest.moments import microseconds_of, profile_moments
from worker.ingest.numbers import profile_numbers
from worker.ingest.reader import quoted
from worker.ingest.rows import duplicate_rows
from worker.ingest.warnings import warnings_of
from worker.ingest.words import profile_text

MAX_NAME = 256
STRETCH_COLUMNS, STRETCH_CELLS = 100, 1_000_000

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
    taken = {"number_row": 0, "code_row": 0, "moment_row": 0}
    for stretch in stretches(stored, rows):
        alive()
        cells = ", ".join(f"{_known(one)} AS c{place}" for place, one in enumerate(stretch))
        scan = f"SELECT {cells} FROM read_parquet({literal(str(table))})"  # noqa: S608
        # One column is read where it lies. Of several a copy is asked: it takes long to open a wide file.
        kind = "VIEW" if len(stretch) == 1 else "TABLE"
        connection.execute(f"CREATE TEMP {kind} stretch AS {scan}")
        for place, one in enumerate(stretch):
            facts, odd = _profile(connection, table, one, f"c{place}", rows)
            for array in _arrays(facts):
                facts[array] = taken[array]
                taken[array] += one.size or 1
            column = Column(name=one.name, **facts)
            columns.append(column)
            warnings += [*warnings_of(column, rows), *odd]
        connection.execute(f"DROP {kind} stretch")
    return columns, warnings + duplicate_rows(connection, table, columns, rows)


def literal(text: str) -> str:
    """A text inside a query, where it cannot be a parameter."""
    return "'" + text.replace("'", "''") + "'"


def _known(stored: Stored) -> str:
    """The column with NULL for all that counts as missing."""
    key = quoted(stored.key)
    if stored.size is not None:
        return "NULL"  # described elsewhere: many times too large for a stretch
    if stored.kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN NOT isnan({key}) THEN {key}::DOUBLE END"
    return microseconds_of(key) if is_moment(stored) else key


def is_moment(stored: Stored) -> bool:
    return stored.kind.startswith(("DATE", "TIME"))


def _profile(
    connection: duckdb.DuckDBPyConnection, table: Path, stored: Stored, cell: str, rows: int
) -> tuple[dict[str, Any], list[Warning]]:
    if stored.size is not None:
        return vectors.describe(connection, table, stored.key, stored.size, rows), []
    if stored.kind == "VARCHAR":
        facts, odd = profile_text(connection, stored.name, cell, rows, nested=stored.nested, chosen=stored.chosen)
        return facts | {"missing": rows - facts.pop("known")}, odd
    known = _known_values(connection, cell)
    missing = {"missing": rows - len(known)}
    if is_moment(stored):
        return missing | profile_moments(known, stored.kind), []
    if stored.kind == "BOOLEAN":
        values, counts = np.unique(known, return_counts=True)
        facts = {"type": "boolean", "distinct": len(values), "values": values.tolist(), "counts": counts.tolist()}
        return missing | facts, []
    mark = identifiers.mark_of_numbers(stored.name, known, rows)
    facts = profile_numbers(known, whole=stored.kind not in ("FLOAT", "DOUBLE"))
    if facts["distinct"] >= (identifiers.NEARLY if mark == "name" else 1) * rows:
        facts["id_like"] = mark
    odd = []
    if facts["type"] == "integer" and (form := dates.form_of_integers(known)):
        facts["date_format"] = form
        odd.append(dates.warning(stored.name, form, str(known[0]), facts["distinct"], "integers"))
    return missing | facts, odd


def _known_values(connection: duckdb.DuckDBPyConnection, cell: str) -> NDArray[Any]:
    """The values that are not missing, in the order of the rows."""
    found = np.ma.asarray(connection.execute(f"SELECT {cell} AS cell FROM stretch").fetchnumpy()["cell"])  # noqa: S608
    return np.ascontiguousarray(found.compressed())


def _arrays(facts: dict[str, Any]) -> list[str]:
    """The arrays that a column is a row of."""
    arrays = {"number": "number_row", "integer": "number_row", "vector": "number_row", "datetime": "moment_row"}
    found = [arrays[facts["type"]]] if facts["type"] in arrays else []
    return [*found, "code_row"] if facts.get("values") is not None else found
