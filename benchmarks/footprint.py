"""What `backpropd serve` costs a machine: time to start, memory, processes; and whether jobs leave anything behind.

Also looks into a training process for secrets. Exits 1 when something is left behind or a secret is found; for a missed
target of time or memory only with --strict. Linux only: it reads /proc.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from figures import Figure, report
from serving import Serve, serving, stop_on_sigterm

HEALTHY_SECONDS, IDLE_MB, API_MB = 6.0, 600.0, 150.0
MB = 1e6
PARTS = {"standalone.processes api": "api", "standalone.processes worker": "worker", "valkey": "broker"}
PARTS |= {"standalone.processes sweeper": "sweeper", "forkserver": "forkserver", "standalone.command": "serve"}
PARTS |= {"resource_tracker": "resource tracker"}

# Secrets that must not reach a training process, besides whatever the worker's own environment holds.
PLANTED = {"AWS_SECRET_ACCESS_KEY": "planted-aws-secret", "AWS_SESSION_TOKEN": "planted-aws-token"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: benchmarks/footprint.py --requests 200 --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=1000, help="requests the API answers (default: %(default)s)")
    parser.add_argument("--first-look", type=int, default=5, help="jobs before the first look (default: %(default)s)")
    parser.add_argument("--second-look", type=int, default=25, help="jobs before the second (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed as well")
    asked = parser.parse_args()
    stop_on_sigterm()

    with serving(**PLANTED) as serve:
        figures = [Figure("start to healthy", serve.seconds_to_healthy, "s", at_most=HEALTHY_SECONDS)]
        dataset_id = serve.upload_iris()  # answered by the worker: everything is up when it is
        figures += measure_idle(serve)
        figures += measure_api(serve, asked.requests)
        kept = measure_leaks(serve, dataset_id, asked.first_look, asked.second_look)
        secrets = Figure("secrets in a training process", count_secrets(serve, dataset_id), exactly=0)

    code = report(
        "Footprint of `backpropd serve`, SQLite", [*figures, *kept, secrets], as_json=asked.json, strict=asked.strict
    )
    return 1 if any(figure.met is False for figure in [*kept, secrets]) else code


# --- memory -----------------------------------------------------------------------------------------------------------


def measure_idle(serve: Serve) -> list[Figure]:
    settle(lambda: len(processes(serve)))
    found = [(part(process), memory(process)["Pss"]) for process in processes(serve)]
    return [
        Figure("processes, idle", len(found)),
        Figure("memory of all, idle (sum of PSS)", sum(pss for _, pss in found) / MB, "MB", at_most=IDLE_MB),
        *(Figure(f"  {name}", pss / MB, "MB") for name, pss in sorted(found, key=lambda one: -one[1])),
    ]


def measure_api(serve: Serve, requests: int) -> list[Figure]:
    """A client that looks around: lists, single rows, the log of a job that does not exist, what it must not do."""
    dataset_id = serve.http.get("/v1/datasets").raise_for_status().json()["items"][0]["id"]
    paths = ["/v1/jobs", "/v1/datasets", f"/v1/datasets/{dataset_id}", "/v1/jobs/job_unknown", "/healthz", "/version"]
    for number in range(requests):
        serve.http.get(paths[number % len(paths)])
    api = next(process for process in processes(serve) if part(process) == "api")
    after = memory(api)
    return [
        Figure(f"API after {requests:,} requests, RSS", after["Rss"] / MB, "MB"),
        Figure(f"API after {requests:,} requests, PSS", after["Pss"] / MB, "MB", at_most=API_MB),
    ]


def memory(process: psutil.Process) -> dict[str, int]:
    """Bytes by kind. PSS divides what processes share among them: only its sum counts nothing twice."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(value.split()[0]) * 1024 for name, value in (line.split(":", 1) for line in lines)}


# --- what jobs leave behind -------------------------------------------------------------------------------------------


