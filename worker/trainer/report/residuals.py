"""What is left of a number when its prediction is taken away, in the target's own units."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.trainer.report.judged import Judged

MOST_TARGETS = 20
BINS = 20  # of the histogram
GROUPS = 10  # of rows, by what was predicted
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LARGEST = 5  # rows that are named

Doubles = NDArray[np.float64]


def residuals_of(judged: Judged, names: Sequence[str], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Of each target, actual - predicted. `rows` are their numbers in the dataset."""
    weight = judged.weight.numpy()
    found = [
        {"target": name, **_of_target(judged.target.numpy()[:, place], judged.scores.numpy()[:, place], weight, rows)}
        for place, name in enumerate(names[:MOST_TARGETS])
    ]
    return {"targets": found, "others": max(0, len(names) - MOST_TARGETS)}


def _of_target(actual: Doubles, predicted: Doubles, weight: Doubles, rows: NDArray[np.int64]) -> dict[str, Any]:
    residual = actual - predicted
    mean = float(np.average(residual, weights=weight))
    counts, edges = _histogram(residual)
    weighted: dict[str, Any] = {"weights": weight, "method": "inverted_cdf"} if np.ptp(weight) else {}
    largest = np.argsort(-np.abs(residual), kind="stable")[:LARGEST]
    return {
        "mean": mean,
        "deviation": float(np.sqrt(np.average((residual - mean) ** 2, weights=weight))),
        "min": float(residual.min()),
        "max": float(residual.max()),
        "quantiles": [
            {"quantile": one, "value": float(value)}
            for one, value in zip(QUANTILES, np.quantile(residual, QUANTILES, **weighted), strict=True)
        ],
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "by_prediction": list(_by_prediction(actual, predicted, weight)),
        "largest": [{"row": int(rows[one]), "residual": float(residual[one])} for one in largest],
    }


def _histogram(residual: Doubles) -> tuple[NDArray[np.int64], Doubles]:
    """One bin where they are too near to each other for more."""
    low, high = float(residual.min()), float(residual.max())
    edges = np.linspace(low, high, BINS + 1)
    if np.any(np.diff(edges) <= 0):
        return np.array([len(residual)]), np.array([low, high])
    return np.histogram(residual, edges)[0], edges


def _by_prediction(actual: Doubles, predicted: Doubles, weight: Doubles) -> Any:
    """Ten groups of equally many rows, from the lowest predictions to the highest: where it is off, and how widely."""
    order = np.argsort(predicted, kind="stable")
    for group in np.array_split(order, GROUPS):
        if not len(group):
            continue
        residual, own = actual[group] - predicted[group], weight[group]
        mean = float(np.average(residual, weights=own))
        yield {
            "count": len(group),
            "predicted": float(np.average(predicted[group], weights=own)),
            "actual": float(np.average(actual[group], weights=own)),
            "deviation": float(np.sqrt(np.average((residual - mean) ** 2, weights=own))),
        }
