"""The single moves that every change of state is made of. Each is one conditional UPDATE, or a few that belong
together; none commits."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core import errors, events
from core.cross_validation import cross_validation
from core.database import changed, db_now
from core.events import NewEvent
from core.lifecycle.states import INQUIRIES, TERMINAL, TRANSITIONS, Claim, Fenced, OfJob
from core.lifecycle.webhooks import owe
from core.tables import (
    Attempt,
    AttemptOutcome,
    Checkpoint,
    Fold,
    Inquiry,
    InquiryStatus,
    Job,
    JobStatus,
    Project,
    Run,
)


class Held(NamedTuple):
    """What a worker learns from every write: it still holds the run, and this is asked of it."""

    next_seq: int
    stop_order: str | None


def fence(session: Session, claim: Claim, **values: Any) -> Held:
    """An UPDATE that finds its row only while this claim is the current one."""
    found = session.execute(
        update(Run)
        .where(Run.id == claim.run_id, Run.attempt == claim.attempt, Run.status == "running")
        .values(**(values or {"attempt": claim.attempt}))
        .returning(Run.next_seq, Run.stop_order)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if found is None:
        raise Fenced
    return Held(found.next_seq, found.stop_order)


def lock(session: Session, claim: Claim) -> Run:
    """The run, held until the transaction ends, while this claim is the current one; before a fold, its job's."""
    if claim.of is not None:
        hold(session, claim.of.run_id)
    found = session.scalar(
        select(Run)
        .where(Run.id == claim.run_id, Run.attempt == claim.attempt, Run.status == "running")
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise Fenced
    return found


def hold(session: Session, run_id: str) -> Run:
    """A run, held until the transaction ends."""
    return session.scalars(
        select(Run).where(Run.id == run_id).with_for_update().execution_options(populate_existing=True)
    ).one()


def asked_of(session: Session, project_id: str, job_id: str) -> tuple[Run, Job]:
    """A job of which its user asks something, and its run, held until the transaction ends. Raises `NotFound`."""
    run = session.scalar(
        select(Run)
        .where(Run.subject_id == job_id, Run.kind == "training", Run.project_id == project_id)
        .with_for_update()
    )
    if run is None:
        raise errors.NotFound()
    return run, session.get_one(Job, job_id)


def append(session: Session, claim: Claim, new: Sequence[NewEvent]) -> Held:
    """Events of a worker: numbers from the counter of the run with that log, in the transaction that holds its row."""
    if claim.of is not None:
        log(session, claim.log_id, [of_fold(claim.of.fold, event) for event in new], claim.attempt)
        return fence(session, claim)
    found = fence(session, claim, next_seq=Run.next_seq + len(new))
    events.write(session, claim.run_id, claim.attempt, found.next_seq - len(new), new)
    return found


def log(session: Session, run_id: str, new: Sequence[NewEvent], attempt: int | None = None) -> None:
    """Appends events of a move that is not a worker's, or that are of a fold's `attempt`; its caller holds the run."""
    found = session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(next_seq=Run.next_seq + len(new))
        .returning(Run.next_seq, Run.attempt)
        .execution_options(synchronize_session=False)
    ).one()
    number = found.attempt if attempt is None else attempt
    events.write(session, run_id, number, found.next_seq - len(new), new)


def of_fold(fold: int, event: NewEvent) -> NewEvent:
    return NewEvent(event.type, {"fold": fold, **event.data})


def move(session: Session, job_id: str, to: JobStatus, **values: Any) -> bool:
    """The one statement that changes a job's status; False when the job is not where it could come from."""
    sources = [status for status, following in TRANSITIONS.items() if to in following]
    found = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status.in_(sources))
        .values(status=to, **values)
        .execution_options(synchronize_session=False)
    )
    return changed(found) == 1


def move_inquiry(session: Session, inquiry_id: str, source: InquiryStatus, to: InquiryStatus, **values: Any) -> None:
    """The one statement that changes an inquiry's status; its caller holds the run."""
    session.execute(
        update(Inquiry)
        .where(Inquiry.id == inquiry_id, Inquiry.status == source)
        .values(status=to, **values)
        .execution_options(synchronize_session=False)
    )


def update_job(session: Session, job_id: str, **values: Any) -> None:
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status.not_in(TERMINAL))
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def end(
    session: Session,
    run: Run,
    status: JobStatus,
    stop_reason: str | None,
    error: Mapping[str, Any] | None,
    *,
    outcome: AttemptOutcome,
    cause: str | None,
    new: Sequence[NewEvent] = (),
    job: Mapping[str, Any] | None = None,
) -> None:
    """The one way into a terminal state: job, run, attempt and the last events, in the caller's transaction."""
    if status == "failed" and session.scalar(select(Job.status).where(Job.id == run.subject_id)) == "cancelling":
        status, stop_reason, error = "cancelled", "user_cancel", None
    for fold in unfinished_folds(session, run.subject_id):
        end_run(session, fold, "cancelled", None)
    if status == "cancelled":
        move(session, run.subject_id, "cancelling")  # the way there from running
    progress, webhook = session.execute(select(Job.progress, Job.webhook).where(Job.id == run.subject_id)).one()
    values = {"phase": None, "stop_reason": stop_reason, "error": error, "progress": {**progress, "eta_seconds": None}}
    if not move(session, run.subject_id, status, finished_at=db_now(), **values, **(job or {})):
        raise Fenced
    end_run(session, run, outcome, cause)
    owe(session, run, status, webhook)
    outcome_facts = {
        "status": status,
        "stop_reason": stop_reason,
        "error": error,
        "test": (job or {}).get("test"),
        "cross_validation": cross_validation(session, run.subject_id),
    }
    log(session, run.id, [*new, status_event(status, None), NewEvent("end", outcome_facts)])


