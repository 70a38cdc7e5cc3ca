"""How a claim ends. Each of these is fenced, and commits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from core import errors
from core.database import commit, db_now
from core.events import NewEvent
from core.ids import new_id
from core.lifecycle.datasets import reject_dataset
from core.lifecycle.folds import reject_fold
from core.lifecycle.inquiries import reject_inquiry
from core.lifecycle.moves import end, lock, requeue
from core.lifecycle.states import INQUIRIES, Claim, MadeFile
from core.tables import Artifact, AttemptOutcome, Job, Run

RETRY_DELAYS = (0.0, 10.0, 40.0)  # seconds before the training process is tried again after it died by itself
SHORT_RETRIES = 1  # a table that crashed its reader twice will do so again, and who asks is waiting
MAX_INTERRUPTIONS = 20
PAUSED = "paused"  # the cause of an attempt that ended because its user wanted the job to rest


def succeed(
    session: Session, claim: Claim, stop_reason: str, made: Iterable[MadeFile], **job: Any
) -> Literal["succeeded", "cancelled"]:
    """Ends a training with its artifacts: `succeeded`, or `cancelled` where that was accepted first. Commits.

    A cancelled job whose user asked for nothing to be kept gets no artifacts.
    """
    locked = lock(session, claim)
    keep = session.scalar(select(Job.keep).where(Job.id == claim.subject_id))
    cancelled = locked.stop_order == "cancel"
    artifacts = _keep(session, claim, [] if cancelled and keep == "none" else list(made))
    status: Literal["succeeded", "cancelled"] = "cancelled" if cancelled else "succeeded"
    reason = "user_cancel" if cancelled else stop_reason
    if cancelled and keep == "none":
        job["test"] = None  # of weights that nobody has
    end(session, locked, status, reason, None, outcome=status, cause=None, new=artifacts, job=job)
    commit(session, "succeed")
    return status


def fail(session: Session, claim: Claim, problem: errors.Problem, made: Iterable[MadeFile] = (), **job: Any) -> None:
    """Ends a training or a fold for a reason that trying again would not change, with what it has reached. Commits."""
    locked = lock(session, claim)
    end_badly(
        session, locked, problem, outcome="failed", cause=problem.code, new=_keep(session, claim, list(made)), job=job
    )
    commit(session, "fail")


def _keep(session: Session, claim: Claim, made: Sequence[MadeFile]) -> list[NewEvent]:
    """Writes the rows of artifacts, and returns their events."""
    if made:
        session.execute(
            insert(Artifact).values(created_at=db_now()),
            [{"id": new_id("art"), "job_id": claim.subject_id, **one.__dict__} for one in made],
        )
    return [NewEvent("artifact", {"name": one.name, "sha256": one.sha256, "bytes": one.bytes}) for one in made]


def crash(session: Session, claim: Claim, cause: str) -> None:
    """The training process died by itself: queued again after a while, or given up at the fourth time. Commits."""
    locked = lock(session, claim)
    failures = locked.failures + 1
    if failures > (len(RETRY_DELAYS) if locked.slot == "training" else SHORT_RETRIES):
        problem: errors.Problem = errors.WorkerCrashed(cause=cause)
        if locked.kind == "ingest":
            problem = errors.DatasetUnparseable()
        end_badly(session, locked, problem, outcome="crashed", cause=cause)
    else:
        requeue(session, locked, "crashed", cause, failures=failures, delay=RETRY_DELAYS[failures - 1])
    commit(session, "crash")


def release(session: Session, claim: Claim, cause: str, *, delay: float = 0.0) -> None:
    """The worker gives the run back with its last checkpoint, to be tried again after `delay` seconds: it stops, its
    machine fails, or the run shall pause. Commits.

    A pause is its user's wish, and no interruption that is counted.
    """
    locked = lock(session, claim)
    if locked.stop_order == "pause" or cause == PAUSED:
        requeue(session, locked, "interrupted", PAUSED)
    else:
        interrupt(session, locked, "interrupted", cause, delay=delay)
    commit(session, "release")


def end_badly(
    session: Session,
    run: Run,
    problem: errors.Problem,
    *,
    outcome: AttemptOutcome,
    cause: str,
    new: Sequence[NewEvent] = (),
    job: Mapping[str, Any] | None = None,
) -> None:
    if run.kind == "ingest":
        reject_dataset(session, run, problem, outcome, cause)
    elif run.kind == "fold":
        reject_fold(session, run, problem, outcome, cause)
    elif run.kind in INQUIRIES:
        reject_inquiry(session, run, problem, outcome, cause)
    else:
        end(session, run, "failed", None, problem.as_error(), outcome=outcome, cause=cause, new=new, job=job)


def interrupt(session: Session, run: Run, outcome: AttemptOutcome, cause: str, *, delay: float = 0.0) -> None:
    interruptions = run.interruptions + 1
    if interruptions > MAX_INTERRUPTIONS:
        end_badly(session, run, errors.WorkerLost(), outcome=outcome, cause=cause)
    else:
        requeue(session, run, outcome, cause, interruptions=interruptions, delay=delay)
