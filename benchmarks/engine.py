"""The training engine beside its peers on one core, and called through the whole service.

Three workloads: W1 small (50 epochs on 1,797 x 64), W2 middle (100,000 x 100), W3 wide (60,000 x 784). A full run takes
about 40 minutes, nearly all of it the peers'. Linux only.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import bars
import bootstrap
import page
import rounds
import service
from figures import Figure, machine, report
from rich.console import Console
from rich.table import Table
from serving import stop_on_sigterm
from workloads import WORKLOADS

PARTS = ("loops", "service")


def main() -> int:
    keys = [peer.key for peer in rounds.PEERS]
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: benchmarks/engine.py --rounds 2 --workloads W1 --only textbook sklearn --parts loops",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7, help="after the one that is discarded (default: %(default)s)")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="default: all")
    parser.add_argument("--only", nargs="+", choices=keys, metavar="PEER", help=f"of {', '.join(keys)}; default: all")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: both")
    parser.add_argument("--core", type=int, help="the core of all contestants (default: the last)")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"write {page.PAGE.relative_to(rounds.ROOT)} and its chart, from this run alone",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args()
    stop_on_sigterm()
    core = max(os.sched_getaffinity(0)) if asked.core is None else asked.core
    contestants = [
        rounds.OURS,
        rounds.OURS_BF16,
        rounds.LIMIT,
        *(peer for peer in rounds.PEERS if asked.only is None or peer.key in asked.only),
    ]

    found: dict[str, dict[str, rounds.Measured]] = {}
    verdicts: list[Figure] = []
    through_service: list[Figure] = []
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="backpropd-benchmark-") as temporary,
        console.status("making the rows") as status,
    ):
        folder = Path(temporary)
        progress = status.update if console.is_terminal else console.print
        for name in asked.workloads:
            rounds.make_rows(WORKLOADS[name], folder)
        if "loops" in asked.parts:
            for name in asked.workloads:
                these = [contestant for contestant in contestants if name in contestant.workloads]
                found[name] = rounds.run(WORKLOADS[name], these, asked.rounds, folder, core, progress)
                verdicts += bars.figures_of(name, found[name])
        if "service" in asked.parts:
            through_service = service.measure(asked.workloads, asked.rounds, folder, core, progress)

    if asked.write:
        page.write(found, verdicts, through_service, asked.rounds)
    if asked.json:
        print(as_json(found, verdicts, through_service))
        return int(asked.strict and any(figure.met is False for figure in [*verdicts, *through_service]))
    code = 0
    for name, measured in found.items():
        show(name, measured)
    if found:
        code |= report("Times faster", verdicts, as_json=False, strict=asked.strict)
    if through_service:
        code |= report("Through the service", through_service, as_json=False, strict=asked.strict)
    return code


def show(name: str, measured: dict[str, rounds.Measured]) -> None:
    """What each contestant needed."""
    table = Table(title=f"{name}: {WORKLOADS[name].title}\n{machine()}", title_justify="left", box=None, pad_edge=False)
    for column in ("", "CPU s", "discarded", "loss (worst)"):
        table.add_column(column, justify="right" if column else "left")
    for one in measured.values():
        if one.not_run:
            table.add_row(one.contestant.title, f"not run: {one.not_run}")
            continue
        seconds = [facts["limit"] for facts in one.facts] or one.cpu
        loss = f"{bootstrap.median(one.loss).value:.4f} ({max(one.loss):.4f})" if one.loss else ""
        discarded = "" if one.facts else f"{one.discarded:.2f}"
        table.add_row(one.contestant.title, bootstrap.median(seconds).text(3), discarded, loss)
    Console(highlight=False, width=120).print(table)


def as_json(found: dict[str, dict[str, rounds.Measured]], verdicts: list[Figure], through_service: list[Figure]) -> str:
    return json.dumps(
        {
            "machine": machine(),
            "cpu": page.cpu_name(),
            "workloads": {
                name: {key: asdict(one) for key, one in measured.items()} for name, measured in found.items()
            },
            "figures": [{**asdict(figure), "met": figure.met} for figure in [*verdicts, *through_service]],
        },
        indent=2,
    )


if __name__ == "__main__":
    sys.exit(main())
