"""The sweeper: rings bells that were lost, rescues runs whose worker is gone, collects what nothing refers to.

Any number may be started; one leads at a time. Correctness never depends on that: each rescue is a conditional
UPDATE that a second sweeper finds done.
"""

import signal
import time

from sqlalchemy import delete, func, or_, select, update

from core import database, errors, lifecycle, logs, queue
from core.database import changed, commit, db_now, insert_or_nothing
from core.ids import new_id
from core.logs import logger
from core.settings import settings
from core.stopping import Stop
from core.tables import IdempotentRequest, Leadership, Run, Worker
from worker import blobs

COLLECT_EVERY = 600.0  # seconds
FORGET_WORKERS_AFTER = 600.0
FORGET_KEYS_AFTER = 86_400.0  # an Idempotency-Key is remembered for a day
CLOCK_JUMP = 2.0  # seconds that wall and monotonic time may drift apart between two sweeps


class Sweeper:
    def __init__(self) -> None:
        self._holder = new_id("wrk")
        self._over = Stop()
        self._drift = time.time() - time.monotonic()
        self._no_rescue_until = 0.0
        self._next_collect = time.monotonic() + COLLECT_EVERY

    def stop(self, *_: object) -> None:
        self._over.tell()

    def run(self) -> None:
        logger().info("sweeper_started")
        while not self._over.is_told:
            try:
                if self._leads():
                    self.sweep()
            except (*database.AWAY, errors.Problem) as error:
                logger().warning("sweep_failed", error=type(error).__name__)
            self._over.wait(settings.sweep_seconds)
        logger().info("sweeper_stopped")

    def sweep(self) -> None:
        if self._clock_is_steady():
            with database.writing() as session:
                rescued = lifecycle.rescue_dead(session)
            for subject_id in rescued:
                logger().warning("run_rescued", subject_id=subject_id)
                queue.wake(subject_id)
        self._ring()
        if time.monotonic() >= self._next_collect:
            self._next_collect = time.monotonic() + COLLECT_EVERY
            self._forget()
            blobs.collect()
            blobs.collect_uploads()

    def _leads(self) -> bool:
        with database.writing() as session:
            insert_or_nothing(
                session, Leadership, name="sweeper", holder=self._holder, lease_until=database.now(session)
            )
            found = session.execute(
                update(Leadership)
                .where(
                    Leadership.name == "sweeper",
                    or_(Leadership.holder == self._holder, Leadership.lease_until < db_now()),
                )
                .values(holder=self._holder, lease_until=db_now() + 3 * settings.sweep_seconds)
            )
            commit(session, "lead")
            return changed(found) == 1

    def _clock_is_steady(self) -> bool:
        """SQLite has the machine's clock: after a jump every lease looks dead, or none. Let them be renewed first."""
        drift = time.time() - time.monotonic()
        if abs(drift - self._drift) > CLOCK_JUMP and database.engine().dialect.name == "sqlite":
            logger().warning("clock_jumped", seconds=round(drift - self._drift, 3))
            self._no_rescue_until = time.monotonic() + settings.lease_seconds
        self._drift = drift
        return time.monotonic() >= self._no_rescue_until

    def _ring(self) -> None:
        """One bell for each idle slot, not for each queued job: a long queue must not flood the broker."""
        with database.reading() as session:
            waiting = lifecycle.claimable(session)
            alive = Worker.last_beat > db_now() - settings.lease_seconds
            slots = session.scalar(select(func.coalesce(func.sum(Worker.slots), 0)).where(alive)) or 0
            running = session.scalar(select(func.count()).select_from(Run).where(Run.status == "running")) or 0
        queue.ring(max(0, min(waiting, slots - running)))

    def _forget(self) -> None:
        with database.writing() as session:
            session.execute(delete(Worker).where(Worker.last_beat < db_now() - FORGET_WORKERS_AFTER))
            session.execute(
                delete(IdempotentRequest).where(IdempotentRequest.created_at < db_now() - FORGET_KEYS_AFTER)
            )
            commit(session, "forget")
        with database.writing() as session:
            lifecycle.forget_inquiries(session)


def main() -> None:
    logs.configure()
    sweeper = Sweeper()
    signal.signal(signal.SIGTERM, sweeper.stop)
    signal.signal(signal.SIGINT, sweeper.stop)
    sweeper.run()