def measure_leaks(serve: Serve, dataset_id: str, first: int, second: int) -> list[Figure]:
    train(serve, dataset_id, first)
    before = held(serve)
    train(serve, dataset_id, second - first)
    after = held(serve)
    return [
        figure
        for name, expected in before.items()
        for figure in (
            Figure(f"{name} after job {first}", expected),
            Figure(f"{name} after job {second}", after[name], exactly=None if name == POOLED else expected),
        )
    ]


POOLED = "descriptors of pooled database connections"  # file, log, index: the pool grows to what is needed


def train(serve: Serve, dataset_id: str, jobs: int) -> None:
    spec = {"target": "species", "network": {"hidden": [16]}, "training": {"epochs": 3}}
    for _ in range(jobs):
        answer = serve.http.post("/v1/jobs?wait=60", json={"dataset_id": dataset_id, "spec": spec}).raise_for_status()
        if answer.json()["status"] != "succeeded":
            raise SystemExit(f"a job did not succeed: {answer.text}")


def held(serve: Serve) -> dict[str, int]:
    """What is open once the last child is gone: a job has ended a moment before its folder is removed."""

    def look() -> dict[str, int]:
        alive = processes(serve)
        opened = [os.readlink(link) for process in alive for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        return {
            "processes": len(alive),
            "open descriptors, others": sum("backpropd.sqlite3" not in target for target in opened),
            POOLED: sum("backpropd.sqlite3" in target for target in opened),
            "temporary files": sum(1 for _ in serve.temporary.rglob("*")),
        }

    return settle(look)


def settle(look: Callable[[], Any], quiet: float = 1.0, at_most: float = 15.0) -> Any:
    """What is seen once it has not changed for `quiet` seconds, or after `at_most`."""
    deadline = time.monotonic() + at_most
    seen, since = None, time.monotonic()
    while time.monotonic() - since < quiet and time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            now = look()
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue  # a process or a file went away while we looked
        if now != seen:
            seen, since = now, time.monotonic()
    return seen


# --- secrets ----------------------------------------------------------------------------------------------------------


def count_secrets(serve: Serve, dataset_id: str) -> int:
    """Names and values of our settings and of AWS's, and the API key, in what a training process was started with."""
    spec = {"target": "species", "training": {"epochs": 100_000}}
    job = serve.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": spec}).raise_for_status().json()
    training = wait_for_training(serve)
    environment, arguments = training.environ(), training.cmdline()
    answer = serve.http.post(f"/v1/jobs/{job['id']}/cancel", json={"keep": "none", "force": True})
    answer.raise_for_status()

    worker = next(process for process in processes(serve) if part(process) == "worker")
    settings = {name: value for name, value in worker.environ().items() if is_setting(name)}
    if not settings.keys() >= {*PLANTED, "BACKPROPD_DATABASE_URL"}:
        raise SystemExit(f"the worker itself does not hold the secrets that are looked for: {sorted(settings)}")
    if "PATH" not in environment:
        raise SystemExit("the environment of the training process could not be read")
    told = "\n".join([*(f"{name}={value}" for name, value in environment.items()), *arguments])
    return sum(is_setting(name) for name in environment) + sum(
        secret in told for secret in {serve.key, *settings.values()}
    )


def is_setting(name: str) -> bool:
    return name.startswith(("BACKPROPD_", "AWS_"))


def wait_for_training(serve: Serve) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in processes(serve):
            parent = process.parent()
            if parent is not None and part(process) == "forkserver" and part(parent) == "forkserver":
                return process
        time.sleep(0.02)
    raise SystemExit("no training process came within 30 s")


# --- processes --------------------------------------------------------------------------------------------------------


def processes(serve: Serve) -> list[psutil.Process]:
    serving = psutil.Process(serve.process.pid)
    return [serving, *serving.children(recursive=True)]


def part(process: psutil.Process) -> str:
    """Its name in the design; a training process has its forkserver's."""
    command = " ".join(process.cmdline())
    return next((name for mark, name in PARTS.items() if mark in command), command[:40])


if __name__ == "__main__":
    sys.exit(main())
