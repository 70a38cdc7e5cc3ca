"""Bytes coming in: raw or as a form, never more of them in memory than a piece."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from python_multipart.multipart import parse_options_header
from sqlalchemy.orm import Session
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from api import formats
from api.digests import stated_digests
from core import errors, storage
from core.database import db_now
from core.dialect import Dialect, Format, Reading
from core.ids import new_id
from core.storage import StoredFile, upload_key
from core.tables import Dataset

PIECE = 1024 * 1024
MAX_NAME = 255
NOTHING_SAID = Dialect()


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def shown_name(name: str | None, fallback: str) -> str:
    """A file's name as text to show: it never names a path."""
    plain = "".join(letter for letter in (name or "") if letter.isprintable()).strip()
    return plain.replace("\\", "/").rsplit("/", 1)[-1][:MAX_NAME] or fallback


async def pieces(request: Request) -> AsyncGenerator[bytes]:
    """The body as it comes, compared with its Content-Digest at the end.

    Raises `DigestMismatch`, or `IncompleteBody` where the client went away.
    """
    _refuse_encoded(request)
    stated = stated_digests(request)
    try:
        async for piece in request.stream():
            for digest, _ in stated:
                digest.update(piece)
            if piece:
                yield piece
    except ClientDisconnect as error:
        raise errors.IncompleteBody() from error
    if any(digest.digest() != expected for digest, expected in stated):
        raise errors.DigestMismatch()


async def whole(request: Request) -> bytes:
    """A body that is small enough to be held: `api/requests.py` caps it."""
    return b"".join([piece async for piece in pieces(request)])


@asynccontextmanager
async def form(request: Request) -> AsyncIterator[FormData]:
    """The fields of a multipart body; its files lie in temporary files until the context ends."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    if b"boundary" not in options:
        raise errors.InvalidRequest("The multipart body has no boundary.")
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise errors.InvalidRequest("The multipart body must be UTF-8.")
    try:
        fields = await MultiPartParser(request.headers, pieces(request), max_files=4, max_fields=20).parse()
    except MultiPartException as error:
        raise errors.InvalidRequest("The multipart body is malformed: " + error.message.rstrip(".") + ".") from error
    try:
        if len(fields) != len(fields.multi_items()):
            raise errors.InvalidRequest("The form has the same field twice.")
        yield fields
    finally:
        await fields.close()


def _refuse_encoded(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise errors.UnsupportedMediaType(
            "A body is sent as it is, without Content-Encoding; one that is compressed already as `?name=file.csv.gz`."
        )


def format_of_file(file: UploadFile) -> Format:
    return formats.format_of((file.content_type or "").split(";")[0].strip().lower(), file.filename)


def file_in(fields: FormData, *others: str) -> UploadFile:
    """The file in the field `file`; beside it there may be files in the fields `others`, and nowhere else."""
    found = fields.get("file")
    if not isinstance(found, UploadFile):
        raise errors.InvalidRequest("The form has no file in its field `file`; send `-F file=@file.csv`.")
    for name, value in fields.items():
        if isinstance(value, UploadFile) and value is not found and name not in others:
            message = "There is no such field for a file."
            raise errors.InvalidSpec(
                errors=[{"pointer": errors.pointer(name), "code": "unknown_field", "message": message}]
            )
    return found


async def file_pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(PIECE):
        yield piece


async def store(chunks: AsyncIterator[bytes]) -> tuple[str, StoredFile]:
    """Puts an upload into storage; returns the id that its dataset will have."""
    dataset_id = new_id("ds")
    return dataset_id, await storage.storage().put_stream(upload_key(dataset_id), chunks)


def new_dataset(
    session: Session,
    dataset_id: str,
    project_id: str,
    name: str,
    kind: Format,
    stored: StoredFile,
    dialect: Dialect = NOTHING_SAID,
) -> Dataset:
    """The row of an upload whose bytes are in storage."""
    return Dataset(
        id=dataset_id,
        project_id=project_id,
        name=name,
        status="processing",
        format=kind,
        bytes=stored.bytes,
        sha256=stored.sha256,
        upload_key=upload_key(dataset_id),
        reading=Reading(dialect=dialect).model_dump(mode="json", exclude_none=True),
        columns=[],
        warnings=[],
        files={},
        created_at=db_now(),
    )
