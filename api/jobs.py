"""Jobs: one training of one spec on one dataset."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import strict_json, uploads
from api.datasets import DATASET_ID
from api.keys import Caller, CurrentCaller
from api.pages import Limit, Page, PageCursor, page_of
from api.problems import responses, validated
from api.waiting import wait_seconds, waker
from api.webhooks import Webhook
from core import database, errors, lifecycle, queue
from core.cross_validation import folds_of, summary
from core.profile import Warning
from core.spec import TrainingSpec
from core.spec.values import Flag
from core.start import StartFrom
from core.tables import Attempt, AttemptOutcome, Fold, Job, JobStatus, Run

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

PRIORITIES = {"low": -1, "normal": 0, "high": 1}
Priority = Literal["low", "normal", "high"]
JobId = Annotated[str, Path(pattern=r"^job_[0-9a-z]{26}$")]


class AttemptRead(BaseModel):
    """One try of the job by one worker."""

    number: int = Field(description="Of the job's own network, or of one fold, from 1.")
    fold: int | None = Field(description="The fold of a cross-validation that was tried.")
    worker_id: str
    outcome: AttemptOutcome
    cause: str | None
    resumed_from_epoch: int | None
    fingerprint: dict[str, Any] | None = Field(description="What the bits of the weights depend on besides the spec.")
    started_at: datetime
    ended_at: datetime | None


class QueueRead(BaseModel):
    """Why the job is not running yet."""

    reason: lifecycle.QueueReason = Field(
        description="`dataset`: it is still being read. `retry`: its training process died, and is started again at "
        "`until`. `no_worker`: none is there. `no_worker_large_enough`: none has `memory_bytes`. `no_free_slot`, "
        "`no_free_memory`: all that could hold it are busy. `its_turn_comes`: a worker is about to take it, or those "
        "before it."
    )
    ahead: int = Field(description="Trainings that would be taken before it, by all that is known now.")
    until: datetime | None
    memory_bytes: int = Field(description="What it reserves on its worker.")


class JobRead(BaseModel):
    id: str
    name: str | None
    dataset_id: str
    validation_dataset_id: str | None
    test_dataset_id: str | None
    cloned_from: str | None = Field(description="The job whose clone this is; it may be deleted by now.")
    start_from: StartFrom | None = Field(description="The earlier job whose network was trained on.")
    status: JobStatus
    finished: bool
    phase: str | None = Field(description="More than `status` says; new phases may appear.")
    stop_reason: str | None
    queue: QueueRead | None = Field(
        description="Of a job that is `queued`, when it is read; not in the answer to a submit."
    )
    progress: dict[str, Any] = Field(
        description="epoch, epochs, step, fraction, eta_seconds; with folds of all their networks and the last together"
    )
    latest_metrics: dict[str, Any] | None
    best: dict[str, Any] | None = Field(description="metric, value, epoch")
    test: dict[str, Any] | None = Field(description="rows, loss and metrics of the test rows, with the kept weights")
    cross_validation: dict[str, Any] | None = Field(
        description="`folds`: of each that has ended fold, rows, loss and metrics, epoch of its best weights; of all, "
        "once they have ended, `mean` and `std` (sample standard deviation), and `epochs` of the network of all rows"
    )
    attempts: list[AttemptRead]
    warnings: list[Warning]
    error: dict[str, Any] | None = Field(description="code, message and the facts of that code")
    spec: dict[str, Any] = Field(description="As sent; `resolved_spec` has every default written out.")
    resolved_spec: TrainingSpec | None = Field(description="What is trained.")
    outputs: dict[str, Any] | None = Field(description="task, classes, names")
    metadata: dict[str, str]
    priority: Priority
    webhook: Webhook | None = Field(description="What is called when the job has ended.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(
        cls, row: Job, attempts: list[AttemptRead], folds: list[Fold], waiting: lifecycle.Waiting | None = None
    ) -> "JobRead":
        self = f"/v1/jobs/{row.id}"
        named = {value: name for name, value in PRIORITIES.items()}
        made = {"attempts", "finished", "links", "metadata", "priority", "queue", "warnings"}
        made |= {"cross_validation", "start_from"}
        start = row.start and {field: row.start[field] for field in StartFrom.model_fields}
        return cls(
            **{field: getattr(row, field) for field in cls.model_fields if field not in made},
            finished=row.status in lifecycle.TERMINAL,
            warnings=[Warning.model_validate(warning) for warning in row.warnings],
            queue=None if waiting is None else QueueRead(**asdict(waiting)),
            attempts=attempts,
            cross_validation=summary(folds),
            metadata=row.annotations,
            start_from=StartFrom.model_validate(start) if start else None,
            priority=named[row.priority],
            links={
                "self": self,
                "events": f"{self}/events",
                "logs": f"{self}/logs",
                "artifacts": f"{self}/artifacts",
                "weights": f"{self}/weights",
                "cancel": f"{self}/cancel",
                "pause": f"{self}/pause",
                "resume": f"{self}/resume",
                "clone": f"{self}/clone",
                "trace": f"{self}/trace",
                "predict": f"{self}/predict",
                "predictions": f"{self}/predictions",
                "dataset": f"/v1/datasets/{row.dataset_id}",
            },
        )


def job_or_404(session: Session, caller: Caller, job_id: str) -> Job:
    found = session.scalar(select(Job).where(Job.id == job_id, Job.project_id == caller.project_id))
    if found is None:
        raise errors.NotFound()
    return found


def read(caller: Caller, job_id: str) -> JobRead:
    with database.reading() as session:
        job = job_or_404(session, caller, job_id)
        return _with_folds_and_attempts(session, [job])[0]


def _with_folds_and_attempts(session: Session, jobs: Sequence[Job]) -> list[JobRead]:
    ids = [job.id for job in jobs]
    folds, attempts = folds_of(session, ids), dict[str, list[AttemptRead]]()
    number_of = {fold.id: (job_id, fold.number) for job_id, own in folds.items() for fold in own}
    rows = session.execute(
        select(Run.subject_id, Attempt)
        .join(Attempt, Attempt.run_id == Run.id)
        .where(Run.subject_id.in_([*ids, *number_of]), Run.kind.in_(("training", "fold")))
        .order_by(Attempt.started_at, Attempt.run_id, Attempt.number)
    )
    for subject_id, attempt in rows:
        job_id, fold = number_of.get(subject_id, (subject_id, None))
        facts = {field: getattr(attempt, field) for field in AttemptRead.model_fields if field != "fold"}
        attempts.setdefault(job_id, []).append(AttemptRead(fold=fold, **facts))
    queued = [job.id for job in jobs if job.status == "queued"]
    waiting = lifecycle.why_queued(session, queued) if queued else {}
    return [JobRead.of(job, attempts.get(job.id, []), folds.get(job.id, []), waiting.get(job.id)) for job in jobs]


# --- reading ----------------------------------------------------------------------------------------------------------


async def wait_for_end(caller: Caller, job_id: str, wait: float | None) -> JobRead:
    return await waker.until(
        job_id, wait or 0.0, lambda: run_in_threadpool(read, caller, job_id), lambda job: job.finished
    )


def say_when_to_ask_again(job: JobRead, response: Response) -> None:
    if not job.finished:
        response.headers["Retry-After"] = "1"


@router.get("/{job_id}", responses=responses(errors.Unauthenticated, errors.NotFound, errors.InvalidQuery))
async def read_job(
    job_id: JobId,
    response: Response,
    caller: CurrentCaller,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
) -> JobRead:
    """A job. With `?wait=30` the answer comes when the job has ended, or after 30 s."""
    found = await wait_for_end(caller, job_id, wait)
    say_when_to_ask_again(found, response)
    return found


@router.get("", responses=responses(errors.Unauthenticated, errors.InvalidQuery))
def list_jobs(
    request: Request,
    response: Response,
    caller: CurrentCaller,
    status: Annotated[list[JobStatus] | None, Query(description="Only jobs in one of these states.")] = None,
    dataset_id: Annotated[str | None, Query(pattern=DATASET_ID)] = None,
    limit: Limit = 20,
    page: PageCursor = None,
) -> Page[JobRead]:
    """The project's jobs, newest first; `?metadata[team]=growth` finds them by your own texts."""
    query = select(Job).where(Job.project_id == caller.project_id)
    if status:
        query = query.where(Job.status.in_(status))
    if dataset_id is not None:
        query = query.where(Job.dataset_id == dataset_id)
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            if not strict_json.is_text(name + value):
                raise errors.InvalidText()
            if '"' in name:
                raise errors.InvalidQuery("A name of `metadata` with a quotation mark cannot be searched for.")
            query = query.where(Job.annotations[name[9:-1]].as_string() == value)
    with database.reading() as session:
        rows, cursor = page_of(session, query, Job.id, page, limit, request, response)
        items = _with_folds_and_attempts(session, rows)
    return Page(items=items, next_page=cursor)


