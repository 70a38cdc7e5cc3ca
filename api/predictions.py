"""Predictions of a stored dataset: a worker makes them, batch by batch, and leaves a file."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import strict_json, uploads
from api.datasets import DATASET_ID, dataset_or_404
from api.downloads import ANSWERS, Blob, send
from api.inquiries import ANSWER_WAIT, answered, inquiry_or_404
from api.jobs import JobId
from api.keys import Caller, CurrentCaller
from api.loaded_networks import job_that_answers
from api.problems import responses, validated
from api.waiting import wait_seconds
from core import database, errors, lifecycle, queue, storage
from core.database import commit, db_now
from core.ids import new_id
from core.resolve.memory import memory_of_predictions
from core.storage import blob_key
from core.tables import Inquiry, InquiryStatus, Job

router = APIRouter(prefix="/v1", tags=["predictions"])

SUMMARY = "summary.json"
MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}
PredictionsId = Annotated[str, Path(pattern=r"^inq_[0-9a-z]{26}$")]


class PredictionsCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dataset_id: str = Field(pattern=DATASET_ID, description="A dataset of this project, with the job's columns.")
    format: Literal["parquet", "csv"] = Field(default="parquet", description="Of the file that is made.")


class StoredPredictionsRead(BaseModel):
    id: str
    job_id: str
    dataset_id: str
    format: Literal["parquet", "csv"]
    status: InquiryStatus
    error: dict[str, Any] | None = Field(description="code, message and the facts of that code")
    rows: int | None = Field(description="Of the dataset, and of the file.")
    columns: list[str] | None = Field(description="Of the file: `row`, counted from 0, and what is predicted.")
    warnings: list[dict[str, Any]] | None = Field(
        description="code, column, policy, and in how many `rows`: as those of `POST /v1/jobs/{job_id}/predict`"
    )
    bytes: int | None
    sha256: str | None
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


@router.post(
    "/jobs/{job_id}/predictions",
    status_code=201,
    response_model=StoredPredictionsRead,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictionsCreate"}}},
        }
    },
    responses={
        202: {"model": StoredPredictionsRead, "description": "Asked, and not made yet."},
        **responses(
            errors.MalformedJson,
            errors.IncompleteBody,
            errors.Unauthenticated,
            errors.NotFound,
            errors.JobNotFinished,
            errors.NoNetwork,
            errors.DatasetNotReady,
            errors.PayloadTooLarge,
            errors.UnsupportedMediaType,
            errors.InvalidSpec,
            errors.InvalidText,
            errors.InvalidQuery,
            errors.DatasetInvalid,
            errors.ResourcesExceeded,
            errors.Unavailable,
        ),
    },
)
async def predict_dataset(
    job_id: JobId,
    request: Request,
    caller: CurrentCaller,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
) -> Response:
    """Predicts every row of a stored dataset, in its order, into a file.

    Answers 201 when it was made, or found impossible, within the wait (10 s by default), else 202; the file can be
    downloaded for a day.
    """
    if uploads.media_type(request) not in ("application/json", ""):
        raise errors.UnsupportedMediaType("What shall be predicted is sent as `application/json`.")
    text = await uploads.whole(request)

    def ask() -> str:
        asked = validated(PredictionsCreate, strict_json.read(text))
        with database.writing() as session:
            inquiry = lifecycle.submit_inquiry(session, *_inquiry(session, caller, job_id, asked))
            commit(session, "ask")
        queue.ring()
        return inquiry.id

    inquiry_id = await run_in_threadpool(ask)
    found = await answered(caller, inquiry_id, "predictions", ANSWER_WAIT if wait is None else wait)
    status = 201 if found.finished_at else 202
    return await run_in_threadpool(_as_answer, found, status, Location=f"/v1/predictions/{inquiry_id}")


@router.get(
    "/predictions/{predictions_id}",
    response_model=StoredPredictionsRead,
    responses=responses(errors.Unauthenticated, errors.NotFound, errors.InvalidQuery, errors.Unavailable),
)
async def read_predictions(
    predictions_id: PredictionsId, caller: CurrentCaller, wait: Annotated[float | None, Depends(wait_seconds)] = None
) -> Response:
    """What became of them. With `?wait=30` the answer comes when they are made, or after 30 s.

    They are forgotten after a day.
    """
    found = await answered(caller, predictions_id, "predictions", wait or 0.0)
    return await run_in_threadpool(_as_answer, found, 200)


@router.head("/predictions/{predictions_id}/content", include_in_schema=False)
@router.get(
    "/predictions/{predictions_id}/content",
    response_class=StreamingResponse,
    responses={
        **ANSWERS,
        **responses(
            errors.Unauthenticated,
            errors.NotFound,
            errors.PredictionsNotReady,
            errors.RangeNotSatisfiable,
            errors.Unavailable,
        ),
    },
)
async def download_predictions(predictions_id: PredictionsId, caller: CurrentCaller, request: Request) -> Response:
    """The file, with Range, ETag and Repr-Digest."""
    row = await run_in_threadpool(inquiry_or_404, caller, predictions_id, "predictions")
    name = _file_name(row)
    if name not in row.files:
        raise errors.PredictionsNotReady(status_now=row.status)
    sha256, size = row.files[name]["sha256"], row.files[name]["bytes"]
    shown = f"{row.id}.{row.request['format']}"
    return await send(
        request, Blob(blob_key(row.project_id, sha256), sha256, size, MEDIA_TYPES[row.request["format"]], shown)
    )


def _file_name(row: Inquiry) -> str:
    return f"predictions.{row.request['format']}"


def _as_answer(row: Inquiry, status: int, **headers: str) -> Response:
    file, summary = row.files.get(_file_name(row)), row.files.get(SUMMARY)
    made: dict[str, Any] = dict.fromkeys(("rows", "columns", "warnings"))
    if summary:
        made = from_json(storage.storage().read(blob_key(row.project_id, summary["sha256"])))
    self = f"/v1/predictions/{row.id}"
    found = StoredPredictionsRead(
        **{name: getattr(row, name) for name in ("id", "job_id", "status", "error", "created_at", "finished_at")},
        **row.request,
        **made,
        bytes=file["bytes"] if file else None,
        sha256=file["sha256"] if file else None,
        links={
            "self": self,
            "content": f"{self}/content",
            "job": f"/v1/jobs/{row.job_id}",
            "dataset": f"/v1/datasets/{row.request['dataset_id']}",
        },
    )
    if row.finished_at is None:
        headers["Retry-After"] = "1"
    return Response(found.model_dump_json(), status, headers, "application/json")


def _inquiry(session: Session, caller: Caller, job_id: str, asked: PredictionsCreate) -> tuple[Inquiry, int]:
    """The question, and the memory that its answer takes."""
    answering = job_that_answers(session, caller, job_id=job_id)
    dataset = dataset_or_404(session, caller, asked.dataset_id)
    if dataset.status == "processing":
        raise errors.DatasetNotReady()
    if dataset.status == "invalid":
        raise errors.DatasetInvalid(dataset_id=dataset.id, error=dataset.error)
    spec = session.get_one(Job, job_id).resolved_spec
    assert spec is not None, "a job with a network was resolved"
    memory = memory_of_predictions(spec, answering.files[0][1], dataset.rows or 0)
    inquiry = Inquiry(
        id=new_id("inq"),
        project_id=caller.project_id,
        kind="predictions",
        job_id=job_id,
        request=asked.model_dump(),
        created_at=db_now(),
    )
    return inquiry, memory
