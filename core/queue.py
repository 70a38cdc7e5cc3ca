"""The bell: a Celery message that says only "there may be work", and a wake-up for those who wait on a row.

Nothing is learned from either. A lost bell is rung again by the sweeper; a lost wake-up costs a reader the time to
its next look at SQL. Both leave from one daemon thread with a bounded queue, after COMMIT: a broker that hangs delays
neither a request nor a training.
"""

import os
import queue
import threading
import time
from functools import cache
from urllib.parse import parse_qs, urlsplit

import redis
from celery import Celery
from kombu.entity import Queue

from core import faults
from core.logs import logger
from core.settings import settings

WORK = "backpropd.work"  # the one task, by name: the API never imports what runs it
CPU_QUEUE = "backpropd.cpu"
WAKE_CHANNEL = "backpropd:wake"


def broker_url_for_celery(url: str) -> str:
    """redis-py says `unix:///socket?db=0`, kombu says `redis+socket:///socket?virtual_host=0`."""
    if not url.startswith("unix:"):
        return url
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={database}"


celery = Celery("backpropd", include=["worker.tasks"])
celery.conf.update(
    broker_url=broker_url_for_celery(settings.broker_url),
    result_backend=None,  # the database is the only truth of a job's state
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],  # never pickle
    task_queues=[Queue(CPU_QUEUE)],  # type: ignore[no-untyped-call]
    task_default_queue=CPU_QUEUE,
    task_create_missing_queues=False,  # a typo must not make a queue that nobody reads
    task_acks_late=True,  # a thread that supervises holds its message: back-pressure
    task_acks_on_failure_or_timeout=True,  # a failure is a row, not a redelivery
    task_reject_on_worker_lost=False,  # True loops for ever on a poison job; the lease rescues instead
    worker_prefetch_multiplier=1,  # leaves the rest to other workers
    worker_pool="threads",  # each thread supervises one training process
    worker_concurrency=(settings.training_slots or os.cpu_count() or 1) + 1,  # and one for short runs
    worker_cancel_long_running_tasks_on_connection_loss=False,  # a blip of the broker must not end a training
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_enable_remote_control=False,  # nothing asks, and its mailbox leaves keys behind
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 43_200,  # duplicates are harmless: the claim is in SQL
        "socket_timeout": 10,  # without it publishing hung for over 40 s on a frozen broker
        "socket_connect_timeout": 5,
        "socket_keepalive": not settings.broker_url.startswith("unix:"),
        "health_check_interval": 25,  # half-open connections recover
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 3,
        "global_keyprefix": "backpropd:",
    },
)


class Ringer:
    """Rings and wakes from a thread of its own. What does not fit in its queue is dropped: the row is the truth."""

    def __init__(self) -> None:
        self._calls: queue.Queue[str | None] = queue.Queue(maxsize=1000)
        self._redis = redis.Redis.from_url(settings.broker_url, socket_timeout=1, socket_connect_timeout=1)
        self._silent_until = 0.0
        self._thread = threading.Thread(target=self._serve, name="ringer", daemon=True)
        self._thread.start()

    def ring(self, times: int = 1) -> None:
        """Tells idle workers that there may be work."""
        for _ in range(times):
            self._leave_call(None)

    def wake(self, subject_id: str) -> None:
        """Tells those who wait for this job or dataset to look at it again."""
        self._leave_call(subject_id)

    def _leave_call(self, call: str | None) -> None:
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            return

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            if time.monotonic() < self._silent_until:
                continue  # the broker was away a moment ago: trying each call would only fill the queue
            try:
                if call is None:
                    faults.point("ring.before_send")
                    celery.send_task(WORK, queue=CPU_QUEUE, retry=False)
                    faults.point("ring.after_send")
                else:
                    faults.point("wake.before_send")
                    self._redis.publish(WAKE_CHANNEL, call)
            except Exception as error:  # noqa: BLE001 - kombu and redis-py raise what their sockets raise
                self._silent_until = time.monotonic() + 1
                logger().warning("broker_unreachable", error=type(error).__name__)


@cache
def ringer() -> Ringer:
    return Ringer()


def ring(times: int = 1) -> None:
    ringer().ring(times)


def wake(subject_id: str) -> None:
    ringer().wake(subject_id)
