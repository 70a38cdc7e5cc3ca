"""Arrow IPC, which is Feather too: rewritten as Parquet a batch at a time, and then read as that."""

from pathlib import Path

import duckdb
import pyarrow
import pyarrow.parquet

from core import errors
from worker.ingest import parquet
from worker.ingest.columns import check_names
from worker.ingest.reader import Desk, refuse_too_large
from worker.ingest.table import Written

FILE_MARK = b"ARROW1"
FEATHER_1 = b"FEA1"
MALFORMED = (pyarrow.ArrowException, OSError, ValueError, duckdb.Error, UnicodeDecodeError)


def convert(desk: Desk) -> Written:
    rewritten = desk.folder / "rows.parquet"
    try:
        _rewrite(desk.source, rewritten)
        return parquet.copy(desk, rewritten)
    except (duckdb.OutOfMemoryException, pyarrow.ArrowMemoryError):
        raise
    except MALFORMED as error:
        raise errors.ArrowMalformed() from error


def _rewrite(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        head = file.read(8)
    if head.startswith(FEATHER_1):
        raise errors.ArrowMalformed("This is Feather of version 1; write it as version 2.")
    options = pyarrow.ipc.IpcReadOptions(use_threads=False)
    with pyarrow.memory_map(str(source)) as file:
        if head.startswith(FILE_MARK):
            found = pyarrow.ipc.open_file(file, options=options)
            batches = (found.get_batch(place) for place in range(found.num_record_batches))
        else:
            found = pyarrow.ipc.open_stream(file, options=options)
            batches = iter(found)
        schema = found.schema.remove_metadata()
        check_names(schema.names)
        refuse_too_large(0, len(schema.names))
        rows = 0
        with pyarrow.parquet.ParquetWriter(target, _plain(schema), compression="snappy") as writer:
            for batch in batches:
                batch.validate(full=True)  # offsets that point anywhere
                rows += batch.num_rows
                refuse_too_large(rows, len(schema.names))
                writer.write_batch(batch.cast(_plain(schema)), row_group_size=max(batch.num_rows, 1))


def _plain(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Dictionaries as their values, and no type that somebody has registered for more than its storage."""

    def plain(kind: pyarrow.DataType) -> pyarrow.DataType:
        if isinstance(kind, pyarrow.BaseExtensionType):
            return plain(kind.storage_type)
        if pyarrow.types.is_dictionary(kind):
            return plain(kind.value_type)
        if pyarrow.types.is_float16(kind):
            return pyarrow.float32()
        return kind

    return pyarrow.schema([pyarrow.field(field.name, plain(field.type)) for field in schema])
