"""One ingest, from order to files. What it leaves in its folder:

`table.parquet` (canonical), `preview.json` (first rows), and the arrays that training maps, each of columns x rows:
`numbers.npy` (float32, missing is NaN; a vector is as many rows as it has numbers), `codes.npy` (int32 positions in a
column's list of values, missing is -1) and `moments.npy` (int64 seconds since 1970 in UTC, missing is the least int64).
"""

import json
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow
from pydantic import BaseModel, ConfigDict

from core import errors
from core.dialect import Format, Reading
from worker.ingest import arrow, csv_text, json_text, npy, parquet, xlsx
from worker.ingest.arrays import write_codes, write_moments, write_numbers
from worker.ingest.associations import associate
from worker.ingest.columns import describe
from worker.ingest.reader import Desk, sandboxed
from worker.ingest.table import Written
from worker.trainer.messages import DATASET, Channel, Ingested, Phase

PREVIEW_ROWS = 100


class IngestOrder(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: Literal["ingest"] = "ingest"
    file: str
    format: Format
    reading: Reading = Reading()
    folder: str
    memory_bytes: int
    expanded_bytes: int
    seconds: int  # of the processor


def ingest(order: IngestOrder, channel: Channel) -> None:
    """Reads the table as ordered and says `Ingested`. Raises a `DatasetProblem` when it is unreadable."""

    def alive() -> None:
        channel.say(Phase("loading_data"))

    alive()
    source, folder = Path(order.file), Path(order.folder) / DATASET
    folder.mkdir()
    if not source.stat().st_size:
        raise errors.DatasetEmpty()

    table = folder / "table.parquet"
    with sandboxed(source, Path(order.folder), order.memory_bytes) as connection:
        desk = Desk(connection, source, Path(order.folder), order.reading, order.expanded_bytes, alive)
        try:
            written, dialect = _convert(order.format, desk)
            columns, warnings = describe(connection, table, written.columns, written.rows, alive)
            preview = _preview(connection, table, [column.name for column in columns])
            (folder / "preview.json").write_text(json.dumps(preview, allow_nan=False))
            pairs = list(zip(written.columns, columns, strict=True))
            warnings += write_numbers(connection, table, folder, pairs, written.rows)
            write_codes(connection, table, folder, pairs, written.rows)
            write_moments(connection, table, folder, pairs, written.rows)
            columns = associate(folder, columns, written.rows)
        except (MemoryError, duckdb.OutOfMemoryException, pyarrow.ArrowMemoryError) as error:
            raise errors.DatasetTooLarge("The table needs more memory than reading one may take here.") from error
    channel.say(
        Ingested(
            rows=written.rows,
            columns=[column.model_dump(mode="json", exclude_defaults=True) for column in columns],
            warnings=[warning.model_dump(mode="json") for warning in (*written.warnings, *warnings)],
            dialect=dialect,
        )
    )


def _convert(kind: Format, desk: Desk) -> tuple[Written, dict[str, Any] | None]:
    match kind:
        case "csv":
            return csv_text.convert(desk)
        case "json" | "jsonl":
            return json_text.convert(desk)
        case "xlsx":
            return xlsx.convert(desk)
        case "parquet":
            return parquet.convert(desk), None
        case "arrow":
            return arrow.convert(desk), None
        case "npy":
            return npy.convert_npy(desk), None
        case "npz":
            return npy.convert_npz(desk), None


def _preview(connection: duckdb.DuckDBPyConnection, table: Path, names: list[str]) -> list[dict[str, Any]]:
    found = connection.execute(f"SELECT * FROM read_parquet(?) LIMIT {PREVIEW_ROWS}", [str(table)])  # noqa: S608
    return [dict(zip(names, map(_as_json, row), strict=True)) for row in found.fetchall()]


def _as_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    if (isinstance(value, float) and value in (float("inf"), float("-inf"))) or value != value:
        return None
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
