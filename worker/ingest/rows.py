"""Rows that are there twice."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from core.profile import Column, Warning

BEYOND_CHANCE = 3  # times as many as columns that do not depend on each other would give
FINE = 1 / 8  # of the rows: different values in at least one column, or the table is of few values and repeats itself


def duplicate_rows(
    connection: duckdb.DuckDBPyConnection, table: Path, columns: Sequence[Column], rows: int
) -> list[Warning]:
    """How many rows equal an earlier one in every column, unless a table of so few different values would have them.

    Rows are compared by a hash of 64 bits: among a million, two different ones share it once in 37 million tables.
    """
    if max(column.distinct for column in columns) < FINE * rows:
        return []
    scan = "read_parquet(?, file_row_number = true)"
    hashed = f"SELECT hash(*COLUMNS(* EXCLUDE file_row_number)) AS row, file_row_number AS number FROM {scan}"  # noqa: S608
    try:
        different = connection.execute(
            "SELECT count(DISTINCT hash(*COLUMNS(*))) FROM read_parquet(?)", [str(table)]
        ).fetchall()[0][0]
        repeated = rows - different
        if repeated <= BEYOND_CHANCE * _expected(columns, rows):
            return []
        pair = connection.execute(
            f"SELECT min(number), max(number) FROM ({hashed}) GROUP BY row HAVING count(*) > 1 ORDER BY 1 LIMIT 1",  # noqa: S608
            [str(table)],
        ).fetchall()[0]
    except duckdb.OutOfMemoryException:  # a table of very many rows is still read: they are only not compared
        return []
    share = "" if repeated < rows / 100 else f" ({repeated / rows:.0%})"
    return [
        Warning(
            code="duplicate_rows",
            message=f"{repeated} of {rows} rows{share} equal an earlier one in every column. If they are copies and "
            "not the same thing seen twice, remove them: with copies of training rows among those that measure, the "
            "figures are too good.",
            evidence={"duplicates": repeated, "rows": rows, "example": [number + 1 for number in pair]},
        )
    ]


def _expected(columns: Sequence[Column], rows: int) -> float:
    """Pairs of equal rows by chance, if no column depended on another."""
    share = 1.0
    for column in columns:
        if column.counts is not None:
            share *= sum((count / rows) ** 2 for count in [*column.counts, column.missing])
        elif column.distinct:
            share *= ((rows - column.missing) / rows) ** 2 / column.distinct + (column.missing / rows) ** 2
    return share * rows * (rows - 1) / 2
