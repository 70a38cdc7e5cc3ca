"""Prometheus: how many jobs in which state, how long they wait, how the HTTP side does. No ids in labels."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from api.keys import AdminCaller
from api.problems import responses
from core import database, errors
from core.database import db_now
from core.settings import settings
from core.tables import Dataset, Job, Run, Worker

router = APIRouter(tags=["operations"])
registry = CollectorRegistry()

REQUEST_SECONDS = Histogram(
    "backpropd_http_request_duration_seconds",
    "Time to the first byte of the answer.",
    ["method", "route", "status"],
    registry=registry,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
JOBS_SUBMITTED = Counter("backpropd_jobs_submitted_total", "Jobs accepted by this process.", registry=registry)
UPLOADED_BYTES = Counter("backpropd_uploaded_bytes_total", "Bytes of datasets received here.", registry=registry)
EVENT_READERS = Gauge("backpropd_event_readers", "Event streams open in this process.", registry=registry)
BUILD = Gauge("backpropd_build_info", "Constant 1.", ["version"], registry=registry)
BUILD.labels(version=version("backpropd")).set(1)


class FromTheDatabase(Collector):
    """Read at each scrape: true for the whole system, and no series is left of a process that died."""

    def describe(self) -> list[Metric]:
        return []  # so that registering it asks no database

    def collect(self) -> Iterator[Metric]:
        with database.reading() as session:
            jobs = session.execute(select(Job.status, func.count()).group_by(Job.status)).all()
            datasets = session.execute(select(Dataset.status, func.count()).group_by(Dataset.status)).all()
            runs = session.execute(
                select(Run.kind, Run.status, func.count()).where(Run.status != "ended").group_by(Run.kind, Run.status)
            ).all()
            oldest: Any = session.scalar(select(func.max(db_now() - Run.queued_at)).where(Run.status == "queued"))
            alive = Worker.last_beat > db_now() - settings.lease_seconds
            workers, slots = session.execute(
                select(func.count(), func.coalesce(func.sum(Worker.slots), 0)).where(alive)
            ).one()
            interrupted, failed = session.execute(
                select(func.coalesce(func.sum(Run.interruptions), 0), func.coalesce(func.sum(Run.failures), 0))
            ).one()

        yield _family("backpropd_jobs", "Jobs by status.", ["status"], [((status,), count) for status, count in jobs])
        yield _family(
            "backpropd_datasets", "Datasets by status.", ["status"], [((status,), count) for status, count in datasets]
        )
        yield _family(
            "backpropd_runs", "Unfinished units of work.", ["kind", "status"], [((k, s), count) for k, s, count in runs]
        )
        yield _family("backpropd_queue_oldest_seconds", "Age of the oldest queued run.", [], [((), float(oldest or 0))])
        yield _family("backpropd_workers", "Workers that beat within a lease.", [], [((), workers)])
        yield _family("backpropd_worker_slots", "Runs that they can hold at once.", [], [((), slots)])
        yield _family("backpropd_run_interruptions", "Runs taken back from lost workers.", [], [((), interrupted)])
        yield _family("backpropd_run_failures", "Training processes that died by themselves.", [], [((), failed)])


def _family(name: str, text: str, labels: list[str], samples: list[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


registry.register(FromTheDatabase())


@router.get("/metrics", responses=responses(errors.Unauthenticated, errors.InsufficientScope))
def prometheus_metrics(caller: AdminCaller) -> Response:
    """For Prometheus; needs an admin key, for it counts over all projects."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
