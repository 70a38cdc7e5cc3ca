"""The figures of a column of numbers, exact over all rows: one sort gives all of them but mean and deviation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.profile import MAX_VALUES, QUANTILES, Histogram

MAX_INTEGER = 2**53 - 1  # JSON's: a larger one would be another number in the next program that reads it
BINS = 20


def profile_numbers(known: "NDArray[Any]", *, whole: bool) -> dict[str, Any]:
    """`known` are the values that are not missing; they are sorted in place. `whole`: the column is of integers."""
    sort(known)
    distinct = int(np.count_nonzero(known[1:] != known[:-1])) + 1 if len(known) else 0
    found: dict[str, Any] = {"type": "integer" if whole else "number", "distinct": distinct}
    # `inf` counts as missing: it is left out of every figure. Sorted, it stands at the ends.
    finite = known
    if not whole:
        finite = known[np.searchsorted(known, -np.inf, "right") : np.searchsorted(known, np.inf, "left")]
    if len(finite):
        low, high = float(finite[0]), float(finite[-1])
        scale = max(abs(low), abs(high)) or 1.0  # or squares of large numbers overflow, and of small ones vanish
        scaled = finite / scale
        found |= {"minimum": low, "maximum": high, "mean": float(scaled.mean()) * scale}
        found["std"] = float(scaled.std()) * scale
        found["quantiles"] = [_quantile(finite, share) for share in QUANTILES]
        found["histogram"] = _histogram(finite, found["quantiles"], whole)
        found["negatives"] = int(np.searchsorted(finite, 0, "left"))
        found["zeros"] = int(np.searchsorted(finite, 0, "right")) - found["negatives"]
        if scale > MAX_INTEGER:
            found["type"] = "number"
    if found["type"] == "integer" and distinct <= MAX_VALUES:
        values, counts = np.unique(known, return_counts=True)
        found |= {"values": values.tolist(), "counts": counts.tolist()}
    return found


def sort(values: "NDArray[Any]") -> None:
    """In place. Integers of a narrow range are counted, which takes a tenth of the time."""
    if values.dtype.kind in "iu" and len(values):
        low, high = int(values.min()), int(values.max())
        if high - low < len(values):
            counts = np.bincount(values.astype(np.int64) - low)
            values[:] = np.repeat(np.arange(low, low + len(counts), dtype=values.dtype), counts)
            return
    values.sort()


def _quantile(ordered: "NDArray[Any]", share: float) -> float:
    """As numpy's by default: between two values, in proportion."""
    below, rest = divmod(share * (len(ordered) - 1), 1.0)
    first = float(ordered[int(below)])
    return first * (1 - rest) + float(ordered[int(below) + 1]) * rest if rest else first


def _histogram(ordered: "NDArray[Any]", quantiles: list[float], whole: bool) -> Histogram:
    low, high = float(ordered[0]), float(ordered[-1])
    if whole and high - low < BINS:
        bins, low, high = int(high - low) + 1, low - 0.5, high + 0.5
    else:
        bins = BINS if high > low else 1
        least, most = quantiles[0], quantiles[-1]
        if most > least:
            low, high = max(low, least - (most - least)), min(high, most + (most - least))
    edges = np.array(Histogram(low=low, high=high, counts=[0] * bins).edges)
    below, above = int(np.searchsorted(ordered, edges[0], "left")), int(np.searchsorted(ordered, edges[-1], "right"))
    places = [below, *np.searchsorted(ordered, edges[1:-1], "left").tolist(), above]
    return Histogram(low=low, high=high, counts=np.diff(places).tolist(), below=below, above=len(ordered) - above)
