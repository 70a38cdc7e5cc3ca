"""Stored bytes going out: immutable, so ETag is their SHA-256; one byte range at a time."""

import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from core import errors, storage


@dataclass(frozen=True)
class Blob:
    key: str
    sha256: str
    bytes: int
    media_type: str
    file_name: str


# What a route that sends a file may answer besides its errors.
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The part that `Range` asked for."},
    304: {"description": "`If-None-Match` names this file: the client has it already."},
}


async def send(request: Request, blob: Blob) -> Response:
    """The whole, the range that was asked for, or 304. Several ranges are answered with the whole."""
    headers = {
        "ETag": f'"{blob.sha256}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(blob.sha256)).decode()}:",
        "Cache-Control": "private, immutable",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(blob.file_name)}",
        "X-Content-Type-Options": "nosniff",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in known or known == ["*"]:
        return Response(status_code=304, headers=headers)

    start, end, status = 0, blob.bytes, 200
    is_same = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    asked = _range(request.headers.get("range", ""), blob.bytes) if is_same else None
    if asked is not None:
        start, end, status = *asked, 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(None, status, headers, blob.media_type)

    pieces = storage.storage().stream(blob.key, start, end)
    first = await anext(pieces, b"")  # before the status is sent: what cannot be read is an error, not a torn file

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(body(), status, headers, blob.media_type)


def _range(header: str, size: int) -> tuple[int, int] | None:
    """[start, end) of a single byte range. Raises `RangeNotSatisfiable`."""
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip().lower(), re.ASCII)
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    if start >= end:
        raise errors.RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, end
