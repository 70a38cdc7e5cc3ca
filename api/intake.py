"""Datasets coming in: as an upload, or as another reading of one that is there."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api import formats, strict_json, uploads
from api.datasets import DatasetId, DatasetRead, dataset_or_404, invalid, look
from api.formats import MEDIA_TYPES, DialectTexts
from api.keys import Caller, CurrentCaller
from api.metrics import UPLOADED_BYTES
from api.problems import meant, responses, validated
from api.strict_json import is_text
from api.waiting import wait_seconds, waker
from core import database, errors, lifecycle, queue
from core.database import commit, db_now
from core.dialect import Choices, Dialect, Reading
from core.ids import new_id
from core.tables import Dataset

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

PARSE_WAIT = 10.0  # seconds that a request waits for its table to be read, unless asked otherwise
BINARY = {"schema": {"type": "string", "format": "binary"}}
TEXTS = {name: {"type": "string", "description": field.description} for name, field in Dialect.model_fields.items()}

UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: BINARY for media_type in MEDIA_TYPES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "name": {"type": "string"}, **TEXTS},
                }
            },
        },
    }
}
STILL_READ: dict[int | str, dict[str, Any]] = {
    202: {"model": DatasetRead, "description": "Stored, and still being read."}
}


@router.post(
    "",
    status_code=201,
    openapi_extra=UPLOAD_BODY,
    responses={
        **STILL_READ,
        **responses(
            errors.InvalidRequest,
            errors.IncompleteBody,
            errors.Unauthenticated,
            errors.PayloadTooLarge,
            errors.UnsupportedMediaType,
            errors.DatasetInvalid,
            errors.DigestMismatch,
            errors.InvalidQuery,
            errors.InvalidSpec,
            errors.Unavailable,
            errors.StorageFull,
        ),
    },
)
async def create_dataset(
    request: Request,
    response: Response,
    caller: CurrentCaller,
    texts: DialectTexts,
    name: Annotated[str | None, Query(max_length=255, description="A name to show; the file's own by default.")] = None,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
) -> DatasetRead:
    """Uploads a table: the raw bytes with their Content-Type, or a form with a field `file`.

    How its text is written is found out and shown as `dialect`; what is said of it here, as parameters or as fields of
    the form, is not. Answers 201 when it was read within the wait (10 s by default), else 202; a table that cannot be
    read gives the 422 that says why, and stays as an `invalid` dataset with the `dataset_id` in the answer.
    """
    if name is not None and not is_text(name):
        raise errors.InvalidText()
    content_type = uploads.media_type(request)
    if content_type == "multipart/form-data":
        async with uploads.form(request) as fields:
            file = uploads.file_in(fields)
            said = _texts_in(fields)
            shown = uploads.shown_name(name or said.pop("name", None) or file.filename, "dataset")
            kind = uploads.format_of_file(file)
            dialect = formats.dialect_of_texts({**texts, **said}, kind, "form" if said else "query")
            dataset_id, stored = await uploads.store(uploads.file_pieces(file))
    else:
        kind = formats.format_of(content_type, name)
        shown = uploads.shown_name(name, f"dataset.{kind}")
        dialect = formats.dialect_of_texts(texts, kind, "query")
        dataset_id, stored = await uploads.store(uploads.pieces(request))

    def add() -> None:
        with database.writing() as session:
            dataset = uploads.new_dataset(session, dataset_id, caller.project_id, shown, kind, stored, dialect)
            lifecycle.submit_dataset(session, dataset)
            commit(session, "upload")

    await run_in_threadpool(add)
    UPLOADED_BYTES.inc(stored.bytes)
    queue.ring()
    return await _when_read(caller, dataset_id, wait, response)


def _texts_in(fields: Any) -> dict[str, str]:
    """The fields of a form besides its file. Raises `InvalidSpec` where there is no such field."""
    known = ["name", *Dialect.model_fields]
    texts = {name: value for name, value in fields.items() if not isinstance(value, UploadFile)}
    unknown = [
        {"pointer": errors.pointer(name), "code": "unknown_field", "message": "There is no such field."}
        | ({"suggestion": near} if (near := meant(name[:64], known)) else {})
        for name in texts
        if name not in known
    ]
    if unknown:
        raise errors.InvalidSpec(errors=unknown)
    return texts


async def _when_read(caller: Caller, dataset_id: str, wait: float | None, response: Response) -> DatasetRead:
    found = await waker.until(
        dataset_id,
        PARSE_WAIT if wait is None else wait,
        lambda: run_in_threadpool(look, caller, dataset_id),
        lambda row: row.status != "processing",
    )
    if found.status == "invalid":
        raise invalid(found)
    response.status_code = 201 if found.status == "ready" else 202
    response.headers["Location"] = f"/v1/datasets/{dataset_id}"
    return DatasetRead.of(found)


class DatasetChange(BaseModel):
    """What shall be read otherwise; null in a dialect has it found out again."""

    model_config = ConfigDict(extra="forbid")

    dialect: dict[str, Any] = Field(default={}, description="Fields of a Dialect.")
    columns: Choices = Field(default={}, max_length=10_000, description="The type of columns, by their names.")
    name: str | None = Field(
        default=None, max_length=255, description="A name to show; that of the dataset by default."
    )


@router.patch(
    "/{dataset_id}",
    status_code=201,
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/DatasetChange"}}}}
    },
    responses={
        **STILL_READ,
        **responses(
            errors.MalformedJson,
            errors.IncompleteBody,
            errors.Unauthenticated,
            errors.NotFound,
            errors.PayloadTooLarge,
            errors.UnsupportedMediaType,
            errors.InvalidSpec,
            errors.InvalidText,
            errors.InvalidQuery,
            errors.DatasetInvalid,
            errors.DigestMismatch,
            errors.Unavailable,
        ),
    },
)
async def derive_dataset(
    dataset_id: DatasetId,
    request: Request,
    response: Response,
    caller: CurrentCaller,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
) -> DatasetRead:
    """Reads the same bytes in another way: another dialect, other types of columns.

    A dataset never changes: this makes a new one, with an id of its own and `derived_from`, also of one that could not
    be read. The upload is not copied. What earlier changes said still holds, where this one says nothing else.
    """
    text = await uploads.whole(request)
    if uploads.media_type(request) not in ("application/json", "application/merge-patch+json", ""):
        raise errors.UnsupportedMediaType("What shall be read otherwise is sent as `application/json`.")

    def add() -> str:
        asked: DatasetChange = validated(DatasetChange, strict_json.read(text))
        with database.writing() as session:
            source = dataset_or_404(session, caller, dataset_id, hold=True)  # its bytes must not go meanwhile
            derived = Dataset(
                id=new_id("ds"),
                project_id=caller.project_id,
                name=uploads.shown_name(asked.name, source.name),
                status="processing",
                format=source.format,
                bytes=source.bytes,
                sha256=source.sha256,
                upload_key=source.upload_key,
                derived_from=source.id,
                reading=_changed(source, asked).model_dump(mode="json", exclude_none=True),
                columns=[],
                warnings=[],
                files={},
                created_at=db_now(),
            )
            lifecycle.submit_dataset(session, derived)
            commit(session, "read_again")
            return derived.id

    derived_id = await run_in_threadpool(add)
    queue.ring()
    return await _when_read(caller, derived_id, wait, response)


def _changed(source: Dataset, asked: DatasetChange) -> Reading:
    before = Reading.model_validate(source.reading or {})
    said = {**before.dialect.model_dump(exclude_none=True), **asked.dialect}
    kept = {name: value for name, value in said.items() if value is not None}
    dialect = formats.dialect_of(kept, source.format, "dialect")
    return Reading(dialect=dialect, columns={**before.columns, **asked.columns})
