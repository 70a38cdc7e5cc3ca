"""Jobs: one training of one spec on one dataset."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import rfc8785
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import strict_json, uploads
from api.datasets import DATASET_ID
from api.keys import Caller, CurrentCaller
from api.metrics import JOBS_SUBMITTED, UPLOADED_BYTES
from api.pages import Limit, Page, PageCursor, page_of
from api.problems import from_validation, responses
from api.waiting import wait_seconds, waker
from core import database, errors, lifecycle, queue, storage
from core.database import insert_or_nothing, limit_lock_wait, now
from core.ids import new_id
from core.profile import Warning
from core.spec import Flag, TrainingSpec
from core.tables import Attempt, AttemptOutcome, Dataset, IdempotentRequest, Job, JobStatus, Run

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LOCK_NOT_AVAILABLE = "55P03"  # Postgres
IDEMPOTENCY_WAIT = 5  # seconds for the first request with the same key
PRIORITIES = {"low": -1, "normal": 0, "high": 1}
Priority = Literal["low", "normal", "high"]
JobId = Annotated[str, Path(pattern=r"^job_[0-9a-z]{26}$")]
Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class JobOptions(BaseModel):
    """What a job has besides its dataset."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, max_length=255, description="A name to show.")
    metadata: Metadata = Field(default={}, max_length=32, description="Your own texts, to find the job by.")
    priority: Priority = Field(default="normal", description="Among the jobs of this project.")
    spec: TrainingSpec


class JobCreate(JobOptions):
    dataset_id: str = Field(max_length=64, description="A dataset of this project; it may still be processing.")


class AttemptRead(BaseModel):
    """One try of the job by one worker."""

    number: int
    worker_id: str
    outcome: AttemptOutcome
    cause: str | None
    resumed_from_epoch: int | None
    fingerprint: dict[str, Any] | None = Field(description="What the bits of the weights depend on besides the spec.")
    started_at: datetime
    ended_at: datetime | None


class JobRead(BaseModel):
    id: str
    name: str | None
    dataset_id: str
    status: JobStatus
    finished: bool
    phase: str | None = Field(description="More than `status` says; new phases may appear.")
    stop_reason: str | None
    progress: dict[str, Any] = Field(description="epoch, epochs, step, fraction, eta_seconds")
    latest_metrics: dict[str, Any] | None
    best: dict[str, Any] | None = Field(description="metric, value, epoch")
    attempts: list[AttemptRead]
    warnings: list[Warning]
    error: dict[str, Any] | None = Field(description="code, message and the facts of that code")
    spec: dict[str, Any] = Field(description="As sent; `resolved_spec` has every default written out.")
    resolved_spec: TrainingSpec | None = Field(description="What is trained.")
    outputs: dict[str, Any] | None = Field(description="task, classes, names")
    metadata: dict[str, str]
    priority: Priority
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, row: Job, attempts: list[Attempt]) -> "JobRead":
        self = f"/v1/jobs/{row.id}"
        named = {value: name for name, value in PRIORITIES.items()}
        own = {"attempts", "finished", "metadata", "links", "warnings", "priority"}
        return cls(
            **{field: getattr(row, field) for field in cls.model_fields if field not in own},
            finished=row.status in lifecycle.TERMINAL,
            warnings=[Warning.model_validate(warning) for warning in row.warnings],
            attempts=[
                AttemptRead(**{field: getattr(one, field) for field in AttemptRead.model_fields}) for one in attempts
            ],
            metadata=row.annotations,
            priority=named[row.priority],
            links={
                "self": self,
                "events": f"{self}/events",
                "artifacts": f"{self}/artifacts",
                "weights": f"{self}/weights",
                "cancel": f"{self}/cancel",
                "dataset": f"/v1/datasets/{row.dataset_id}",
            },
        )


def job_or_404(session: Session, caller: Caller, job_id: str) -> Job:
    found = session.scalar(select(Job).where(Job.id == job_id, Job.project_id == caller.project_id))
    if found is None:
        raise errors.NotFound()
    return found


def _read(caller: Caller, job_id: str) -> JobRead:
    with database.reading() as session:
        job = job_or_404(session, caller, job_id)
        return JobRead.of(job, _attempts(session, [job_id]).get(job_id, []))


