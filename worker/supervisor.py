"""One run, from claim to final state.

`supervise` is the specification: beat the lease, lay out what the child needs, start it, follow it, and settle what
became of it. Outcomes are values. Whoever loses the claim on the way (`Fenced`) kills the child and writes nothing.
"""

import csv
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from core import database, errors, lifecycle, queue, storage
from core.lifecycle import Claim, Fenced, MadeFile
from core.logs import logger
from core.settings import settings
from core.storage import blob_key
from core.tables import Checkpoint, Dataset, Event, Job
from worker import blobs
from worker.child import Child
from worker.lease import Lease
from worker.relay import Relay
from worker.slots import slots
from worker.trainer.messages import (
    CheckpointWritten,
    Drained,
    Failed,
    Ingested,
    Logged,
    NothingToKeep,
    Phase,
    Trained,
)
from worker.trainer.order import TableColumn, TrainingOrder

ARRAYS = ("numbers.npy", "codes.npy")
MEDIA_TYPES = {".safetensors": "application/vnd.safetensors", ".json": "application/json", ".csv": "text/csv"}


@dataclass(frozen=True)
class Died:
    """The child ended without a last word."""

    cause: str


@dataclass(frozen=True)
class CutOff:
    """The child was killed because its user would not wait any longer."""


@dataclass(frozen=True)
class Shelved:
    """The worker stops, and the child did not make room in time: its last checkpoint has to do."""


Outcome = Trained | NothingToKeep | Drained | Ingested | Failed | Died | CutOff | Shelved


