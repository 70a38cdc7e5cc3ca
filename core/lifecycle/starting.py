"""A job that begins with the network of an earlier one: what is needed of that, as it is now."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import errors
from core.lifecycle.states import TERMINAL
from core.start import BEST, LAST, PREPROCESSING, Start, StartFrom
from core.tables import Artifact, Job


def find_start(session: Session, project_id: str, asked: StartFrom) -> Start:
    """All that a training needs of the earlier job, so that it may be deleted from now on.

    Raises `NotFound` without such a job in this project, `StartNotReady` or `StartWithoutWeights`.
    """
    earlier = session.scalar(select(Job).where(Job.id == asked.job_id, Job.project_id == project_id))
    if earlier is None:
        raise errors.NotFound()
    if earlier.status not in TERMINAL:
        raise errors.StartNotReady(job_status=earlier.status)
    left = {row.name: row for row in session.scalars(select(Artifact).where(Artifact.job_id == earlier.id))}
    weights = left.get(BEST)
    if asked.weights == "last":
        weights = left.get(LAST, weights)  # there is no such file where the last weights are the best
    if weights is None or earlier.resolved_spec is None:
        raise errors.StartWithoutWeights(
            job_status=earlier.status,
            errors=[
                {
                    "pointer": "/start_from/job_id",
                    "code": errors.StartWithoutWeights.code,
                    "message": errors.StartWithoutWeights.title(),
                }
            ],
        )
    needed = {"weights": weights, "preprocessing": left[PREPROCESSING]}
    return Start(
        **asked.model_dump(),
        spec=earlier.resolved_spec,
        outputs=earlier.outputs or {},
        files={name: {"sha256": row.sha256, "bytes": row.bytes} for name, row in needed.items()},
    )
