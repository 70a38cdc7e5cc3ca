"""Parquet: what the footer says decides whether the file is read at all."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from core import errors
from worker.ingest import table
from worker.ingest.columns import check_names
from worker.ingest.reader import Desk, refuse_too_large
from worker.ingest.table import Written


def convert(desk: Desk) -> Written:
    try:
        return copy(desk, desk.source)
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise errors.ParquetMalformed() from error


def copy(desk: Desk, source: Path, names: Sequence[str] | None = None) -> Written:
    """The table of a Parquet file, with other names where its own say nothing. Raises what the reader raises."""
    own = _names(desk.connection, source)
    names = check_names(list(own if names is None else names))
    described = desk.connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(source)]).fetchall()
    if len(names) != len(described):
        raise errors.ParquetMalformed()
    found = [(name, key, kind) for name, (key, kind, *_) in zip(names, described, strict=True)]
    return table.write(
        desk, "read_parquet(?)", [str(source)], table.typed(desk, "read_parquet(?)", [str(source)], found)
    )


def _names(connection: duckdb.DuckDBPyConnection, source: Path) -> list[str]:
    """The names of the columns. The sizes that a footer states protect from nothing (1.09 MB held 1.92 GB), but what it
    says of rows and columns does."""
    rows = connection.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(source)]).fetchall()[0][0]
    schema = connection.execute("SELECT name, num_children FROM parquet_schema(?)", [str(source)]).fetchall()
    names: list[str] = []
    inside = 0  # elements still to come that belong to the last column
    for name, children in schema[1:]:
        if not inside:
            names.append(name)
            inside = 1
        inside += (children or 0) - 1
    refuse_too_large(rows, len(names))
    return names
