"""The states of a job, and the words for a worker's hold on a run."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from core.tables import InquiryKind, JobStatus, RunKind, Slot

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

SLOT_OF: dict[RunKind, Slot] = {"training": "training", "ingest": "short", "trace": "short", "plan": "short"}
INQUIRIES: frozenset[RunKind] = frozenset(get_args(InquiryKind))

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
