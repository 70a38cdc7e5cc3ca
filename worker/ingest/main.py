"""One ingest, from order to files. What it leaves in its folder:

`table.parquet` (canonical), `preview.json` (first rows), and the arrays that training maps, each of columns x rows:
`numbers.npy` (float32, missing is NaN), `codes.npy` (int32 positions in a column's list of values, missing is -1) and
`moments.npy` (int64 seconds since 1970 in UTC, missing is the least int64).
"""

import json
from pathlib import Path
from typing import Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict

from core import errors
from worker.ingest import csv_text
from worker.ingest.arrays import write_codes, write_moments, write_numbers
from worker.ingest.associations import associate
from worker.ingest.columns import Stored, check_names, describe, quoted
from worker.trainer.messages import DATASET, Channel, Ingested, Phase

MAX_COLUMNS = 10_000
MAX_CELLS = 1_000_000_000
PREVIEW_ROWS = 100


class IngestOrder(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: Literal["ingest"] = "ingest"
    file: str
    format: Literal["csv", "parquet"]
    folder: str
    memory_bytes: int


def ingest(order: IngestOrder, channel: Channel) -> None:
    """Reads the table as ordered and says `Ingested`. Raises a `DatasetProblem` when it is unreadable."""
    channel.say(Phase("loading_data"))
    source, folder = Path(order.file), Path(order.folder) / DATASET
    folder.mkdir()
    if not source.stat().st_size:
        raise errors.DatasetEmpty()
    dialect = csv_text.inspect(source) if order.format == "csv" else None

    table = folder / "table.parquet"
    with _sandboxed(source, Path(order.folder), order.memory_bytes) as connection:
        try:
            stored = _convert(connection, source, table, dialect)
            rows = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(table)]).fetchall()[0][0]
            if not rows:
                raise errors.DatasetNoRows()
            _refuse_too_large(rows, len(stored))
            columns, warnings = describe(connection, table, stored, rows, lambda: channel.say(Phase("loading_data")))
            preview = _preview(connection, table, [column.name for column in columns])
            (folder / "preview.json").write_text(json.dumps(preview, allow_nan=False))
            pairs = list(zip(stored, columns, strict=True))
            warnings += write_numbers(connection, table, folder, pairs, rows)
            write_codes(connection, table, folder, pairs, rows)
            write_moments(connection, table, folder, pairs, rows)
            columns = associate(folder, columns, rows)
        except (MemoryError, duckdb.OutOfMemoryException) as error:
            raise errors.DatasetTooLarge("The table needs more memory than reading one may take here.") from error
    channel.say(
        Ingested(
            rows=rows,
            columns=[column.model_dump(mode="json", exclude_defaults=True) for column in columns],
            warnings=[warning.model_dump(mode="json") for warning in warnings],
            dialect=dialect.as_json() if dialect else None,
        )
    )


def _sandboxed(source: Path, folder: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """A reader that can open this one file and write into this one folder, and cannot be talked out of it."""
    # One thread: a table's rows keep their order, other jobs their cores, and each one more would take 64 MB of what
    # this process may map.
    connection = duckdb.connect(config={"threads": 1, "async_threads": 0})
    connection.execute(f"SET memory_limit = '{memory_bytes * 3 // 4}B'")
    connection.execute(f"SET temp_directory = {_quoted(folder / 'spill')}")
    connection.execute(f"SET allowed_paths = [{_quoted(source)}]")
    connection.execute(f"SET allowed_directories = [{_quoted(folder)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET enable_progress_bar = false")  # a child's output is the worker's log
    connection.execute("SET lock_configuration = true")
    return connection


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _convert(
    connection: duckdb.DuckDBPyConnection, source: Path, table: Path, dialect: csv_text.Dialect | None
) -> list[Stored]:
    """Writes the canonical Parquet, with only types that a profile knows, and says what its columns are."""
    try:
        if dialect is not None:
            scan, parameters, found = csv_text.scan(connection, source, dialect)
            names = dialect.names or [key for key, _ in found]
        else:
            scan, parameters = "read_parquet(?)", [str(source)]
            names = check_names(_check_parquet(connection, source))
            described = connection.execute(f"DESCRIBE SELECT * FROM {scan}", parameters).fetchall()  # noqa: S608
            found = [(key, kind) for key, kind, *_ in described]
        if len(names) != len(found):
            raise duckdb.Error("another number of columns than the first row has")
        _refuse_too_large(0, len(found))
        wanted = ", ".join(
            f"{_plain(quoted(key), kind)} AS {quoted(name)}" for name, (key, kind) in zip(names, found, strict=True)
        )
        connection.execute(
            f"COPY (SELECT {wanted} FROM {scan}) TO {_quoted(table)} (FORMAT parquet, COMPRESSION zstd)",  # noqa: S608
            parameters,
        )
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, UnicodeDecodeError) as error:
        if dialect is not None:
            raise csv_text.explain(source, str(error)) from error
        raise errors.ParquetMalformed() from error
    kept = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(table)]).fetchall()
    return [
        Stored(name, key, kind, nested=_is_nested(was))
        for name, (_, was), (key, kind, *_) in zip(names, found, kept, strict=True)
    ]


def _check_parquet(connection: duckdb.DuckDBPyConnection, source: Path) -> list[str]:
    """The names of the columns. What the footer says of rows and columns decides whether the file is read at all: the
    sizes it states protect from nothing (1.09 MB held 1.92 GB)."""
    rows = connection.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(source)]).fetchall()[0][0]
    schema = connection.execute("SELECT name, num_children FROM parquet_schema(?)", [str(source)]).fetchall()
    names: list[str] = []
    inside = 0  # elements still to come that belong to the last column
    for name, children in schema[1:]:
        if not inside:
            names.append(name)
            inside = 1
        inside += (children or 0) - 1
    _refuse_too_large(rows, len(names))
    return names


def _refuse_too_large(rows: int, columns: int) -> None:
    if columns > MAX_COLUMNS or rows * columns > MAX_CELLS:
        raise errors.DatasetTooLarge(rows=rows, columns=columns, limit_cells=MAX_CELLS, limit_columns=MAX_COLUMNS)


WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
MOMENTS = ("DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")


def _plain(column: str, kind: str) -> str:
    """A column as one of the types that a profile knows; numbers with more digits than a double has become one."""
    if kind in ("BOOLEAN", "FLOAT", "DOUBLE", "VARCHAR", *WHOLE, *MOMENTS):
        return column
    if kind in ("HUGEINT", "UHUGEINT", "UBIGINT") or (kind.startswith("DECIMAL(") and not _is_nested(kind)):
        return f"CAST({column} AS DOUBLE)"
    if kind == csv_text.PADDED:
        return f"TRY_CAST(trim({column}) AS DOUBLE)"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"make_timestamp(epoch_us({column}))"  # in UTC
    return f"CAST({column} AS VARCHAR)"


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(("STRUCT(", "MAP(", "UNION("))


def _preview(connection: duckdb.DuckDBPyConnection, table: Path, names: list[str]) -> list[dict[str, Any]]:
    found = connection.execute(f"SELECT * FROM read_parquet(?) LIMIT {PREVIEW_ROWS}", [str(table)])  # noqa: S608
    return [dict(zip(names, map(_as_json, row), strict=True)) for row in found.fetchall()]


def _as_json(value: Any) -> Any:
    if (isinstance(value, float) and value in (float("inf"), float("-inf"))) or value != value:
        return None
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
