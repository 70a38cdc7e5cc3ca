"""kill -9 of each process in mid job under `serve`: the job goes on, and ends with the same bits (acceptance 4, 5)."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.conftest import PENGUINS
from tests.running import Serve, wait_until

# Dropout and batch norm: the hardest to resume bit for bit. Long enough to be killed in the middle of.
SPEC = {
    "target": "species",
    "network": {
        "layers": [
            {"type": "dense", "units": 64, "activation": "relu"},
            {"type": "batch_norm"},
            {"type": "dropout", "rate": 0.2},
            {"type": "dense", "units": 64, "activation": "relu"},
        ]
    },
    "training": {"epochs": 700, "optimizer": "adamw", "batch_size": 16},
}
KILL_AFTER_EPOCH = 60
GOES_ON_WITHIN = 15.0  # seconds
SAVE_OFTEN = {"BACKPROPD_CHECKPOINT_SECONDS": "0.2"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The artifacts and epochs of the same job, trained in other processes and never disturbed."""
    with Serve(tmp_path_factory.mktemp("undisturbed") / "data", **SAVE_OFTEN) as serve:
        job = serve.submit(serve.upload(PENGUINS)["id"], SPEC)
        ended = serve.finished(job["id"])
        assert ended["status"] == "succeeded", ended
        yield _result(serve, ended)


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Serve]:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    with Serve(tmp_path / "data", **SAVE_OFTEN, BACKPROPD_WORK_DIR=str(work_dir)) as serve:
        yield serve
        wait_until(lambda: not list(work_dir.iterdir()), 10, "no private folder is left")


def _result(serve: Serve, job: dict[str, Any]) -> dict[str, Any]:
    listed = serve.http.get(f"/v1/jobs/{job['id']}/artifacts").json()["items"]
    epochs = [event["data"] for event in serve.events(job["id"]) if event["type"] == "epoch"]
    timing = ("seconds", "samples_per_second")
    return {
        "weights": next(one["sha256"] for one in listed if one["name"] == "weights.safetensors"),
        "report": next(one["sha256"] for one in listed if one["name"] == "report.json"),
        "epochs": sorted(
            ({name: value for name, value in facts.items() if name not in timing} for facts in epochs),
            key=lambda facts: (facts.get("fold", 0), facts["epoch"]),  # folds are trained beside each other
        ),
        "best": job["best"],
    }


def _job_in_the_middle(serve: Serve) -> str:
    job = serve.submit(serve.upload(PENGUINS)["id"], SPEC)
    wait_until(lambda: _epoch(serve, job["id"]) >= KILL_AFTER_EPOCH, 60, f"epoch {KILL_AFTER_EPOCH}")
    return str(job["id"])


def _epoch(serve: Serve, job_id: str) -> int:
    return int(serve.job(job_id)["progress"]["epoch"])


def _kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def _goes_on(serve: Serve, job_id: str, after_epoch: int, since: float) -> None:
    def moved() -> bool:
        try:
            return _epoch(serve, job_id) > after_epoch
        except httpx2.TransportError:
            return False

    wait_until(moved, GOES_ON_WITHIN, "an epoch after the kill")
    assert time.monotonic() - since <= GOES_ON_WITHIN


