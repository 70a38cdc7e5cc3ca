"""The column that a split goes by, as the rank of each row's value: exact for any type and any number of values.

The arrays hold numbers rounded to float32, and neither dates nor long lists of texts: those are read from the table.
"""

from pathlib import Path

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
    assert order.parquet is not None, "laid out where the column has no codes"
    with duckdb.connect(config={"threads": 1, "async_threads": 0}) as connection:
        connection.execute(f"SET memory_limit = '{READER_BYTES}B'")
        connection.execute(f"SET temp_directory = {_quoted(str(Path(order.folder) / 'spill'))}")
        connection.execute("SET enable_progress_bar = false")
        parquet = [order.parquet]
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", parquet).fetchall()
        key, kind, *_ = described[order.columns.index(column)]  # a name that differs in case alone is another there
        cell = '"' + key.replace('"', '""') + '"'
        known = f"CASE WHEN NOT isnan({cell}) THEN {cell} END" if kind in ("FLOAT", "DOUBLE") else cell
        found = connection.execute(
            "SELECT CASE WHEN value IS NULL THEN -1 ELSE dense_rank() OVER (ORDER BY value NULLS LAST) - 1 END AS rank "  # noqa: S608
            f"FROM (SELECT {known} AS value, file_row_number FROM read_parquet(?, file_row_number = true)) "
            "ORDER BY file_row_number",
            parquet,
        ).fetchnumpy()
    return np.asarray(found["rank"], np.int64)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
