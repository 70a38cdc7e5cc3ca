"""The folds of a job: trained before the network that all rows train, each by a run of its own.

A fold writes into the log of its job, whose run is held before its own; that one waits until the last fold has ended.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core import errors
from core.cross_validation import progress
from core.database import commit
from core.events import NewEvent
from core.lifecycle.moves import (
    end,
    end_run,
    hold,
    lock,
    log,
    move,
    of_fold,
    of_job,
    rest_after_folds,
    status_event,
    update_job,
)
from core.lifecycle.states import Claim
from core.lifecycle.submitting import enter_queue
from core.tables import AttemptOutcome, Fold, Run


def fold_trained(session: Session, claim: Claim, result: Mapping[str, Any]) -> None:
    """Ends a fold with what it has come to; after the last one the network of all rows is queued. Commits."""
    assert claim.of is not None, "only a fold ends so"
    locked, job_id = lock(session, claim), claim.of.job_id
    session.execute(update(Fold).where(Fold.id == claim.subject_id).values(result=dict(result)))
    log(session, claim.log_id, [of_fold(claim.of.fold, NewEvent("fold", dict(result)))], claim.attempt)
    left = session.scalar(select(func.count()).where(Fold.job_id == job_id, Fold.result.is_(None)))
    update_job(session, job_id, progress=progress(session, job_id))
    paused = locked.stop_order == "pause"
    if not left and not paused:
        # As old as the job is: it goes before jobs that came later.
        session.execute(update(Run).where(Run.id == claim.log_id, Run.status == "waiting").values(status="queued"))
        move(session, job_id, "queued", phase=None)
        log(session, claim.log_id, [status_event("queued", None)])
        enter_queue(session, claim.project_id)
    end_run(session, locked, "succeeded", None)
    if paused:
        rest_after_folds(session, claim.of)
    commit(session, "fold_trained")


def reject_fold(session: Session, run: Run, problem: errors.Problem, outcome: AttemptOutcome, cause: str) -> None:
    """A fold that cannot be trained ends its job, which says which one it was."""
    of = of_job(session, run.subject_id)
    job = hold(session, of.run_id)
    end_run(session, run, outcome, cause)
    error = problem.as_error()
    error |= {"message": f"Fold {of.fold}: {error['message']}", "fold": of.fold}
    end(session, job, "failed", None, error, outcome=outcome, cause=cause)