def _ends_as_if_nothing_had_happened(serve: Serve, job_id: str, undisturbed: dict[str, Any]) -> dict[str, Any]:
    ended = serve.finished(job_id)
    assert ended["status"] == "succeeded", ended
    events = serve.events(job_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "end"
    assert _result(serve, ended) == undisturbed
    return ended


def test_f1_a_job_survives_the_death_of_its_training_process(breakable: Serve, undisturbed: dict[str, Any]) -> None:
    job_id = _job_in_the_middle(breakable)
    epoch = _epoch(breakable, job_id)

    _kill(breakable.child("training"))
    _goes_on(breakable, job_id, epoch, time.monotonic())

    ended = _ends_as_if_nothing_had_happened(breakable, job_id, undisturbed)
    assert [(one["outcome"], one["cause"]) for one in ended["attempts"]] == [
        ("crashed", "signal_9"),
        ("succeeded", None),
    ]
    assert ended["attempts"][1]["resumed_from_epoch"] > 0


def test_f5_a_job_survives_the_death_of_its_worker(breakable: Serve, undisturbed: dict[str, Any]) -> None:
    job_id = _job_in_the_middle(breakable)
    epoch, training = _epoch(breakable, job_id), breakable.child("training")

    _kill(breakable.child("worker"))
    _goes_on(breakable, job_id, epoch, time.monotonic())

    ended = _ends_as_if_nothing_had_happened(breakable, job_id, undisturbed)
    assert [(one["outcome"], one["cause"]) for one in ended["attempts"]] == [
        ("lost", "worker_lost"),
        ("succeeded", None),
    ]
    assert not training.is_running()


@pytest.mark.long
def test_a_cross_validation_survives_the_death_of_its_worker_in_mid_fold(breakable: Serve) -> None:
    dataset_id = breakable.upload(PENGUINS)["id"]
    spec = SPEC | {"split": {"folds": 3}, "training": SPEC["training"] | {"epochs": 150}}
    undisturbed = breakable.finished(breakable.submit(dataset_id, spec)["id"])
    job_id = str(breakable.submit(dataset_id, spec)["id"])
    wait_until(lambda: any(one["type"] == "checkpoint" for one in breakable.events(job_id)), 60, "a checkpoint")
    epoch = _epoch(breakable, job_id)

    _kill(breakable.child("worker"))
    _goes_on(breakable, job_id, epoch, time.monotonic())

    ended = _ends_as_if_nothing_had_happened(breakable, job_id, _result(breakable, undisturbed))
    assert ended["cross_validation"] == undisturbed["cross_validation"]
    lost = [one["fold"] for one in ended["attempts"] if one["outcome"] == "lost"]
    again = {one["fold"]: one for one in ended["attempts"] if one["number"] == 2}
    assert lost
    assert None not in lost
    assert set(again) == set(lost)
    assert any(one["resumed_from_epoch"] for one in again.values())


def test_f11_a_job_does_not_notice_the_death_of_the_broker(breakable: Serve, undisturbed: dict[str, Any]) -> None:
    job_id = _job_in_the_middle(breakable)
    epoch = _epoch(breakable, job_id)

    _kill(breakable.child("broker"))
    _goes_on(breakable, job_id, epoch, time.monotonic())

    ended = _ends_as_if_nothing_had_happened(breakable, job_id, undisturbed)
    assert [one["outcome"] for one in ended["attempts"]] == ["succeeded"]


def test_a_job_does_not_notice_the_death_of_the_api(breakable: Serve, undisturbed: dict[str, Any]) -> None:
    job_id = _job_in_the_middle(breakable)
    epoch = _epoch(breakable, job_id)

    _kill(breakable.child("api"))
    _goes_on(breakable, job_id, epoch, time.monotonic())

    ended = _ends_as_if_nothing_had_happened(breakable, job_id, undisturbed)
    assert [one["outcome"] for one in ended["attempts"]] == ["succeeded"]


def test_the_sweeper_is_started_again(breakable: Serve) -> None:
    first = breakable.child("sweeper")

    _kill(first)

    wait_until(lambda: [one for one in breakable.children("sweeper") if one.pid != first.pid], 10, "another sweeper")


@pytest.mark.long
def test_f7_a_job_goes_on_at_the_next_serve_after_a_clean_stop(breakable: Serve, undisturbed: dict[str, Any]) -> None:
    job_id = _job_in_the_middle(breakable)
    processes = [psutil.Process(breakable.process.pid), *psutil.Process(breakable.process.pid).children(recursive=True)]  # type: ignore[union-attr]

    seconds = breakable.stop(signal.SIGINT)
    left = psutil.wait_procs(processes, timeout=5)[1]
    breakable.start()

    assert seconds < 12
    assert left == []
    ended = _ends_as_if_nothing_had_happened(breakable, job_id, undisturbed)
    assert [one["outcome"] for one in ended["attempts"]] == ["interrupted", "succeeded"]


@pytest.mark.long
def test_f5_a_job_goes_on_at_the_next_serve_after_kill_9(breakable: Serve, undisturbed: dict[str, Any]) -> None:
    job_id = _job_in_the_middle(breakable)
    assert breakable.process is not None
    processes = psutil.Process(breakable.process.pid).children(recursive=True)

    breakable.stop(signal.SIGKILL)
    left = psutil.wait_procs(processes, timeout=40)[1]
    breakable.start()

    assert left == []
    _ends_as_if_nothing_had_happened(breakable, job_id, undisturbed)
