"""Every change of state, and nothing else changes it.

Two rows move together in one transaction: the job, which users read, and its run, which workers claim. Each move is a
conditional UPDATE. A worker's move is fenced by its attempt number: when another has taken the run over, the UPDATE
finds no row, `Fenced` is raised, and whoever holds the stale claim ends without having written anything.

Order of locks, everywhere: run, then job, then project.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row as ResultRow
from sqlalchemy import case, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from core import errors, events
from core.database import db_now, now, serialise_claims
from core.events import NewEvent
from core.ids import new_id
from core.profile import Column
from core.resolve import Resolved, resolve
from core.settings import settings
from core.spec import TrainingSpec
from core.tables import (
    Artifact,
    Attempt,
    AttemptOutcome,
    Checkpoint,
    Dataset,
    Job,
    JobStatus,
    Project,
    Run,
    RunKind,
    Slot,
)

# From -> to. The state chart in ARCHITECTURE.md is drawn from this.
TRANSITIONS: dict[JobStatus, set[JobStatus]] = {
    "queued": {"running", "cancelling", "cancelled", "failed", "paused"},
    "running": {"queued", "cancelling", "pausing", "succeeded", "failed"},
    "cancelling": {"cancelled"},
    "pausing": {"paused", "cancelling", "failed"},
    "paused": {"queued", "cancelled"},
    "succeeded": set(),
    "failed": set(),
    "cancelled": set(),
}
TERMINAL: frozenset[JobStatus] = frozenset(status for status, following in TRANSITIONS.items() if not following)

RETRY_DELAYS = (0.0, 10.0, 40.0)  # seconds before the training process is tried again after it died by itself
INGEST_RETRIES = 1  # a table that crashed its reader twice will do so again
MAX_INTERRUPTIONS = 20
STARVING_SECONDS = 60.0  # a run queued for this long stops smaller ones on workers that could hold it
SLOT_OF: dict[RunKind, Slot] = {"training": "training", "ingest": "short"}

Keep = Literal["best", "last", "none"]


class Fenced(Exception):
    """This claim is no longer the current one: stop at once and write nothing more."""


@dataclass(frozen=True)
class Claim:
    """The right of one worker to work on one run, until another claims it."""

    run_id: str
    kind: RunKind
    subject_id: str
    project_id: str
    attempt: int
    memory: int
    order: str | None  # "cancel" when the job was cancelled before this claim

    def log_context(self) -> dict[str, Any]:
        subject = "job_id" if self.kind == "training" else "dataset_id"
        return {subject: self.subject_id, "run_id": self.run_id, "attempt": self.attempt}


@dataclass(frozen=True)
class Capacity:
    """What a worker has left to give, and what it has in all."""

    training_slots: int
    short_slots: int
    free_memory: int  # bytes
    total_memory: int  # bytes


@dataclass(frozen=True)
class MadeFile:
    """An artifact whose bytes are in storage."""

    name: str
    media_type: str
    sha256: str
    bytes: int


# --- submitting -------------------------------------------------------------------------------------------------


def submit_dataset(session: Session, dataset: Dataset) -> Dataset:
    """Adds the row of an upload, to be read by a worker. The caller commits, then rings."""
    session.add(dataset)
    _add_run(session, "ingest", dataset.id, dataset.project_id, status="queued", memory=settings.ingest_memory_bytes)
    return dataset


def submit_job(session: Session, job: Job, dataset: Dataset) -> Job:
    """Adds a job, resolved against its dataset where that was read already. The caller commits, then rings.

    Raises a `DataInvalid` when the dataset cannot be trained on as the spec asks.
    """
    if dataset.status == "invalid":
        raise errors.DatasetInvalid(dataset_id=dataset.id, error=dataset.error)
    waits = dataset.status == "processing"
    memory = 0
    if not waits:
        resolved = resolve_for(job.spec, dataset)
        _refuse_what_fits_nowhere(session, resolved)
        memory = resolved.memory
        job.resolved_spec, job.outputs = resolved.spec, resolved.outputs
        job.warnings = [warning.model_dump(mode="json") for warning in resolved.warnings]
    job.status, job.phase = "queued", "waiting_for_dataset" if waits else None
    job.progress = {"epoch": 0, "epochs": job.spec.training.epochs, "step": 0, "fraction": 0.0, "eta_seconds": None}
    session.add(job)
    session.flush()
    run = _add_run(
        session,
        "training",
        job.id,
        job.project_id,
        status="waiting" if waits else "queued",
        memory=memory,
        priority=job.priority,
    )
    warnings = [NewEvent("warning", dict(warning)) for warning in job.warnings]
    _log(session, run.id, [_status_event("queued", job.phase), *warnings])
    return job


def resolve_for(spec: TrainingSpec, dataset: Dataset) -> Resolved:
    columns = [Column.model_validate(column) for column in dataset.columns]
    return resolve(spec, columns, dataset.rows or 0)


def _refuse_what_fits_nowhere(session: Session, resolved: Resolved) -> None:
    from core.tables import Worker

    largest = session.scalar(select(func.max(Worker.memory)).where(Worker.last_beat > db_now() - 60.0))
    if largest is not None and resolved.memory > largest:
        raise errors.ResourcesExceeded(needed_bytes=resolved.memory, limit_bytes=largest)


def _add_run(
    session: Session,
    kind: RunKind,
    subject_id: str,
    project_id: str,
    *,
    status: Literal["waiting", "queued"],
    memory: int,
    priority: int = 0,
) -> Run:
    run = Run(
        id=new_id("run"),
        kind=kind,
        slot=SLOT_OF[kind],
        subject_id=subject_id,
        project_id=project_id,
        status=status,
        memory=memory,
        priority=priority,
        queued_at=now(session),
    )
    session.add(run)
    session.flush()
    if status == "queued":
        _enter_queue(session, project_id)
    return run


def _enter_queue(session: Session, project_id: str) -> None:
    """A project that had nothing queued or running rejoins at the smallest virtual time of those that have."""
    others = select(func.min(Project.virtual_time)).where(
        Project.queued + Project.running > 0, Project.id != project_id
    )
    session.execute(
        update(Project)
        .where(Project.id == project_id)
        .values(
            queued=Project.queued + 1,
            virtual_time=case(
                (Project.queued + Project.running > 0, Project.virtual_time),
                else_=func.coalesce(others.scalar_subquery(), Project.virtual_time),
            ),
        )
        .execution_options(synchronize_session=False)
    )


# --- claiming ---------------------------------------------------------------------------------------------------


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
        .order_by(Project.virtual_time, Project.running, Run.priority.desc(), Run.queued_at, Run.id)
        .limit(1)
    )
    if found is None:
        return None
    taken = session.execute(
        update(Run)
        .where(Run.id == found.id, Run.status == "queued")
        .values(
            status="running",
            attempt=Run.attempt + 1,
            worker_id=worker_id,
            lease_until=db_now() + settings.lease_seconds,
            not_before=None,
        )
        .returning(Run.attempt, Run.stop_order)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if taken is None:
        return None
    claim = Claim(
        found.id, found.kind, found.subject_id, found.project_id, taken.attempt, found.memory, taken.stop_order
    )

    session.add(
        Attempt(
            run_id=claim.run_id,
            number=claim.attempt,
            worker_id=worker_id,
            outcome="running",
            started_at=now(session),
        )
    )
    if claim.kind == "training":
        started = {"phase": "loading_data", "started_at": func.coalesce(Job.started_at, db_now())}
        if _move(session, claim.subject_id, "running", **started):
            _log(session, claim.run_id, [_status_event("running", "loading_data")])
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
    session.commit()
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


# --- what a worker writes while it holds a claim ------------------------------------------------------------------


def renew(session: Session, claim: Claim) -> str | None:
    """Beats the lease; returns what is asked of the worker. Raises `Fenced`. Commits."""
    found = _fence(session, claim, lease_until=db_now() + settings.lease_seconds)
    session.commit()
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


def record(session: Session, claim: Claim, new: Sequence[NewEvent], **job_values: Any) -> str | None:
    """Appends events and updates what users read of the job; returns what is asked of the worker.

    Raises `Fenced`. Commits.
    """
    found = _append(session, claim, new)
    if job_values and claim.kind == "training":
        _update_job(session, claim.subject_id, **job_values)
    session.commit()
    return found.stop_order


def note_attempt(session: Session, claim: Claim, **values: Any) -> None:
    """Adds to the line of `attempts[]` that this claim is. Raises `Fenced`. Commits."""
    _fence(session, claim)
    session.execute(
        update(Attempt).where(Attempt.run_id == claim.run_id, Attempt.number == claim.attempt).values(**values)
    )
    session.commit()


def save_checkpoint(session: Session, claim: Claim, epoch: int, files: Mapping[str, Any]) -> None:
    """Moves the pointer to bytes that are already in storage; keeps the previous one. Raises `Fenced`. Commits."""
    _append(session, claim, [NewEvent("checkpoint", {"epoch": epoch})])
    newest = session.scalar(select(func.max(Checkpoint.number)).where(Checkpoint.run_id == claim.run_id)) or 0
    session.add(
        Checkpoint(
            run_id=claim.run_id,
            number=newest + 1,
            attempt=claim.attempt,
            epoch=epoch,
            files=dict(files),
            created_at=now(session),
        )
    )
    session.execute(delete(Checkpoint).where(Checkpoint.run_id == claim.run_id, Checkpoint.number < newest))
    session.commit()


# --- how a claim ends ---------------------------------------------------------------------------------------------


def succeed(
    session: Session, claim: Claim, stop_reason: str, made: Iterable[MadeFile], new: Sequence[NewEvent], **job: Any
) -> JobStatus:
    """Ends a training with its artifacts: `succeeded`, or `cancelled` where that was accepted first. Commits.

    A cancelled job whose user asked for nothing to be kept gets no artifacts.
    """
    locked = _lock(session, claim)
    keep = session.scalar(select(Job.keep).where(Job.id == claim.subject_id))
    cancelled = locked.stop_order == "cancel"
    kept = [] if cancelled and keep == "none" else list(made)
    moment = now(session)
    if kept:
        session.execute(
            insert(Artifact),
            [{"id": new_id("art"), "job_id": claim.subject_id, "created_at": moment, **one.__dict__} for one in kept],
        )
    status: JobStatus = "cancelled" if cancelled else "succeeded"
    reason = "user_cancel" if cancelled else stop_reason
    artifacts = [NewEvent("artifact", {"name": one.name, "sha256": one.sha256, "bytes": one.bytes}) for one in kept]
    _end(session, locked, status, reason, None, outcome=status, cause=None, new=[*new, *artifacts], job=job)
    session.commit()
    return status


def fail(session: Session, claim: Claim, problem: errors.Problem, new: Sequence[NewEvent] = ()) -> None:
    """Ends a training for a reason that trying again would not change. Commits."""
    locked = _lock(session, claim)
    _end_badly(session, locked, problem, outcome="failed", cause=problem.code, new=new)
    session.commit()


def crash(session: Session, claim: Claim, cause: str) -> None:
    """The training process died by itself: queued again after a while, or given up at the fourth time. Commits."""
    locked = _lock(session, claim)
    failures = locked.failures + 1
    if failures > (len(RETRY_DELAYS) if locked.kind == "training" else INGEST_RETRIES):
        problem: errors.Problem = errors.WorkerCrashed(cause=cause)
        if locked.kind == "ingest":
            problem = errors.DatasetUnparseable()
        _end_badly(session, locked, problem, outcome="crashed", cause=cause)
    else:
        _requeue(session, locked, "crashed", cause, failures=failures, delay=RETRY_DELAYS[failures - 1])
    session.commit()


def release(session: Session, claim: Claim, cause: str) -> None:
    """The worker stops and gives the run back, with its last checkpoint. Commits."""
    locked = _lock(session, claim)
    _interrupt(session, locked, "interrupted", cause)
    session.commit()


def rescue_dead(session: Session) -> list[str]:
    """Takes back the runs whose worker has been silent for a lease; cuts off cancels past their grace. Commits.

    Returns the subjects that changed.
    """
    dead = session.execute(select(Run.id, Run.attempt).where(Run.status == "running", Run.lease_until < db_now())).all()
    late = session.execute(
        select(Run.id, Run.attempt).where(
            Run.status == "queued", Run.stop_order == "cancel", Run.stop_deadline < db_now()
        )
    ).all()
    changed: list[str] = []
    for run_id, attempt in (*dead, *late):
        found = session.scalar(
            select(Run)
            .where(
                Run.id == run_id,
                Run.attempt == attempt,
                or_(
                    (Run.status == "running") & (Run.lease_until < db_now()),
                    (Run.status == "queued") & (Run.stop_order == "cancel"),
                ),
            )
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        if found is None:
            continue  # it beat again, or another sweeper was first
        overdue = session.scalar(select(Run.stop_deadline < db_now()).where(Run.id == run_id))
        if found.stop_order == "cancel" and overdue:
            cause = "worker_lost" if found.status == "running" else None
            _end(session, found, "cancelled", "user_cancel", None, outcome="lost", cause=cause)
        else:
            _interrupt(session, found, "lost", "worker_lost")
        session.commit()
        changed.append(found.subject_id)
    return changed


def expire_leases(session: Session, worker_id: str) -> int:
    """Frees the leases of a worker that is known to be dead, without waiting for them to run out. Commits."""
    found = session.execute(
        update(Run)
        .where(Run.worker_id == worker_id, Run.status == "running")
        .values(lease_until=db_now() - 1.0)
        .execution_options(synchronize_session=False)
    )
    session.commit()
    return int(found.rowcount)  # type: ignore[attr-defined]


# --- what a user asks ---------------------------------------------------------------------------------------------


def request_cancel(session: Session, project_id: str, job_id: str, keep: Keep, *, force: bool) -> Job:
    """Cancels a job at once when no worker has it, else asks its worker to. Asking twice is asking once. Commits.

    Raises `NotFound`, or `JobAlreadyTerminal`.
    """
    run = session.scalar(
        select(Run)
        .where(Run.subject_id == job_id, Run.kind == "training", Run.project_id == project_id)
        .with_for_update()
    )
    if run is None:
        raise errors.NotFound()
    job = session.get_one(Job, job_id)
    if job.status in TERMINAL and job.status != "cancelled":
        raise errors.JobAlreadyTerminal(status=job.status)
    if job.status == "cancelled" or (job.status == "cancelling" and not force):
        session.rollback()
        return job

    grace = 0.0 if force else settings.cancel_grace_seconds
    deadline = {"stop_deadline": db_now() + grace}
    session.execute(update(Run).where(Run.id == run.id).values(stop_order="cancel", **deadline))
    requested = {"keep": keep, "cancel_requested_at": func.coalesce(Job.cancel_requested_at, db_now())}
    if run.status in ("waiting", "queued") and run.attempt == 0:
        _update_job(session, job_id, **requested)
        _end(session, run, "cancelled", "user_cancel", None, outcome="cancelled", cause=None)
    elif job.status == "queued":
        # It waits between two attempts: the next one only exports what the last checkpoint holds.
        _move(session, job_id, "cancelling", **requested)
        session.execute(update(Run).where(Run.id == run.id).values(not_before=None))
        _log(session, run.id, [_status_event("cancelling", None)])
    elif _move(session, job_id, "cancelling", **requested):
        _log(session, run.id, [_status_event("cancelling", None)])
    session.commit()
    session.refresh(job)
    return job


# --- datasets -----------------------------------------------------------------------------------------------------


def dataset_ready(session: Session, claim: Claim, **dataset: Any) -> list[str]:
    """Ends an ingest well, and queues the jobs that waited for it. Commits. Returns the jobs that changed."""
    locked = _lock(session, claim)
    _end_run(session, locked, "succeeded", None)
    session.execute(
        update(Dataset)
        .where(Dataset.id == claim.subject_id, Dataset.status == "processing")
        .values(status="ready", **dataset)
        .execution_options(synchronize_session=False)
    )
    found = session.get_one(Dataset, claim.subject_id, populate_existing=True)
    changed = _settle_waiting(session, claim.subject_id, lambda job: resolve_for(job.spec, found))
    session.commit()
    return changed


def dataset_invalid(session: Session, claim: Claim, problem: errors.Problem) -> list[str]:
    """Ends an ingest badly, and with it the jobs that waited. Commits. Returns the jobs that changed."""
    changed = _reject_dataset(session, _lock(session, claim), problem, "failed", problem.code)
    session.commit()
    return changed


def _reject_dataset(
    session: Session, run: Run, problem: errors.Problem, outcome: AttemptOutcome, cause: str
) -> list[str]:
    _end_run(session, run, outcome, cause)
    session.execute(
        update(Dataset)
        .where(Dataset.id == run.subject_id, Dataset.status == "processing")
        .values(status="invalid", error=problem.as_error())
        .execution_options(synchronize_session=False)
    )

    def refuse(job: Job) -> Resolved:
        raise errors.DatasetInvalid(dataset_id=run.subject_id, error=problem.as_error())

    return _settle_waiting(session, run.subject_id, refuse)


def _settle_waiting(session: Session, dataset_id: str, decide: Callable[[Job], Resolved]) -> list[str]:
    """Each job that waited for this dataset is queued, or fails `data_invalid` with what was found."""
    waiting = session.execute(
        select(Run, Job)
        .join(Job, Job.id == Run.subject_id)
        .where(Job.dataset_id == dataset_id, Run.kind == "training", Run.status == "waiting")
        .order_by(Run.id)
        .with_for_update(of=Run)
    ).all()
    for run, job in waiting:
        try:
            resolved = decide(job)
            _refuse_what_fits_nowhere(session, resolved)
        except errors.Problem as problem:
            error = {**problem.as_error(), "code": "data_invalid", "reason": problem.code}
            _end(session, run, "failed", None, error, outcome="failed", cause=problem.code)
            continue
        warnings = [warning.model_dump(mode="json") for warning in resolved.warnings]
        session.execute(
            update(Run)
            .where(Run.id == run.id, Run.status == "waiting")
            .values(status="queued", memory=resolved.memory, queued_at=db_now())
        )
        _update_job(
            session, job.id, phase=None, resolved_spec=resolved.spec, outputs=resolved.outputs, warnings=warnings
        )
        _log(session, run.id, [_status_event("queued", None), *(NewEvent("warning", warning) for warning in warnings)])
        _enter_queue(session, run.project_id)
    return [job.id for _, job in waiting]


# --- the moves themselves -----------------------------------------------------------------------------------------


def _fence(session: Session, claim: Claim, **values: Any) -> ResultRow[Any]:
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
    return found


def _lock(session: Session, claim: Claim) -> Run:
    """The run, held until the transaction ends, while this claim is the current one."""
    found = session.scalar(
        select(Run)
        .where(Run.id == claim.run_id, Run.attempt == claim.attempt, Run.status == "running")
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise Fenced
    return found


def _append(session: Session, claim: Claim, new: Sequence[NewEvent]) -> ResultRow[Any]:
    found = _fence(session, claim, next_seq=Run.next_seq + len(new))
    events.write(session, claim.run_id, claim.attempt, found.next_seq - len(new), now(session), new)
    return found


def _log(session: Session, run_id: str, new: Sequence[NewEvent]) -> None:
    """Appends events of a move that is not a worker's; its caller holds the run."""
    found = session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(next_seq=Run.next_seq + len(new))
        .returning(Run.next_seq, Run.attempt)
        .execution_options(synchronize_session=False)
    ).one()
    events.write(session, run_id, found.attempt, found.next_seq - len(new), now(session), new)


