"""The arrays that training maps: one column at a time, so that memory holds one column and not the table."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.lib.format import open_memmap

from core.profile import Column, Warning

ROUNDING = 1e-3  # of the standard deviation: what float32 may cost before it is said


def write_numbers(
    connection: duckdb.DuckDBPyConnection, table: Path, folder: Path, columns: list[Column], rows: int
) -> list[Warning]:
    """Writes `numbers.npy` where there are numbers; says where float32 or infinity changed what was sent."""
    numbers = [column for column in columns if column.number_row is not None]
    if not numbers:
        return []
    warnings: list[Warning] = []
    array = open_memmap(folder / "numbers.npy", mode="w+", dtype=np.float32, shape=(len(numbers), rows))
    for row, column in enumerate(numbers):
        exact = np.ma.filled(_read(connection, table, column.name).astype(np.float64), np.nan)
        with np.errstate(over="ignore"):
            array[row] = exact
        infinite = np.isinf(array[row])
        if infinite.any():
            warnings.append(
                Warning(
                    code="infinite_values",
                    message=f"{int(infinite.sum())} values are infinite, or too large for float32; as a feature they "
                    "count as missing.",
                    column=column.name,
                )
            )
        with np.errstate(invalid="ignore"):
            lost = np.abs(exact - array[row].astype(np.float64))
        lost = lost[np.isfinite(lost)]
        if column.std and len(lost) and lost.max() > ROUNDING * column.std:
            warnings.append(
                Warning(
                    code="float32_rounding",
                    message="The values are large against their spread: float32 loses part of it. Subtract a constant.",
                    column=column.name,
                )
            )
    array.flush()
    return warnings


def write_codes(
    connection: duckdb.DuckDBPyConnection, table: Path, folder: Path, columns: list[Column], rows: int
) -> None:
    """Writes `codes.npy` where there are columns with a list of values."""
    coded = [column for column in columns if column.code_row is not None]
    if not coded:
        return
    array = open_memmap(folder / "codes.npy", mode="w+", dtype=np.int32, shape=(len(coded), rows))
    for row, column in enumerate(coded):
        place = {value: code for code, value in enumerate(column.values or [])}
        found = _read(connection, table, column.name)
        missing = np.ma.getmaskarray(found)
        array[row] = [-1 if gone else place[value] for value, gone in zip(found.data.tolist(), missing, strict=True)]
    array.flush()


def _read(connection: duckdb.DuckDBPyConnection, table: Path, name: str) -> "np.ma.MaskedArray[Any, Any]":
    column = '"' + name.replace('"', '""') + '"'
    found = connection.execute(f"SELECT {column} AS c FROM read_parquet(?)", [str(table)]).fetchnumpy()["c"]  # noqa: S608
    masked: np.ma.MaskedArray[Any, Any] = np.ma.asarray(found)
    return masked