def _attempts(session: Session, job_ids: list[str]) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    rows = session.execute(
        select(Run.subject_id, Attempt)
        .join(Attempt, Attempt.run_id == Run.id)
        .where(Run.subject_id.in_(job_ids), Run.kind == "training")
        .order_by(Attempt.number)
    )
    for job_id, attempt in rows:
        found.setdefault(job_id, []).append(attempt)
    return found


# --- creating -------------------------------------------------------------------------------------------------------

CREATE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/JobCreate"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "spec"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "CSV or Parquet."},
                        "spec": {"type": "string", "description": "A TrainingSpec as JSON text."},
                        "name": {"type": "string"},
                        "metadata": {"type": "string", "description": "A JSON object of texts."},
                        "priority": {"type": "string", "enum": list(PRIORITIES)},
                    },
                },
            },
        },
    }
}


@router.post(
    "",
    status_code=202,
    openapi_extra=CREATE_BODY,
    responses=responses(
        errors.MalformedJson,
        errors.InvalidRequest,
        errors.IncompleteBody,
        errors.InvalidIdempotencyKey,
        errors.Unauthenticated,
        errors.NotFound,
        errors.IdempotencyInProgress,
        errors.PayloadTooLarge,
        errors.UnsupportedMediaType,
        errors.InvalidSpec,
        errors.InvalidText,
        errors.DatasetInvalid,
        errors.DataInvalid,
        errors.IdempotencyKeyReused,
        errors.Unavailable,
        errors.StorageFull,
    ),
)
async def create_job(
    request: Request,
    response: Response,
    caller: CurrentCaller,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
    idempotency_key: Annotated[str | None, Header(description="The same key and body give the same job.")] = None,
) -> JobRead:
    """Submits a training: JSON that names a dataset, or a form that brings one (`-F file=@x.csv -F 'spec={...}'`).

    The answer is always 202 and the job. Its row is committed before this answers; a broker that is away delays
    neither. With `?wait=60` the answer waits for the end of the job, as long as that.
    """
    if idempotency_key is not None and not (
        len(request.headers.getlist("idempotency-key")) == 1
        and 0 < len(idempotency_key) <= 255
        and idempotency_key.isascii()
        and idempotency_key.isprintable()
    ):
        raise errors.InvalidIdempotencyKey()
    content_type = uploads.media_type(request)
    if content_type == "multipart/form-data":
        job_id, replayed = await _create_from_form(request, caller, idempotency_key)
    elif content_type in ("application/json", ""):
        job_id, replayed = await _create_from_json(request, caller, idempotency_key)
    else:
        raise errors.UnsupportedMediaType(
            "A job is sent as `application/json`, or as `multipart/form-data` with `file` and `spec`."
        )
    found = await _wait_for(caller, job_id, wait)
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    _say_when_to_ask_again(found, response)
    return found


async def _create_from_json(request: Request, caller: Caller, key: str | None) -> tuple[str, bool]:
    text = await uploads.whole(request)

    def submit() -> tuple[str, bool]:
        body = strict_json.read(text)  # here and not in the loop: a hostile megabyte takes a second to refuse
        asked = _validated(JobCreate, body)
        return _submit(caller, asked, body["spec"], _fingerprint(body), key, request.state.request_id)

    return await run_in_threadpool(submit)


async def _create_from_form(request: Request, caller: Caller, key: str | None) -> tuple[str, bool]:
    async with uploads.form(request) as fields:
        file = uploads.file_in(fields)
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        body, asked = await run_in_threadpool(_options_of, texts)
        kind = uploads.format_of_file(file)
        dataset_id, stored = await uploads.store(uploads.file_pieces(file))
    fingerprint = _fingerprint({**body, "file": stored.sha256})
    shown = uploads.shown_name(file.filename, f"dataset.{kind}")

    def brought(session: Session) -> Dataset:
        return uploads.new_dataset(session, dataset_id, caller.project_id, shown, kind, stored)

    def submit() -> tuple[str, bool]:
        try:
            request_id = request.state.request_id
            job_id, replayed = _submit(caller, asked, body["spec"], fingerprint, key, request_id, brought)
        except errors.Problem:
            storage.storage().delete(storage.upload_key(dataset_id))
            raise
        if replayed:
            storage.storage().delete(storage.upload_key(dataset_id))  # the first request's dataset has its own
        return job_id, replayed

    found = await run_in_threadpool(submit)
    UPLOADED_BYTES.inc(stored.bytes)
    return found


