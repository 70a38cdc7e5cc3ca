"""What is asked of the engine, and how near it came: the bars and aims of each workload, as figures."""

from statistics import median as middle

import bootstrap
from figures import Figure
from rounds import Measured
from workloads import WORKLOADS

KERAS = ("keras-jax", "keras-jax-32", "keras-torch")  # each trains a new network; the fastest is "best Keras"

# Times faster than a peer (or the share of the limit): the bar, and the aim where there is one.
Asked = dict[str, tuple[float, float | None]]
BARS: dict[str, Asked] = {
    "W1": {
        "textbook": (2.3, 3),
        "keras": (2.2, 3),
        "sklearn": (0.9, 1.4),
        "lightning": (3.8, None),
        "skorch": (3.0, None),
        "limit": (0.08, 0.11),
    },
    "W2": {
        "textbook": (2.0, None),
        "keras": (1.6, None),
        "sklearn": (1.3, None),
        "lightning": (2.2, None),
        "skorch": (3.0, None),
        "limit": (0.50, 0.65),
    },
    "W3": {
        "textbook": (1.4, None),
        "keras": (1.15, None),
        "sklearn": (1.35, None),
        "lightning": (1.2, None),
        "skorch": (1.7, None),
        "limit": (0.60, 0.75),
    },
}
BARS_BF16: Asked = {
    "textbook": (2.2, None),
    "keras": (1.8, None),
    "sklearn": (2.2, None),
}
AGAINST = {"textbook": "the textbook loop", "keras": "best Keras", "sklearn": "scikit-learn", "lightning": "Lightning"}
AGAINST |= {"skorch": "skorch", "limit": "of the physical limit"}


def figures_of(name: str, found: dict[str, Measured]) -> list[Figure]:
    """Loss and ratios of one workload. What was not measured has no figure, what could not be says why."""
    figures = [_loss(name, found["ours"]), *_ratios(name, found["ours"], found, BARS[name])]
    if (bf16 := found.get("ours-bf16")) is not None:
        row = f"{name} bf16"
        if bf16.not_run:
            figures.append(Figure(row, None, note=bf16.not_run))
        else:
            figures += [_loss(row, bf16), *_ratios(row, bf16, found, BARS_BF16)]
    return figures


def best_keras(found: dict[str, Measured]) -> str | None:
    measured = [key for key in KERAS if key in found]
    return min(measured, key=lambda key: middle(found[key].cpu), default=None)


def times_faster(ours: Measured, against: str, found: dict[str, Measured]) -> bootstrap.Bounded | None:
    """How often ours fits into the other's time; against the limit: which share of our time the limit is."""
    key = best_keras(found) if against == "keras" else against
    if key is None or key not in found:
        return None
    other = found[key]
    theirs = [facts["limit"] for facts in other.facts] if key == "limit" else other.cpu
    return bootstrap.ratio(theirs, ours.cpu)


def _loss(row: str, ours: Measured) -> Figure:
    """The median of the rounds, each of another seed; the worst is printed beside it."""
    bounded = bootstrap.median(ours.loss)
    at_most = WORKLOADS[row.split()[0]].loss_at_most
    return Figure(
        f"{row}: loss on all training rows",
        bounded.value,
        at_most=at_most,
        low=min(ours.loss),
        high=max(ours.loss),
        digits=4,
    )


def _ratios(row: str, ours: Measured, found: dict[str, Measured], bars: Asked) -> list[Figure]:
    figures = []
    for against, (bar, aim) in bars.items():
        bounded = times_faster(ours, against, found)
        if bounded is None:
            continue
        is_share = against == "limit"
        scale = 100 if is_share else 1
        figures.append(
            Figure(
                f"{row}: {AGAINST[against]}" if is_share else f"{row}: times faster than {AGAINST[against]}",
                bounded.value * scale,
                "%" if is_share else "x",
                at_least=round(bar * scale, 6),
                aim=None if aim is None else round(aim * scale, 6),
                low=bounded.low * scale,
                high=bounded.high * scale,
                digits=1 if is_share else 2,
            )
        )
    return figures
