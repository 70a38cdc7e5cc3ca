"""Which run a worker takes next: decided in one transaction, here and not by the queue."""

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.orm import Session

from core.database import commit, db_now, serialise_claims
from core.lifecycle.moves import hold, log, move, move_inquiry, of_fold, of_job, status_event
from core.lifecycle.states import INQUIRIES, Capacity, Claim
from core.settings import settings
from core.tables import Attempt, Job, Project, Run

STARVING_SECONDS = 60.0  # a run queued for this long stops smaller ones on workers that could hold it
TURN = (
    case((Run.stop_order == "cancel", 0), else_=1),  # it only exports, and its user waits for that
    Project.virtual_time,
    Project.running,
    Run.priority.desc(),
    Run.queued_at,
    Run.id,
)


def claim_next(session: Session, worker_id: str, capacity: Capacity) -> Claim | None:
    """Takes the run whose turn it is among those that fit this worker, or nothing. Commits."""
    slots = [slot for slot, free in (("training", capacity.training_slots), ("short", capacity.short_slots)) if free]
    is_due = (Run.status == "queued", Run.slot.in_(slots), or_(Run.not_before.is_(None), Run.not_before <= db_now()))
    if session.scalar(select(Run.id).where(*is_due).limit(1)) is None:
        return None  # the usual answer of an idle look, without taking the lock

    serialise_claims(session)
    starving = select(Run.id).where(
        *is_due,
        Run.queued_at < db_now() - STARVING_SECONDS,
        Run.memory <= capacity.total_memory,
        Run.memory > capacity.free_memory,
    )
    if session.scalar(starving.limit(1)) is not None:
        return None
    found = session.scalar(
        select(Run)
        .join(Project, Project.id == Run.project_id)
        .where(*is_due, Run.memory <= capacity.free_memory)
        .order_by(*TURN)
        .limit(1)
    )
    if found is None:
        return None
    of = of_job(session, found.subject_id) if found.kind == "fold" else None
    if of is not None:
        hold(session, of.run_id)
    taken = session.execute(
        update(Run)
        .where(Run.id == found.id, Run.status == "queued")
        .values(
            status="running",
            attempt=Run.attempt + 1,
            worker_id=worker_id,
            lease_until=db_now() + settings.lease_seconds,
            not_before=None,
            stop_deadline=case(
                (Run.stop_order == "cancel", func.coalesce(Run.stop_deadline, db_now() + settings.cancel_grace_seconds))
            ),
        )
        .returning(Run.attempt, Run.stop_order)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if taken is None:
        return None
    claim = Claim(
        found.id, found.kind, found.subject_id, found.project_id, taken.attempt, found.memory, taken.stop_order, of
    )

    session.add(
        Attempt(
            run_id=claim.run_id,
            number=claim.attempt,
            worker_id=worker_id,
            outcome="running",
            started_at=db_now(),
        )
    )
    started = {"started_at": func.coalesce(Job.started_at, db_now())}
    loading = status_event("running", "loading_data")
    if of is not None:
        first = move(session, of.job_id, "running", phase="cross_validation", **started)
        log(session, of.run_id, [status_event("running", "cross_validation")] if first else [])
        log(session, of.run_id, [of_fold(of.fold, loading)], claim.attempt)
    elif claim.kind == "training":
        if move(session, claim.subject_id, "running", phase="loading_data", **started):
            log(session, claim.run_id, [loading])
    elif claim.kind in INQUIRIES:
        move_inquiry(session, claim.subject_id, "queued", "running")
    session.execute(
        update(Project)
        .where(Project.id == claim.project_id)
        .values(
            queued=Project.queued - 1,
            running=Project.running + 1,
            virtual_time=Project.virtual_time + 1.0 / Project.weight,
        )
        .execution_options(synchronize_session=False)
    )
    commit(session, "claim")
    return claim


def claimable(session: Session) -> int:
    """Runs that a worker could take at this moment."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Run)
            .where(Run.status == "queued", or_(Run.not_before.is_(None), Run.not_before <= db_now()))
        )
        or 0
    )
