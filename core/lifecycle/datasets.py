"""How an ingest ends, and what becomes of the jobs that waited for it."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import errors
from core.database import commit, db_now
from core.events import NewEvent
from core.lifecycle.moves import end, end_run, lock, log, status_event, update_job
from core.lifecycle.states import Claim
from core.lifecycle.submitting import (
    add_folds,
    datasets_of,
    enter_queue,
    refuse_what_fits_nowhere,
    resolve_for,
    uses_dataset,
)
from core.resolve import Resolved
from core.tables import AttemptOutcome, Dataset, Job, Run


def dataset_ready(session: Session, claim: Claim, **dataset: Any) -> list[str]:
    """Ends an ingest well, and queues the jobs that waited for it. Commits. Returns the jobs that changed."""
    locked = lock(session, claim)
    session.execute(
        update(Dataset)
        .where(Dataset.id == claim.subject_id, Dataset.status == "processing")
        .values(status="ready", **dataset)
        .execution_options(synchronize_session=False)
    )

    def decide(job: Job) -> Resolved | None:
        datasets = datasets_of(session, job)
        still_read = any(dataset.status == "processing" for dataset in datasets.values())
        return None if still_read else resolve_for(job, datasets)

    changed = settle_waiting(session, claim.subject_id, decide)
    end_run(session, locked, "succeeded", None)
    commit(session, "dataset_ready")
    return changed


def dataset_invalid(session: Session, claim: Claim, problem: errors.Problem) -> list[str]:
    """Ends an ingest badly, and with it the jobs that waited. Commits. Returns the jobs that changed."""
    changed = reject_dataset(session, lock(session, claim), problem, "failed", problem.code)
    commit(session, "dataset_invalid")
    return changed


def reject_dataset(
    session: Session, run: Run, problem: errors.Problem, outcome: AttemptOutcome, cause: str
) -> list[str]:
    session.execute(
        update(Dataset)
        .where(Dataset.id == run.subject_id, Dataset.status == "processing")
        .values(status="invalid", error=problem.as_error())
        .execution_options(synchronize_session=False)
    )

    def refuse(job: Job) -> Resolved:
        raise problem

    changed = settle_waiting(session, run.subject_id, refuse)
    end_run(session, run, outcome, cause)
    return changed


def settle_waiting(session: Session, dataset_id: str, decide: Callable[[Job], Resolved | None]) -> list[str]:
    """Each job that waited for this dataset is queued, fails `data_invalid` with what was found, or waits for another.

    The runs are held before `decide` looks at those: of two datasets that are read at the same moment, the second to
    hold the run sees the first.
    """
    waiting = session.execute(
        select(Run, Job)
        .join(Job, Job.id == Run.subject_id)
        .where(uses_dataset(dataset_id), Run.kind == "training", Run.status == "waiting")
        .order_by(Run.id)
        .with_for_update(of=Run)
    ).all()
    settled: list[str] = []
    for run, job in waiting:
        try:
            resolved = decide(job)
            if resolved is None:
                continue
            settled.append(job.id)
            refuse_what_fits_nowhere(session, resolved.memory)
        except errors.Problem as problem:
            settled.append(job.id)
            end(session, run, "failed", None, errors.data_invalid(problem), outcome="failed", cause=problem.code)
            continue
        warnings = [warning.model_dump(mode="json") for warning in resolved.warnings]
        session.execute(
            update(Run)
            .where(Run.id == run.id, Run.status == "waiting")
            .values(
                status="waiting" if resolved.spec.split.folds or run.stop_order == "pause" else "queued",
                memory=resolved.memory,
                queued_at=db_now(),
            )
        )
        update_job(
            session, job.id, phase=None, resolved_spec=resolved.spec, outputs=resolved.outputs, warnings=warnings
        )
        found = [NewEvent("warning", warning) for warning in warnings]
        log(session, run.id, found if run.stop_order == "pause" else [status_event("queued", None), *found])
        if resolved.spec.split.folds:
            session.refresh(run)
            add_folds(session, run, resolved)
        elif run.stop_order != "pause":
            enter_queue(session, run.project_id)
    return list(dict.fromkeys(settled))
