"""Datasets: uploaded tables, immutable, read by a worker."""

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.columns import ColumnRead
from api.downloads import ANSWERS, Blob, send
from api.formats import PARQUET
from api.keys import Caller, CurrentCaller
from api.pages import Limit, Page, PageCursor, page_of
from api.problems import responses
from core import database, errors, lifecycle, storage
from core.database import commit
from core.profile import Warning
from core.storage import blob_key
from core.tables import Dataset, DatasetStatus, Job, Run

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


DATASET_ID = r"^ds_[0-9a-z]{26}$"
DatasetId = Annotated[str, Path(pattern=DATASET_ID)]


class DatasetRead(BaseModel):
    id: str
    name: str
    status: DatasetStatus
    rows: int | None
    bytes: int
    sha256: str
    format: str
    dialect: dict[str, Any] | None = Field(description="How its text was read; a PATCH reads it otherwise.")
    derived_from: str | None = Field(description="The dataset whose upload this is another reading of.")
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
            derived_from=row.derived_from,
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


def invalid(dataset: Dataset) -> errors.Problem:
    """What is wrong with a table, as the problem that the worker found."""
    found = dict(dataset.error or {})
    classes = {problem.code: problem for problem in errors.every_problem(errors.DatasetProblem)}
    problem = classes.get(found.pop("code", ""), errors.DatasetInvalid)
    return problem(found.pop("message", None), errors=found.pop("errors", ()), dataset_id=dataset.id, **found)


def look(caller: Caller, dataset_id: str) -> Dataset:
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
    return DatasetRead.of(look(caller, dataset_id))


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
    found = _ready(look(caller, dataset_id))
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
    found = _ready(await run_in_threadpool(look, caller, dataset_id))
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
    """Deletes a dataset that no unfinished job uses.

    Jobs that were trained on it stay, and so do other readings of the same upload.
    """
    with database.writing() as session:
        found = dataset_or_404(session, caller, dataset_id, hold=True)  # against a job that comes in
        if found.status == "processing":
            raise errors.DatasetNotReady()
        used = select(Job.id).where(lifecycle.uses_dataset(dataset_id), Job.status.not_in(lifecycle.TERMINAL))
        if session.scalar(used.limit(1)) is not None:
            raise errors.DatasetInUse()
        session.execute(delete(Run).where(Run.subject_id == dataset_id, Run.status == "ended"))
        session.execute(delete(Dataset).where(Dataset.id == dataset_id))
        others = session.scalar(select(Dataset.id).where(Dataset.upload_key == found.upload_key).limit(1))
        commit(session, "delete_dataset")
    if others is None:  # of two that go at once each sees the other: then the sweeper collects their bytes
        storage.storage().delete(found.upload_key)
