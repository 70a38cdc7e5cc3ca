"""Datasets: uploaded tables, immutable, read by a worker."""

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import uploads
from api.downloads import ANSWERS, Blob, send
from api.keys import Caller, CurrentCaller
from api.metrics import UPLOADED_BYTES
from api.pages import Limit, Page, PageCursor, page_of
from api.problems import responses
from api.strict_json import is_text
from api.waiting import wait_seconds, waker
from core import database, errors, lifecycle, queue, storage
from core.profile import ColumnType, Value, Warning
from core.storage import blob_key
from core.tables import Dataset, DatasetStatus, Job, Run

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

PARSE_WAIT = 10.0  # seconds that an upload waits to be read, unless asked otherwise
TOP_VALUES = 20
PARQUET = "application/vnd.apache.parquet"

DATASET_ID = r"^ds_[0-9a-z]{26}$"
DatasetId = Annotated[str, Path(pattern=DATASET_ID)]


class ColumnRead(BaseModel):
    name: str
    type: ColumnType
    missing: int
    distinct: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    top_values: list[tuple[Value, int]] | None

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "ColumnRead":
        top = None
        if stored["values"] is not None:
            pairs = zip(stored["values"], stored["counts"], strict=True)
            top = sorted(pairs, key=lambda pair: -pair[1])[:TOP_VALUES]
        return cls(**{name: stored[name] for name in cls.model_fields if name != "top_values"}, top_values=top)


class DatasetRead(BaseModel):
    id: str
    name: str
    status: DatasetStatus
    rows: int | None
    bytes: int
    sha256: str
    format: str
    dialect: dict[str, Any] | None
    columns: list[ColumnRead]
    warnings: list[Warning]
    error: dict[str, Any] | None
    created_at: datetime
    links: dict[str, str]

    @classmethod
    def of(cls, row: Dataset) -> "DatasetRead":
        self = f"/v1/datasets/{row.id}"
        return cls(
            id=row.id,
            name=row.name,
            status=row.status,
            rows=row.rows,
            bytes=row.bytes,
            sha256=row.sha256,
            format=row.format,
            dialect=row.dialect,
            columns=[ColumnRead.of(column) for column in row.columns],
            warnings=[Warning.model_validate(warning) for warning in row.warnings],
            error=row.error,
            created_at=row.created_at,
            links={"self": self, "rows": f"{self}/rows", "content": f"{self}/content"},
        )


def dataset_or_404(session: Session, caller: Caller, dataset_id: str, *, hold: bool = False) -> Dataset:
    """The caller's dataset; held, where that is asked, until the transaction ends."""
    query = select(Dataset).where(Dataset.id == dataset_id, Dataset.project_id == caller.project_id)
    found = session.scalar(query.with_for_update() if hold else query)
    if found is None:
        raise errors.NotFound()
    return found


UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


@router.post(
    "",
    status_code=201,
    openapi_extra=UPLOAD_BODY,
    responses={
        202: {"model": DatasetRead, "description": "Stored, and still being read."},
        **responses(
            errors.InvalidRequest,
            errors.IncompleteBody,
            errors.Unauthenticated,
            errors.PayloadTooLarge,
            errors.UnsupportedMediaType,
            errors.DatasetInvalid,
            errors.InvalidQuery,
            errors.Unavailable,
            errors.StorageFull,
        ),
    },
)
async def create_dataset(
    request: Request,
    response: Response,
    caller: CurrentCaller,
    name: Annotated[str | None, Query(max_length=255, description="A name to show; the file's own by default.")] = None,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
) -> DatasetRead:
    """Uploads a table: the raw bytes with their Content-Type, or a form with a field `file`.

    Answers 201 when it was read within the wait (10 s by default), else 202; a table that cannot be read gives the
    422 that says why, and stays as an `invalid` dataset with the `dataset_id` in the answer.
    """
    if name is not None and not is_text(name):
        raise errors.InvalidText()
    content_type = uploads.media_type(request)
    if content_type == "multipart/form-data":
        async with uploads.form(request) as fields:
            file = uploads.file_in(fields)
            shown = uploads.shown_name(name or file.filename, "dataset")
            kind = uploads.format_of_file(file)
            dataset_id, stored = await uploads.store(uploads.file_pieces(file))
    else:
        kind = uploads.format_of(content_type, name)
        shown = uploads.shown_name(name, f"dataset.{kind}")
        dataset_id, stored = await uploads.store(uploads.pieces(request))

    def add() -> Dataset:
        with database.writing() as session:
            dataset = uploads.new_dataset(session, dataset_id, caller.project_id, shown, kind, stored)
            lifecycle.submit_dataset(session, dataset)
            session.commit()
            return dataset

    await run_in_threadpool(add)
    UPLOADED_BYTES.inc(stored.bytes)
    queue.ring()
    seconds = PARSE_WAIT if wait is None else wait
    found = await waker.until(
        dataset_id,
        seconds,
        lambda: run_in_threadpool(_look, caller, dataset_id),
        lambda row: row.status != "processing",
    )
    if found.status == "invalid":
        raise invalid(found)
    response.status_code = 201 if found.status == "ready" else 202
    response.headers["Location"] = f"/v1/datasets/{dataset_id}"
    return DatasetRead.of(found)


