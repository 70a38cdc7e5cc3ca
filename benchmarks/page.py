"""The engine's part of `docs/performance.md`, and its chart. What stands outside the markers is written by hand."""

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from statistics import median as middle

import bars
import bootstrap
import chart
from figures import Figure, machine
from rounds import ROOT, Measured
from workloads import WORKLOADS

PAGE, CHART = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- written by `make bench` -->", "<!-- end of what is written by `make bench` -->"


def write(found: dict[str, dict[str, Measured]], verdicts: list[Figure], service: list[Figure], rounds: int) -> None:
    """Replaces what stands between the markers, or puts it at the end; writes the chart."""
    text = PAGE.read_text()
    written = f"{BEGIN}\n{section(found, verdicts, service, rounds)}{END}\n"
    if BEGIN in text:
        before, after = text.split(BEGIN)[0], text.split(END + "\n")[1]
        text = before + written + after
    else:
        text = f"{text.rstrip()}\n\n{written}"
    PAGE.write_text(text)
    if found:
        CHART.write_text(chart.draw(found))


def section(found: dict[str, dict[str, Measured]], verdicts: list[Figure], service: list[Figure], rounds: int) -> str:
    parts = ["## The training engine\n", f"{date.today():%d %B %Y}. {cpu_name()}; {machine()}.\n"]  # noqa: DTZ011
    if found:
        parts.append(f"{', '.join(versions(found))}.\n")
        parts.append(METHOD.format(rounds=rounds))
        parts.append(f"![How many times faster than each peer]({CHART.name})\n")
        parts.append("### What is asked, and what was measured\n")
        parts.append(verdict_table(verdicts))
        for name, measured in found.items():
            parts.append(f"### {name}: {WORKLOADS[name].title}\n")
            parts.append(contestant_table(name, measured))
    if service:
        parts.append("### The engine through the whole service\n")
        parts.append(SERVICE.format(rounds=rounds))
        parts.append(verdict_table(service))
    return "\n".join(parts)


METHOD = """\
CPU seconds of one training from scratch: one core, one thread, {rounds} interleaved rounds in a shuffled order after
one that is discarded. Medians; in brackets the 95 % bounds of a paired bootstrap over the rounds. Everybody trains the
same network with Adam at 0.001 on the same rows, shuffled, in float32 but where it says otherwise, and from its own
default initial weights. The loss is the mean cross-entropy on all training rows after the last step, computed by one
numpy function from everybody's weights: the median of the rounds, each of another seed, and in brackets the worst.

A training holds what a user's does: on jax, Keras compiles each new network in `fit`. "Compiled before" rows train a
network whose compiled steps were kept from an earlier training, and are no part of "best Keras". The physical limit is
all matrix products at the speed of a 2048-square one, plus the fused Adam steps, both measured in the same rounds.
"""

SERVICE = """\
`backpropd serve` on the same machine, the dataset read beforehand; wall seconds from submitting over HTTP to
`succeeded`, with every artifact. In between, round by round ({rounds} after one that is discarded), the bare engine
(CPU seconds on one core) and the textbook loop as a script. CPU time and memory of training processes are read from
/proc; the times of loss events are those in the log, and the worst of all jobs is shown.
"""


def contestant_table(name: str, measured: dict[str, Measured]) -> str:
    lines = ["| | CPU s | discarded round | loss | backpropd is |", "|---|---|---|---|---|"]
    for key, one in measured.items():
        if one.not_run:
            lines.append(f"| {one.contestant.title} | not run: {one.not_run} | | | |")
        elif key == "limit":
            limits = bootstrap.median([facts["limit"] for facts in one.facts])
            facts = f"{middle([facts['gflops'] for facts in one.facts]):.0f} GFLOP/s"
            adam = f"Adam {1e6 * middle([facts['adam'] for facts in one.facts]):.1f} us"
            share = bars.times_faster(measured["ours"], key, measured)
            assert share is not None
            lines.append(
                f"| {one.contestant.title} ({facts}, {adam}) | {limits.text(3)} | | | at {share.value:.0%} of it |"
            )
        else:
            bounded = bars.times_faster(measured["ours"], key, measured)
            assert bounded is not None
            times = "" if key == "ours" else f"{bounded.text(2)} x as fast"
            loss = f"{middle(one.loss):.4f} ({max(one.loss):.4f})"
            cpu = bootstrap.median(one.cpu).text(3)
            lines.append(f"| {one.contestant.title} | {cpu} | {one.discarded:.2f} | {loss} | {times} |")
    return "\n".join(lines) + "\n"


def verdict_table(figures: Iterable[Figure]) -> str:
    words = {None: "", True: "pass", False: "**missed**"}
    lines = ["| | measured | asked | |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.measured} | {one.target} | {words[one.met]} |" for one in figures]
    return "\n".join(lines) + "\n"


def versions(found: dict[str, dict[str, Measured]]) -> list[str]:
    used = {
        library: version
        for one in found.values()
        for each in one.values()
        for library, version in each.versions.items()
    }
    return [f"{library} {version}" for library, version in sorted(used.items())]


def cpu_name() -> str:
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.*)$", text, re.M)
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in text.split()]
    return f"{name[1] if name else 'CPU'} ({', '.join(has)})"
