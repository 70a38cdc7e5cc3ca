"""The engine called through the whole service: what submitting, supervising and artifacts add, and what memory and the
pace of events are like. Over HTTP, against a `backpropd serve` of its own, with the bare engine trained in between.

Linux only: it reads /proc.
"""

import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median as middle
from typing import Any

import bootstrap
import duckdb
import numpy as np
import rounds
from figures import Figure
from serving import Serve, events_of, serving
from watching import cpu_seconds, proportional_memory, watching
from workloads import LEARNING_RATE, WORKLOADS, Workload

ADDED_SECONDS, TIMES_BARE = 0.5, 1.15  # submit to succeeded, at most
COLD_TEXTBOOK = 3.0  # times faster, at least
BESIDE_ANOTHER = 1.15  # CPU time of a job beside another, at most
TIMES_DATA, ADDED_MB = 1.1, 160.0  # memory of the training process, at most
FIRST_LOSS, LOSS_GAP = 1.0, 1.5  # seconds to the first loss, and between two ("about one a second")
MB = 1e6
LOSSES = ("epoch", "step")


def measure(names: list[str], count: int, folder: Path, core: int, progress: Callable[[str], None]) -> list[Figure]:
    figures: list[Figure] = []
    with serving() as serve:
        for name in names:
            workload = WORKLOADS[name]
            progress(f"{name}: uploading")
            dataset_id = upload(serve, workload, folder)
            figures += side_by_side(serve, workload, dataset_id, count, folder, core, progress)
            if name == "W1":
                progress("W1: two jobs at once")
                figures.append(two_at_once(serve, workload, dataset_id, count))
            if name == "W3":
                progress("W3: memory")
                figures.append(peak_memory(serve, workload, dataset_id))
    return figures


# --- jobs -------------------------------------------------------------------------------------------------------------


def upload(serve: Serve, workload: Workload, folder: Path) -> str:
    """The rows as Parquet: features `f0`, `f1`, ... and an integer `target`; returns its id once it is read."""
    features, target = workload.load(folder)
    columns = {f"f{number}": np.ascontiguousarray(column) for number, column in enumerate(features.T)}
    table = folder / f"{workload.name}.parquet"
    connection = duckdb.connect()
    connection.register("table_of_rows", columns | {"target": target})
    connection.execute(f"COPY table_of_rows TO '{table}' (FORMAT parquet)")
    connection.close()
    with table.open("rb") as file:
        answer = serve.http.post("/v1/datasets?wait=60", files={"file": (table.name, file)}).raise_for_status()
    table.unlink()
    dataset = answer.json()
    while dataset["status"] == "processing":
        time.sleep(0.2)
        dataset = serve.http.get(f"/v1/datasets/{dataset['id']}").raise_for_status().json()
    if dataset["status"] != "ready":
        raise SystemExit(f"the dataset of {workload.name} was not read: {dataset}")
    return str(dataset["id"])


def spec_of(workload: Workload) -> dict[str, Any]:
    """What the bare engine does: the features as they are, and no validation rows."""
    return {
        "task": "classification",
        "target": "target",
        "features": {"columns": {f"f{number}": {"scale": "none"} for number in range(workload.inputs)}},
        "split": {"validation": 0},
        "network": {"hidden": list(workload.hidden)},
        "training": {
            "loss": "cross_entropy",
            "optimizer": {"name": "adam", "learning_rate": LEARNING_RATE},
            "batch_size": workload.batch_size,
            "epochs": workload.epochs,
        },
    }


def run_job(serve: Serve, workload: Workload, dataset_id: str) -> tuple[dict[str, Any], float]:
    """The job, and seconds from submitting it to knowing that it succeeded."""
    began = time.perf_counter()
    body = {"dataset_id": dataset_id, "spec": spec_of(workload)}
    job = serve.http.post("/v1/jobs?wait=60", json=body).raise_for_status().json()
    if not job["finished"]:
        job = serve.finished(job["id"])
    seconds = time.perf_counter() - began
    if job["status"] != "succeeded":
        raise SystemExit(f"a job of {workload.name} did not succeed: {job['error']}")
    return job, seconds


# --- time -------------------------------------------------------------------------------------------------------------


