"""One run, from claim to final state.

`supervise` is the specification: beat the lease, lay out what the child needs, start it, follow it, and settle what
became of it. Outcomes are values. Whoever loses the claim on the way (`Fenced`) kills the child and writes nothing.
"""

import errno
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from core import database, errors, faults, lifecycle, queue
from core.lifecycle import Claim, Fenced
from core.logs import logger
from core.resolve.memory import address_space
from core.settings import settings
from core.tables import Job
from worker import blobs
from worker.child import Child
from worker.layout import cancel_order, lay_out, private_folder
from worker.lease import Lease
from worker.relay import Relay
from worker.settling import CutOff, Died, Outcome, Overdue, Shelved, give_back, give_up, settle
from worker.slots import slots
from worker.trainer.messages import CheckpointWritten, Logged, Phase, StopOrder

Done = TypeVar("Done")

LOGGED_CHARACTERS = 4000  # of what a child wrote; all that is kept of it can be read over the API
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # on this machine's disk


def supervise(claim: Claim) -> None:
    """Works on a run until it has ended, or is somebody else's."""
    structlog.contextvars.bind_contextvars(**claim.log_context())
    logger().info("run_claimed", kind=claim.kind, worker_id=slots.worker_id)
    queue.wake(claim.concerns)
    if claim.fold is not None:
        queue.ring()  # the next fold may be trained beside this one
    try:
        with Lease(claim) as lease:
            folder = _until_it_works(private_folder, lease)
            try:
                _work_on(claim, lease, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except Fenced:
        logger().warning("run_lost")
    finally:
        queue.wake(claim.concerns)
        structlog.contextvars.clear_contextvars()


def _work_on(claim: Claim, lease: Lease, folder: Path) -> None:
    try:
        order, relay = _until_it_works(lambda: lay_out(claim, folder), lease)
        given = _Orders(must_end_at=_until_it_works(lambda: _must_end_at(claim), lease))
        outcome = _follow(claim, lease, relay, order, folder, given)
        logger().info("run_followed", outcome=type(outcome).__name__)
        _until_it_works(lambda: settle(claim, outcome, relay, folder), lease)
    except Fenced:
        raise
    except errors.Problem as problem:
        reason = problem  # the name of an except clause is unset when it ends
        _until_it_works(lambda: give_up(claim, reason), lease)
    except OSError as error:  # this machine's disk or pipes, and no fault of the job: it is given to another
        logger().error("machine_failed", error=type(error).__name__, number=error.errno)
        _until_it_works(lambda: give_back(claim), lease)
    except Exception:  # noqa: BLE001 - a defect of ours: the run must not stay `running` until the lease is over
        logger().exception("supervisor_failed")
        _until_it_works(lambda: give_up(claim, errors.Internal()), lease)


def _until_it_works(act: Callable[[], Done], lease: Lease) -> Done:
    """A database or a storage that is away, or a full disk, is no fault of the job: tried again for as long as we hold
    the run, and where the worker stops, for as long as it has.
    """
    asked_to_stop: float | None = None
    while True:
        try:
            return act()
        except (*database.AWAY, errors.Unavailable, errors.StorageFull, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_ROOM:
                raise
            logger().warning("run_waits", error=type(error).__name__)
            if lease.lost.wait(1.0):
                raise Fenced from error
            if slots.draining.is_set():
                asked_to_stop = asked_to_stop or time.monotonic()
                if time.monotonic() - asked_to_stop > settings.drain_seconds:
                    raise Fenced from error  # the lease runs out, and another worker takes over


@dataclass
class _Orders:
    """What the child was told, and until when it has time, by the monotonic clock."""

    must_end_at: float
    told: set[str] = field(default_factory=set)
    drain_until: float = 0.0


def _must_end_at(claim: Claim) -> float:
    """When this job has been worked on for as long as a job may be."""
    if settings.max_job_seconds is None or claim.kind not in ("training", "fold"):
        return math.inf
    with database.reading() as session:
        return time.monotonic() + settings.max_job_seconds - lifecycle.seconds_worked(session, claim)


def _follow(claim: Claim, lease: Lease, relay: Relay, order: str, folder: Path, given: _Orders) -> Outcome:
    """Starts the child and relays what it says, until it ends or has to be ended."""
    faults.point("child.before_start")
    try:
        limit = claim.memory if claim.kind == "ingest" else address_space(claim.memory)
        child = Child(order, limit, str(folder))
    except (OSError, EOFError) as error:  # the forkserver can die at any moment of this
        return Died(f"not_started_{type(error).__name__}")
    last_word = time.monotonic()
    try:
        faults.point("child.after_start")
        while True:
            try:
                for message in child.messages(0.05 if relay.is_full else min(0.25, relay.seconds_until_due())):
                    last_word = time.monotonic()
                    ending = _hear(claim, relay, message, folder)
                    if ending is not None:
                        return ending
                    if relay.is_full:
                        break
            except EOFError:
                return Died(child.bury())
            if lease.lost.is_set():
                raise Fenced
            if claim.kind in ("training", "fold"):
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
        if written := child.written():
            logger().warning("child_wrote", text=written[-LOGGED_CHARACTERS:])
            relay.transcript = written


def _hear(claim: Claim, relay: Relay, message: Any, folder: Path) -> Outcome | None:
    match message:
        case Phase():
            if claim.kind in ("training", "fold"):
                relay.phase(message)
        case Logged():
            relay.log(message)
        case CheckpointWritten():
            _store_checkpoint(claim, relay, message, folder)
        case _:
            ending: Outcome = message
            return ending
    return None


def _obey(claim: Claim, relay: Relay, child: Child, given: _Orders) -> Outcome | None:
    """Passes on what a user or a stopping worker asks, and puts an end to it when the time for that is over."""
    if relay.order is not None:
        if relay.order not in given.told and (order := _stop_order(claim, relay.order)) is not None:
            child.tell(order)
            given.told.add(relay.order)
        if _is_overdue(claim):
            child.kill()
            return CutOff() if relay.order == "cancel" else Shelved()
    if (overdue := time.monotonic() - given.must_end_at) > 0:
        if "deadline" not in given.told:
            child.tell("deadline")
            given.told.add("deadline")
        elif overdue > settings.cancel_grace_seconds:
            child.kill()
            return Overdue()
    if slots.draining.is_set():
        if "drain" not in given.told:
            child.tell("drain")
            given.told.add("drain")
            given.drain_until = time.monotonic() + settings.drain_seconds
        elif time.monotonic() > given.drain_until:
            child.kill()
            return Shelved()
    return None


def _stop_order(claim: Claim, wanted: str) -> StopOrder | None:
    """Which weights its user wants was said with the cancel, long after the child's order was laid out."""
    if wanted == "pause":
        return "drain"  # to a child it is the same
    try:
        with database.reading() as session:
            return cancel_order(session.get_one(Job, claim.subject_id).keep)
    except database.AWAY:
        return None  # asked again at the next look


def _is_overdue(claim: Claim) -> bool:
    try:
        with database.reading() as session:
            _, deadline = lifecycle.orders(session, claim)
            return deadline is not None and database.now(session) >= deadline
    except database.AWAY:
        return False


def _store_checkpoint(claim: Claim, relay: Relay, written: CheckpointWritten, folder: Path) -> None:
    """Its epochs first (whoever goes on from it will not repeat them), then its bytes, then the fenced pointer.

    A checkpoint that cannot be stored now is one less, and no failure.
    """
    made_in = folder / Path(written.folder).name
    try:
        faults.point("checkpoint.before_store")
        relay.write_out()
        files = {name: stored.as_json() for name, stored in blobs.keep(claim.project_id, made_in).items()}
        with database.writing() as session:
            lifecycle.save_checkpoint(session, claim, written.epoch, files)
        queue.wake(claim.concerns)
    except (errors.Problem, OSError, *database.AWAY) as error:
        logger().error("checkpoint_not_stored", error=type(error).__name__)
    finally:
        shutil.rmtree(made_in, ignore_errors=True)
