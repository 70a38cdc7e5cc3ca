"""What a job leaves behind, by name."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from api.downloads import ANSWERS, Blob, send
from api.jobs import JobId, job_or_404
from api.keys import Caller, CurrentCaller
from api.problems import responses
from core import database, errors
from core.lifecycle import TERMINAL
from core.spec import KerasFile
from core.spec.in_code import not_in_code
from core.storage import blob_key
from core.tables import Artifact, Checkpoint, Run

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])

CODE = "train.py"
HELD_OUT_FIELDS = ("validation_dataset_id", "test_dataset_id")
CHECKPOINT_BEST = "best.safetensors"  # in a checkpoint
WEIGHTS = {"safetensors": "weights.safetensors", "pt": "state_dict.pt"}
NAMES = (
    *WEIGHTS.values(),
    "last.safetensors",
    "network.py",
    CODE,
    "network.onnx",
    "score_numpy.py",
    "bundle.zip",
    "preprocessing.json",
    "spec.json",
    "metrics.csv",
    "report.json",
    "trace.json",
    *get_args(KerasFile),
)
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,255}$")]


class ArtifactRead(BaseModel):
    name: str
    media_type: str
    bytes: int
    sha256: str
    created_at: datetime
    links: dict[str, str]


class ArtifactList(BaseModel):
    items: list[ArtifactRead]
    next_page: None = None


@router.get("/artifacts", responses=responses(errors.Unauthenticated, errors.NotFound))
def list_artifacts(job_id: JobId, caller: CurrentCaller) -> ArtifactList:
    """All files that the job has left so far."""
    with database.reading() as session:
        job_or_404(session, caller, job_id)
        rows = session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()
    return ArtifactList(
        items=[
            ArtifactRead(
                name=row.name,
                media_type=row.media_type,
                bytes=row.bytes,
                sha256=row.sha256,
                created_at=row.created_at,
                links={"self": f"/v1/jobs/{job_id}/artifacts/{row.name}"},
            )
            for row in rows
        ]
    )


DOWNLOAD = {
    **ANSWERS,
    **responses(
        errors.Unauthenticated,
        errors.NotFound,
        errors.ArtifactNotFound,
        errors.ArtifactNotReady,
        errors.RangeNotSatisfiable,
        errors.InvalidQuery,
        errors.Unavailable,
    ),
}


@router.head("/artifacts/{name}", include_in_schema=False)
@router.get("/artifacts/{name}", response_class=StreamingResponse, responses=DOWNLOAD)
async def download_artifact(job_id: JobId, name: Name, caller: CurrentCaller, request: Request) -> Response:
    """One file, with Range, ETag and Repr-Digest.

    `report.json` has metrics of each part of the rows with 95 % intervals, confusion matrix, ROC and precision-recall,
    calibration, residuals, permutation importance of the columns, and baselines with the lift over them.
    """
    return await send(request, await run_in_threadpool(_look, caller, job_id, name))


def _look(caller: Caller, job_id: str, name: str) -> Blob:
    with database.reading() as session:
        job = job_or_404(session, caller, job_id)
        row = session.scalar(select(Artifact).where(Artifact.job_id == job_id, Artifact.name == name))
    if row is None:
        if name in NAMES and job.status not in TERMINAL:
            raise errors.ArtifactNotReady(job_status=job.status)
        raise errors.ArtifactNotFound(job_status=job.status)
    return Blob(blob_key(job.project_id, row.sha256), row.sha256, row.bytes, row.media_type, row.name)


@router.head("/weights", include_in_schema=False)
@router.get(
    "/weights",
    response_class=StreamingResponse,
    responses={**DOWNLOAD, **responses(errors.ArtifactNotReady, errors.NoCheckpointYet)},
)
async def download_weights(
    job_id: JobId,
    caller: CurrentCaller,
    request: Request,
    file_format: Annotated[Literal["safetensors", "pt"], Query(alias="format")] = "safetensors",
    at: Annotated[
        Literal["best"] | None,
        Query(description="`best` also answers while the job runs or rests: the best weights of its last checkpoint."),
    ] = None,
) -> Response:
    """The short way to `weights.safetensors`; `pt` is `state_dict.pt`, which torch loads with `weights_only=True`.

    With `at=best` the best weights so far, from the first checkpoint on.
    """
    if at == "best" and file_format == "safetensors":
        so_far = await run_in_threadpool(_best_so_far, caller, job_id)
        if so_far is not None:
            return await send(request, so_far)
    return await download_artifact(job_id, WEIGHTS[file_format], caller, request)


def _best_so_far(caller: Caller, job_id: str) -> Blob | None:
    """None once the job has ended: what it has kept is an artifact. Raises `NoCheckpointYet`."""
    with database.reading() as session:
        job = job_or_404(session, caller, job_id)
        newest = session.scalar(
            select(Checkpoint.files)
            .join(Run, Run.id == Checkpoint.run_id)
            .where(Run.subject_id == job_id, Run.kind == "training")
            .order_by(Checkpoint.number.desc())
            .limit(1)
        )
    if job.status in TERMINAL:
        return None
    file = (newest or {}).get(CHECKPOINT_BEST)
    if file is None:
        raise errors.NoCheckpointYet(job_status=job.status, headers={"Retry-After": "5"})
    name, media_type = WEIGHTS["safetensors"], "application/vnd.safetensors"
    return Blob(blob_key(job.project_id, file["sha256"]), file["sha256"], file["bytes"], media_type, name)


@router.get(
    "/code",
    response_class=StreamingResponse,
    responses={**DOWNLOAD, **responses(errors.InvalidQuery, errors.NotInCode)},
)
async def download_code(job_id: JobId, caller: CurrentCaller, request: Request) -> Response:
    """`train.py`: one PyTorch script that trains the network of this job again, from the rows of its dataset.

    Refused where the script would not do all that the job did: the answer names what it lacks.
    """
    await run_in_threadpool(_code_fits, caller, job_id)
    return await download_artifact(job_id, CODE, caller, request)


def _code_fits(caller: Caller, job_id: str) -> None:
    """Raises `NotInCode`."""
    with database.reading() as session:
        job = job_or_404(session, caller, job_id)
        if session.scalar(select(Artifact.id).where(Artifact.job_id == job_id, Artifact.name == CODE)) is not None:
            return
    lacking = list(not_in_code(job.resolved_spec)) if job.resolved_spec is not None else []
    if job.start is not None:
        lacking.append(("/start_from", "The script begins with new weights."))
    lacking += [
        (f"/{name}", "The script reads one table.") for name in HELD_OUT_FIELDS if getattr(job, name) is not None
    ]
    if job.status == "succeeded" and not lacking:
        lacking.append(("/training/schedule", "The script does not write out so many rates."))
    if lacking:
        named = [{"pointer": at, "code": "not_in_code", "message": message} for at, message in lacking]
        raise errors.NotInCode(errors=named)