def unfinished_folds(session: Session, job_id: str) -> Sequence[Run]:
    """The runs of folds, held; their caller holds the run of the job."""
    mine = select(Fold.id).where(Fold.job_id == job_id)
    unfinished = select(Run).where(Run.subject_id.in_(mine), Run.kind == "fold", Run.status != "ended")
    return session.scalars(
        unfinished.order_by(Run.id).with_for_update().execution_options(populate_existing=True)
    ).all()


def end_run(session: Session, run: Run, outcome: AttemptOutcome, cause: str | None) -> None:
    was = run.status
    session.execute(
        update(Run)
        .where(Run.id == run.id, Run.attempt == run.attempt)
        .values(status="ended", lease_until=None, worker_id=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(delete(Checkpoint).where(Checkpoint.run_id == run.id))
    if was == "running":
        end_attempt(session, run, outcome, cause)
    count(session, run.project_id, was, None)


def requeue(
    session: Session, run: Run, outcome: AttemptOutcome, cause: str, *, delay: float = 0.0, **counters: int
) -> None:
    """Back to the queue, or to rest where a pause was asked; the fence is unchanged: the next claim raises it."""
    paused = run.stop_order == "pause"
    rested = {"not_before": None, "stop_deadline": None}
    end_attempt(session, run, outcome, cause)
    session.execute(
        update(Run)
        .where(Run.id == run.id, Run.attempt == run.attempt)
        .values(
            status="waiting" if paused else "queued",
            worker_id=None,
            lease_until=None,
            queued_at=db_now(),
            **(rested if paused else {"not_before": db_now() + delay if delay else None}),
            **counters,
        )
        .execution_options(synchronize_session=False)
    )
    if run.kind == "training" and paused:
        rest(session, run.id, run.subject_id, cause=cause)
    elif run.kind == "training" and move(session, run.subject_id, "queued", phase=None):
        facts = {"status": "queued", "phase": None, "cause": cause, "retry_in_seconds": delay}
        log(session, run.id, [NewEvent("status", facts)])
    elif run.kind == "fold":
        of = of_job(session, run.subject_id)
        facts = {"status": "pausing" if paused else "running", "phase": None, "cause": cause}
        facts |= {} if paused else {"retry_in_seconds": delay}
        log(session, of.run_id, [of_fold(of.fold, NewEvent("status", facts))], run.attempt)
        if paused:
            rest_after_folds(session, of)
    elif run.kind in INQUIRIES:
        move_inquiry(session, run.subject_id, "running", "queued")
    count(session, run.project_id, "running", "waiting" if paused else "queued")


def rest(session: Session, run_id: str, job_id: str, **facts: Any) -> None:
    """A job that shall pause and that nobody works on any more is paused; its caller holds the run."""
    progress = session.execute(select(Job.progress).where(Job.id == job_id)).scalar_one()
    if move(session, job_id, "paused", phase=None, progress={**progress, "eta_seconds": None}):
        log(session, run_id, [NewEvent("status", {"status": "paused", "phase": None, **facts})])


def rest_after_folds(session: Session, of: OfJob) -> None:
    """As `rest`, once none of its folds is being trained."""
    if not any(fold.status == "running" for fold in unfinished_folds(session, of.job_id)):
        rest(session, of.run_id, of.job_id)


def end_attempt(session: Session, run: Run, outcome: AttemptOutcome, cause: str | None) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.run_id == run.id, Attempt.number == run.attempt)
        .values(outcome=outcome, cause=cause, ended_at=db_now())
    )


def count(session: Session, project_id: str, was: str, becomes: str | None) -> None:
    """Keeps the project's number of queued and running runs."""
    change = {"queued": 0, "running": 0}
    if was in change:
        change[was] -= 1
    if becomes in change:
        change[becomes] += 1
    session.execute(
        update(Project)
        .where(Project.id == project_id)
        .values(queued=Project.queued + change["queued"], running=Project.running + change["running"])
        .execution_options(synchronize_session=False)
    )


def of_job(session: Session, fold_id: str) -> OfJob:
    """What a fold is of. Its job's run is to be held before its own."""
    fold = session.get_one(Fold, fold_id)
    run_id = session.scalars(select(Run.id).where(Run.subject_id == fold.job_id, Run.kind == "training")).one()
    return OfJob(fold.number, fold.job_id, run_id)


def status_event(status: JobStatus, phase: str | None) -> NewEvent:
    return NewEvent("status", {"status": status, "phase": phase})
