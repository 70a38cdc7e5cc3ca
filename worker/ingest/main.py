"""One ingest, from order to files. What it leaves in its folder:

`table.parquet` (canonical), `preview.json` (first rows), `numbers.npy` (float32, columns x rows, missing is NaN) and
`codes.npy` (int32 positions in a column's list of values, columns x rows, missing is -1). Training maps the arrays.
"""

import json
from pathlib import Path
from typing import Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict

from core import errors
from worker.ingest import csv_text
from worker.ingest.arrays import write_codes, write_numbers
from worker.ingest.columns import check_names, describe
from worker.trainer.messages import Channel, Ingested, Phase

MAX_COLUMNS = 10_000
MAX_CELLS = 1_000_000_000
PREVIEW_ROWS = 100


class IngestOrder(BaseModel):
    model_config = ConfigDict(frozen=True)

    file: str
    format: Literal["csv", "parquet"]
    folder: str
    memory_bytes: int


def ingest(order: IngestOrder, channel: Channel) -> None:
    """Reads the table as ordered and says `Ingested`. Raises a `DatasetProblem` when it is unreadable."""
    channel.say(Phase("loading_data"))
    source, folder = Path(order.file), Path(order.folder) / "dataset"
    folder.mkdir()
    if not source.stat().st_size:
        raise errors.DatasetEmpty()
    dialect = csv_text.inspect(source) if order.format == "csv" else None

    table = folder / "table.parquet"
    with _sandboxed(source, Path(order.folder), order.memory_bytes) as connection:
        if dialect is not None:
            _convert(connection, source, table, *csv_text.scan(source, dialect), problem=errors.CsvMalformed)
        else:
            _check_size(connection, source)
            _convert(connection, source, table, "read_parquet(?)", [str(source)], problem=errors.ParquetMalformed)
        rows = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(table)]).fetchall()[0][0]
        if not rows:
            raise errors.DatasetNoRows()
        columns, warnings = describe(connection, table, rows)
        (folder / "preview.json").write_text(json.dumps(_preview(connection, table), allow_nan=False))
        warnings += write_numbers(connection, table, folder, columns, rows)
        write_codes(connection, table, folder, columns, rows)
    channel.say(
        Ingested(
            folder=str(folder),
            dataset={
                "rows": rows,
                "columns": [column.model_dump(mode="json") for column in columns],
                "warnings": [warning.model_dump(mode="json") for warning in warnings],
                "dialect": dialect.as_json() if dialect else None,
            },
        )
    )


def _sandboxed(source: Path, folder: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """A reader that can open this one file and write into this one folder, and cannot be talked out of it."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{memory_bytes // 2}B'")
    connection.execute("SET threads = 1")  # a table's rows keep their order, and other jobs their cores
    connection.execute(f"SET temp_directory = {_quoted(folder / 'spill')}")
    connection.execute(f"SET allowed_paths = [{_quoted(source)}]")
    connection.execute(f"SET allowed_directories = [{_quoted(folder)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _check_size(connection: duckdb.DuckDBPyConnection, source: Path) -> None:
    """By what the footer says of rows and columns: the sizes it states protect from nothing (1.09 MB held 1.92 GB)."""
    try:
        rows = connection.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(source)]).fetchall()[0][0]
        columns = len(connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(source)]).fetchall())
    except duckdb.Error as error:
        raise errors.ParquetMalformed() from error
    _refuse_too_large(rows, columns)


def _refuse_too_large(rows: int, columns: int) -> None:
    if columns > MAX_COLUMNS or rows * columns > MAX_CELLS:
        raise errors.DatasetTooLarge(rows=rows, columns=columns, limit_cells=MAX_CELLS, limit_columns=MAX_COLUMNS)


def _convert(
    connection: duckdb.DuckDBPyConnection,
    source: Path,
    table: Path,
    scan: str,
    parameters: list[Any],
    *,
    problem: type[errors.DatasetProblem],
) -> None:
    """Writes the canonical Parquet, with only types that a profile knows."""
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {scan}", parameters).fetchall()  # noqa: S608
        check_names([name for name, *_ in described])
        _refuse_too_large(0, len(described))
        wanted = ", ".join(_plain(name, kind) for name, kind, *_ in described)
        connection.execute(
            f"COPY (SELECT {wanted} FROM {scan}) TO {_quoted(table)} (FORMAT parquet, COMPRESSION zstd)",  # noqa: S608
            parameters,
        )
    except duckdb.OutOfMemoryException as error:
        raise errors.DatasetTooLarge() from error
    except duckdb.Error as error:
        if problem is errors.CsvMalformed:
            raise csv_text.explain(source, str(error)) from error
        raise problem() from error


PLAIN = ("BOOLEAN", "DOUBLE", "FLOAT", "VARCHAR", "DATE", "TIMESTAMP", "TIME")
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


def _plain(name: str, kind: str) -> str:
    """A column as one of the types that a profile knows; numbers with more digits than a double has become one."""
    column = '"' + name.replace('"', '""') + '"'
    if kind.startswith(PLAIN) or kind in WHOLE:
        return column
    if kind.startswith(("DECIMAL", "HUGEINT", "UHUGEINT", "UBIGINT")):
        return f"CAST({column} AS DOUBLE) AS {column}"
    return f"CAST({column} AS VARCHAR) AS {column}"


def _preview(connection: duckdb.DuckDBPyConnection, table: Path) -> list[dict[str, Any]]:
    found = connection.execute(f"SELECT * FROM read_parquet(?) LIMIT {PREVIEW_ROWS}", [str(table)])  # noqa: S608
    names = [column[0] for column in found.description or []]
    return [dict(zip(names, map(_as_json, row), strict=True)) for row in found.fetchall()]


def _as_json(value: Any) -> Any:
    if (isinstance(value, float) and value in (float("inf"), float("-inf"))) or value != value:
        return None
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