def supervise(claim: Claim) -> None:
    """Works on a run until it has ended, or is somebody else's."""
    structlog.contextvars.bind_contextvars(**claim.log_context())
    logger().info("run_claimed", kind=claim.kind, worker_id=slots.worker_id)
    queue.wake(claim.subject_id)
    folder = Path(tempfile.mkdtemp(prefix="backpropd-", dir=settings.work_dir))
    try:
        with Lease(claim) as lease:
            try:
                order, relay = _patiently(lambda: _lay_out(claim, folder), lease)
                outcome = _follow(claim, lease, relay, order, folder)
                logger().info("run_followed", outcome=type(outcome).__name__)
                _persist(lambda: _settle(claim, outcome, relay))
            except errors.Problem as problem:
                reason = problem  # the name of an except clause is unset when it ends
                _persist(lambda: _give_up(claim, reason))
    except Fenced:
        logger().warning("run_lost")
    except Exception:  # noqa: BLE001 - a defect of ours: the run must not stay `running` until the lease is over
        logger().exception("supervisor_failed")
        _persist(lambda: _give_up(claim, errors.Internal()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        queue.wake(claim.subject_id)
        structlog.contextvars.clear_contextvars()


def _patiently(lay_out: Callable[[], tuple[str, Relay]], lease: Lease) -> tuple[str, Relay]:
    """A database or a storage that is away is no fault of the job: it is tried again as long as we hold the run."""
    while True:
        try:
            return lay_out()
        except (DBAPIError, errors.Unavailable) as error:
            logger().warning("run_waits", error=type(error).__name__)
            if lease.lost.wait(1.0) or slots.draining.is_set():
                raise Fenced from error


# --- before -------------------------------------------------------------------------------------------------------


def _lay_out(claim: Claim, folder: Path) -> tuple[str, Relay]:
    """What the child is told, with all its files on this machine."""
    store = storage.storage()
    with database.reading() as session:
        if claim.kind == "ingest":
            dataset = session.get_one(Dataset, claim.subject_id)
            file = store.fetch(dataset.upload_key, folder)
            order = {
                "file": str(file),
                "format": dataset.format,
                "folder": str(folder),
                "memory_bytes": settings.ingest_memory_bytes,
            }
            return json.dumps(order), Relay(claim, 1)

        job = session.get_one(Job, claim.subject_id)
        found = session.get(Dataset, job.dataset_id)
        checkpoints = session.scalars(
            select(Checkpoint).where(Checkpoint.run_id == claim.run_id).order_by(Checkpoint.number.desc())
        ).all()
    if found is None:
        raise errors.DataInvalid("The dataset was deleted before the job could read it.")
    assert job.resolved_spec is not None, "only a resolved job is queued"
    arrays = {
        name: str(store.fetch(blob_key(claim.project_id, found.files[name]["sha256"]), folder))
        for name in ARRAYS
        if name in found.files
    }
    training = TrainingOrder(
        spec=job.resolved_spec,
        rows=found.rows or 0,
        columns=[TableColumn.model_validate(column) for column in found.columns],
        numbers=arrays.get("numbers.npy"),
        codes=arrays.get("codes.npy"),
        checkpoint=_fetch_checkpoint(claim, list(checkpoints), folder),
        folder=str(folder),
        checkpoint_seconds=settings.checkpoint_seconds,
        keep=job.keep if job.keep in ("best", "last") else "none",
        stop="cancel" if claim.order == "cancel" else None,
    )
    return training.model_dump_json(), Relay(claim, job.resolved_spec.training.epochs)


def _fetch_checkpoint(claim: Claim, newest_first: list[Checkpoint], folder: Path) -> str | None:
    """The newest checkpoint whose bytes are what its row says; the one before is kept for the day they are not."""
    for row in newest_first:
        target = folder / f"resume-{row.number}"
        target.mkdir()
        try:
            for name, file in row.files.items():
                fetched = storage.storage().fetch(blob_key(claim.project_id, file["sha256"]), folder)
                if storage.measure(fetched).sha256 != file["sha256"]:
                    raise errors.NotFound()
                shutil.copyfile(fetched, target / name)
        except errors.NotFound:
            logger().error("checkpoint_damaged", number=row.number)
            continue
        return str(target)
    return None


# --- while it runs --------------------------------------------------------------------------------------------------


@dataclass
class _Orders:
    """What the child was told, and until when it has time."""

    told: set[str] = field(default_factory=set)
    drain_until: float = 0.0


def _follow(claim: Claim, lease: Lease, relay: Relay, order: str, folder: Path) -> Outcome:
    """Starts the child and relays what it says, until it ends or has to be ended."""
    try:
        child = Child(order, claim.memory, str(folder))
    except OSError as error:
        return Died(f"not_started_{type(error).__name__}")
    given, last_word = _Orders(), time.monotonic()
    try:
        while True:
            try:
                for message in child.messages(0.05 if relay.is_full else min(0.25, relay.seconds_until_due())):
                    last_word = time.monotonic()
                    ending = _hear(claim, relay, message)
                    if ending is not None:
                        return ending
                    if relay.is_full:
                        break
            except EOFError:
                return CutOff() if "cut" in given.told else Died(child.bury())
            if lease.lost.is_set():
                raise Fenced
            if claim.kind == "training":
                relay.flush()
            if time.monotonic() - last_word > settings.silence_seconds:
                child.kill()
                return Died("silent")
            ending = _obey(claim, relay, child, given)
            if ending is not None:
                return ending
    finally:
        child.kill()
        logger().debug("child_ended", how=child.bury())


def _hear(claim: Claim, relay: Relay, message: Any) -> Outcome | None:
    match message:
        case Phase():
            if claim.kind == "training":
                relay.phase(message)
                _note(claim, message)
        case Logged():
            relay.log(message)
        case CheckpointWritten():
            _store_checkpoint(claim, relay, message)
        case _:
            ending: Outcome = message
            return ending
    return None


def _note(claim: Claim, phase: Phase) -> None:
    facts: dict[str, Any] = {}
    if phase.fingerprint is not None:
        facts["fingerprint"] = phase.fingerprint
    if phase.resumed_from_epoch is not None:
        facts["resumed_from_epoch"] = phase.resumed_from_epoch
    if not facts:
        return
    try:
        with database.writing() as session:
            lifecycle.note_attempt(session, claim, **facts)
    except DBAPIError as error:
        logger().warning("attempt_not_noted", error=type(error).__name__)


def _obey(claim: Claim, relay: Relay, child: Child, given: _Orders) -> Outcome | None:
    """Passes on what a user or a stopping worker asks, and puts an end to it when the time for that is over."""
    if relay.order == "cancel":
        if "cancel" not in given.told:
            child.tell("cancel")
            given.told.add("cancel")
        if _is_overdue(claim):
            child.kill()
            return CutOff()
    if slots.draining.is_set():
        if "drain" not in given.told:
            child.tell("drain")
            given.told.add("drain")
            given.drain_until = time.monotonic() + settings.drain_seconds
        elif time.monotonic() > given.drain_until:
            child.kill()
            return Shelved()
    return None


def _is_overdue(claim: Claim) -> bool:
    try:
        with database.reading() as session:
            _, deadline = lifecycle.orders(session, claim)
            return deadline is not None and database.now(session) >= deadline
    except DBAPIError:
        return False


def _store_checkpoint(claim: Claim, relay: Relay, written: CheckpointWritten) -> None:
    """Its epochs first (whoever goes on from it will not repeat them), then its bytes, then the fenced pointer.

    A checkpoint that cannot be stored now is one less, and no failure.
    """
    folder = Path(written.folder)
    try:
        relay.write_out()
        files = {file.name: blobs.keep(claim.project_id, file).as_json() for file in sorted(folder.iterdir())}
        with database.writing() as session:
            lifecycle.save_checkpoint(session, claim, written.epoch, files)
        queue.wake(claim.subject_id)
    except (errors.Problem, DBAPIError) as error:
        logger().error("checkpoint_not_stored", error=type(error).__name__)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- after ----------------------------------------------------------------------------------------------------------


def _settle(claim: Claim, outcome: Outcome, relay: Relay) -> None:
    """Makes the outcome the truth."""
    relay.write_out()
    match outcome:
        case Trained():
            _succeed(claim, outcome)
        case Ingested():
            _store_dataset(claim, outcome)
        case NothingToKeep() | CutOff():
            with database.writing() as session:
                lifecycle.succeed(session, claim, "user_cancel", [])
        case Failed():
            _give_up(claim, _problem(outcome))
        case Drained() | Shelved():
            with database.writing() as session:
                lifecycle.release(session, claim, "worker_stopped")
        case Died(cause):
            with database.writing() as session:
                lifecycle.crash(session, claim, cause)
            queue.ring()


def _succeed(claim: Claim, trained: Trained) -> None:
    folder = Path(trained.folder)
    _write_metrics(claim, folder / "metrics.csv")
    made = []
    for file in sorted(folder.iterdir()):
        stored = blobs.keep(claim.project_id, file)
        made.append(MadeFile(file.name, MEDIA_TYPES[file.suffix], stored.sha256, stored.bytes))
    with database.writing() as session:
        lifecycle.succeed(session, claim, trained.stop_reason, made, best=trained.best)


def _write_metrics(claim: Claim, path: Path) -> None:
    """The epochs as the log has them; a rewound stretch only as it was trained last."""
    epochs: dict[int, dict[str, Any]] = {}
    with database.reading() as session:
        found = session.execute(
            select(Event.type, Event.data)
            .where(Event.run_id == claim.run_id, Event.type.in_(("epoch", "rewound")))
            .order_by(Event.seq)
        )
        for kind, data in found:
            if kind == "rewound":
                epochs = {epoch: facts for epoch, facts in epochs.items() if epoch <= data["to_epoch"]}
            else:
                epochs[data["epoch"]] = data
    names = list(dict.fromkeys(name for facts in epochs.values() for name in facts if name != "nonfinite"))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(epochs.values())


def _store_dataset(claim: Claim, ingested: Ingested) -> None:
    folder = Path(ingested.folder)
    files = {file.name: blobs.keep(claim.project_id, file).as_json() for file in sorted(folder.iterdir())}
    with database.writing() as session:
        jobs = lifecycle.dataset_ready(session, claim, files=files, **ingested.dataset)
    _tell(jobs)


def _give_up(claim: Claim, problem: errors.Problem) -> None:
    logger().info("run_given_up", code=problem.code)
    with database.writing() as session:
        if claim.kind == "ingest":
            jobs = lifecycle.dataset_invalid(session, claim, problem)
        else:
            jobs = []
            lifecycle.fail(session, claim, problem)
    _tell(jobs)


def _tell(jobs: list[str]) -> None:
    for job_id in jobs:
        queue.wake(job_id)
    queue.ring(len(jobs))


def _problem(failed: Failed) -> errors.Problem:
    """What the child said, as one of our classes: it is not trusted to name any other."""
    known = {problem.__name__: problem for problem in errors.every_problem()}
    return known.get(failed.problem, errors.Internal)(failed.detail, errors=failed.errors, **failed.facts)


def _persist(settle: Callable[[], None]) -> None:
    """A final word is said until the database has heard it, or somebody else has the run."""
    while True:
        try:
            return settle()
        except (DBAPIError, errors.Unavailable, errors.StorageFull) as error:
            logger().warning("final_state_waits", error=type(error).__name__)
            time.sleep(1)
