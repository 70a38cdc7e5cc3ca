"""Columns that are in no array, read from the table itself: exact for any type and any number of values.

The arrays hold numbers rounded to float32, and neither dates nor long lists of texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from worker.trainer.order import TableColumn, TableOrder
from worker.trainer.preprocessing import Table

READER_BYTES = 192 * 1024 * 1024  # what ranking may hold before it goes to the disk


def ranks(order: TableOrder, table: Table, column: TableColumn) -> NDArray[np.int64]:
    """Of each row, the place of its value among the column's different ones, ascending; -1 where it is missing."""
    if column.code_row is not None:
        return table.code(column).astype(np.int64)
    with _reader(order, column) as (connection, cell, kind):
        known = f"CASE WHEN NOT isnan({cell}) THEN {cell} END" if kind in ("FLOAT", "DOUBLE") else cell
        found = connection.execute(
            "SELECT CASE WHEN value IS NULL THEN -1 ELSE dense_rank() OVER (ORDER BY value NULLS LAST) - 1 END AS rank "  # noqa: S608
            f"FROM (SELECT {known} AS value, file_row_number FROM read_parquet(?, file_row_number = true)) "
            "ORDER BY file_row_number",
            [order.parquet],
        ).fetchnumpy()
    return np.asarray(found["rank"], np.int64)


def codes_among(order: TableOrder, column: TableColumn, values: Sequence[Any]) -> NDArray[np.int32]:
    """Of each row, the place of its text in `values`, or their number where it is another; -1 where it is missing."""
    place: Mapping[Any, int] = {value: code for code, value in enumerate(values)}
    with _reader(order, column) as (connection, cell, _):
        found = connection.execute(f"SELECT {cell} FROM read_parquet(?)", [order.parquet])  # noqa: S608
        return np.array(
            [-1 if text is None else place.get(text, len(values)) for (text,) in found.fetchall()], np.int32
        )


@contextmanager
def _reader(order: TableOrder, column: TableColumn) -> Iterator[tuple[duckdb.DuckDBPyConnection, str, str]]:
    """A reader of the table, with the column's name there, quoted, and its type."""
    assert order.parquet is not None, "laid out where a column is in no array"
    with duckdb.connect(config={"threads": 1, "async_threads": 0}) as connection:
        connection.execute(f"SET memory_limit = '{READER_BYTES}B'")
        connection.execute(f"SET temp_directory = {_quoted(str(Path(order.folder) / 'spill'))}")
        connection.execute("SET enable_progress_bar = false")
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [order.parquet]).fetchall()
        names = [one.name for one in order.columns]
        key, kind, *_ = described[names.index(column.name)]  # a name that differs in case alone is another there
        yield connection, '"' + key.replace('"', '""') + '"', kind


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
