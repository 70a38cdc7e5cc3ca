"""`.gz` and `.zst` around a text: known by their first bytes, whatever the name says, and expanded up to a cap."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import pyarrow

from core import errors

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BLOCK = 1024 * 1024


def expanded(source: Path, folder: Path, limit: int) -> tuple[Path, str | None]:
    """The file as it was before it was compressed, and by what it was.

    Raises `DatasetTooLarge` before more than `limit` bytes are written, or `CompressionMalformed`.
    """
    with source.open("rb") as file:
        head = file.read(4)
    target, written = folder / "expanded", 0
    opened: Any
    if head.startswith(GZIP):
        name, opened = "gzip", gzip.GzipFile(source)
    elif head == ZSTD:
        name, opened = "zstd", pyarrow.input_stream(str(source), compression="zstd")
    else:
        return source, None
    try:
        with opened as stream, target.open("wb") as file:
            while block := stream.read(BLOCK):
                written += len(block)
                if written > limit:
                    raise errors.DatasetTooLarge(
                        f"The compressed file holds more than {limit:,} bytes.", limit_bytes=limit
                    )
                file.write(block)
    except (EOFError, zlib.error, gzip.BadGzipFile, pyarrow.ArrowException) as error:
        raise errors.CompressionMalformed() from error
    except OSError as error:
        if error.errno is not None:
            raise  # a full disk
        raise errors.CompressionMalformed() from error
    return target, name
