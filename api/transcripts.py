"""What the training processes of a job wrote: warnings of libraries, and where they were when they died."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.jobs import JobId, job_or_404
from api.keys import CurrentCaller
from api.problems import responses
from core import database, errors
from core.tables import Attempt, Fold, Run, Transcript

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])


@router.get(
    "/logs",
    response_class=PlainTextResponse,
    responses=responses(errors.Unauthenticated, errors.NotFound, errors.InvalidQuery, errors.Unavailable),
)
def read_logs(
    job_id: JobId,
    caller: CurrentCaller,
    attempt: Annotated[int | None, Query(ge=1, description="Its number; by default the last one.")] = None,
    fold: Annotated[int | None, Query(ge=1, description="That of a fold of a cross-validation.")] = None,
) -> str:
    """What the training process of an attempt wrote to its standard output and error: the last 256 KiB, as text.

    It is there when that process has ended, also when it crashed. Nothing, where it wrote nothing: what a training
    says of itself stands in its events.
    """
    with database.reading() as session:
        job_or_404(session, caller, job_id)
        found = _number(session, job_id, attempt, fold)
        if found is None:
            if attempt is None and fold is None:
                return ""  # no worker has taken it yet
            raise errors.NotFound("The job has no such attempt.")
        run_id, number = found
        transcript = session.get(Transcript, (run_id, number))
    return transcript.text if transcript else ""


def _number(session: Session, job_id: str, attempt: int | None, fold: int | None) -> tuple[str, int] | None:
    """The run and the number of that attempt."""
    query = select(Attempt.run_id, Attempt.number).join(Run, Run.id == Attempt.run_id)
    if fold is None:
        query = query.where(Run.subject_id == job_id, Run.kind == "training")
    else:
        query = query.join(Fold, Fold.id == Run.subject_id).where(Fold.job_id == job_id, Fold.number == fold)
    if attempt is not None:
        query = query.where(Attempt.number == attempt)
    row = session.execute(query.order_by(Attempt.number.desc()).limit(1)).one_or_none()
    return None if row is None else (row.run_id, row.number)
