"""Runs whose worker is gone, taken back."""

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from core.database import changed, commit, db_now
from core.lifecycle.ending import interrupt
from core.lifecycle.moves import end, hold, of_job
from core.tables import Run


def rescue_dead(session: Session) -> list[str]:
    """Takes back the runs whose worker has been silent for a lease; cuts off cancels past their grace. Commits.

    Returns the subjects that changed, of a fold its job.
    """
    wanted = (Run.id, Run.attempt, Run.kind, Run.subject_id)
    dead = session.execute(select(*wanted).where(Run.status == "running", Run.lease_until < db_now())).all()
    late = session.execute(
        select(*wanted).where(Run.status == "queued", Run.stop_order == "cancel", Run.stop_deadline < db_now())
    ).all()
    taken_back: list[str] = []
    for run_id, attempt, kind, subject_id in (*dead, *late):
        of = of_job(session, subject_id) if kind == "fold" else None
        if of is not None:
            hold(session, of.run_id)
        found = session.scalar(
            select(Run)
            .where(
                Run.id == run_id,
                Run.attempt == attempt,
                or_(
                    (Run.status == "running") & (Run.lease_until < db_now()),
                    (Run.status == "queued") & (Run.stop_order == "cancel") & (Run.stop_deadline < db_now()),
                ),
            )
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        if found is None:
            session.rollback()
            continue  # it beat again, or another sweeper was first
        overdue = session.scalar(select(Run.stop_deadline < db_now()).where(Run.id == run_id))
        if found.stop_order == "cancel" and overdue:
            cause = "worker_lost" if found.status == "running" else None
            end(session, found, "cancelled", "user_cancel", None, outcome="lost", cause=cause)
        else:
            interrupt(session, found, "lost", "worker_lost")
        commit(session, "rescue")
        taken_back.append(of.job_id if of else found.subject_id)
    return taken_back


def expire_leases(session: Session, worker_id: str) -> int:
    """Frees the leases of a worker that is known to be dead, without waiting for them to run out. Commits."""
    found = session.execute(
        update(Run)
        .where(Run.worker_id == worker_id, Run.status == "running")
        .values(lease_until=db_now() - 1.0)
        .execution_options(synchronize_session=False)
    )
    commit(session, "expire_leases")
    return changed(found)
