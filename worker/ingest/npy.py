"""NPY and NPZ: each array is a column, an array of two dimensions one vector. Nothing is ever unpickled.

A header is checked in full before numpy sees the file: numpy would allocate what it promises, (10**12,) for instance.
"""

import ast
import errno
import math
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import duckdb
import numpy as np
import pyarrow
import pyarrow.parquet

from core import errors
from worker.ingest import parquet
from worker.ingest.columns import check_names
from worker.ingest.reader import MAX_VECTOR, Desk, refuse_too_large
from worker.ingest.table import Written

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000  # bytes
PIECE = 4 * 1024 * 1024  # numbers read at once
ALLOWED = "biufUS"  # booleans, numbers and texts of a fixed length
MAX_ARRAYS = 10_000
ONLY = "x"  # the name of the column of an array alone


@dataclass(frozen=True)
class Array:
    """An array in a file, of which only the header was read."""

    name: str
    dtype: "np.dtype[Any]"
    rows: int
    width: int | None  # of a vector
    fortran: bool
    start: int  # where its numbers begin in the file


def convert_npy(desk: Desk) -> Written:
    with desk.source.open("rb") as file:
        array = _header(file, ONLY, desk.source.stat().st_size)
        return _written(desk, [(array, file)])


def convert_npz(desk: Desk) -> Written:
    """Members are unpacked one by one, up to what the zip's directory says of them, which is capped before."""
    try:
        with zipfile.ZipFile(desk.source) as archive:
            members = archive.infolist()
            if len(members) > MAX_ARRAYS or sum(member.file_size for member in members) > desk.expanded_bytes:
                raise errors.DatasetTooLarge(
                    f"The archive holds more than {desk.expanded_bytes:,} bytes, or {MAX_ARRAYS:,} arrays.",
                    limit_bytes=desk.expanded_bytes,
                )
            if any(member.flag_bits & 1 or not member.filename.endswith(".npy") for member in members):
                raise errors.NpyMalformed("An archive holds nothing but arrays, as `numpy.savez` writes them.")
            if not members:
                raise errors.DatasetNoRows()
            check_names([member.filename.removesuffix(".npy") for member in members])
            with ExitStack() as files:
                pairs = []
                for place, member in enumerate(members):
                    target = desk.folder / f"array-{place}.npy"
                    _unpack(archive, member, target)
                    file = files.enter_context(target.open("rb"))
                    pairs.append((_header(file, member.filename.removesuffix(".npy"), member.file_size), file))
                return _written(desk, pairs)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise errors.NpyMalformed() from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the beginning of the file
            raise
        raise errors.NpyMalformed() from error


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    try:
        with archive.open(member) as packed, target.open("wb") as file:
            while block := packed.read(1024 * 1024):
                file.write(block)
    except (zlib.error, RuntimeError) as error:
        raise errors.NpyMalformed() from error
    if target.stat().st_size != member.file_size:
        raise errors.NpyMalformed()


