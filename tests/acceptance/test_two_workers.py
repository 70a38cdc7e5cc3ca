"""Several workers, bells too many, a zombie, and no broker at all (acceptance 5)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from core.queue import CPU_QUEUE, WORK, broker_url_for_celery
from standalone.broker import socket_path
from tests.conftest import PENGUINS
from tests.running import Serve, clean_environment, wait_until

LONG = {"target": "species", "training": {"epochs": 1200}}
SHORT_LEASE = {"BACKPROPD_LEASE_SECONDS": "3", "BACKPROPD_BEAT_SECONDS": "0.5", "BACKPROPD_SWEEP_SECONDS": "0.5"}


@contextmanager
def another_worker(serve: Serve, **environment: str) -> Iterator[psutil.Process]:
    """A second worker on the same database, storage and broker as `serve`."""
    data = serve.data_dir.resolve()
    own = clean_environment(
        BACKPROPD_DATABASE_URL=f"sqlite:///{data / 'backpropd.sqlite3'}",
        BACKPROPD_STORAGE_URL=f"file:{data / 'storage'}",
        BACKPROPD_BROKER_URL=f"unix://{socket_path(data)}?db=0",
        BACKPROPD_LOG_FORMAT="json",
        **environment,
    )
    with (data / "second-worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "standalone.processes", "worker"], env=own, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: b"worker_started" in (data / "second-worker.log").read_bytes(), 30, "the second worker")
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _ring(serve: Serve, times: int) -> None:
    from celery import Celery

    url = broker_url_for_celery(f"unix://{socket_path(serve.data_dir.resolve())}?db=0")
    with Celery(broker=url) as bell:
        bell.conf.broker_transport_options = {"global_keyprefix": "backpropd:"}
        for _ in range(times):
            bell.send_task(WORK, queue=CPU_QUEUE)


def _epochs(serve: Serve, job_id: str) -> int:
    return int(serve.job(job_id)["progress"]["epoch"])


def _weights(serve: Serve, job_id: str) -> str:
    return next(one["sha256"] for one in _artifacts(serve, job_id) if one["name"] == "weights.safetensors")


def _artifacts(serve: Serve, job_id: str) -> list[dict[str, Any]]:
    return list(serve.http.get(f"/v1/jobs/{job_id}/artifacts").json()["items"])


def test_f13_bells_rung_twice_at_two_workers_make_one_attempt(own_serve: Serve) -> None:
    dataset_id = own_serve.upload(PENGUINS)["id"]

    with another_worker(own_serve):
        jobs = [own_serve.submit(dataset_id, {"target": "species", "training": {"epochs": 30}})["id"] for _ in range(8)]
        _ring(own_serve, 32)
        ended = [own_serve.finished(job_id) for job_id in jobs]

    assert [job["status"] for job in ended] == ["succeeded"] * 8
    assert [len(job["attempts"]) for job in ended] == [1] * 8
    assert {_weights(own_serve, job_id) for job_id in jobs} == {_weights(own_serve, jobs[0])}


def test_f6_a_zombie_writes_nothing(tmp_path: Path) -> None:
    with Serve(tmp_path / "data", **SHORT_LEASE) as serve:
        job_id = serve.submit(serve.upload(PENGUINS)["id"], LONG)["id"]
        wait_until(lambda: _epochs(serve, job_id) > 20, 30, "epoch 20")
        zombie = serve.child("worker")
        children = zombie.children(recursive=True)

        serve.freeze(zombie)
        with another_worker(serve, **SHORT_LEASE):
            wait_until(lambda: len(serve.job(job_id)["attempts"]) == 2, 30, "the second attempt")
            taken_over = next(event["seq"] for event in serve.events(job_id) if event["attempt"] == 2)
            zombie.send_signal(signal.SIGCONT)
            wait_until(lambda: b'"run_lost"' in serve.log.read_bytes(), 30, "the zombie's end")
            ended = serve.finished(job_id)

        events = serve.events(job_id)
        assert ended["status"] == "succeeded"
        assert [one["outcome"] for one in ended["attempts"]] == ["lost", "succeeded"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert all(event["attempt"] == 2 for event in events if event["seq"] > taken_over)
        assert [event["data"]["epoch"] for event in events if event["type"] == "epoch"] == list(range(1, 1201))
        assert not any(child.is_running() and "spawn" in " ".join(child.cmdline()) for child in children)


def test_f10_a_job_submitted_while_the_broker_is_frozen_gets_its_202_and_runs(own_serve: Serve) -> None:
    dataset_id = own_serve.upload(PENGUINS)["id"]
    broker = own_serve.child("broker")

    broker.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        job = own_serve.submit(dataset_id, {"target": "species", "training": {"epochs": 5}})
        seconds = time.monotonic() - started
        ended = own_serve.finished(job["id"], 40)
    finally:
        broker.send_signal(signal.SIGCONT)

    assert seconds <= 1
    assert ended["status"] == "succeeded"


def test_f11_no_job_is_lost_with_all_that_the_broker_knew(own_serve: Serve) -> None:
    dataset_id = own_serve.upload(PENGUINS)["id"]
    jobs = [own_serve.submit(dataset_id, {"target": "species", "training": {"epochs": 40}})["id"] for _ in range(6)]

    redis.Redis(unix_socket_path=str(socket_path(own_serve.data_dir.resolve()))).flushall()

    assert [own_serve.finished(job_id)["status"] for job_id in jobs] == ["succeeded"] * 6


def test_a_training_process_knows_no_secret(own_serve: Serve) -> None:
    job_id = own_serve.submit(own_serve.upload(PENGUINS)["id"], LONG)["id"]
    wait_until(lambda: _epochs(own_serve, job_id) > 5, 30, "epoch 5")
    process = own_serve.child("training")

    environment = Path(f"/proc/{process.pid}/environ").read_bytes()

    own_serve.http.post(f"/v1/jobs/{job_id}/cancel")
    assert b"BACKPROPD" not in environment
    assert own_serve.key.encode() not in environment
    assert str(own_serve.data_dir).encode() not in environment
    assert os.environ["PATH"].encode() in environment  # it was read at all
