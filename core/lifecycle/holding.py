"""What a worker writes while it holds a claim. Each is fenced, and commits."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from core.cross_validation import progress
from core.database import commit, db_now
from core.events import NewEvent
from core.lifecycle.moves import append, fence, update_job
from core.lifecycle.states import Claim, Fenced
from core.settings import settings
from core.tables import Attempt, Checkpoint, Fold, Run, Transcript


def renew(session: Session, claim: Claim) -> str | None:
    """Beats the lease; returns what is asked of the worker. Raises `Fenced`. Commits."""
    found = fence(session, claim, lease_until=db_now() + settings.lease_seconds)
    commit(session, "renew")
    return found.stop_order


def orders(session: Session, claim: Claim) -> tuple[str | None, datetime | None]:
    """What is asked of the worker, and until when. Raises `Fenced`."""
    found = session.execute(
        select(Run.stop_order, Run.stop_deadline).where(
            Run.id == claim.run_id, Run.attempt == claim.attempt, Run.status == "running"
        )
    ).one_or_none()
    if found is None:
        raise Fenced
    return found.stop_order, found.stop_deadline


def seconds_worked(session: Session, claim: Claim) -> float:
    """How long this run has been worked on, by all its attempts; waiting between them does not count."""
    lasted = func.coalesce(Attempt.ended_at, db_now()) - Attempt.started_at
    return float(session.scalar(select(func.sum(lasted)).where(Attempt.run_id == claim.run_id)) or 0.0)


def record(
    session: Session, claim: Claim, new: Sequence[NewEvent], *, attempt: Mapping[str, Any] | None = None, **job: Any
) -> str | None:
    """Appends events, and updates what users read of the job and of this attempt; returns what is asked of the worker.

    Raises `Fenced`. Commits.
    """
    found = append(session, claim, new)
    if attempt:
        mine = (Attempt.run_id == claim.run_id, Attempt.number == claim.attempt)
        session.execute(update(Attempt).where(*mine).values(**attempt))
    if job and claim.of is not None:
        _record_fold(session, claim, **job)
    elif job and claim.kind == "training":
        update_job(session, claim.subject_id, **job)
    commit(session, "record")
    return found.stop_order


def _record_fold(session: Session, claim: Claim, **fold: Any) -> None:
    """Of what a fold says of itself, its job shows how far all are, and the latest metrics."""
    assert claim.of is not None, "only folds are recorded so"
    values: dict[str, Any] = {}
    if "progress" in fold:
        reached = {name: fold["progress"][name] for name in ("epoch", "step")}
        session.execute(update(Fold).where(Fold.id == claim.subject_id).values(**reached))
        values["progress"] = progress(session, claim.of.job_id)
    if "latest_metrics" in fold:
        values["latest_metrics"] = {"fold": claim.fold, **fold["latest_metrics"]}
    if values:
        update_job(session, claim.of.job_id, **values)


def keep_transcript(session: Session, claim: Claim, text: str) -> None:
    """What the training process of this attempt has written. Keeping it twice is keeping it once. Raises `Fenced`.
    Commits.
    """
    fence(session, claim)
    session.merge(Transcript(run_id=claim.run_id, attempt=claim.attempt, text=text))
    commit(session, "keep_transcript")


def save_checkpoint(session: Session, claim: Claim, epoch: int, files: Mapping[str, Any]) -> None:
    """Moves the pointer to bytes that are already in storage; keeps the previous one. Raises `Fenced`. Commits."""
    append(session, claim, [NewEvent("checkpoint", {"epoch": epoch})])
    newest = session.scalar(select(func.max(Checkpoint.number)).where(Checkpoint.run_id == claim.run_id)) or 0
    session.add(
        Checkpoint(
            run_id=claim.run_id,
            number=newest + 1,
            attempt=claim.attempt,
            epoch=epoch,
            files=dict(files),
            created_at=db_now(),
        )
    )
    session.execute(delete(Checkpoint).where(Checkpoint.run_id == claim.run_id, Checkpoint.number < newest))
    commit(session, "save_checkpoint")
