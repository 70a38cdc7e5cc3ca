"""A job that shall end before its time."""

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from core import errors
from core.database import commit, db_now
from core.lifecycle.moves import asked_of, end, log, move, status_event, update_job
from core.lifecycle.states import TERMINAL, Keep
from core.lifecycle.submitting import enter_queue
from core.settings import settings
from core.tables import Job, Run


def request_cancel(session: Session, project_id: str, job_id: str, keep: Keep, *, force: bool) -> Job:
    """Cancels a job at once when no worker has it, else asks its worker to. Asking twice is asking once. Commits.

    Raises `NotFound`, or `JobAlreadyTerminal`.
    """
    run, job = asked_of(session, project_id, job_id)
    if job.status in TERMINAL and job.status != "cancelled":
        raise errors.JobAlreadyTerminal(job_status=job.status)
    if job.status == "cancelled" or (job.status == "cancelling" and not force):
        return job

    grace = 0.0 if force else settings.cancel_grace_seconds
    deadline = {"stop_deadline": db_now() + grace}
    session.execute(update(Run).where(Run.id == run.id).values(stop_order="cancel", **deadline))
    requested = {"keep": keep, "cancel_requested_at": func.coalesce(Job.cancel_requested_at, db_now())}
    leaves_nothing = run.attempt == 0 or (job.status == "paused" and (force or keep == "none"))
    if run.status in ("waiting", "queued") and leaves_nothing:
        update_job(session, job_id, **requested)
        end(session, run, "cancelled", "user_cancel", None, outcome="cancelled", cause=None)
    elif job.status == "paused":
        # Nobody holds it, so that nothing has to be cut off: it waits as long as it must for a worker that exports.
        move(session, job_id, "cancelling", **requested)
        queued = {"status": "queued", "queued_at": db_now(), "stop_deadline": None}
        session.execute(update(Run).where(Run.id == run.id).values(**queued))
        enter_queue(session, project_id)
        log(session, run.id, [status_event("cancelling", None)])
    elif job.status == "queued":
        # It waits between two attempts: the next one only exports what the last checkpoint holds.
        move(session, job_id, "cancelling", **requested)
        session.execute(update(Run).where(Run.id == run.id).values(not_before=None))
        log(session, run.id, [status_event("cancelling", None)])
    elif move(session, job_id, "cancelling", **requested):
        log(session, run.id, [status_event("cancelling", None)])
    commit(session, "cancel")
    session.refresh(job)
    return job
