"""What became of a child, made the truth. What it said is data that was not trusted: it names no path and no column."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from core import database, errors, faults, lifecycle, queue
from core.lifecycle import Claim, MadeFile
from core.logs import logger
from core.tables import Event, Job
from worker import blobs
from worker.bundle import BUNDLE_FILE, write_bundle
from worker.relay import Relay
from worker.slots import slots
from worker.trainer.messages import (
    ANSWER,
    ARTIFACTS,
    BUNDLE,
    DATASET,
    Answered,
    Drained,
    Failed,
    FoldTrained,
    Ingested,
    NothingToKeep,
    Trained,
)

MACHINE_DELAY = 10.0  # seconds: a disk that fails does so again, and another worker may come first
MEDIA_TYPES = {
    ".h5": "application/x-hdf5",
    ".keras": "application/zip",
    ".safetensors": "application/vnd.safetensors",
    ".json": "application/json",
    ".csv": "text/csv",
    ".py": "text/x-python",
    ".onnx": "application/octet-stream",
    ".pt": "application/octet-stream",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class Died:
    """The child ended without a last word."""

    cause: str


@dataclass(frozen=True)
class CutOff:
    """The child was killed because its user would not wait any longer."""


@dataclass(frozen=True)
class Overdue:
    """The child was killed because its job may not take any longer, and it had not ended by itself when it was told."""


@dataclass(frozen=True)
class Shelved:
    """The worker stops or the job shall pause, and the child made no room in time: its last checkpoint has to do."""


Outcome = (
    Trained | FoldTrained | NothingToKeep | Drained | Ingested | Answered | Failed | Died | CutOff | Overdue | Shelved
)


def settle(claim: Claim, outcome: Outcome, relay: Relay, folder: Path) -> None:
    """Ends the claim as the outcome says. Raises `Fenced`; whatever else it raises, it may be called again."""
    relay.write_out()
    if relay.transcript and claim.kind in ("training", "fold"):
        with database.writing() as session:
            lifecycle.keep_transcript(session, claim, relay.transcript)
    match outcome:
        case Trained():
            _store_artifacts(claim, outcome, folder)
        case FoldTrained(result):
            with database.writing() as session:
                lifecycle.fold_trained(session, claim, result)
            queue.ring()
        case Ingested():
            _store_dataset(claim, outcome, folder)
        case Answered():
            files = {name: stored.as_json() for name, stored in blobs.keep(claim.project_id, folder / ANSWER).items()}
            with database.writing() as session:
                lifecycle.inquiry_answered(session, claim, files)
        case NothingToKeep() | CutOff():
            with database.writing() as session:
                lifecycle.succeed(session, claim, "user_cancel", [])
        case Failed():
            give_up(claim, _problem(outcome))
        case Overdue():
            give_up(claim, errors.DeadlineExceeded())
        case Drained() | Shelved():
            with database.writing() as session:
                lifecycle.release(session, claim, "worker_stopped" if slots.draining.is_set() else "paused")
        case Died(cause):
            with database.writing() as session:
                lifecycle.crash(session, claim, cause)
            queue.ring()


def _store_artifacts(claim: Claim, trained: Trained, folder: Path) -> None:
    made_in = folder / ARTIFACTS
    _write_metrics(claim, made_in / "metrics.csv")
    write_bundle(made_in / BUNDLE_FILE, made_in, folder / BUNDLE)
    faults.point("artifacts.before_store")
    made = [
        MadeFile(name, MEDIA_TYPES[Path(name).suffix], stored.sha256, stored.bytes)
        for name, stored in blobs.keep(claim.project_id, made_in).items()
    ]
    with database.writing() as session:
        found: dict[str, Any] = {"best": trained.best, "test": trained.test}
        if trained.thresholds is not None:
            outputs = session.get_one(Job, claim.subject_id).outputs or {}
            found["outputs"] = {**outputs, "thresholds": trained.thresholds}
        if trained.failed is None:
            lifecycle.succeed(session, claim, trained.stop_reason, made, **found)
        else:
            lifecycle.fail(session, claim, _problem(Failed(**trained.failed)), made, **found)


def _write_metrics(claim: Claim, path: Path) -> None:
    """The epochs as the log has them, those of each fold first; a rewound stretch only as it was trained last."""
    trainings: dict[int | None, dict[int, dict[str, Any]]] = {}
    with database.reading() as session:
        found = session.execute(
            select(Event.type, Event.data)
            .where(Event.run_id == claim.run_id, Event.type.in_(("epoch", "rewound")))
            .order_by(Event.seq)
        )
        for kind, data in found:
            epochs = trainings.setdefault(data.get("fold"), {})
            if kind == "rewound":
                trainings[data.get("fold")] = {
                    epoch: facts for epoch, facts in epochs.items() if epoch <= data["to_epoch"]
                }
            else:
                epochs[data["epoch"]] = data
    in_order = sorted(trainings.items(), key=lambda one: (one[0] is None, one[0] or 0))
    lines = [facts for _, epochs in in_order for facts in epochs.values()]
    names = list(dict.fromkeys(name for facts in lines for name in facts if name != "nonfinite"))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _store_dataset(claim: Claim, ingested: Ingested, folder: Path) -> None:
    files = {name: stored.as_json() for name, stored in blobs.keep(claim.project_id, folder / DATASET).items()}
    with database.writing() as session:
        jobs = lifecycle.dataset_ready(
            session,
            claim,
            files=files,
            rows=ingested.rows,
            columns=ingested.columns,
            warnings=ingested.warnings,
            dialect=ingested.dialect,
        )
    _tell(jobs)


def give_up(claim: Claim, problem: errors.Problem) -> None:
    """Ends the claim for a reason that trying again would not change."""
    logger().info("run_given_up", code=problem.code)
    jobs: list[str] = []
    with database.writing() as session:
        if claim.kind == "ingest":
            jobs = lifecycle.dataset_invalid(session, claim, problem)
        elif claim.kind in lifecycle.INQUIRIES:
            lifecycle.inquiry_failed(session, claim, problem)
        else:
            lifecycle.fail(session, claim, problem)
    _tell(jobs)


def give_back(claim: Claim) -> None:
    """Leaves the run to another worker, or to this one a little later: the machine failed it."""
    with database.writing() as session:
        lifecycle.release(session, claim, "machine_failed", delay=MACHINE_DELAY)


def _tell(jobs: list[str]) -> None:
    for job_id in jobs:
        queue.wake(job_id)
    queue.ring(len(jobs))


def _problem(failed: Failed) -> errors.Problem:
    """What the child said, as one of our classes: it is not trusted to name any other."""
    known = {problem.__name__: problem for problem in errors.every_problem()}
    return known.get(failed.problem, errors.Internal)(failed.detail, errors=failed.errors, **failed.facts)
