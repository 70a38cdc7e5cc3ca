"""NPY and NPZ: arrays that are tables, and headers that lie."""

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import errors
from tests.worker.factories import Read, read
from worker.ingest.npy import MAGIC

RANDOM = np.random.default_rng(0)


def _npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def _npz(compressed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def _claiming(header: str, body: bytes = b"", version: int = 1) -> bytes:
    """A file with any header."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return MAGIC + bytes([version, 0]) + length + header.encode("latin-1") + body


def _table(tmp_path: Path, data: bytes, kind: str = "npz", **options: Any) -> Read:
    return read(tmp_path / "data", data, kind, **options)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_array_is_a_column_and_a_matrix_a_vector(tmp_path: Path, compressed: bool, order: Any) -> None:
    matrix = np.asarray(RANDOM.normal(size=(50, 7)), np.float32, order=order)
    label = RANDOM.integers(3, size=50)

    table = _table(tmp_path, _npz(compressed, X=matrix, y=label))

    assert table.types == {"X": "vector", "y": "integer"}
    first = table.column("X").number_row
    assert (first, table.column("X").size, table.column("y").number_row) == (0, 7, 7)
    numbers = np.load(table.folder / "numbers.npy")
    assert numbers.dtype == np.float32
    assert np.array_equal(numbers[:7].T, matrix)
    assert np.array_equal(numbers[7], label)


def test_a_vector_larger_than_a_piece_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.ingest.npy.PIECE", 100)
    monkeypatch.setattr("worker.ingest.vectors.PIECE", 64)
    matrix = np.asarray(RANDOM.normal(size=(101, 5)), np.float32, order="F")

    table = _table(tmp_path, _npz(a=np.arange(101), X=matrix, b=np.arange(101) * 2))

    numbers = np.load(table.folder / "numbers.npy")
    assert np.array_equal(numbers[1:6].T, matrix)
    assert np.array_equal(numbers[6], np.arange(101) * 2)


def test_the_table_holds_a_vector_as_a_list(tmp_path: Path) -> None:
    table = _table(tmp_path, _npz(X=np.eye(3, dtype=np.float32)))

    again = read(tmp_path / "again", (table.folder / "table.parquet").read_bytes(), "parquet")

    assert again.types == {"X": "vector"}
    assert (again.folder / "numbers.npy").read_bytes() == (table.folder / "numbers.npy").read_bytes()


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([True, False]), "boolean"),
        (np.array([1, 2], np.uint8), "integer"),
        (np.array([1, 2], ">i4"), "integer"),
        (np.array([1, 2], np.uint64), "number"),
        (np.array([1.5, np.nan], np.float16), "number"),
        (np.array([1.5, 2], ">f8"), "number"),
        (np.array(["ash", "oak"]), "category"),
        (np.array([b"ash", b"oak"]), "category"),
        (np.ones((2, 3), bool), "vector"),
        (np.ones((2, 1), ">i2"), "vector"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_each_kind_of_array_has_its_type(tmp_path: Path, array: Any, kind: str) -> None:
    table = _table(tmp_path, _npy(array), "npy")

    assert table.types == {"x": kind}
    assert table.rows == 2


def test_missing_numbers_of_a_vector_are_nan(tmp_path: Path) -> None:
    column = _table(tmp_path, _npy(np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, 4.0]])), "npy").column("x")

    assert (column.missing, column.minimum, column.maximum) == (1, 1.0, 4.0)


class Canary:
    """Its unpickling leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bomb = np.array([Canary(canary)], dtype=object)
    body = pickle.dumps(Canary(canary))
    files = [
        (_npy(bomb, allow_pickle=True), "npy", errors.NpyDtypeNotAllowed),
        (_npz(y=np.arange(1), X=bomb), "npz", errors.NpyDtypeNotAllowed),
        (body, "npy", errors.NpyMalformed),
        (body, "npz", errors.NpyMalformed),
        (
            _claiming("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", body),
            "npy",
            errors.NpyDtypeNotAllowed,
        ),
    ]

    for place, (data, kind, problem) in enumerate(files):
        with pytest.raises(problem):
            read(tmp_path / str(place), data, kind)

    assert not canary.exists()


def _shape(shape: str, descr: str = "'<f8'", body: int = 0) -> bytes:
    return _claiming(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n", bytes(body))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_npy(np.zeros(2, complex)), "npy_dtype_not_allowed"),
        (_npy(np.zeros(2, "datetime64[s]")), "npy_dtype_not_allowed"),
        (_npy(np.zeros(2, "f4,i4")), "npy_dtype_not_allowed"),
        (_npy(np.zeros(2, np.longdouble)), "npy_dtype_not_allowed"),
        (_npy(np.zeros(2, "V8")), "npy_dtype_not_allowed"),
        (_npy(np.zeros((2, 2, 2))), "npy_malformed"),
        (_npy(np.zeros(())), "npy_malformed"),
        (_npy(np.zeros((2, 0))), "npy_malformed"),
        (_npy(np.zeros(0)), "dataset_no_rows"),
        (_shape("(1000000000, 0)"), "npy_malformed"),
        (_shape("(1000000000000,)"), "npy_malformed"),
        (_shape("(-1,)"), "npy_malformed"),
        (_shape("(True,)", body=8), "npy_malformed"),
        (_shape("(2, 3)", body=40), "npy_malformed"),
        (_shape("(2,)", body=17), "npy_malformed"),
        (_shape("(2**70,)"), "npy_malformed"),
        (_shape("(1,)", "'nonsense'"), "npy_malformed"),
        (_shape("(1,)", "__import__('os')"), "npy_malformed"),
        (_claiming("{'descr': '<f8'}"), "npy_malformed"),
        (_claiming("[" * 5000), "npy_malformed"),
        (_claiming(" " * 20_000, version=2), "npy_malformed"),
        (MAGIC + b"\x01\x00\xff\xff", "npy_malformed"),
        (MAGIC + b"\x09\x00" + b"\x00" * 100, "npy_malformed"),
        (MAGIC, "npy_malformed"),
        (b"PAR1 nothing of the kind", "npy_malformed"),
        (_npy(np.arange(50))[:-3], "npy_malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_header_that_lies_is_refused_before_numpy_believes_it(tmp_path: Path, data: bytes, code: str) -> None:
    with pytest.raises(errors.DatasetProblem) as problem:
        _table(tmp_path, data, "npy")

    assert problem.value.code == code


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = _npz(compressed=True, X=np.zeros((1000, 1000), np.float32))
    assert len(bomb) < 50_000

    with pytest.raises(errors.DatasetTooLarge):
        _table(tmp_path, bomb, expanded_bytes=1 << 20)

    assert not list((tmp_path / "data" / "private").glob("array-*"))


def test_a_zip_that_lies_of_its_sizes_is_refused(tmp_path: Path) -> None:
    honest = _zip({"x.npy": _npy(np.zeros(100_000))})
    lying = honest.replace(struct.pack("<I", 800_128), struct.pack("<I", 128))
    assert lying != honest

    with pytest.raises(errors.NpyMalformed):
        _table(tmp_path, lying, expanded_bytes=1 << 16)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, "dataset_no_rows"),
        ({"x.npy": _npy(np.arange(3)), "y.npy": _npy(np.arange(4))}, "npy_malformed"),
        ({"x.txt": b"1,2"}, "npy_malformed"),
        ({"x.npy": b"no array"}, "npy_malformed"),
        ({"../../x.npy": _npy(np.arange(3)), "/etc/passwd": b"x"}, "npy_malformed"),
        ({"a.npy": _npy(np.arange(3)), " a .npy": _npy(np.arange(3))}, "duplicate_column"),
        ({".npy": _npy(np.arange(3))}, "empty_column_name"),
    ],
    ids=str,
)
def test_an_archive_of_something_else_is_refused(tmp_path: Path, members: dict[str, bytes], code: str) -> None:
    with pytest.raises(errors.DatasetProblem) as problem:
        _table(tmp_path, _zip(members))

    assert problem.value.code == code


def test_a_members_name_is_a_column_and_never_a_path(tmp_path: Path) -> None:
    table = _table(tmp_path, _zip({"../../escaped.npy": _npy(np.arange(3))}))

    assert list(table.types) == ["../../escaped"]
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
def test_a_truncated_archive_is_malformed(tmp_path: Path, part: float) -> None:
    data = _npz(compressed=True, X=RANDOM.normal(size=(100, 5)))

    with pytest.raises(errors.NpyMalformed):
        _table(tmp_path, data[: int(len(data) * part)])
