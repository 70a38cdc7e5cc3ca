"""A job that is over and done with: everything of it goes, in one transaction."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import Session

from core import errors
from core.database import commit
from core.lifecycle.moves import count
from core.lifecycle.states import INQUIRIES, TERMINAL
from core.tables import Fold, Inquiry, Job, Predictor, Run

MOST_NAMED = 10  # predictors, in an error


def delete_job(session: Session, project_id: str, job_id: str) -> None:
    """Deletes a job that has ended, with its log, artifacts, folds and inquiries. Commits.

    Jobs that were cloned from it stay, and so do those that train on from it: a job that has not ended keeps the files
    that it begins with. The collector takes the bytes that nothing refers to any more. A worker that answers an inquiry
    about it finds its run gone, and ends.

    Raises `NotFound`, `JobNotFinished`, or `JobInUse` where a predictor points at it.
    """
    mine = (Run.subject_id == job_id, Run.kind == "training", Run.project_id == project_id)
    if session.scalar(select(Run.id).where(*mine).with_for_update()) is None:
        raise errors.NotFound()
    folds = (Run.kind == "fold") & Run.subject_id.in_(select(Fold.id).where(Fold.job_id == job_id))
    runs = [*_held(session, folds)]
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    if job.status not in TERMINAL:
        raise errors.JobNotFinished(job_status=job.status)
    pointing = session.scalars(
        select(Predictor.name).where(Predictor.job_id == job_id).order_by(Predictor.name).limit(MOST_NAMED)
    ).all()
    if pointing:
        raise errors.JobInUse(predictors=list(pointing))
    # After the job is held, nobody asks about it any more; whoever claims one of these runs holds no job.
    asked = Run.kind.in_(INQUIRIES) & Run.subject_id.in_(select(Inquiry.id).where(Inquiry.job_id == job_id))
    runs += _held(session, asked)
    for run in runs:
        count(session, project_id, run.status, None)
    own = or_(Run.id.in_([run.id for run in runs]), Run.subject_id == job_id)
    session.execute(delete(Run).where(own).execution_options(synchronize_session=False))
    session.execute(delete(Job).where(Job.id == job_id).execution_options(synchronize_session=False))
    commit(session, "delete_job")


def _held(session: Session, these: ColumnElement[bool]) -> Sequence[Run]:
    return session.scalars(select(Run).where(these).order_by(Run.id).with_for_update()).all()