def _options_of(texts: dict[str, str]) -> tuple[dict[str, Any], JobOptions]:
    body: dict[str, Any] = {
        name: strict_json.read(text.encode("utf-8", "surrogatepass")) if name in ("spec", "metadata") else text
        for name, text in texts.items()
    }
    if not all(strict_json.is_text(text) for text in texts.values()):
        raise errors.InvalidText()
    return body, _validated(JobOptions, body)


def _validated(model: type[Any], body: Any) -> Any:
    if not isinstance(body, dict):
        raise errors.InvalidSpec("The body must be a JSON object.")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise from_validation(error, model) from None


def _fingerprint(body: Any) -> str:
    try:
        return hashlib.sha256(b"POST /v1/jobs " + rfc8785.dumps(body)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise errors.InvalidSpec("An integer is too large.") from error


def _submit(
    caller: Caller,
    asked: JobOptions,
    sent_spec: dict[str, Any],
    fingerprint: str,
    key: str | None,
    request_id: str,
    brought: Callable[[Session], Dataset] | None = None,
) -> tuple[str, bool]:
    """Commits the job (with its dataset, where it brings one), then rings. Returns its id, and whether it was there."""
    job_id = new_id("job")
    with database.writing() as session:
        if key is not None:
            earlier = _claimed_key(session, caller, key, fingerprint, job_id)
            if earlier is not None:
                return earlier, True
        if brought is not None:
            dataset_id = lifecycle.submit_dataset(session, brought(session)).id
        else:
            assert isinstance(asked, JobCreate)
            dataset_id = asked.dataset_id
        job = Job(
            id=job_id,
            project_id=caller.project_id,
            dataset_id=dataset_id,
            name=asked.name,
            spec=sent_spec,
            annotations=asked.metadata,
            priority=PRIORITIES[asked.priority],
            warnings=[],
            request_id=request_id,
            created_at=now(session),
        )
        lifecycle.submit_job(session, job)
        session.commit()
    JOBS_SUBMITTED.inc()
    queue.ring()
    return job_id, False


def _claimed_key(session: Session, caller: Caller, key: str, fingerprint: str, job_id: str) -> str | None:
    """Takes an Idempotency-Key for this job, or returns the job that has it."""
    mine = {"fingerprint": fingerprint, "job_id": job_id, "created_at": now(session)}
    limit_lock_wait(session, IDEMPOTENCY_WAIT)
    try:
        if insert_or_nothing(session, IdempotentRequest, project_id=caller.project_id, key=key, **mine):
            return None
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        # the first request with this key is still in its transaction
        raise errors.IdempotencyInProgress(headers={"Retry-After": "1"}) from error
    earlier = session.get_one(IdempotentRequest, (caller.project_id, key))
    if earlier.fingerprint != fingerprint:
        raise errors.IdempotencyKeyReused()
    return earlier.job_id


# --- reading ----------------------------------------------------------------------------------------------------------


async def _wait_for(caller: Caller, job_id: str, wait: float | None) -> JobRead:
    return await waker.until(
        job_id, wait or 0.0, lambda: run_in_threadpool(_read, caller, job_id), lambda job: job.finished
    )


def _say_when_to_ask_again(job: JobRead, response: Response) -> None:
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
    found = await _wait_for(caller, job_id, wait)
    _say_when_to_ask_again(found, response)
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
        attempts = _attempts(session, [row.id for row in rows])
    return Page(items=[JobRead.of(row, attempts.get(row.id, [])) for row in rows], next_page=cursor)


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
        asked = _validated(Cancel, strict_json.read(body) if body else {})
        with database.writing() as session:
            lifecycle.request_cancel(session, caller.project_id, job_id, asked.keep, force=asked.force)
        queue.wake(job_id)
        queue.ring()
        return _read(caller, job_id)

    return await run_in_threadpool(cancel)