# --- deleting ---------------------------------------------------------------------------------------------------------


@router.delete(
    "/{job_id}",
    status_code=204,
    responses=responses(errors.Unauthenticated, errors.NotFound, errors.JobNotFinished, errors.JobInUse),
)
def delete_job(job_id: JobId, caller: CurrentCaller) -> None:
    """Deletes a job that has ended, with its log and its files; it cannot be undone.

    Clones of it and jobs that train on from it stay. A job that a predictor points at is refused.
    """
    with database.writing() as session:
        lifecycle.delete_job(session, caller.project_id, job_id)


# --- cancelling -------------------------------------------------------------------------------------------------------


class Cancel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keep: lifecycle.Keep = Field(default="best", description="The weights that the job leaves.")
    force: Flag = Field(default=False, description="Kills the training process at once; no weights are left.")


@router.post(
    "/{job_id}/cancel",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Cancel"}}}}
    },
    responses=responses(
        errors.MalformedJson,
        errors.Unauthenticated,
        errors.NotFound,
        errors.JobAlreadyTerminal,
        errors.InvalidSpec,
        errors.PayloadTooLarge,
    ),
)
async def cancel_job(job_id: JobId, request: Request, caller: CurrentCaller) -> JobRead:
    """Cancels a job; its best weights so far are kept unless asked otherwise. Cancelling twice is cancelling once."""
    body = await uploads.whole(request)

    def cancel() -> JobRead:
        asked = validated(Cancel, strict_json.read(body) if body else {})
        with database.writing() as session:
            lifecycle.request_cancel(session, caller.project_id, job_id, asked.keep, force=asked.force)
        queue.wake(job_id)
        queue.ring()
        return read(caller, job_id)

    return await run_in_threadpool(cancel)
