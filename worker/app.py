"""The worker as Celery starts it: `celery -A worker.app worker`, or `backpropd worker`."""

import os
import socket
import tempfile
import threading
import time

from celery import signals
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from core import database, lifecycle, logs
from core.database import changed, commit, db_now, insert_or_nothing
from core.logs import logger
from core.queue import celery
from core.settings import settings
from core.tables import Worker
from worker import bells, child
from worker.layout import remove_left_folders
from worker.slots import slots
from worker.tasks import work

app = celery
bells.install()

_gone = threading.Event()
_extra: set[threading.Thread] = set()


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def start(**_: object) -> None:
    """Before the pool, and before any thread: the forkserver must be forked from a process that has none."""
    logs.configure()
    try:
        child.start_forkserver()
    except OSError as error:  # Celery would only log it, and keep a worker that can train nothing
        folder = tempfile.gettempdir()
        raise SystemExit(
            f"backpropd: no training process can be started: {error}. Its socket lies in TMPDIR, {folder}; where that"
            " is longer than 60 characters, name a shorter one."
        ) from error
    remove_left_folders()
    try:
        _enrol()
    except database.AWAY as error:  # Celery would only log it, and go on without the thread below
        logger().warning("worker_beat_failed", error=type(error).__name__)
    threading.Thread(target=_attend, name="attend", daemon=True).start()
    logger().info("worker_started", worker_id=slots.worker_id, training_slots=slots.training_slots)


def _enrol() -> None:
    with database.writing() as session:
        if settings.replaces_worker:
            lifecycle.expire_leases(session, settings.replaces_worker)
            lifecycle.rescue_dead(session)
            session.execute(delete(Worker).where(Worker.id == settings.replaces_worker))
        _write_row(session)
        commit(session, "enrol")


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def drain(**_: object) -> None:
    """SIGTERM: supervisors have their children write a checkpoint, and give the runs back."""
    slots.draining.set()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def stop(**_: object) -> None:
    deadline = time.monotonic() + settings.drain_seconds + 4
    for thread in list(_extra):
        thread.join(max(0.0, deadline - time.monotonic()))
    _gone.set()
    try:
        with database.writing() as session:
            session.execute(delete(Worker).where(Worker.id == slots.worker_id))
            commit(session, "leave")
    except database.AWAY as error:
        logger().warning("worker_row_left", error=type(error).__name__)
    logger().info("worker_stopped", worker_id=slots.worker_id)


def _attend() -> None:
    """Says that this worker lives, and looks for work by itself: so jobs go on while Redis is away."""
    while not _gone.is_set():
        try:
            with database.writing() as session:
                _write_row(session)
                commit(session, "attend")
        except database.AWAY as error:
            logger().warning("worker_beat_failed", error=type(error).__name__)
        _look()
        _gone.wait(settings.beat_seconds)


def _look() -> None:
    """Fills free slots with threads of our own where a look at SQL finds work and no bell has rung."""
    try:
        with database.reading() as session:
            waiting = lifecycle.claimable(session)
    except database.AWAY:
        return
    _extra.difference_update([thread for thread in _extra if not thread.is_alive()])
    for _ in range(min(waiting, slots.free())):
        thread = threading.Thread(target=work, name="look", daemon=True)
        _extra.add(thread)
        thread.start()


def _write_row(session: Session) -> None:
    found = session.execute(update(Worker).where(Worker.id == slots.worker_id).values(last_beat=db_now()))
    if changed(found):
        return
    moment = database.now(session)
    insert_or_nothing(
        session,
        Worker,
        id=slots.worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        slots=slots.training_slots + 1,
        memory=slots.memory,
        capabilities={"device": "cpu", "spec_versions": [1], "kinds": list(lifecycle.SLOT_OF)},
        started_at=moment,
        last_beat=moment,
    )
