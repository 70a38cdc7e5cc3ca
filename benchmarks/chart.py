"""The chart of `docs/performance.md`: how many times faster, a panel a workload, as SVG text."""

from html import escape

import bars
import bootstrap
from rounds import PEERS, Measured
from workloads import WORKLOADS

WIDTH, LABELS, RIGHT = 800, 290, 150
LINE, BAR, PANEL_HEAD, PANEL_GAP = 24, 14, 34, 18
PLOT = WIDTH - LABELS - RIGHT

# Colours by the reader's own scheme: an image in a page cannot see the page's.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.head { font-weight: 600 } .quiet { fill: #57606a } .bar { fill: #2f6fb3 } .slow { fill: #b35c2f }
.one { stroke: #57606a } .target { stroke: #24292f; stroke-width: 2 } .bounds { stroke: #24292f; opacity: .6 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9da7b1 } .bar { fill: #5b9bd9 } .slow { fill: #d98a5b }
  .one { stroke: #9da7b1 } .target { stroke: #e6edf3 } .bounds { stroke: #e6edf3 }
}
"""


def draw(found: dict[str, dict[str, Measured]]) -> str:
    """A bar a peer, with its bounds; a tick is what is asked for, the line at 1 is equal speed."""
    parts: list[str] = []
    top = 0
    for name, measured in found.items():
        for key, title, asked in (
            ("ours", WORKLOADS[name].title, bars.BARS[name]),
            ("ours-bf16", f"{WORKLOADS[name].title}; ours in bfloat16", bars.BARS_BF16),
        ):
            if key not in measured or measured[key].not_run:
                continue
            rows = ratios(measured, key)
            parts.append(f'<text class="head" x="0" y="{top + 18}">{name}</text>')
            parts.append(f'<text class="quiet" x="36" y="{top + 18}">{escape(title)}</text>')
            top += PANEL_HEAD
            parts += panel(rows, asked, top, best=bars.best_keras(measured))
            top += len(rows) * LINE + PANEL_GAP
    key = "times faster than each peer, one core; tick: what is asked for; line: equal speed; whisker: 95 % bounds"
    parts.append(f'<text class="quiet" x="0" y="{top + 12}">{key}</text>')
    height = top + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="backpropd, times faster than its peers">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def ratios(measured: dict[str, Measured], ours: str) -> list[tuple[str, str, bootstrap.Bounded]]:
    """(key, title, times faster) of each peer."""
    rows = []
    for peer in PEERS:
        if peer.key in measured:
            bounded = bars.times_faster(measured[ours], peer.key, measured)
            assert bounded is not None
            rows.append((peer.key, peer.title, bounded))
    return rows


def panel(
    rows: list[tuple[str, str, bootstrap.Bounded]], asked_of: bars.Asked, top: int, best: str | None
) -> list[str]:
    longest = max([1.0, *(bounded.high for _, _, bounded in rows)])

    def across(value: float) -> float:
        return round(LABELS + PLOT * value / longest, 1)

    parts = []
    for number, (key, title, bounded) in enumerate(rows):
        y = top + number * LINE
        middle = y + LINE / 2
        kind = "bar" if bounded.value >= 1 else "slow"
        width = across(bounded.value) - LABELS
        parts.append(f'<text x="{LABELS - 8}" y="{middle + 5}" text-anchor="end">{escape(title)}</text>')
        parts.append(
            f'<rect class="{kind}" x="{LABELS}" y="{middle - BAR / 2}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        )
        parts.append(line("bounds", across(bounded.low), middle, across(bounded.high), middle))
        asked = asked_of.get("keras" if key == best else key)
        if asked is not None:
            parts.append(line("target", across(asked[0]), middle - BAR / 2 - 3, across(asked[0]), middle + BAR / 2 + 3))
        note = "" if asked is None else f' <tspan class="quiet">asked {asked[0]:g}</tspan>'
        end = max(across(bounded.high), across(1), across(asked[0]) if asked else 0) + 8
        parts.append(f'<text x="{end}" y="{middle + 5}">{bounded.value:.2f} x{note}</text>')
    parts.append(line("one", across(1), top, across(1), top + len(rows) * LINE))
    return parts


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
