"""From a CSV to what training maps: 1,000,000 rows of 30 mixed columns, read, profiled and stored.

Each contestant is a process of its own on one core, for our reader works with one thread. Seconds are those of the CPU,
which other work on the machine disturbs little; waiting for the disk is not in them. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import rounds
from figures import Figure, report
from rich.console import Console
from serving import stop_on_sigterm

PEERS = {"polars": "peers.polars_csv", "pyarrow": "peers.pyarrow_csv", "pandas": "peers.pandas_csv"}
# What is asked: times polars for CSV to Parquet, seconds of a profile, milliseconds of mapping, bytes of memory.
CONVERT, PROFILE, MAPPED, PEAK = 1.5, 5.0, 20.0, 1.5e9


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: benchmarks/intake.py --rows 100000 --rounds 1 --only polars",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="medians are shown (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS), help="none: ours alone (default: all)")
    parser.add_argument("--core", type=int, help="the core of all contestants (default: the last)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args()
    stop_on_sigterm()
    core = max(os.sched_getaffinity(0)) if asked.core is None else asked.core

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="backpropd-benchmark-") as temporary:
        source = Path(temporary) / "table.csv"
        make_table(source, asked.rows)
        contestants = {"ours": "intake_ours"} | {name: PEERS[name] for name in asked.only}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
        for number in range(asked.rounds):
            for name, module in contestants.items():
                console.print(f"round {number + 1} of {asked.rounds}: {name}")
                found[name].append(run(module, source, Path(temporary), core))
        size = source.stat().st_size
    title = f"Intake: a CSV of {asked.rows:,} rows x 30 mixed columns, {size / 1e6:,.0f} MB; one core"
    return report(title, figures_of(found), as_json=asked.json, strict=asked.strict)


def make_table(file: Path, rows: int) -> None:
    """Numbers of all widths, integers, categories, flags, dates, an id and free text; some are missing."""
    number = [f"round(random() * {10 ** (place % 5)}, {place % 6 + 1}) AS number_{place}" for place in range(11)]
    columns = [
        "i AS id",
        *number,
        "CASE WHEN random() < 0.05 THEN NULL ELSE random() END AS measure",
        "exp(random() * 10) AS skewed",
        "CAST(random() * 100 AS INTEGER) AS age",
        "CAST(random() * 1000000 AS INTEGER) AS income",
        "CAST(random() * 5 AS INTEGER) AS grade",
        "-CAST(random() * 9 AS INTEGER) AS debt",
        "'kind ' || CAST(random() * 5 AS INTEGER) AS kind",
        "'city ' || CAST(random() * 300 AS INTEGER) AS city",
        "CASE WHEN random() < 0.1 THEN NULL ELSE 'group ' || CAST(random() * 40 AS INTEGER) END AS team",
        "'part ' || CAST(random() * 20000 AS INTEGER) AS part",
        "CASE WHEN random() < 0.5 THEN 'yes' ELSE 'no' END AS answer",
        "random() < 0.3 AS wet",
        "random() < 0.5 AS sold",
        "DATE '2001-01-01' + CAST(random() * 9000 AS INTEGER) AS day",
        "TIMESTAMP '2001-01-01' + to_seconds(CAST(random() * 1e8 AS BIGINT)) AS moment",
        "md5(CAST(i AS VARCHAR)) AS hash",
        "'order ' || CAST(random() * 1e9 AS BIGINT) || ', \"as seen\"' AS remark",
        "i + random() * 1000 AS near",
    ]
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SELECT setseed(0.5)")
    connection.execute(f"COPY (SELECT {', '.join(columns)} FROM range({rows}) AS r(i)) TO '{file}' (FORMAT csv)")


def run(module: str, source: Path, folder: Path, core: int) -> dict[str, Any]:
    """What a contestant says of itself: seconds by phase; with the most memory that it had."""
    ours = not module.startswith("peers.")
    if not ours and not rounds.PEERS_PYTHON.exists():
        raise SystemExit("the peers are not installed: `make bench` does it, or `make .bench-venv/.ready` alone")
    environment = {name: value for name, value in os.environ.items() if name in rounds.KEPT}
    environment |= rounds.ONE_THREAD | {"POLARS_MAX_THREADS": "1"} | ({"PYTHONPATH": str(rounds.ROOT)} if ours else {})
    python = sys.executable if ours else rounds.PEERS_PYTHON
    with tempfile.TemporaryDirectory(dir=folder) as target:
        ended = subprocess.run(
            [python, rounds.HERE / "intake_contestant.py", module, source, target, str(core)],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    return dict(json.loads(ended.stdout))


def figures_of(found: dict[str, list[dict[str, Any]]]) -> list[Figure]:
    def of(name: str, phase: str) -> float:
        return median(one["seconds"][phase] for one in found[name])

    ours = found["ours"]
    figures = [
        Figure("CSV to canonical Parquet", of("ours", "convert"), "s", digits=2),
        Figure("  size of that", ours[0]["size"] / 1e6, "MB", digits=1),
    ]
    for name in [name for name in found if name != "ours"]:
        figures.append(Figure(f"  {name}: read, and write Parquet", of(name, "convert"), "s", digits=2))
        ratios = [
            mine["seconds"]["convert"] / other["seconds"]["convert"]
            for mine, other in zip(ours, found[name], strict=True)
        ]
        figures.append(Figure("  size of that", found[name][0]["size"] / 1e6, "MB", digits=1))
        bound = CONVERT if name == "polars" else None
        figures.append(
            Figure(f"  times {name}", median(ratios), "x", at_most=bound, low=min(ratios), high=max(ratios), digits=2)
        )
    profile = [one["seconds"]["columns"] + one["seconds"]["associations"] for one in ours]
    figures += [
        Figure("profile", median(profile), "s", at_most=PROFILE, low=min(profile), high=max(profile), digits=2),
        Figure("  of which: columns and duplicate rows", of("ours", "columns"), "s", digits=2),
        Figure("  of which: associations", of("ours", "associations"), "s", digits=2),
        Figure("arrays that training maps", of("ours", "arrays"), "s", digits=2),
        Figure("preview", of("ours", "preview"), "s", digits=3),
        Figure("all of an ingest", of("ours", "all"), "s", digits=2),
        Figure("  by the clock", of("ours", "wall"), "s", digits=2),
        Figure("mapping the arrays as tensors", of("ours", "map") * 1000, "ms", at_most=MAPPED),
        Figure("imputing and scaling the numbers", of("ours", "prepare"), "s", digits=2),
    ]
    for name, runs in found.items():
        peak = max(one["peak"] for one in runs)
        bound = PEAK / 1e6 if name == "ours" else None
        figures.append(Figure(f"peak memory: {name}", peak / 1e6, "MB", at_most=bound, digits=0))
    return figures


if __name__ == "__main__":
    sys.exit(main())