def _header(file: IO[bytes], name: str, size: int) -> Array:
    """Raises `NpyMalformed` or `NpyDtypeNotAllowed`."""
    head = file.read(12)
    if head[:6] != MAGIC or len(head) < 12 or head[6:8] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise errors.NpyMalformed("The file does not begin as a NumPy array does.")
    wide = head[6] > 1
    length = int.from_bytes(head[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + length
    if length > MAX_HEADER or start > size:
        raise errors.NpyMalformed("The header is longer than any table needs, or than the file.")
    file.seek(0)
    try:
        shape, fortran, dtype = _parsed(file.read(start)[-length:].decode("utf-8" if head[6] == 3 else "latin-1"))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise errors.NpyMalformed("The header is no header of a NumPy array.") from error
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None or dtype.kind not in ALLOWED:
        raise errors.NpyDtypeNotAllowed()
    if dtype.itemsize == 0 or (dtype.kind == "f" and dtype.itemsize > 8):
        raise errors.NpyDtypeNotAllowed()
    if len(shape) not in (1, 2) or any(length < 0 for length in shape) or (len(shape) == 2 and dtype.kind in "US"):
        raise errors.NpyMalformed("A column has 1 dimension, a vector of numbers 2.")
    if start + math.prod(shape) * dtype.itemsize != size:
        raise errors.NpyMalformed("The file is shorter or longer than its shape says.")
    if not shape[0]:
        raise errors.DatasetNoRows()
    width = None if len(shape) == 1 else shape[1]
    if width is not None and not 0 < width <= MAX_VECTOR:
        raise errors.NpyMalformed(f"A vector has 1 to {MAX_VECTOR:,} numbers.")
    refuse_too_large(shape[0], 1, math.prod(shape))
    return Array(name, dtype, shape[0], width, fortran, start)


def _parsed(header: str) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    found = ast.literal_eval(header.strip())
    if not isinstance(found, dict) or set(found) != {"descr", "fortran_order", "shape"}:
        raise ValueError("not the fields of a header")
    shape = found["shape"]
    if not isinstance(shape, tuple) or not all(type(length) is int for length in shape):
        raise ValueError("a shape is made of whole numbers")
    return shape, bool(found["fortran_order"]), np.lib.format.descr_to_dtype(found["descr"])


def _written(desk: Desk, pairs: Sequence[tuple[Array, IO[bytes]]]) -> Written:
    """Through Parquet, some rows at a time."""
    arrays = [array for array, _ in pairs]
    rows = arrays[0].rows
    if any(array.rows != rows for array in arrays):
        raise errors.NpyMalformed("The arrays have different numbers of rows.")
    refuse_too_large(rows, len(arrays), rows * sum(array.width or 1 for array in arrays))
    target = desk.folder / "rows.parquet"
    schema = pyarrow.schema([(str(place), _arrow_type(array)) for place, array in enumerate(arrays)])
    step = max(1, PIECE // sum(array.width or 1 for array in arrays))
    try:
        with pyarrow.parquet.ParquetWriter(target, schema, compression="snappy") as writer:
            for first in range(0, rows, step):
                last = min(first + step, rows)
                columns = [
                    _arrow(array, _piece(array, file, first, last), field.type)
                    for (array, file), field in zip(pairs, schema, strict=True)
                ]
                writer.write_batch(pyarrow.record_batch(columns, schema=schema))
                desk.alive()
        return parquet.copy(desk, target, [array.name for array in arrays])
    except duckdb.OutOfMemoryException:
        raise
    except (pyarrow.ArrowInvalid, duckdb.Error, UnicodeError) as error:
        raise errors.NpyMalformed() from error


def _arrow_type(array: Array) -> pyarrow.DataType:
    kind = array.dtype.newbyteorder("=")
    if kind.kind in "US":
        return pyarrow.string()
    if kind == np.float16:
        kind = np.dtype(np.float32)
    element = pyarrow.from_numpy_dtype(kind)
    if array.width is None:
        return element
    return pyarrow.list_(pyarrow.uint8() if kind.kind == "b" else element, array.width)


def _piece(array: Array, file: IO[bytes], first: int, last: int) -> "np.ndarray[Any, Any]":
    """Some rows of an array, as (rows,) or (rows, width)."""
    size, width = array.dtype.itemsize, array.width or 1
    if array.fortran and array.width is not None:
        columns = []
        for column in range(width):
            file.seek(array.start + (column * array.rows + first) * size)
            columns.append(np.frombuffer(file.read((last - first) * size), array.dtype))
        found = np.stack(columns, axis=1)
    else:
        file.seek(array.start + first * width * size)
        found = np.frombuffer(file.read((last - first) * width * size), array.dtype)
        found = found.reshape(-1, width) if array.width is not None else found
    return found.astype(array.dtype.newbyteorder("="), copy=False)


def _arrow(array: Array, values: "np.ndarray[Any, Any]", kind: pyarrow.DataType) -> pyarrow.Array:
    if array.dtype.kind == "S":
        return pyarrow.array([text.decode() for text in values.tolist()], kind)
    if array.dtype.kind == "U":
        return pyarrow.array(values.tolist(), kind)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if array.width is None:
        return pyarrow.array(values, kind)
    flat = np.ascontiguousarray(values).reshape(-1)
    flat = flat.astype(np.uint8) if flat.dtype.kind == "b" else flat
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), array.width)
