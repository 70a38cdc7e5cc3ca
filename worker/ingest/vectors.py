"""Vectors: columns of which each row holds equally many numbers, which are as many rows of `numbers.npy`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
from numpy.typing import NDArray

from worker.ingest.reader import quoted

PIECE = 4_000_000  # numbers read at once


def describe(connection: duckdb.DuckDBPyConnection, table: Path, key: str, size: int, rows: int) -> dict[str, Any]:
    """Figures over all numbers of the vector; missing are the rows that have none of them."""
    missing, count, total, squares = 0, 0, 0.0, 0.0
    low, high = np.inf, -np.inf
    for piece in pieces(connection, table, key, size, rows):
        finite = np.isfinite(piece)
        missing += int((~finite).all(axis=1).sum())
        values = piece[finite]
        if len(values):
            count += len(values)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total += float(values.sum())
            squares += float(np.square(values).sum())
    column = quoted(key)
    asked = f"SELECT count(DISTINCT hash({column})) FROM read_parquet(?) WHERE {column} IS NOT NULL"  # noqa: S608
    distinct = connection.execute(asked, [str(table)]).fetchall()[0][0]
    found: dict[str, Any] = {"type": "vector", "size": size, "missing": missing, "distinct": distinct}
    if count:
        mean = total / count
        variance = max(squares / count - mean * mean, 0.0)
        if np.isfinite(variance):
            found |= {"mean": mean, "std": variance**0.5}
        found |= {"minimum": low, "maximum": high}
    return found


def write(
    connection: duckdb.DuckDBPyConnection, table: Path, key: str, size: int, rows: int, file: BinaryIO, start: int
) -> int:
    """Writes the vector as float32 rows from byte `start` on, one row of the array an element. Returns how many of its
    numbers float32 does not hold."""
    done = infinite = 0
    for piece in pieces(connection, table, key, size, rows):
        with np.errstate(over="ignore"):
            rounded = np.ascontiguousarray(piece.T, dtype=np.float32)
        infinite += int(np.isinf(rounded).sum())
        for element, values in enumerate(rounded):
            file.seek(start + 4 * (element * rows + done))
            file.write(values.tobytes())
        done += len(piece)
    return infinite


def pieces(
    connection: duckdb.DuckDBPyConnection, table: Path, key: str, size: int, rows: int
) -> Iterator[NDArray[np.float64]]:
    """Some rows of the vector at a time, as (rows, size); a missing vector is all NaN."""
    step = max(1, PIECE // size)
    nothing = f"list_transform(range({size}), lambda place: CAST('nan' AS DOUBLE))"
    query = (
        f"SELECT unnest(coalesce(CAST({quoted(key)} AS DOUBLE[]), {nothing})) AS number "  # noqa: S608
        "FROM read_parquet(?, file_row_number = true) WHERE file_row_number >= ? AND file_row_number < ?"
    )
    for first in range(0, rows, step):
        found = connection.execute(query, [str(table), first, first + step]).fetchnumpy()["number"]
        yield np.ma.filled(np.ma.asarray(found, np.float64), np.nan).reshape(-1, size)
