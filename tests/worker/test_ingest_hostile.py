"""Bytes of one format sent as another, cut short, or damaged anywhere: a refusal by name or a good read."""

import gzip
import io
import json
import random
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import xlsxwriter

from core import errors
from core.dialect import Format
from tests.worker.factories import read

ROWS = [{"n": row, "x": row / 4, "c": f"v{row % 3}", "d": f"2020-01-{row + 1:02d}"} for row in range(20)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
FORMATS = get_args(Format)


def _whole() -> dict[str, bytes]:
    """A good file of each format."""
    parquet, arrow, npy, npz, xlsx = (io.BytesIO() for _ in range(5))
    table = pa.table(COLUMNS)
    pa.parquet.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    np.save(npy, np.arange(20))
    np.savez_compressed(npz, X=np.ones((20, 3)), y=np.arange(20))
    with xlsxwriter.Workbook(xlsx, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for place, (name, values) in enumerate(COLUMNS.items()):
            sheet.write_column(0, place, [name, *values])
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    text = ",".join(COLUMNS) + "\n" + "".join(",".join(map(str, row.values())) + "\n" for row in ROWS)
    return {
        "csv": text.encode(),
        "gzip": gzip.compress(text.encode()),
        "jsonl": lines.encode(),
        "json": json.dumps({"columns": list(COLUMNS), "rows": [list(row.values()) for row in ROWS]}).encode(),
        "parquet": parquet.getvalue(),
        "arrow": arrow.getvalue(),
        "npy": npy.getvalue(),
        "npz": npz.getvalue(),
        "xlsx": xlsx.getvalue(),
    }


WHOLE = _whole()


def _outcome(folder: Path, data: bytes, kind: str) -> str:
    try:
        table = read(folder, data, kind, expanded_bytes=1 << 24)
    except errors.DatasetProblem as problem:
        return problem.code if "v1" not in json.dumps(problem.as_error()) else "shows a value"
    return "read" if table.rows > 0 else "read nothing"


@pytest.mark.parametrize("sent", WHOLE)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_sent_as_another_format_is_refused_or_read(tmp_path: Path, sent: str, kind: str) -> None:
    outcome = _outcome(tmp_path / "data", WHOLE[sent], kind)

    if {sent, kind} <= {"jsonl", "json"} or sent == kind or (sent, kind) == ("gzip", "csv"):
        assert outcome == "read"
    elif kind in ("parquet", "arrow", "npy", "npz", "xlsx"):
        assert outcome == f"{kind.replace('npz', 'npy')}_malformed"


@pytest.mark.parametrize("kind", FORMATS)
def test_noise_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    generator = random.Random(0)

    for place in range(8):
        data = generator.randbytes(2000)
        assert _outcome(tmp_path / str(place), data, kind) not in ("shows a value", "read nothing")


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind not in ("parquet", "arrow")])  # those have their own
def test_damage_anywhere_is_a_refusal_or_a_good_read(tmp_path: Path, kind: str) -> None:
    generator, data = random.Random(1), WHOLE[kind]

    outcomes = set()
    for place in range(12):
        broken = bytearray(data[: generator.randrange(1, len(data))] if place % 3 == 0 else data)
        for _ in range(3):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        outcomes.add(_outcome(tmp_path / str(place), bytes(broken), "csv" if kind == "gzip" else kind))

    assert outcomes - {"read"}
    assert not outcomes & {"shows a value", "read nothing"}
