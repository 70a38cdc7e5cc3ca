"""Inquiries: from the question to the files that answer it, and to the day they are forgotten."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core import errors
from core.database import changed, commit, db_now
from core.lifecycle.moves import end_run, lock, move_inquiry
from core.lifecycle.states import INQUIRIES, Claim
from core.lifecycle.submitting import add_run, refuse_what_fits_nowhere
from core.tables import AttemptOutcome, Inquiry, Run

FORGET_AFTER = 86_400.0  # seconds since it was answered


def submit_inquiry(session: Session, inquiry: Inquiry, memory: int) -> Inquiry:
    """Adds a question, to be answered by a worker. The caller commits, then rings.

    Raises `ResourcesExceeded` where no living worker could answer it.
    """
    refuse_what_fits_nowhere(session, memory)
    inquiry.status, inquiry.files = "queued", {}
    session.add(inquiry)
    session.flush()
    add_run(session, inquiry.kind, inquiry.id, inquiry.project_id, status="queued", memory=memory)
    return inquiry


def inquiry_answered(session: Session, claim: Claim, files: Mapping[str, Any]) -> None:
    """Ends an inquiry with files whose bytes are in storage already. Commits."""
    locked = lock(session, claim)
    move_inquiry(session, claim.subject_id, "running", "succeeded", finished_at=db_now(), files=dict(files))
    end_run(session, locked, "succeeded", None)
    commit(session, "answer")


def inquiry_failed(session: Session, claim: Claim, problem: errors.Problem) -> None:
    """Ends an inquiry for a reason that trying again would not change. Commits."""
    reject_inquiry(session, lock(session, claim), problem, "failed", problem.code)
    commit(session, "answer")


def reject_inquiry(session: Session, run: Run, problem: errors.Problem, outcome: AttemptOutcome, cause: str) -> None:
    move_inquiry(session, run.subject_id, "running", "failed", finished_at=db_now(), error=problem.as_error())
    end_run(session, run, outcome, cause)


def forget_inquiries(session: Session) -> int:
    """Deletes those that were answered a day ago; the collector takes their files. Commits. Returns how many."""
    old = Inquiry.finished_at < db_now() - FORGET_AFTER
    runs = delete(Run).where(Run.kind.in_(INQUIRIES), Run.subject_id.in_(select(Inquiry.id).where(old)))
    session.execute(runs.execution_options(synchronize_session=False))
    forgotten = changed(session.execute(delete(Inquiry).where(old).execution_options(synchronize_session=False)))
    commit(session, "forget")
    return forgotten
