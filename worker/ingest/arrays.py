"""The arrays that training maps: written some columns at a time, so that memory never holds the table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.profile import Column, Warning
from worker.ingest import vectors
from worker.ingest.columns import Stored, stretches
from worker.ingest.moments import SECOND, microseconds_of
from worker.ingest.reader import quoted

ROUNDING = 1e-3  # of the standard deviation: what float32 may cost before it is said
MISSING_MOMENT = np.iinfo(np.int64).min


def write_numbers(
    connection: duckdb.DuckDBPyConnection,
    table: Path,
    folder: Path,
    columns: list[tuple[Stored, Column]],
    rows: int,
) -> list[Warning]:
    """Writes `numbers.npy` where there are numbers; says where float32 or infinity changed what was sent."""
    numbers = [pair for pair in columns if pair[1].number_row is not None]
    if not numbers:
        return []
    warnings: list[Warning] = []
    with (folder / "numbers.npy").open("wb") as file:
        _begin(file, np.dtype(np.float32), sum(column.size or 1 for _, column in numbers), rows)
        begin = file.tell()
        for column, found in _read(connection, table, [pair for pair in numbers if pair[1].size is None], rows):
            exact = np.ma.filled(found.astype(np.float64), np.nan)
            with np.errstate(over="ignore"):
                rounded = exact.astype(np.float32)
            file.seek(begin + _offset(column, rows))
            file.write(rounded.tobytes())
            warnings += _losses(column, exact, rounded)
        for stored, column in numbers:
            if column.size is not None:
                infinite = vectors.write(
                    connection, table, stored.key, column.size, rows, file, begin + _offset(column, rows)
                )
                warnings += _infinite(column, infinite)
    return warnings


def _offset(column: Column, rows: int) -> int:
    assert column.number_row is not None
    return 4 * rows * column.number_row


def write_codes(
    connection: duckdb.DuckDBPyConnection,
    table: Path,
    folder: Path,
    columns: list[tuple[Stored, Column]],
    rows: int,
) -> None:
    """Writes `codes.npy` where there are columns with a list of values."""
    coded = [pair for pair in columns if pair[1].code_row is not None]
    if not coded:
        return
    with (folder / "codes.npy").open("wb") as file:
        _begin(file, np.dtype(np.int32), len(coded), rows)
        for stretch in stretches(coded, rows):
            cells = [_code(connection, stored, column, place) for place, (stored, column) in enumerate(stretch)]
            for (_, column), found in zip(stretch, _ask(connection, table, cells), strict=True):
                places = found.data
                if column.type in ("integer", "boolean"):
                    places = np.searchsorted(np.array(column.values, found.dtype), np.ma.filled(found, 0))
                codes = places.astype(np.int32)
                codes[np.ma.getmaskarray(found)] = -1
                file.write(codes.tobytes())


def _code(connection: duckdb.DuckDBPyConnection, stored: Stored, column: Column, place: int) -> str:
    """The query of what a code can be told from: of text, its place in the list of values."""
    cell = quoted(stored.key)
    if column.type in ("integer", "boolean"):
        return cell
    connection.execute(f"CREATE OR REPLACE TEMP TYPE values_{place} AS ENUM (SELECT unnest(?))", [column.values])
    return f"enum_code({cell}::values_{place})"


def write_moments(
    connection: duckdb.DuckDBPyConnection,
    table: Path,
    folder: Path,
    columns: list[tuple[Stored, Column]],
    rows: int,
) -> None:
    """Writes `moments.npy` where there are dates and times.

    Seconds since 1970 in UTC (of a time of day: since midnight), a fraction cut off. They are int64 and not among the
    numbers: of today's seconds float32 knows every 128th only.
    """
    moments = [pair for pair in columns if pair[1].moment_row is not None]
    if not moments:
        return
    with (folder / "moments.npy").open("wb") as file:
        _begin(file, np.dtype(np.int64), len(moments), rows)
        for stretch in stretches(moments, rows):
            cells = [microseconds_of(quoted(stored.key)) for stored, _ in stretch]
            for found in _ask(connection, table, cells):
                seconds = found.data // SECOND
                seconds[np.ma.getmaskarray(found)] = MISSING_MOMENT
                file.write(seconds.tobytes())


def _begin(file: BinaryIO, kind: "np.dtype[Any]", columns: int, rows: int) -> None:
    shape = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (columns, rows)}
    np.lib.format.write_array_header_1_0(file, shape)


def _losses(column: Column, exact: NDArray[np.float64], rounded: NDArray[np.float32]) -> list[Warning]:
    warnings = _infinite(column, int(np.isinf(rounded).sum()))
    with np.errstate(invalid="ignore"):
        lost = np.abs(exact - rounded)
    lost = lost[np.isfinite(lost)]
    if column.std and len(lost) and lost.max() > ROUNDING * column.std:
        warnings.append(
            Warning(
                code="float32_rounding",
                message="The values are large against their spread: float32 loses part of it. Subtract a constant.",
                column=column.name,
            )
        )
    return warnings


def _infinite(column: Column, count: int) -> list[Warning]:
    if not count:
        return []
    message = f"{count} values are infinite, or too large for float32; as a feature they count as missing."
    return [Warning(code="infinite_values", message=message, column=column.name)]


def _read(
    connection: duckdb.DuckDBPyConnection, table: Path, columns: list[tuple[Stored, Column]], rows: int
) -> "Iterator[tuple[Column, np.ma.MaskedArray[Any, Any]]]":
    for stretch in stretches(columns, rows):
        found = _ask(connection, table, [quoted(stored.key) for stored, _ in stretch])
        yield from zip((column for _, column in stretch), found, strict=True)


def _ask(
    connection: duckdb.DuckDBPyConnection, table: Path, cells: list[str]
) -> "Iterator[np.ma.MaskedArray[Any, Any]]":
    asked = ", ".join(f"{cell} AS c{place}" for place, cell in enumerate(cells))
    found = connection.execute(f"SELECT {asked} FROM read_parquet(?)", [str(table)]).fetchnumpy()  # noqa: S608
    for place in range(len(cells)):
        yield np.ma.asarray(found.pop(f"c{place}"))
