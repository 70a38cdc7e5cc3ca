"""The table reader in its cage, and what every format is given to read with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from core import errors
from core.dialect import Reading

MAX_COLUMNS = 10_000
MAX_CELLS = 1_000_000_000
MAX_VECTOR = 65_536  # numbers in one vector


@dataclass(frozen=True)
class Desk:
    """Where a table is read: nothing outside of this source and this folder can be reached."""

    connection: duckdb.DuckDBPyConnection
    source: Path
    folder: Path  # for what has to be written on the way
    asked: Reading
    expanded_bytes: int  # the most that a compressed file may hold
    alive: Callable[[], None]


def sandboxed(source: Path, folder: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """A reader that can open this one file and write into this one folder, and cannot be talked out of it."""
    # One thread: a table's rows keep their order, other jobs their cores, and each one more would take 64 MB of what
    # this process may map.
    connection = duckdb.connect(config={"threads": 1, "async_threads": 0})
    connection.execute(f"SET memory_limit = '{memory_bytes * 3 // 4}B'")
    connection.execute(f"SET temp_directory = {literal(folder / 'spill')}")
    connection.execute(f"SET allowed_paths = [{literal(source)}]")
    connection.execute(f"SET allowed_directories = [{literal(folder)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET enable_progress_bar = false")  # a child's output is the worker's log
    connection.execute("SET lock_configuration = true")
    return connection


def literal(text: Path | str) -> str:
    """A text as SQL has it."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def refuse_too_large(rows: int, columns: int, cells: int | None = None) -> None:
    """`cells` where they are more than rows x columns: a vector has many in one."""
    if columns > MAX_COLUMNS or (rows * columns if cells is None else cells) > MAX_CELLS:
        raise errors.DatasetTooLarge(rows=rows, columns=columns, limit_cells=MAX_CELLS, limit_columns=MAX_COLUMNS)
