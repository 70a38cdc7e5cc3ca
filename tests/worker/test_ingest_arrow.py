"""Arrow IPC and Feather: files and streams, and bytes that nobody trusts."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pytest

from core import errors
from tests.worker.factories import Read, read

TABLE = pa.table(
    {
        "i": pa.array([1, 2, None], pa.int32()),
        "f": pa.array([1.5, None, 2.5], pa.float32()),
        "h": pa.array([1.5, None, 2.5], pa.float16()),
        "dec": pa.array([1, 2, 3], pa.decimal128(9, 2)),
        "b": [True, False, None],
        "s": ["ash", None, "oak"],
        "ls": pa.array(["ash", None, "oak"], pa.large_string()),
        "sv": pa.array(["ash", None, "oak"], pa.string_view()),
        "cat": pa.array(["ash", None, "oak"]).dictionary_encode(),
        "day": pa.array([0, None, 2], pa.date32()),
        "ts": pa.array([0, None, 2], pa.timestamp("ms", "Europe/Berlin")),
        "v": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)),
        "l": [[1], [2, 3], None],
        "st": [{"a": 1}, {"a": 2}, None],
    }
)
TYPES = {
    "i": "integer",
    "f": "number",
    "h": "number",
    "dec": "number",
    "b": "boolean",
    "s": "category",
    "ls": "category",
    "sv": "category",
    "cat": "category",
    "day": "datetime",
    "ts": "datetime",
    "v": "vector",
    "l": "text",
    "st": "text",
}


def _ipc(table: Any = TABLE, *, stream: bool = False, rows: int = 2) -> bytes:
    sink = pa.BufferOutputStream()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return bytes(sink.getvalue())


def _table(tmp_path: Path, data: bytes) -> Read:
    return read(tmp_path / "data", data, "arrow")


@pytest.mark.parametrize("stream", [False, True])
def test_each_type_is_what_a_profile_knows(tmp_path: Path, stream: bool) -> None:
    table = _table(tmp_path, _ipc(stream=stream))

    assert table.types == TYPES
    assert table.values("cat") == table.values("s") == ["ash", None, "oak"]
    assert table.column("v").size == 2


@pytest.mark.parametrize("compression", ["lz4", "zstd", "uncompressed"])
def test_feather_is_the_same(tmp_path: Path, compression: str) -> None:
    file = tmp_path / "table.feather"
    pyarrow.feather.write_feather(TABLE.drop_columns(["sv"]), str(file), compression=compression)

    assert _table(tmp_path, file.read_bytes()).types == {name: kind for name, kind in TYPES.items() if name != "sv"}


def test_a_name_twice_and_no_rows_are_said(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])

    with pytest.raises(errors.DuplicateColumn):
        _table(tmp_path / "1", _ipc(twice))
    with pytest.raises(errors.DatasetNoRows):
        _table(tmp_path / "2", _ipc(TABLE.slice(0, 0)))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
def test_a_truncated_file_is_malformed(tmp_path: Path, part: float, stream: bool) -> None:
    data = _ipc(stream=stream)

    with pytest.raises(errors.ArrowMalformed):
        _table(tmp_path, data[: int(len(data) * part)])


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_are_malformed(tmp_path: Path, seed: int) -> None:
    noise = random.Random(seed).randbytes(3000)

    for place, data in enumerate(
        (noise, b"ARROW1\0\0" + noise + b"ARROW1", b"\xff\xff\xff\xff" + noise, b"FEA1" + noise)
    ):
        with pytest.raises(errors.ArrowMalformed):
            _table(tmp_path / str(place), data)


def test_a_flipped_bit_is_a_refusal_or_a_good_read(tmp_path: Path) -> None:
    data = _ipc(TABLE.select(["i", "s", "cat", "v"]))
    generator = random.Random(0)
    outcomes = {"refused": 0, "read": 0}

    for flip in range(60):
        broken = bytearray(data)
        broken[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        try:
            assert _table(tmp_path / str(flip), bytes(broken)).rows > 0
            outcomes["read"] += 1
        except errors.DatasetProblem:
            outcomes["refused"] += 1

    assert outcomes["refused"] > 5
    assert outcomes["read"] > 5
