"""How long a user waits: from POST to 202, and from POST to the first loss at an SSE reader.

One client, one job at a time, on a warm server, with a dataset that has been read already.
"""

import argparse
import sys
import time
from datetime import datetime

from figures import Figure, report
from serving import DATABASES, Serve, events_of, percentile, serving, stop_on_sigterm

ACCEPTED_TARGET, FIRST_EPOCH_TARGET = 25.0, 250.0  # ms, at the median


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: benchmarks/latency.py --jobs 100 --database sqlite",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=40, help="jobs that are measured (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=5, help="jobs before them (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each job (default: %(default)s)")
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: both, one after the other")
    parser.add_argument("--postgres", action="store_true", help="short for --database postgresql (an embedded one)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args()
    stop_on_sigterm()

    figures: list[Figure] = []
    for database in ("postgresql",) if asked.postgres else asked.database or DATABASES:
        with serving(database) as serve:
            figures += measure(serve, database, asked.jobs, asked.warm_up, asked.epochs)
    return report(f"Latency: {asked.jobs} jobs, 150 rows", figures, as_json=asked.json, strict=asked.strict)


def measure(serve: Serve, database: str, jobs: int, warm_up: int, epochs: int) -> list[Figure]:
    dataset_id = serve.upload_iris()
    spec = {"target": "species", "network": {"hidden": [64, 64]}, "training": {"epochs": epochs}}
    samples = [one_job(serve, dataset_id, spec) for _ in range(warm_up + jobs)][warm_up:]
    targets = {("accepted", 0.5): ACCEPTED_TARGET, ("first_epoch", 0.5): FIRST_EPOCH_TARGET}
    shown = {
        "accepted": "POST -> 202",
        "first_epoch": "POST -> first epoch at an SSE reader",
        "claimed": "  of which: row written -> claimed",
        "logged": "  of which: claimed -> first epoch in the log",
        "delivered": "  of which: in the log -> at the reader",
        "ended": "POST -> end",
    }
    return [
        Figure(
            f"{database}: {name}, p{share * 100:.0f}",
            percentile([sample[key] for sample in samples], share) * 1000,
            "ms",
            at_most=targets.get((key, share)),
        )
        for key, name in shown.items()
        for share in ((0.5, 0.95) if key in ("accepted", "first_epoch", "ended") else (0.5,))
    ]


def one_job(serve: Serve, dataset_id: str, spec: dict[str, object]) -> dict[str, float]:
    """Submits a job and reads its events to the end; returns seconds."""
    submitted = time.perf_counter()
    answer = serve.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": spec})
    accepted = time.perf_counter()
    job_id = answer.raise_for_status().json()["id"]

    first_epoch, first_epoch_at = 0.0, 0.0
    with serve.http.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
        for line in stream.raise_for_status().iter_lines():
            if line == "event: epoch" and not first_epoch:
                first_epoch, first_epoch_at = time.perf_counter(), time.time()
    ended = time.perf_counter()

    # Where the time went, by the log's own times: the database's clock, which is this machine's, to the millisecond.
    log = events_of(serve.http, job_id)
    if log[-1]["data"]["status"] != "succeeded":
        raise SystemExit(f"{job_id} did not succeed: {log[-1]}")
    phases = {event["data"].get("phase"): moment(event) for event in log if event["type"] == "status"}
    logged = next(moment(event) for event in log if event["type"] == "epoch")
    return {
        "accepted": accepted - submitted,
        "first_epoch": first_epoch - submitted,
        "ended": ended - submitted,
        "claimed": phases["loading_data"] - moment(log[0]),
        "logged": logged - phases["loading_data"],
        "delivered": first_epoch_at - logged,
    }


def moment(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


if __name__ == "__main__":
    sys.exit(main())
