"""How good is a network that nobody has tuned? 30 real tables, each with rows held out in five ways, and the spec
`{"target": ...}`.

The loss on the rows held out (log loss of classes, RMSE of numbers; the mean of the seeds) stands beside that of one
answer for all rows, and that of scikit-learn's MLP. The tables come out of packages of the development extra.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

os.environ |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}  # before they are imported

import quality_contestant
from figures import Figure, machine, report
from quality_tables import OTHERS, TABLES
from rich.console import Console
from rich.table import Table
from serving import stop_on_sigterm

# What is asked: tables that beat the baseline, the worst ratio to it, and the rank among us and scikit-learn.
BEAT, WORST, RANK = 28, 1.05, 1.5


@dataclass(frozen=True)
class Outcome:
    """One table: means over the seeds."""

    table: str
    task: str
    rows: int
    columns: int
    baseline: float
    ours: float
    sklearn: float | None
    won: int  # seeds in which ours is the better of the two
    seeds: int
    seconds: float  # of the processor, a training of ours with its reading and artifacts
    kept_epoch: float
    epochs: float

    @property
    def of_baseline(self) -> float:
        return self.ours / self.baseline

    @property
    def rank(self) -> float | None:
        """Of ours and scikit-learn's: 1 is the lower loss, 1.5 each where they are level."""
        if self.sklearn is None:
            return None
        return 1.5 + 0.5 * ((self.ours > self.sklearn) - (self.ours < self.sklearn))


def main() -> int:
    names = [table.name for table in (*TABLES, *OTHERS)]
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: benchmarks/quality.py --seeds 1 --only "scikit-learn iris" "modeldata ames"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5, help="ways to hold rows out (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="TABLE", help="default: all 30")
    parser.add_argument("--others", action="store_true", help="the 30 tables that the defaults were chosen on instead")
    parser.add_argument("--training", type=json.loads, default={}, help="other defaults to try: `training` of the spec")
    parser.add_argument("--no-peer", action="store_true", help="without scikit-learn, which takes most of the time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at the same time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args()
    stop_on_sigterm()

    tables = asked.only or [table.name for table in (OTHERS if asked.others else TABLES)]
    outcomes = compare(tables, asked.seeds, asked.training, asked.jobs, peer=not asked.no_peer)
    figures = figures_of(outcomes)
    if asked.json:
        rows = [{**asdict(figure), "met": figure.met} for figure in figures]
        found = [{**asdict(outcome), "of_baseline": outcome.of_baseline, "rank": outcome.rank} for outcome in outcomes]
        print(json.dumps({"machine": machine(), "tables": found, "figures": rows}, indent=2))
        return int(asked.strict and any(figure.met is False for figure in figures))
    show(outcomes)
    return report("Quality of the defaults", figures, as_json=False, strict=asked.strict)


def compare(tables: list[str], seeds: int, training: dict[str, Any], jobs: int, *, peer: bool) -> list[Outcome]:
    """Seeds of a table are drawn one after the other, so that none of them is left to the end."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
    console = Console(stderr=True)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool, console.status("") as status:
        waiting = [
            pool.submit(quality_contestant.compare, name, seed, training, peer)
            for name in tables
            for seed in range(seeds)
        ]
        try:
            for done, one in enumerate(as_completed(waiting), 1):
                found[one.result()["table"]].append(one.result())
                status.update(f"{done} of {len(waiting)} trainings")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [_outcome(name, results) for name, results in found.items()]


def _outcome(name: str, results: list[dict[str, Any]]) -> Outcome:
    def mean(of: str) -> float:
        return fmean(one[of] for one in results)

    first = results[0]
    return Outcome(
        table=name,
        task=first["task"],
        rows=first["rows"],
        columns=first["columns"],
        baseline=mean("baseline"),
        ours=mean("ours"),
        sklearn=mean("sklearn") if "sklearn" in first else None,
        won=sum(one["ours"] <= one.get("sklearn", one["ours"]) for one in results),
        seeds=len(results),
        seconds=mean("ours_seconds"),
        kept_epoch=mean("kept_epoch"),
        epochs=mean("epochs"),
    )


def figures_of(outcomes: list[Outcome]) -> list[Figure]:
    worst = max(outcomes, key=lambda one: one.of_baseline)
    beaten = sum(one.of_baseline < 1 for one in outcomes)
    allowed = max(0, len(outcomes) - (len(TABLES) - BEAT))
    figures = [
        Figure(f"tables of {len(outcomes)} that beat the baseline", beaten, at_least=allowed),
        Figure(f"the worst of the baseline ({worst.table})", worst.of_baseline, "x", at_most=WORST, digits=3),
        Figure("median of the baseline", median(one.of_baseline for one in outcomes), "x", digits=3),
    ]
    ranks = [one.rank for one in outcomes if one.rank is not None]
    if ranks:
        figures += [
            Figure("median rank beside scikit-learn's MLP", median(ranks), at_most=RANK),
            Figure("  tables where ours is better", sum(rank == 1 for rank in ranks)),
            Figure("  median of scikit-learn's loss", median(_of_sklearn(outcomes)), "x", digits=3),
        ]
    return [*figures, Figure("a training, longest", max(one.seconds for one in outcomes), "CPU s")]


def _of_sklearn(outcomes: Iterable[Outcome]) -> list[float]:
    return [one.ours / one.sklearn for one in outcomes if one.sklearn is not None]


def show(outcomes: list[Outcome]) -> None:
    table = Table(title=machine(), title_justify="left", box=None, pad_edge=False)
    for column in ("", "rows", "columns", "baseline", "scikit-learn", "ours", "of baseline", "won", "kept", "CPU s"):
        table.add_column(column, justify="right" if column else "left")
    for task, loss in (("classes", "log loss"), ("number", "RMSE")):
        these = [one for one in outcomes if one.task == task]
        if these:
            table.add_row(f"[bold]{loss}[/]")
        for one in these:
            table.add_row(
                f"{one.table}",
                f"{one.rows:,}",
                f"{one.columns}",
                f"{one.baseline:,.4g}",
                "" if one.sklearn is None else f"{one.sklearn:,.4g}",
                f"{one.ours:,.4g}",
                f"{one.of_baseline:.3f}",
                "" if one.sklearn is None else f"{one.won}/{one.seeds}",
                f"{one.kept_epoch:.0f}/{one.epochs:.0f}",
                f"{one.seconds:.1f}",
            )
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