def _move(session: Session, job_id: str, to: JobStatus, **values: Any) -> bool:
    """The one statement that changes a job's status; False when the job is not where it could come from."""
    sources = [status for status, following in TRANSITIONS.items() if to in following]
    found = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status.in_(sources))
        .values(status=to, **values)
        .execution_options(synchronize_session=False)
    )
    return bool(found.rowcount)  # type: ignore[attr-defined]


def _update_job(session: Session, job_id: str, **values: Any) -> None:
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status.not_in(TERMINAL))
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _end(
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
    _end_run(session, run, outcome, cause)
    if status == "cancelled":
        _move(session, run.subject_id, "cancelling")  # from running; a queued one goes there directly
    values = {"phase": None, "stop_reason": stop_reason, "error": error, "finished_at": db_now(), **(job or {})}
    if not _move(session, run.subject_id, status, **values):
        raise Fenced
    outcome_facts = {"status": status, "stop_reason": stop_reason, "error": error}
    _log(session, run.id, [*new, _status_event(status, None), NewEvent("end", outcome_facts)])


def _end_run(session: Session, run: Run, outcome: AttemptOutcome, cause: str | None) -> None:
    was = run.status
    session.execute(
        update(Run)
        .where(Run.id == run.id, Run.attempt == run.attempt)
        .values(status="ended", lease_until=None, worker_id=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(delete(Checkpoint).where(Checkpoint.run_id == run.id))
    if was == "running":
        _end_attempt(session, run, outcome, cause)
    _count(session, run.project_id, was, None)


def _end_badly(
    session: Session,
    run: Run,
    problem: errors.Problem,
    *,
    outcome: AttemptOutcome,
    cause: str,
    new: Sequence[NewEvent] = (),
) -> None:
    if run.kind == "ingest":
        _reject_dataset(session, run, problem, outcome, cause)
    else:
        _end(session, run, "failed", None, problem.as_error(), outcome=outcome, cause=cause, new=new)


def _interrupt(session: Session, run: Run, outcome: AttemptOutcome, cause: str) -> None:
    interruptions = run.interruptions + 1
    if interruptions > MAX_INTERRUPTIONS:
        _end_badly(session, run, errors.WorkerLost(), outcome=outcome, cause=cause)
    else:
        _requeue(session, run, outcome, cause, interruptions=interruptions)


def _requeue(
    session: Session, run: Run, outcome: AttemptOutcome, cause: str, *, delay: float = 0.0, **counters: int
) -> None:
    """Back to the queue, with the fence unchanged: the next claim raises it."""
    _end_attempt(session, run, outcome, cause)
    session.execute(
        update(Run)
        .where(Run.id == run.id, Run.attempt == run.attempt)
        .values(
            status="queued",
            worker_id=None,
            lease_until=None,
            queued_at=db_now(),
            not_before=db_now() + delay if delay else None,
            **counters,
        )
        .execution_options(synchronize_session=False)
    )
    if run.kind == "training" and _move(session, run.subject_id, "queued", phase=None):
        facts = {"status": "queued", "phase": None, "cause": cause, "retry_in_seconds": delay}
        _log(session, run.id, [NewEvent("status", facts)])
    _count(session, run.project_id, "running", "queued")


def _end_attempt(session: Session, run: Run, outcome: AttemptOutcome, cause: str | None) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.run_id == run.id, Attempt.number == run.attempt)
        .values(outcome=outcome, cause=cause, ended_at=db_now())
    )


def _count(session: Session, project_id: str, was: str, becomes: str | None) -> None:
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


def _status_event(status: JobStatus, phase: str | None) -> NewEvent:
    return NewEvent("status", {"status": status, "phase": phase})
