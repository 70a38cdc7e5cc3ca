"""Many small jobs at once: all must succeed, none may be lost, and every log must be whole.

Exits 1 when one of these does not hold. Speed is reported, and a reason to exit with 1 only with --strict.
"""

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx2
from figures import Figure, report
from serving import DATABASES, Serve, events_of, percentile, serving, stop_on_sigterm

JOBS_A_MINUTE = 300.0  # on 2 cores
UNFINISHED = ("queued", "running", "cancelling", "pausing", "paused")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: benchmarks/burst.py --jobs 100 --database postgresql --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=300, help="jobs submitted at once (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="threads that submit them (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each job (default: %(default)s)")
    parser.add_argument("--database", choices=DATABASES, default="sqlite", help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for all of them (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed as well")
    asked = parser.parse_args()
    stop_on_sigterm()

    with serving(asked.database) as serve:
        dataset_id = serve.upload_iris()
        spec = {"target": "species", "network": {"hidden": [16]}, "training": {"epochs": asked.epochs}}
        serve.finished(submit(serve.http, dataset_id, spec)[0])  # warm

        began = time.time()
        submitted = submit_at_once(serve, dataset_id, spec, asked.jobs, asked.clients)
        all_accepted = time.time()
        wait_for_all(serve.http, asked.timeout)
        wrong, last = check(serve.http, [job_id for job_id, _ in submitted], asked.epochs)

    seconds = last - began
    waits = [wait * 1000 for _, wait in submitted]
    figures = [
        Figure("jobs submitted and found again", asked.jobs - wrong["lost"], exactly=asked.jobs),
        Figure("jobs that did not succeed", wrong["not succeeded"], exactly=0),
        Figure("logs with a gap, or without their end", wrong["broken logs"], exactly=0),
        Figure("jobs a minute, from the first POST to the last end", 60 * asked.jobs / seconds, at_least=JOBS_A_MINUTE),
        Figure("all accepted after", all_accepted - began, "s"),
        Figure("all ended after", seconds, "s"),
        Figure(f"POST -> 202, {asked.clients} clients, p50", percentile(waits, 0.5), "ms"),
        Figure(f"POST -> 202, {asked.clients} clients, p95", percentile(waits, 0.95), "ms"),
    ]
    code = report(
        f"Burst: {asked.jobs} jobs of {asked.epochs} epochs on 150 rows, {asked.database}",
        figures,
        as_json=asked.json,
        strict=asked.strict,
    )
    return 1 if any(wrong.values()) else code


def submit_at_once(
    serve: Serve, dataset_id: str, spec: dict[str, object], jobs: int, clients: int
) -> list[tuple[str, float]]:
    """Ids, and seconds to the 202. A connection belongs to one thread, as if each were another client."""
    own = threading.local()

    def submit_one(_: int) -> tuple[str, float]:
        if not hasattr(own, "http"):
            own.http = serve.client()
        return submit(own.http, dataset_id, spec)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(submit_one, range(jobs)))


def submit(http: httpx2.Client, dataset_id: str, spec: dict[str, object]) -> tuple[str, float]:
    began = time.perf_counter()
    answer = http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": spec})
    seconds = time.perf_counter() - began
    return str(answer.raise_for_status().json()["id"]), seconds


def wait_for_all(http: httpx2.Client, timeout: float) -> None:
    """Waits on one unfinished job after the other: one open request, so that looking costs next to nothing."""
    deadline = time.monotonic() + timeout
    query = "&".join(f"status={status}" for status in UNFINISHED)
    while left := http.get(f"/v1/jobs?{query}&limit=1").raise_for_status().json()["items"]:
        if time.monotonic() > deadline:
            raise SystemExit(f"jobs were still unfinished after {timeout:.0f} s, such as {left[0]['id']}")
        # The list has the newest first, which usually ends last.
        http.get(f"/v1/jobs/{left[0]['id']}?wait=30").raise_for_status()


def check(http: httpx2.Client, job_ids: list[str], epochs: int) -> tuple[dict[str, int], float]:
    """What is wrong, counted; and when the last job ended."""
    listed = list_all(http)
    found = [listed[job_id] for job_id in dict.fromkeys(job_ids) if job_id in listed]
    broken = 0
    for job in found:
        log = events_of(http, str(job["id"]))
        trained = [event["data"]["epoch"] for event in log if event["type"] == "epoch"]
        whole = [event["seq"] for event in log] == list(range(1, len(log) + 1))
        broken += not (whole and trained == list(range(1, epochs + 1)) and log[-1]["type"] == "end")
    wrong = {
        "lost": len(job_ids) - len(found),
        "not succeeded": sum(job["status"] != "succeeded" for job in found),
        "broken logs": broken,
    }
    ends = [datetime.fromisoformat(str(job["finished_at"])).timestamp() for job in found if job["finished_at"]]
    return wrong, max(ends, default=0.0)


def list_all(http: httpx2.Client) -> dict[str, dict[str, object]]:
    """Every job of the project, through the pages. A job that came twice would be lost under another's name."""
    found: dict[str, dict[str, object]] = {}
    page: str | None = "/v1/jobs?limit=100"
    while page is not None:
        answer = http.get(page).raise_for_status()
        items = answer.json()["items"]
        if any(job["id"] in found for job in items):
            raise SystemExit("a job came twice in the pages of the list")
        found |= {job["id"]: job for job in items}
        page = answer.links["next"]["url"] if "next" in answer.links else None
    return found


if __name__ == "__main__":
    sys.exit(main())
