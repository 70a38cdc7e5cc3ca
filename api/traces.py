"""Traces: one weight update of a job's network, with every number of it. A worker makes it, in a process of its own."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import strict_json, uploads
from api.inquiries import ANSWER_WAIT, answered
from api.jobs import JobId, job_or_404
from api.keys import Caller, CurrentCaller
from api.problems import responses, validated
from api.waiting import wait_seconds
from core import database, errors, lifecycle, queue, storage
from core.database import commit, db_now
from core.ids import new_id
from core.profile import Column
from core.resolve import resolve
from core.resolve.memory import memory_of_update
from core.spec.training import Trace, TracedRows
from core.start import BEST
from core.storage import blob_key
from core.tables import Artifact, Dataset, Inquiry, InquiryStatus, Job

router = APIRouter(prefix="/v1", tags=["traces"])

FILE = "trace.json"
TraceId = Annotated[str, Path(pattern=r"^inq_[0-9a-z]{26}$")]


class TraceCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: TracedRows = Field(default=4, description="Rows of the batch: the first ones of the training rows.")
    weights: Literal["kept", "initial"] = Field(
        default="kept",
        description="Where the update begins: what the job has kept, or what its spec and seed begin with.",
    )


class TraceRead(BaseModel):
    id: str
    job_id: str
    status: InquiryStatus
    error: dict[str, Any] | None = Field(description="code, message and the facts of that code")
    trace: dict[str, Any] | None = Field(
        description="epoch, step, rows, inputs, target, forward, logits, predictions, loss, backward, update"
    )
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


CREATE_BODY = {
    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/TraceCreate"}}}}
}


@router.post(
    "/jobs/{job_id}/trace",
    status_code=201,
    response_model=TraceRead,
    openapi_extra=CREATE_BODY,
    responses={
        202: {"model": TraceRead, "description": "Asked, and not answered yet."},
        **responses(
            errors.MalformedJson,
            errors.IncompleteBody,
            errors.Unauthenticated,
            errors.NotFound,
            errors.NoWeights,
            errors.DatasetNotReady,
            errors.DatasetDeleted,
            errors.PayloadTooLarge,
            errors.UnsupportedMediaType,
            errors.InvalidSpec,
            errors.InvalidText,
            errors.DataInvalid,
            errors.TraceTooLarge,
            errors.ResourcesExceeded,
            errors.DatasetInvalid,
            errors.InvalidQuery,
            errors.Unavailable,
        ),
    },
)
async def trace_job(
    job_id: JobId,
    request: Request,
    caller: CurrentCaller,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
) -> Response:
    """Lays one weight update of the job's network open: the first of a new optimizer of its spec.

    Nothing of the job changes. Answers 201 when it was made, or found impossible, within the wait (10 s by default),
    else 202; the answer can be read for a day.
    """
    text = await uploads.whole(request)
    if text and uploads.media_type(request) not in ("application/json", ""):
        raise errors.UnsupportedMediaType("What shall be traced is sent as `application/json`.")

    def ask() -> str:
        asked = validated(TraceCreate, strict_json.read(text) if text else {})
        with database.writing() as session:
            inquiry = lifecycle.submit_inquiry(session, *_inquiry(session, caller, job_id, asked))
            commit(session, "ask")
        queue.ring()
        return inquiry.id

    inquiry_id = await run_in_threadpool(ask)
    found = await answered(caller, inquiry_id, "trace", ANSWER_WAIT if wait is None else wait)
    status = 201 if found.finished_at else 202
    return await run_in_threadpool(_as_answer, found, status, Location=f"/v1/traces/{inquiry_id}")


@router.get(
    "/traces/{trace_id}",
    response_model=TraceRead,
    responses=responses(errors.Unauthenticated, errors.NotFound, errors.InvalidQuery, errors.Unavailable),
)
async def read_trace(
    trace_id: TraceId, caller: CurrentCaller, wait: Annotated[float | None, Depends(wait_seconds)] = None
) -> Response:
    """A trace. With `?wait=30` the answer comes when it is made, or after 30 s. It is forgotten after a day."""
    found = await answered(caller, trace_id, "trace", wait or 0.0)
    return await run_in_threadpool(_as_answer, found, 200)


def _as_answer(row: Inquiry, status: int, **headers: str) -> Response:
    """A trace may be megabytes of numbers: made into JSON here, in a thread, and not in the loop."""
    made = row.files.get(FILE)
    stored = storage.storage().read(blob_key(row.project_id, made["sha256"])) if made else None
    found = TraceRead(
        **{name: getattr(row, name) for name in ("id", "job_id", "status", "error", "created_at", "finished_at")},
        trace=None if stored is None else from_json(stored),
        links={"self": f"/v1/traces/{row.id}", "job": f"/v1/jobs/{row.job_id}"},
    )
    if row.finished_at is None:
        headers["Retry-After"] = "1"
    return Response(found.model_dump_json(), status, headers, "application/json")


# --- what can be known before a worker is asked -------------------------------------------------------------------


def _inquiry(session: Session, caller: Caller, job_id: str, asked: TraceCreate) -> tuple[Inquiry, int]:
    """The question, and the memory that its answer takes."""
    job = job_or_404(session, caller, job_id)
    memory = _memory(job, session.get(Dataset, job.dataset_id), asked)
    has_weights = select(Artifact.id).where(Artifact.job_id == job_id, Artifact.name == BEST)
    if asked.weights == "kept" and session.scalar(has_weights) is None:
        raise errors.NoWeights(job_status=job.status)
    inquiry = Inquiry(
        id=new_id("inq"),
        project_id=caller.project_id,
        kind="trace",
        job_id=job_id,
        request=asked.model_dump(),
        created_at=db_now(),
    )
    return inquiry, memory


def _memory(job: Job, dataset: Dataset | None, asked: TraceCreate) -> int:
    """Raises where there is nothing to read, and `TraceTooLarge`."""
    if dataset is None:
        raise errors.DatasetDeleted()
    if job.resolved_spec is None:
        raise errors.DatasetInvalid() if dataset.status == "invalid" else errors.DatasetNotReady()
    spec = job.resolved_spec.model_copy(update={"trace": Trace(rows=asked.rows)})
    columns = [Column.model_validate(column) for column in dataset.columns]
    resolved = resolve(spec, columns, dataset.rows or 0)
    return memory_of_update(resolved.spec, resolved.parameters, resolved.inputs, dataset.rows or 0)
