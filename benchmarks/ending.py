"""What comes after the last epoch: the report, every file written and held against the network, stored, and the end.

One job at a time on a warm server, on tables of 5,000 rows and 100 columns, by the log's own times: from the last epoch
to the end. An epoch of these jobs takes longer than the log waits to be written, so that its time is its own.
"""

import argparse
import random
import sys
from datetime import datetime
from statistics import median
from typing import Any

from figures import Figure, report
from serving import Serve, events_of, serving, stop_on_sigterm

ROWS, COLUMNS = 5_000, 100
AT_MOST = 0.4  # seconds, of such a table
LOG_SECONDS = 0.1  # what is written to the log may be so late
WORDS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "oak")
TARGETS = ("sold", "grade", "height")

SPECS: dict[str, dict[str, Any]] = {
    "100 numbers, two classes": {"target": "sold"},
    "100 numbers, ten classes": {"target": "grade"},
    "100 numbers, a number": {"target": "height"},
    "60 numbers, 40 categories, a number": {"target": "height"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: benchmarks/ending.py --jobs 3 --strict")
    parser.add_argument(
        "--jobs", type=int, default=9, help="jobs of each kind; medians are shown (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args()
    stop_on_sigterm()

    figures = []
    with serving() as serve:
        for name, spec in SPECS.items():
            dataset_id = upload(serve, table(asked.rows, categories=40 if "categories" in name else 0))
            left_out = [target for target in TARGETS if target != spec["target"]]
            spec = {**spec, "features": {"exclude": left_out}, "training": {"epochs": 3, "batch_size": 4}}
            seconds = [ending(serve, dataset_id, spec) for _ in range(asked.jobs + 1)][1:]
            figures.append(
                Figure(name, median(seconds), "s", at_most=AT_MOST, low=min(seconds), high=max(seconds), digits=3)
            )
    title = (
        f"From the last epoch to the end of the job: {asked.rows:,} rows x {COLUMNS} columns, {asked.jobs} jobs each"
    )
    return report(title, figures, as_json=asked.json, strict=asked.strict)


def table(rows: int, categories: int) -> bytes:
    """Numbers and words, the first ones of which matter, and three columns that may be predicted."""
    draw = random.Random(7)
    names = [f"x{place:02d}" for place in range(COLUMNS)]
    lines = [",".join([*names, *TARGETS])]
    for _ in range(rows):
        values: list[float] = [draw.gauss(0, 1) for _ in names]
        height = 170 + 3 * values[0] - 2 * values[1] * values[2] + values[3] + draw.gauss(0, 1)
        words = [draw.choice(WORDS) for _ in range(categories)]
        cells = [f"{value:.4f}" for value in values[: COLUMNS - categories]] + words
        grade = min(9, max(0, int((height - 160) / 2)))
        lines.append(",".join([*cells, "yes" if height > 170 else "no", f"grade {grade}", f"{height:.3f}"]))
    return "\n".join(lines).encode()


def upload(serve: Serve, data: bytes) -> str:
    answer = serve.http.post("/v1/datasets?wait=60", files={"file": ("table.csv", data, "text/csv")})
    return str(answer.raise_for_status().json()["id"])


def ending(serve: Serve, dataset_id: str, spec: dict[str, Any]) -> float:
    """Seconds from the last epoch of a job to its end."""
    answer = serve.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": spec})
    if answer.is_error:
        raise SystemExit(answer.text)
    job = serve.finished(answer.json()["id"])
    if job["status"] != "succeeded":
        raise SystemExit(f"{job['id']} did not succeed: {job['error']}")
    epochs = [
        datetime.fromisoformat(event["at"]) for event in events_of(serve.http, job["id"]) if event["type"] == "epoch"
    ]
    if (epochs[-1] - epochs[-2]).total_seconds() < LOG_SECONDS:
        raise SystemExit("an epoch is too short for its time in the log to be its own: take more rows")
    return (datetime.fromisoformat(job["finished_at"]) - epochs[-1]).total_seconds()


if __name__ == "__main__":
    sys.exit(main())
