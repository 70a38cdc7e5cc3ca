"""The rows. Every moment is by the database's clock; every status is text with a CHECK.

Wide rows (jobs, datasets) hold what users read. The narrow row in `runs` holds what workers beat on: claim, lease,
fence and event counter of any unit of work.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, MetaData, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import BigInteger, Double, TypeDecorator

from core.database import Instant, db_now
from core.dialect import Format
from core.spec import TrainingSpec

JobStatus = Literal["queued", "running", "cancelling", "pausing", "paused", "succeeded", "failed", "cancelled"]
DatasetStatus = Literal["processing", "ready", "invalid"]
RunStatus = Literal["waiting", "queued", "running", "ended"]
DeliveryStatus = Literal["due", "delivered", "failed"]
InquiryStatus = Literal["queued", "running", "succeeded", "failed"]
InquiryKind = Literal["trace", "plan", "predictions"]
RunKind = Literal["training", "fold", "ingest", "trace", "plan", "predictions"]
Slot = Literal["training", "short"]
AttemptOutcome = Literal["running", "succeeded", "failed", "cancelled", "crashed", "interrupted", "lost"]

Id = Annotated[str, mapped_column(Text, primary_key=True)]
Json = JSON()  # not JSONB, which sorts keys: the order of features is the order of the network's inputs


class SpecColumn(TypeDecorator[TrainingSpec]):
    """A resolved spec is the same class in Python, in the row, and in the answer."""

    impl = Json
    cache_ok = True

    def process_bind_param(self, value: TrainingSpec | None, dialect: Any) -> Any:
        return None if value is None else value.model_dump(mode="json")

    def process_result_value(self, value: Any, dialect: Any) -> TrainingSpec | None:
        return None if value is None else TrainingSpec.model_validate(value)


class Row(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: Text,
        int: BigInteger,
        float: Double,
        datetime: Instant,
        dict[str, Any]: Json,
        list[Any]: Json,
        TrainingSpec: SpecColumn,
    }


def _one_of(column: str, values: Any) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in get_args(values))
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


class Project(Row):
    __tablename__ = "projects"
    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    weight: Mapped[float] = mapped_column(default=1.0)
    virtual_time: Mapped[float] = mapped_column(default=0.0)  # claims so far / weight: the smallest goes first
    queued: Mapped[int] = mapped_column(default=0)  # runs
    running: Mapped[int] = mapped_column(default=0)  # runs
    created_at: Mapped[datetime]


class Key(Row):
    __tablename__ = "keys"
    id: Mapped[Id]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)  # of the whole key; the key itself is shown once
    last_four: Mapped[str]
    admin: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Dataset(Row):
    __tablename__ = "datasets"
    __table_args__ = (_one_of("status", DatasetStatus), Index(None, "project_id", "id"))
    id: Mapped[Id]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    status: Mapped[DatasetStatus] = mapped_column(Text)
    format: Mapped[Format] = mapped_column(Text)
    bytes: Mapped[int]  # of the upload
    sha256: Mapped[str]  # of the upload
    upload_key: Mapped[str] = mapped_column(index=True)  # shared by all datasets that are read from the same bytes
    derived_from: Mapped[
        str | None
    ]  # the dataset whose upload it reads otherwise; no foreign key: it outlives that one
    reading: Mapped[dict[str, Any] | None]  # core.dialect.Reading: what a user said of how it is to be read
    dialect: Mapped[dict[str, Any] | None]
    rows: Mapped[int | None]
    columns: Mapped[list[Any]] = mapped_column(default=list)  # core.profile.Column
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    error: Mapped[dict[str, Any] | None]
    files: Mapped[dict[str, Any]] = mapped_column(default=dict)  # name -> {sha256, bytes} of what ingest made
    created_at: Mapped[datetime]


class Job(Row):
    __tablename__ = "jobs"
    __table_args__ = (_one_of("status", JobStatus), Index(None, "project_id", "id"))
    id: Mapped[Id]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(index=True)  # no foreign key: a job outlives its dataset
    validation_dataset_id: Mapped[str | None] = mapped_column(index=True)
    test_dataset_id: Mapped[str | None] = mapped_column(index=True)
    cloned_from: Mapped[str | None]  # another job; no foreign key, for the same reason
    start: Mapped[dict[str, Any] | None]  # core.start.Start: the earlier job whose network is trained on
    name: Mapped[str | None]
    status: Mapped[JobStatus] = mapped_column(Text)
    phase: Mapped[str | None]
    stop_reason: Mapped[str | None]
    spec: Mapped[dict[str, Any]]  # as sent
    resolved_spec: Mapped[TrainingSpec | None]
    outputs: Mapped[dict[str, Any] | None]  # task, classes, names
    annotations: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    priority: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    latest_metrics: Mapped[dict[str, Any] | None]
    best: Mapped[dict[str, Any] | None]
    test: Mapped[dict[str, Any] | None]  # rows, loss and metrics of the test rows, with the kept weights
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    error: Mapped[dict[str, Any] | None]
    keep: Mapped[str] = mapped_column(default="best")  # what a cancel leaves: best, last or none
    webhook: Mapped[dict[str, Any] | None]  # url and events: what is called when the job has ended
    request_id: Mapped[str | None]
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Fold(Row):
    """One network of a cross-validation: the rows of the other folds train it, and its own measure it."""

    __tablename__ = "folds"
    __table_args__ = (UniqueConstraint("job_id", "number"),)
    id: Mapped[Id]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]  # from 1
    epochs: Mapped[int]  # at most
    epoch: Mapped[int] = mapped_column(default=0)  # done so far
    step: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any] | None]  # rows, epoch, stop_reason, loss and metrics; None until it has ended well


class Delivery(Row):
    """A call that is due since its job has ended, written in the transaction that ended it; each try sends its id."""

    __tablename__ = "deliveries"
    __table_args__ = (
        _one_of("status", DeliveryStatus),
        UniqueConstraint("job_id", "event"),
        Index(None, "status", "due_at"),
    )
    id: Mapped[Id]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    event: Mapped[str]  # as `job.succeeded`
    url: Mapped[str]
    status: Mapped[DeliveryStatus] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    created_at: Mapped[datetime]


class Inquiry(Row):
    """A question that only a worker can answer. An answer is no record: it is forgotten a day after."""

    __tablename__ = "inquiries"
    __table_args__ = (_one_of("status", InquiryStatus),)
    id: Mapped[Id]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[InquiryKind] = mapped_column(Text)
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), index=True
    )  # what it is about
    request: Mapped[dict[str, Any]]  # what was asked
    status: Mapped[InquiryStatus] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None]
    files: Mapped[dict[str, Any]] = mapped_column(default=dict)  # name -> {sha256, bytes} of the answer
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)


class Run(Row):
    """Any unit of work that a worker claims. `attempt` is the fence: whoever does not hold it writes nothing."""

    __tablename__ = "runs"
    __table_args__ = (
        _one_of("status", RunStatus),
        UniqueConstraint("subject_id", "kind"),
        Index(None, "status", "project_id"),
        Index(None, "worker_id"),
    )
    id: Mapped[Id]
    kind: Mapped[RunKind] = mapped_column(Text)
    slot: Mapped[Slot] = mapped_column(Text)
    subject_id: Mapped[str]  # the job, the fold, the dataset or the inquiry
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    status: Mapped[RunStatus] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(default=0)
    memory: Mapped[int] = mapped_column(default=0)  # bytes reserved
    attempt: Mapped[int] = mapped_column(default=0)  # +1 a claim
    failures: Mapped[int] = mapped_column(default=0)  # the training process died by itself
    interruptions: Mapped[int] = mapped_column(default=0)  # the worker was lost or stopped
    next_seq: Mapped[int] = mapped_column(default=1)  # of the next event
    stop_order: Mapped[str | None]  # what the user wants: cancel or pause; a paused run is `waiting` with this
    stop_deadline: Mapped[datetime | None]  # after this the training process is killed
    queued_at: Mapped[datetime]
    not_before: Mapped[datetime | None]
    worker_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]  # not indexed: it changes with every beat


class Attempt(Row):
    __tablename__ = "attempts"
    __table_args__ = (_one_of("outcome", AttemptOutcome),)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str]
    outcome: Mapped[AttemptOutcome] = mapped_column(Text)
    cause: Mapped[str | None]
    resumed_from_epoch: Mapped[int | None]
    fingerprint: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Transcript(Row):
    """What the training process of an attempt wrote to its standard output and error: the end of it."""

    __tablename__ = "transcripts"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Event(Row):
    __tablename__ = "events"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[str]
    at: Mapped[datetime]
    attempt: Mapped[int]
    data: Mapped[dict[str, Any]]


class Checkpoint(Row):
    """Where a run may go on from. The newest two are kept."""

    __tablename__ = "checkpoints"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    epoch: Mapped[int]
    files: Mapped[dict[str, Any]]  # name -> {sha256, bytes}
    created_at: Mapped[datetime]


class Artifact(Row):
    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "name"),)
    id: Mapped[Id]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str]
    media_type: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int]
    created_at: Mapped[datetime]


class Predictor(Row):
    """A stable name that points at one job's network, for callers that must not change when it is trained again."""

    __tablename__ = "predictors"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[Id]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)  # that job cannot be deleted
    previous_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    version: Mapped[int] = mapped_column(default=1)  # +1 each time it points at another job
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Blob(Row):
    """Bytes in storage. Touched before each put; what nothing refers to and nobody touched for an hour is collected."""

    __tablename__ = "blobs"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int]
    touched_at: Mapped[datetime] = mapped_column(index=True)


class Worker(Row):
    __tablename__ = "workers"
    id: Mapped[Id]
    host: Mapped[str]
    pid: Mapped[int]
    slots: Mapped[int]
    memory: Mapped[int]  # bytes it may promise
    capabilities: Mapped[dict[str, Any]]
    started_at: Mapped[datetime]
    last_beat: Mapped[datetime]


class Leadership(Row):
    """Who sweeps. Correctness never depends on it: two sweepers at once only do the same conditional UPDATEs."""

    __tablename__ = "leaderships"
    name: Mapped[Id]
    holder: Mapped[str]
    lease_until: Mapped[datetime]


class IdempotentRequest(Row):
    """An Idempotency-Key in use: written in the same transaction as the job it made."""

    __tablename__ = "idempotent_requests"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]  # SHA-256 of method, path and canonical body
    job_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(index=True)
