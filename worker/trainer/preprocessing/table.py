"""The arrays that ingest has stored, as training reads them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.trainer.order import TableColumn, TableOrder

Floats = NDArray[np.float32]
Codes = NDArray[np.int32]
Moments = NDArray[np.int64]
Rows = NDArray[np.int64]

MISSING_MOMENT = np.iinfo(np.int64).min


def of_rows(values: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """The values of these rows, each of which is there once, ascending: of all rows the array itself."""
    return values if len(rows) == len(values) else values.take(rows)


class Table:
    """Reads one column at a time.

    A whole file would count against the memory of this process, also where the spec uses one column of a thousand. One
    column is read twice as fast as it is mapped: mapping pays for each page.
    """

    def __init__(self, order: TableOrder, most: int | None = None) -> None:
        """`most` rows from the first on, or all. A column is a new array each time, which may be overwritten."""
        self._order = order
        self._most = most
        # Of each file: where the header ends, the length of a column, its type.
        self._headers: dict[str, tuple[int, int, np.dtype[Any]]] = {}

    def number(self, column: TableColumn, component: int = 0) -> Floats:
        """Missing is NaN. Of a vector, one component."""
        assert self._order.numbers is not None
        assert column.number_row is not None
        return np.asarray(self._row(self._order.numbers, column.number_row + component), np.float32)

    def code(self, column: TableColumn) -> Codes:
        """Places in the column's list of values; missing is -1."""
        assert self._order.codes is not None
        assert column.code_row is not None
        return np.asarray(self._row(self._order.codes, column.code_row), np.int32)

    def moment(self, column: TableColumn) -> Moments:
        """Seconds since 1970 in UTC, or since midnight; missing is `MISSING_MOMENT`."""
        assert self._order.moments is not None
        assert column.moment_row is not None
        return np.asarray(self._row(self._order.moments, column.moment_row), np.int64)

    def share(self, column: TableColumn) -> Floats:
        """A boolean as 0 and 1, or a number; missing is NaN."""
        if column.number_row is not None:
            return self.number(column)
        values = np.array([*(float(value) for value in column.values or []), np.nan], np.float32)
        return values[self.code(column)]  # -1 is the last: missing

    def _row(self, path: str, row: int) -> NDArray[Any]:
        if path not in self._headers:  # once: of many columns it would take as long as all else
            with Path(path).open("rb") as file:
                np.lib.format.read_magic(file)
                (_, length), _, kind = np.lib.format.read_array_header_1_0(file)
                self._headers[path] = file.tell(), length, kind
        begin, length, kind = self._headers[path]
        values = np.empty(length if self._most is None else min(length, self._most), kind)
        file_number = os.open(path, os.O_RDONLY)  # a file of Python's takes as long as what is read of it
        try:
            rest, at = values.view(np.uint8), begin + row * length * kind.itemsize
            while len(rest):  # one call reads 2 GiB at most
                if not (count := os.preadv(file_number, [rest.data], at)):
                    raise EOFError(f"row {row} of {path} is cut off")
                rest, at = rest[count:], at + count
        finally:
            os.close(file_number)
        return values
