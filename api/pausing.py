"""A job that makes room for others, and goes on later where it was."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api import strict_json, uploads
from api.jobs import JobId, JobRead, read
from api.keys import CurrentCaller
from api.problems import responses, validated
from core import database, errors, lifecycle, queue
from core.spec.values import Flag

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])


class Pause(BaseModel):
    model_config = ConfigDict(extra="forbid")

    force: Flag = Field(
        default=False, description="Kills the training process at once; the job goes on from its last checkpoint."
    )


@router.post(
    "/pause",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pause"}}}}
    },
    responses=responses(
        errors.MalformedJson,
        errors.Unauthenticated,
        errors.NotFound,
        errors.JobAlreadyTerminal,
        errors.JobCancelling,
        errors.InvalidSpec,
        errors.PayloadTooLarge,
    ),
)
async def pause_job(job_id: JobId, request: Request, caller: CurrentCaller) -> JobRead:
    """Pauses a job: it writes a checkpoint and leaves its worker to others. Pausing twice is pausing once.

    A job that is trained is `pausing` for a moment, and `paused` then; what has nothing left but to write its files
    ends meanwhile.
    """
    body = await uploads.whole(request)

    def pause() -> JobRead:
        asked = validated(Pause, strict_json.read(body) if body else {})
        with database.writing() as session:
            lifecycle.request_pause(session, caller.project_id, job_id, force=asked.force)
        queue.wake(job_id)
        return read(caller, job_id)

    return await run_in_threadpool(pause)


@router.post(
    "/resume",
    responses=responses(errors.Unauthenticated, errors.NotFound, errors.JobAlreadyTerminal, errors.JobCancelling),
)
def resume_job(job_id: JobId, caller: CurrentCaller) -> JobRead:
    """Queues a paused job again: it goes on from its checkpoint, on any worker, to the same bits.

    Of a job that was not paused this changes nothing, for it goes on already.
    """
    with database.writing() as session:
        lifecycle.resume(session, caller.project_id, job_id)
    queue.wake(job_id)
    queue.ring()
    return read(caller, job_id)
