"""Submitting a job: JSON that names a dataset, or a form that brings one. The row is committed, then the bell rings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api import formats, idempotency, strict_json, uploads
from api.idempotency import IdempotencyKey
from api.inline import InlineDataset
from api.jobs import PRIORITIES, JobRead, Priority, say_when_to_ask_again, wait_for_end
from api.keys import Caller, CurrentCaller
from api.metrics import JOBS_SUBMITTED, UPLOADED_BYTES
from api.problems import responses, validated
from api.waiting import wait_seconds
from api.webhooks import Webhook
from core import database, errors, lifecycle, queue, storage
from core.cross_validation import folds_of
from core.database import commit
from core.ids import new_id
from core.spec import TrainingSpec
from core.start import StartFrom
from core.tables import Dataset, Job

PATH = "/v1/jobs"
router = APIRouter(prefix=PATH, tags=["jobs"])
OBJECTS = ("spec", "metadata", "start_from", "dialect", "webhook")  # fields of a form that are JSON
HELD_OUT_FILES = {"validation_file": "validation_dataset_id", "test_file": "test_dataset_id"}  # and whose ids they give

Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class JobOptions(BaseModel):
    """What a job has besides its dataset and its spec."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, max_length=255, description="A name to show.")
    metadata: Metadata = Field(default={}, max_length=32, description="Your own texts, to find the job by.")
    priority: Priority = Field(default="normal", description="Among the jobs of this project.")
    validation_dataset_id: str | None = Field(
        default=None,
        max_length=64,
        description="A dataset whose rows validate, and no others: columns match by name, nothing is fitted to it.",
    )
    test_dataset_id: str | None = Field(
        default=None, max_length=64, description="A dataset whose rows test, and no others, in the same way."
    )
    start_from: StartFrom | None = Field(
        default=None, description="Trains on from the network of an earlier job instead of from new weights."
    )
    webhook: Webhook | None = Field(default=None, description="What is called when the job has ended.")


class JobWithSpec(JobOptions):
    spec: TrainingSpec


class JobWithFile(JobWithSpec):
    """What a form has besides its file."""

    dialect: dict[str, Any] = Field(default={}, description="How the file is written, as far as it shall not be found.")


class JobWithData(JobWithSpec):
    dataset: InlineDataset


class JobCreate(JobWithSpec):
    dataset_id: str = Field(max_length=64, description="A dataset of this project; it may still be processing.")


CREATE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/JobCreate"},
                        {"$ref": "#/components/schemas/JobWithData"},
                    ]
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "spec"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "As for a dataset."},
                        "validation_file": {"type": "string", "format": "binary", "description": "Rows that validate."},
                        "test_file": {"type": "string", "format": "binary", "description": "Rows that test."},
                        "dialect": {"type": "string", "description": "A Dialect as JSON text: how the files are read."},
                        "spec": {"type": "string", "description": "A TrainingSpec as JSON text."},
                        "name": {"type": "string"},
                        "metadata": {"type": "string", "description": "A JSON object of texts."},
                        "priority": {"type": "string", "enum": list(PRIORITIES)},
                        "webhook": {"type": "string", "description": "A Webhook as JSON text."},
                        "start_from": {"type": "string", "description": "A StartFrom as JSON text."},
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
        errors.StartNotReady,
        errors.PayloadTooLarge,
        errors.UnsupportedMediaType,
        errors.InvalidSpec,
        errors.InvalidText,
        errors.DatasetInvalid,
        errors.DataInvalid,
        errors.DigestMismatch,
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
    idempotency_key: IdempotencyKey = None,
) -> JobRead:
    """Submits a training: JSON that names a dataset, or a form that brings one (`-F file=@x.csv -F 'spec={...}'`).

    The answer is always 202 and the job. Its row is committed before this answers; a broker that is away delays
    neither. With `?wait=60` the answer waits for the end of the job, as long as that.
    """
    content_type = uploads.media_type(request)
    if content_type == "multipart/form-data":
        submitted = await _create_from_form(request, caller, idempotency_key)
    elif content_type in ("application/json", ""):
        submitted = await _create_from_json(request, caller, idempotency_key)
    else:
        raise errors.UnsupportedMediaType(
            "A job is sent as `application/json`, or as `multipart/form-data` with `file` and `spec`."
        )
    return await accepted(caller, submitted, wait, response)


@dataclass(frozen=True)
class Submitted:
    """What came of a request for a job: `made` is that job as it was committed, or None where it was there before."""

    job_id: str
    made: JobRead | None = None


async def accepted(caller: Caller, submitted: Submitted, wait: float | None, response: Response) -> JobRead:
    """The answer to a request that made a job, or made it before."""
    # One that was just made is not read again: that was a quarter of the time to the 202.
    found = submitted.made if submitted.made is not None and not wait else None
    found = found or await wait_for_end(caller, submitted.job_id, wait)
    response.headers["Location"] = f"/v1/jobs/{submitted.job_id}"
    if submitted.made is None:
        response.headers["Idempotent-Replayed"] = "true"
    say_when_to_ask_again(found, response)
    return found


async def _create_from_json(request: Request, caller: Caller, key: str | None) -> Submitted:
    text = await uploads.whole(request)

    def create() -> Submitted:
        body = strict_json.read(text)  # here and not in the loop: a hostile megabyte takes a second to refuse
        if isinstance(body, dict) and "dataset" in body:
            return _create_with_data(request, caller, key, body)
        asked = validated(JobCreate, body)
        job = new_job(request, caller, asked, body["spec"], asked.dataset_id)
        return submit(job, key, idempotency.fingerprint(PATH, body), asked.start_from)

    return await run_in_threadpool(create)