def invalid(dataset: Dataset) -> errors.Problem:
    """What is wrong with a table, as the problem that the worker found."""
    found = dict(dataset.error or {})
    classes = {problem.code: problem for problem in errors.every_problem(errors.DatasetProblem)}
    problem = classes.get(found.pop("code", ""), errors.DatasetInvalid)
    return problem(found.pop("message", None), errors=found.pop("errors", ()), dataset_id=dataset.id, **found)


def _look(caller: Caller, dataset_id: str) -> Dataset:
    with database.reading() as session:
        return dataset_or_404(session, caller, dataset_id)


@router.get("", responses=responses(errors.Unauthenticated, errors.InvalidQuery))
def list_datasets(
    request: Request, response: Response, caller: CurrentCaller, limit: Limit = 20, page: PageCursor = None
) -> Page[DatasetRead]:
    """The project's datasets, newest first."""
    with database.reading() as session:
        query = select(Dataset).where(Dataset.project_id == caller.project_id)
        rows, cursor = page_of(session, query, Dataset.id, page, limit, request, response)
    return Page(items=[DatasetRead.of(row) for row in rows], next_page=cursor)


@router.get("/{dataset_id}", responses=responses(errors.Unauthenticated, errors.NotFound))
def read_dataset(dataset_id: DatasetId, caller: CurrentCaller) -> DatasetRead:
    """A dataset with its profile: what each column holds."""
    return DatasetRead.of(_look(caller, dataset_id))


class Preview(BaseModel):
    rows: list[dict[str, Any]]


@router.get(
    "/{dataset_id}/rows",
    responses=responses(
        errors.Unauthenticated, errors.NotFound, errors.DatasetNotReady, errors.InvalidQuery, errors.DatasetInvalid
    ),
)
def preview_dataset(
    dataset_id: DatasetId, caller: CurrentCaller, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Preview:
    """The first rows."""
    found = _ready(_look(caller, dataset_id))
    stored = storage.storage().read(blob_key(found.project_id, found.files["preview.json"]["sha256"]))
    return Preview(rows=json.loads(stored)[:limit])


@router.head("/{dataset_id}/content", include_in_schema=False)
@router.get(
    "/{dataset_id}/content",
    response_class=StreamingResponse,
    responses={
        **ANSWERS,
        **responses(
            errors.Unauthenticated,
            errors.NotFound,
            errors.DatasetNotReady,
            errors.RangeNotSatisfiable,
            errors.DatasetInvalid,
            errors.Unavailable,
        ),
    },
)
async def download_dataset(dataset_id: DatasetId, caller: CurrentCaller, request: Request) -> Response:
    """The table as canonical Parquet."""
    found = _ready(await run_in_threadpool(_look, caller, dataset_id))
    file = found.files["table.parquet"]
    blob = Blob(
        blob_key(found.project_id, file["sha256"]), file["sha256"], file["bytes"], PARQUET, f"{found.id}.parquet"
    )
    return await send(request, blob)


def _ready(dataset: Dataset) -> Dataset:
    if dataset.status == "processing":
        raise errors.DatasetNotReady()
    if dataset.status == "invalid":
        raise invalid(dataset)
    return dataset


@router.delete(
    "/{dataset_id}",
    status_code=204,
    responses=responses(errors.Unauthenticated, errors.NotFound, errors.DatasetInUse, errors.DatasetNotReady),
)
def delete_dataset(dataset_id: DatasetId, caller: CurrentCaller) -> None:
    """Deletes a dataset that no unfinished job uses. Jobs that were trained on it stay."""
    with database.writing() as session:
        found = dataset_or_404(session, caller, dataset_id, hold=True)  # against a job that comes in
        if found.status == "processing":
            raise errors.DatasetNotReady()
        used = select(Job.id).where(lifecycle.uses_dataset(dataset_id), Job.status.not_in(lifecycle.TERMINAL))
        if session.scalar(used.limit(1)) is not None:
            raise errors.DatasetInUse()
        session.execute(delete(Run).where(Run.subject_id == dataset_id, Run.status == "ended"))
        session.execute(delete(Dataset).where(Dataset.id == dataset_id))
        session.commit()
    storage.storage().delete(found.upload_key)
