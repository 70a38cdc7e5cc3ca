"""How well `POST /v1/jobs/plan` foretells: twenty specs, planned, measured, and then trained by real worker processes.

Memory is what a training process has alone: its private dirty pages at their peak, from `/proc/<pid>/smaps_rollup`.
The time of a job is from its claim to its end, of one that nobody watches: reading `/proc` 200 times a second halts the
process that is read. A plan counts to the last epoch; where a job stops early, it is counted to that one here. Exits 1
when one of them misses by more than 30 %. Linux only.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from planned_specs import SPECS, TABLES, Planned
from serving import Serve, serving, stop_on_sigterm
from watching import watching

AT_MOST = 0.3  # of what the job then takes
MB = 1e6


@dataclass(frozen=True)
class Row:
    """A spec, as it was foretold and as it came."""

    name: str
    planned_bytes: int
    bytes: float
    measured_seconds: float
    seconds: float

    @property
    def memory_off(self) -> float:
        return self.planned_bytes / self.bytes - 1

    @property
    def seconds_off(self) -> float:
        return self.measured_seconds / self.seconds - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: benchmarks/plans.py --only W2 --json")
    parser.add_argument("--only", action="append", help="specs whose name holds this (may be given several times)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    asked = parser.parse_args()
    stop_on_sigterm()

    wanted = [one for one in SPECS if not asked.only or any(word in one.name for word in asked.only)]
    with serving() as serve:
        datasets = {table: upload(serve, table) for table in dict.fromkeys(one.table for one in wanted)}
        rows = []
        for one in wanted:
            rows.append(foretell(serve, one, datasets[one.table]))
            if not asked.json:
                show(rows[-1], is_first=len(rows) == 1)
    if asked.json:
        print(
            json.dumps([{**asdict(row), "memory_off": row.memory_off, "seconds_off": row.seconds_off} for row in rows])
        )
    else:
        for what in ("memory", "seconds"):
            within = sum(abs(getattr(row, f"{what}_off")) <= AT_MOST for row in rows)
            print(f"{what} within {AT_MOST:.0%}: {within} of {len(rows)}")
    return 0 if all(abs(off) <= AT_MOST for row in rows for off in (row.memory_off, row.seconds_off)) else 1


def upload(serve: Serve, table: str) -> str:
    name, make = TABLES[table]
    answer = serve.http.post("/v1/datasets?wait=60", files={"file": (name, make())}).raise_for_status()
    return str(answer.json()["id"])


def foretell(serve: Serve, planned: Planned, dataset_id: str) -> Row:
    body = {"dataset_id": dataset_id, "spec": planned.spec}
    plan = serve.http.post("/v1/jobs/plan?measure=true&wait=60", json=body).raise_for_status().json()
    if plan["status"] != "succeeded":
        raise SystemExit(f"{planned.name}: {plan['error']}")
    timed = train(serve, body)
    with watching(serve, own_memory) as seen:
        train(serve, body)
    measured = plan["measured"]["seconds"]
    if timed["stop_reason"] == "early_stopping":
        left_out = timed["progress"]["epochs"] - timed["progress"]["epoch"]
        measured -= plan["measured"]["epoch_seconds"] * left_out
    return Row(planned.name, plan["memory_bytes"], max(seen.values()), measured, seconds_of(timed))


def train(serve: Serve, body: dict[str, Any]) -> dict[str, Any]:
    """The job, which has succeeded."""
    job = serve.finished(serve.http.post("/v1/jobs", json=body).raise_for_status().json()["id"])
    if job["status"] != "succeeded":
        raise SystemExit(f"{body['spec']}: {job['error']}")
    return job


def seconds_of(job: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


def own_memory(pid: int) -> float:
    """Bytes of a process that no other has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:"))


def show(row: Row, *, is_first: bool) -> None:
    if is_first:
        print(f"{'spec':38} {'planned MB':>10} {'MB':>7} {'off':>6} {'measured s':>11} {'s':>7} {'off':>6}")
    print(
        f"{row.name:38} {row.planned_bytes / MB:10.0f} {row.bytes / MB:7.0f} {row.memory_off:+6.0%} "
        f"{row.measured_seconds:11.2f} {row.seconds:7.2f} {row.seconds_off:+6.0%}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
