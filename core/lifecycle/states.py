"""The states of a job, and the words for a worker's hold on a run."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from core.tables import InquiryKind, JobStatus, RunKind, Slot

# From -> to. The state chart in ARCHITECTURE.md is drawn from this.
TRANSITIONS: dict[JobStatus, set[JobStatus]] = {
    "queued": {"running", "cancelling", "cancelled", "failed", "paused"},
    "running": {"queued", "cancelling", "pausing", "succeeded", "failed"},
    "cancelling": {"cancelled"},
    "pausing": {"paused", "running", "cancelling", "succeeded", "failed"},
    "paused": {"queued", "cancelling", "cancelled", "failed"},
    "succeeded": set(),
    "failed": set(),
    "cancelled": set(),
}
TERMINAL: frozenset[JobStatus] = frozenset(status for status, following in TRANSITIONS.items() if not following)

SLOT_OF: dict[RunKind, Slot] = {
    "training": "training",
    "fold": "training",
    "ingest": "short",
    "trace": "short",
    "plan": "short",
    "predictions": "short",
}
INQUIRIES: frozenset[RunKind] = frozenset(get_args(InquiryKind))

Keep = Literal["best", "last", "none"]


class Fenced(Exception):
    """This claim is no longer the current one: stop at once and write nothing more."""


@dataclass(frozen=True)
class OfJob:
    """What a fold is of: it writes into the log of its job."""

    fold: int
    job_id: str
    run_id: str  # of the job


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
    of: OfJob | None = None  # of a fold

    @property
    def fold(self) -> int | None:
        return self.of.fold if self.of else None

    @property
    def concerns(self) -> str:
        """Whom those wait for who wait for this run: its subject, or the job of a fold."""
        return self.of.job_id if self.of else self.subject_id

    @property
    def log_id(self) -> str:
        """The run whose log it writes into."""
        return self.of.run_id if self.of else self.run_id

    def log_context(self) -> dict[str, Any]:
        if self.of:
            return {"job_id": self.of.job_id, "fold": self.fold, "run_id": self.run_id, "attempt": self.attempt}
        subjects: dict[RunKind, str] = {"training": "job_id", "ingest": "dataset_id"}
        return {subjects.get(self.kind, "inquiry_id"): self.subject_id, "run_id": self.run_id, "attempt": self.attempt}


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