def side_by_side(
    serve: Serve,
    workload: Workload,
    dataset_id: str,
    count: int,
    folder: Path,
    core: int,
    progress: Callable[[str], None],
) -> list[Figure]:
    """Round by round a job, the bare engine, and on W1 the textbook loop from a cold process."""
    name = workload.name
    walls, bare, cold, jobs = [], [], [], []
    with rounds.started(rounds.OURS, workload, folder, core) as child:
        child.answer()
        for number in range(count + 1):
            progress(
                f"{name}: {f'round {number} of {count}' if number else 'the round that is discarded'}, the service"
            )
            job, wall = run_job(serve, workload, dataset_id)
            cpu = child.train(number)["cpu"]
            textbook = cold_textbook(workload, folder, core) if name == "W1" else 0.0
            if number:
                jobs.append(job)
                walls.append(wall)
                bare.append(cpu)
                cold.append(textbook)

    bounded, alone = bootstrap.median(walls), middle(bare)
    figures = [
        Figure(
            f"{name}: submit to succeeded (bare engine {alone:.2f} s)",
            bounded.value,
            "s",
            at_most=ADDED_SECONDS + TIMES_BARE * alone,
            low=bounded.low,
            high=bounded.high,
            digits=2,
        )
    ]
    if name == "W1":
        faster = bootstrap.ratio(cold, walls)
        figures.append(
            Figure(
                f"W1: times faster than `python textbook.py` from cold ({middle(cold):.1f} s)",
                faster.value,
                "x",
                at_least=COLD_TEXTBOOK,
                low=faster.low,
                high=faster.high,
                digits=2,
            )
        )
    else:
        figures += pace(name, [(job, events_of(serve.http, job["id"])) for job in jobs])
    return figures


def cold_textbook(workload: Workload, folder: Path, core: int) -> float:
    """Wall seconds of the script in a new process, on a core of its own, with the rows in a file that opens fast."""
    rows = folder / f"{workload.name}.npz"
    if not rows.exists():
        features, target = workload.load(folder)
        np.savez(rows, X=features, y=target)
    environment = {name: value for name, value in os.environ.items() if name in rounds.KEPT} | rounds.ONE_THREAD
    command = ["taskset", "--cpu-list", str(core), rounds.PEERS_PYTHON, rounds.HERE / "peers" / "textbook.py", rows]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def pace(name: str, logs: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> list[Figure]:
    """When a reader sees losses, by the log's own times; what counts is the worst of all jobs."""
    firsts, gaps, rates = [], [], []
    for job, log in logs:
        start = moment(job["started_at"])
        times = [moment(event["at"]) for event in log if event["type"] in LOSSES]
        firsts.append(times[0] - start)
        gaps += [later - earlier for earlier, later in pairwise(times)]
        rates.append(len(times) / (times[-1] - start))
    return [
        Figure(f"{name}: start to first loss event", max(firsts), "s", at_most=FIRST_LOSS, digits=2),
        Figure(f"{name}: longest time between two", max(gaps), "s", at_most=LOSS_GAP, digits=2),
        Figure(f"{name}: loss events a second", middle(rates), digits=2),
    ]


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- the training process, seen from outside --------------------------------------------------------------------------


def two_at_once(serve: Serve, workload: Workload, dataset_id: str, count: int) -> Figure:
    """CPU time of the training processes of two jobs at once, the dearer one, over that of a job alone."""
    alone, beside = [], []
    for _ in range(count):
        with watching(serve, cpu_seconds) as seen:
            run_job(serve, workload, dataset_id)
        alone.append(max(seen.values()))
        with watching(serve, cpu_seconds) as seen, ThreadPoolExecutor(2) as pool:
            for job in [pool.submit(run_job, serve, workload, dataset_id) for _ in range(2)]:
                job.result()
        beside.append(max(seen.values()))
    bounded = bootstrap.ratio(beside, alone)
    return Figure(
        f"W1: CPU time of a job beside another, of that alone ({middle(alone):.2f} s)",
        bounded.value,
        "x",
        at_most=BESIDE_ANOTHER,
        low=bounded.low,
        high=bounded.high,
        digits=2,
    )


def peak_memory(serve: Serve, workload: Workload, dataset_id: str) -> Figure:
    with watching(serve, proportional_memory) as seen:
        run_job(serve, workload, dataset_id)
    data = workload.data_bytes / MB
    at_most = TIMES_DATA * data + ADDED_MB
    name = f"{workload.name}: peak memory of the training process, PSS ({data:.0f} MB of data)"
    return Figure(name, max(seen.values()) / MB, "MB", at_most=at_most)
