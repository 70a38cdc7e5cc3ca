"""A job that shall make room, and go on later where it was.

The run of a paused job is `waiting`, and so are those of its folds, each with the order `pause`; no worker sees them.
"""

from collections.abc import Sequence

from sqlalchemy import update
from sqlalchemy.orm import Session

from core import errors
from core.database import commit, db_now
from core.lifecycle.moves import asked_of, count, log, move, rest, status_event, unfinished_folds
from core.lifecycle.states import TERMINAL
from core.lifecycle.submitting import enter_queue
from core.settings import settings
from core.tables import Job, Run


def request_pause(session: Session, project_id: str, job_id: str, *, force: bool) -> Job:
    """Pauses a job at once when no worker has it, else asks its workers to write a checkpoint and let it go; where they
    have not within the grace time, the last checkpoint has to do. Asking twice is asking once. Commits.

    Raises `NotFound`, `JobAlreadyTerminal` or `JobCancelling`.
    """
    run, job = _unfinished(session, project_id, job_id)
    if job.status == "paused" or (job.status == "pausing" and not force):
        return job
    runs = [run, *unfinished_folds(session, job_id)]
    working = [one.id for one in runs if one.status == "running"]
    grace = 0.0 if force else settings.cancel_grace_seconds
    _set(session, [one.id for one in runs], stop_order="pause")
    _set(session, working, stop_deadline=db_now() + grace)
    queued = [one.id for one in runs if one.status == "queued"]
    _set(session, queued, status="waiting", not_before=None)
    if job.status == "running" and move(session, job_id, "pausing"):
        log(session, run.id, [status_event("pausing", None)])
    if not working:
        rest(session, run.id, job_id)
    for _ in queued:
        count(session, project_id, "queued", "waiting")
    session.refresh(job)  # as it is now: once committed, it may end before it is read
    commit(session, "pause")
    return job


def resume(session: Session, project_id: str, job_id: str) -> Job:
    """Queues a paused job, to go on from its checkpoint; one that was still pausing goes on running. Of any other that
    has not ended this changes nothing: it goes on already. Commits.

    Raises `NotFound`, `JobAlreadyTerminal` or `JobCancelling`.
    """
    run, job = _unfinished(session, project_id, job_id)
    if job.status not in ("pausing", "paused"):
        return job
    folds = unfinished_folds(session, job_id)
    _set(session, [run.id, *(fold.id for fold in folds)], stop_order=None, stop_deadline=None)
    is_read = job.resolved_spec is not None  # else it waits for its dataset
    due = [one.id for one in folds or ([run] if is_read else []) if one.status == "waiting"]
    _set(session, due, status="queued", queued_at=db_now())
    if job.status == "pausing":
        moved, event = move(session, job_id, "running"), status_event("running", job.phase)
    else:
        phase = None if is_read else "waiting_for_dataset"
        moved, event = move(session, job_id, "queued", phase=phase), status_event("queued", phase)
    log(session, run.id, [event] if moved else [])
    for _ in due:
        enter_queue(session, project_id)
    session.refresh(job)
    commit(session, "resume")
    return job


def _unfinished(session: Session, project_id: str, job_id: str) -> tuple[Run, Job]:
    run, job = asked_of(session, project_id, job_id)
    if job.status in TERMINAL:
        raise errors.JobAlreadyTerminal(job_status=job.status)
    if job.status == "cancelling":
        raise errors.JobCancelling(job_status=job.status)
    return run, job


def _set(session: Session, run_ids: Sequence[str], **values: object) -> None:
    session.execute(
        update(Run).where(Run.id.in_(run_ids)).values(**values).execution_options(synchronize_session=False)
    )
