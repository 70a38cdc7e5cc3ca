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
from worker.ingest.reader import quoted

ROUNDING = 1e-3  # of the standard deviation: what float32 may cost before it is said


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
        for column, found in _read(connection, table, coded, rows):
            place = {value: code for code, value in enumerate(column.values or [])}
            missing = np.ma.getmaskarray(found)
            pairs = zip(found.data.tolist(), missing.tolist(), strict=True)
            codes = np.fromiter((-1 if gone else place[value] for value, gone in pairs), np.int32, rows)
            file.write(codes.tobytes())


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
        cells = ", ".join(f"{quoted(stored.key)} AS c{place}" for place, (stored, _) in enumerate(stretch))
        found = connection.execute(f"SELECT {cells} FROM read_parquet(?)", [str(table)]).fetchnumpy()  # noqa: S608
        for place, (_, column) in enumerate(stretch):
            yield column, np.ma.asarray(found.pop(f"c{place}"))