def _create_with_data(request: Request, caller: Caller, key: str | None, body: dict[str, Any]) -> Submitted:
    asked = validated(JobWithData, body)
    fingerprint = idempotency.fingerprint(PATH, body)
    earlier = idempotency.earlier_job(caller.project_id, key, fingerprint)
    if earlier is not None:
        return Submitted(earlier)
    dataset_id, stored = asked.dataset.store()
    job = new_job(request, caller, asked, body["spec"], dataset_id)
    kind, shown = asked.dataset.format, asked.dataset.shown_name
    found = _submit_with_datasets(
        job,
        key,
        fingerprint,
        asked.start_from,
        lambda session: [uploads.new_dataset(session, dataset_id, caller.project_id, shown, kind, stored)],
        [dataset_id],
    )
    UPLOADED_BYTES.inc(stored.bytes)
    return found


async def _create_from_form(request: Request, caller: Caller, key: str | None) -> Submitted:
    async with uploads.form(request) as fields:
        file = uploads.file_in(fields, *HELD_OUT_FILES)
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        body, asked = await run_in_threadpool(_options_of, texts)
        files = {"file": file}
        for name, field in HELD_OUT_FILES.items():
            if isinstance(other := fields.get(name), UploadFile):
                _refuse_twice(asked, name, field)
                files[name] = other
        kinds = {name: uploads.format_of_file(one) for name, one in files.items()}
        dialects = {name: formats.dialect_of(asked.dialect, kind, "dialect") for name, kind in kinds.items()}
        stored = {name: await uploads.store(uploads.file_pieces(one)) for name, one in files.items()}
    ids = {name: dataset_id for name, (dataset_id, _) in stored.items()}
    held_out = {field: ids[name] for name, field in HELD_OUT_FILES.items() if name in ids}
    job = new_job(request, caller, asked.model_copy(update=held_out), body["spec"], ids["file"])
    digests = {name: file.sha256 for name, (_, file) in stored.items()}
    fingerprint = idempotency.fingerprint(PATH, {**body, **digests})

    def brought(session: Session) -> list[Dataset]:
        return [
            uploads.new_dataset(
                session,
                dataset_id,
                caller.project_id,
                uploads.shown_name(files[name].filename, f"dataset.{kinds[name]}"),
                kinds[name],
                file,
                dialects[name],
            )
            for name, (dataset_id, file) in stored.items()
        ]

    found = await run_in_threadpool(
        _submit_with_datasets, job, key, fingerprint, asked.start_from, brought, list(ids.values())
    )
    UPLOADED_BYTES.inc(sum(file.bytes for _, file in stored.values()))
    return found


def _submit_with_datasets(
    job: Job,
    key: str | None,
    fingerprint: str,
    start_from: StartFrom | None,
    brought: Callable[[Session], list[Dataset]],
    dataset_ids: Sequence[str],
) -> Submitted:
    """Submits a job with datasets whose bytes are in storage, and deletes them where there was no need."""

    def forget() -> None:
        for dataset_id in dataset_ids:
            storage.storage().delete(storage.upload_key(dataset_id))

    try:
        submitted = submit(job, key, fingerprint, start_from, brought)
    except errors.Problem:
        forget()
        raise
    if submitted.made is None:
        forget()  # the first request's datasets have their own
    return submitted


def _refuse_twice(asked: JobOptions, name: str, field: str) -> None:
    if getattr(asked, field) is not None:
        found = {"pointer": f"/{name}", "code": "said_twice", "message": f"Send either this file or `{field}`."}
        raise errors.InvalidSpec(errors=[found])


def _options_of(texts: dict[str, str]) -> tuple[dict[str, Any], JobWithFile]:
    body: dict[str, Any] = {
        name: strict_json.read(text.encode("utf-8", "surrogatepass")) if name in OBJECTS else text
        for name, text in texts.items()
    }
    if not all(strict_json.is_text(text) for text in texts.values()):
        raise errors.InvalidText()
    return body, validated(JobWithFile, body)


def new_job(
    request: Request,
    caller: Caller,
    asked: JobOptions,
    sent_spec: dict[str, Any],
    dataset_id: str,
    cloned_from: str | None = None,
) -> Job:
    held_out = {name: getattr(asked, name) for name in HELD_OUT_FILES.values()}
    for name, other in held_out.items():
        if other == dataset_id:
            message = "The rows that are trained on cannot measure as well."
            raise errors.InvalidSpec(errors=[{"pointer": f"/{name}", "code": "same_dataset", "message": message}])
    return Job(
        id=new_id("job"),
        project_id=caller.project_id,
        dataset_id=dataset_id,
        **held_out,
        cloned_from=cloned_from,
        name=asked.name,
        spec=sent_spec,
        annotations=asked.metadata,
        priority=PRIORITIES[asked.priority],
        webhook=None if asked.webhook is None else asked.webhook.model_dump(),
        warnings=[],
        request_id=request.state.request_id,
    )


def submit(
    job: Job,
    key: str | None,
    fingerprint: str,
    start_from: StartFrom | None,
    brought: Callable[[Session], Sequence[Dataset]] | None = None,
) -> Submitted:
    """Commits the job (with datasets that it brings), then rings."""
    with database.writing() as session:
        if key is not None:
            earlier = idempotency.claim(session, job, key, fingerprint)
            if earlier is not None:
                return Submitted(earlier)
        for dataset in brought(session) if brought is not None else ():
            lifecycle.submit_dataset(session, dataset)
        lifecycle.submit_job(session, job, start_from)
        has_folds = job.resolved_spec is not None and job.resolved_spec.split.folds
        made = JobRead.of(job, [], folds_of(session, [job.id])[job.id] if has_folds else [])
        commit(session, "submit")
    JOBS_SUBMITTED.inc()
    queue.ring()
    return Submitted(job.id, made)
