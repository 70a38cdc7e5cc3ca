"""What must be true of a job that has ended, whatever happened to it: I3, I6, I9, I10, I11, I13, I15 and I16."""

import hashlib
import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import select

from core import database, lifecycle
from core.tables import Artifact, Blob, Checkpoint, Dataset, Event, Job, Run
from tests.core.factories import attempts_of, check_rows, events_of, job_row, run_row

TIMING = ("seconds", "samples_per_second")


@dataclass(frozen=True)
class Result:
    """What is the same for each run of the same spec on the same rows."""

    weights: str  # SHA-256
    artifacts: dict[str, str]  # SHA-256 by name, but of those that have times in them
    epochs: list[dict[str, Any]]
    best: dict[str, Any] | None


def result_of(job_id: str) -> Result:
    with database.reading() as session:
        found = session.scalars(select(Artifact).where(Artifact.job_id == job_id)).all()
    artifacts = {one.name: one.sha256 for one in found if one.name not in ("metrics.csv", "bundle.zip")}
    epochs = [
        {name: value for name, value in event.data.items() if name not in TIMING}
        for event in events_of(run_row(job_id).id)
        if event.type == "epoch"
    ]
    epochs.sort(key=lambda epoch: (epoch.get("fold", 0), epoch["epoch"]))  # a fold that was killed comes after others
    return Result(artifacts["weights.safetensors"], artifacts, epochs, job_row(job_id).best)


def check_ended(job_id: str, storage: Path, undisturbed: Result | None = None) -> None:
    """Fails when a job that has ended `succeeded` contradicts an invariant, or the same job undisturbed."""
    check_rows()  # gapless numbers, one end and one terminal state, attempts without a gap, counters of the project
    job, run = job_row(job_id), run_row(job_id)
    assert job.status == "succeeded", f"{job.status}: {job.error}"
    events = events_of(run.id)
    assert [event.type for event in events].count("end") == 1
    assert events[-1].type == "end"
    assert "rewound" not in [event.type for event in events]
    _check_attempts(run)
    _check_artifacts(job, events, storage)
    _check_epochs(events)
    result = result_of(job_id)
    if undisturbed is not None:
        assert result.weights == undisturbed.weights, "other weights than those of the undisturbed training"
        assert result == undisturbed
    _check_no_checkpoint_is_left(run)


def _check_epochs(events: list[Event]) -> None:
    """Of each training every epoch once, in order."""
    trainings: dict[int | None, list[int]] = {}
    for event in events:
        if event.type == "epoch":
            trainings.setdefault(event.data.get("fold"), []).append(event.data["epoch"])
    for epochs in trainings.values():
        assert epochs == list(range(1, len(epochs) + 1))


def _check_attempts(run: Run) -> None:
    attempts = attempts_of(run.id)
    assert [one.outcome for one in attempts][-1] == "succeeded"
    ended_badly = [one.outcome for one in attempts[:-1]]
    assert ended_badly.count("crashed") == run.failures
    paused = sum(one.cause == "paused" for one in attempts)
    assert sum(outcome in ("lost", "interrupted") for outcome in ended_badly) - paused == run.interruptions


def _check_artifacts(job: Job, events: list[Event], storage: Path) -> None:
    with database.reading() as session:
        rows = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
    assert rows
    told = [event.data for event in events if event.type == "artifact"]
    assert sorted((one["name"], one["sha256"], one["bytes"]) for one in told) == sorted(
        (row.name, row.sha256, row.bytes) for row in rows
    )
    for row in rows:
        data = (storage / job.project_id / row.sha256).read_bytes()
        assert len(data) == row.bytes
        assert hashlib.sha256(data).hexdigest() == row.sha256, f"{row.name} is not what its row says"


def _check_no_checkpoint_is_left(run: Run) -> None:
    with database.reading() as session:
        assert session.scalars(select(Checkpoint.number).where(Checkpoint.run_id == run.id)).all() == []


def check_storage(storage: Path) -> None:
    """Every file is a whole blob that the collector knows of: nothing is half written, and nothing is forgotten."""
    with database.reading() as session:
        known = {f"{blob.project_id}/{blob.sha256}" for blob in session.scalars(select(Blob))}
        uploads = set(session.scalars(select(Dataset.upload_key)))
    for file in chain(storage.rglob("*")):
        if not file.is_file():
            continue
        key = file.relative_to(storage).as_posix()
        if key in uploads:
            continue
        assert re.fullmatch(r"prj_[0-9a-z]+/[0-9a-f]{64}", key), f"{key} is a temporary file that was left"
        assert key in known, f"{key} is stored, and no row says so"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name, f"{key} is half written"


def check_folders(work_dir: Path) -> None:
    """No private folder is left by a worker that lives, or that the next one would not remove."""
    assert [one.name for one in work_dir.iterdir()] == []


def is_over(job_id: str) -> bool:
    return job_row(job_id).status in lifecycle.TERMINAL
