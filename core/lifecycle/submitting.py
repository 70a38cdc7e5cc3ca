"""A job or an upload enters: its rows, and its place in the queue."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import ColumnElement, bindparam, case, func, or_, select, update
from sqlalchemy.orm import Session

from core import errors, events
from core.database import db_now
from core.events import NewEvent
from core.ids import new_id
from core.lifecycle.moves import status_event
from core.lifecycle.starting import find_start
from core.lifecycle.states import SLOT_OF
from core.profile import Column
from core.resolve import Resolved, resolve
from core.resolve.held_out import HeldOut
from core.settings import settings
from core.spec import TrainingSpec
from core.spec.data import HeldOutPart, PartName
from core.start import Start, StartFrom
from core.tables import Dataset, Fold, Job, Project, Run, RunKind, Worker

# Written out once: to put these together again took as long as the database needs for them.
LARGEST_WORKER = select(func.max(Worker.memory)).where(Worker.last_beat > db_now() - 60.0)
ENTER_QUEUE = (
    update(Project)
    .where(Project.id == bindparam("entering"))
    .values(
        queued=Project.queued + 1,
        virtual_time=case(
            (Project.queued + Project.running > 0, Project.virtual_time),
            else_=func.coalesce(
                select(func.min(Project.virtual_time))
                .where(Project.queued + Project.running > 0, Project.id != bindparam("entering"))
                .scalar_subquery(),
                Project.virtual_time,
            ),
        ),
    )
)


def submit_dataset(session: Session, dataset: Dataset) -> Dataset:
    """Adds the row of an upload, to be read by a worker. The caller commits, then rings."""
    session.add(dataset)
    add_run(session, "ingest", dataset.id, dataset.project_id, status="queued", memory=settings.ingest_memory_bytes)
    return dataset


def submit_job(session: Session, job: Job, start_from: StartFrom | None = None) -> Job:
    """Adds a job, resolved against its dataset where that was read already. The caller commits, then rings.

    Raises `NotFound` without such a dataset, or such a job to start from, in its project, or a `DataInvalid` when it
    cannot be trained on as the spec asks.
    """
    # Held until the commit: were one read at this moment, the jobs that wait would be settled without this one.
    resolved = resolve_new(session, job, start_from, hold=True)
    waits = resolved is None
    if resolved is not None:
        job.resolved_spec, job.outputs = resolved.spec, resolved.outputs
        job.warnings = [warning.model_dump(mode="json") for warning in resolved.warnings]
    asked = TrainingSpec.model_validate(job.spec)
    epochs, folds = asked.training.epochs, asked.split.folds or 0
    job.status, job.phase = "queued", "waiting_for_dataset" if waits else None
    job.progress = {"epoch": 0, "epochs": epochs * (folds + 1), "step": 0, "fraction": 0.0, "eta_seconds": None}
    session.add(job)
    session.flush()
    warnings = [NewEvent("warning", dict(warning)) for warning in job.warnings]
    run = add_run(
        session,
        "training",
        job.id,
        job.project_id,
        status="waiting" if waits or folds else "queued",
        memory=0 if resolved is None else resolved.memory,
        priority=job.priority,
        first_events=[status_event("queued", job.phase), *warnings],
    )
    if resolved is not None:
        add_folds(session, run, resolved)
    return job


def add_folds(session: Session, run: Run, resolved: Resolved) -> None:
    """The folds that are trained before the network of all rows, whose `run` waits for them; in order, for those of one
    moment are claimed by their ids. Where the job is paused they wait as well.
    """
    paused = run.stop_order == "pause"
    for number in range(1, (resolved.spec.split.folds or 0) + 1):
        fold = Fold(id=new_id("fold"), job_id=run.subject_id, number=number, epochs=resolved.spec.training.epochs)
        session.add(fold)
        session.flush()
        add_run(
            session,
            "fold",
            fold.id,
            run.project_id,
            status="waiting" if paused else "queued",
            memory=resolved.memory,
            priority=run.priority,
            queued_at=run.queued_at,
            stop_order=run.stop_order,
        )


def resolve_new(session: Session, job: Job, start_from: StartFrom | None, *, hold: bool = False) -> Resolved | None:
    """What a job that is no row yet asks for, settled; None while one of its datasets is being read.

    Raises as `submit_job` does.
    """
    epochs = TrainingSpec.model_validate(job.spec).training.epochs
    if start_from is not None:
        job.start = find_start(session, job.project_id, start_from).model_dump(mode="json")
    elif epochs == 0:
        raise errors.InvalidSpec(
            errors=[
                {
                    "pointer": "/spec/training/epochs",
                    "code": "no_epochs",
                    "message": "0 epochs leave the weights as they began: legal only with `start_from`.",
                }
            ]
        )
    datasets = datasets_of(session, job, hold=hold)
    if any(dataset.status == "processing" for dataset in datasets.values()):
        return None
    resolved = resolve_for(job, datasets)
    refuse_what_fits_nowhere(session, resolved.memory)
    return resolved


def datasets_of(session: Session, job: Job, *, hold: bool = False) -> dict[PartName, Dataset]:
    """The datasets of a job as they are now, by what their rows do; held, where that is asked, until the transaction
    ends. Raises `NotFound` without one of them in its project, `DatasetInvalid` where one could not be read.
    """
    wanted: dict[PartName, str | None] = {
        "train": job.dataset_id,
        "validation": job.validation_dataset_id,
        "test": job.test_dataset_id,
    }
    query = (
        select(Dataset)
        .where(Dataset.id.in_([one for one in wanted.values() if one]), Dataset.project_id == job.project_id)
        .order_by(Dataset.id)  # two transactions take them in the same order
        .execution_options(populate_existing=True)
    )
    found = {one.id: one for one in session.scalars(query.with_for_update(read=True) if hold else query)}
    if any(one not in found for one in wanted.values() if one):
        raise errors.NotFound()
    for dataset in found.values():
        if dataset.status == "invalid":
            raise errors.DatasetInvalid(dataset_id=dataset.id, error=dataset.error)
    return {part: found[one] for part, one in wanted.items() if one}


def uses_dataset(dataset_id: str) -> ColumnElement[bool]:
    """Of a job, whether its rows are read for it."""
    return or_(Job.dataset_id == dataset_id, Job.validation_dataset_id == dataset_id, Job.test_dataset_id == dataset_id)


def resolve_for(job: Job, datasets: Mapping[PartName, Dataset]) -> Resolved:
    """`datasets` are those of the job, each of them read."""
    profiles: dict[PartName, HeldOut] = {
        part: HeldOut([Column.model_validate(column) for column in dataset.columns], dataset.rows or 0)
        for part, dataset in datasets.items()
    }
    train = profiles["train"]
    held_out: dict[HeldOutPart, HeldOut] = {part: profiles[part] for part in get_args(HeldOutPart) if part in profiles}
    start = None if job.start is None else Start.model_validate(job.start)
    return resolve(TrainingSpec.model_validate(job.spec), train.columns, train.rows, start, held_out)


def refuse_what_fits_nowhere(session: Session, memory: int) -> None:
    largest = session.scalar(LARGEST_WORKER)
    if largest is not None and memory > largest:
        raise errors.ResourcesExceeded(needed_bytes=memory, limit_bytes=largest)


def add_run(
    session: Session,
    kind: RunKind,
    subject_id: str,
    project_id: str,
    *,
    status: Literal["waiting", "queued"],
    memory: int,
    priority: int = 0,
    queued_at: datetime | None = None,
    first_events: Sequence[NewEvent] = (),
    stop_order: str | None = None,
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
        queued_at=queued_at or db_now(),
        next_seq=1 + len(first_events),
        stop_order=stop_order,
    )
    session.add(run)
    session.flush()
    events.write(session, run.id, 0, 1, first_events)
    if status == "queued":
        enter_queue(session, project_id)
    return run


def enter_queue(session: Session, project_id: str) -> None:
    """A project that had nothing queued or running rejoins at the smallest virtual time of those that have."""
    session.execute(ENTER_QUEUE, {"entering": project_id}, execution_options={"synchronize_session": False})
