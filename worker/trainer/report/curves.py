"""ROC and precision-recall: what each threshold would have come to, in a few points of the exact curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.trainer.report.judged import Judged

MOST_CURVES = 10  # the largest classes or labels
MOST_POINTS = 40  # of a curve: those that lie evenly along it

Doubles = NDArray[np.float64]


def curves_of(judged: Judged, classes: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Of two classes, the second's; of more, each against the rest; of labels, each. Only where these rows have it, and
    have others."""
    if judged.task == "classification":
        there = judged.target.numpy()[:, None] == np.arange(judged.scores.shape[1])
        titles = list(classes)
    else:
        there, titles = judged.target.numpy() > 0.5, list(names)
    first = 1 if judged.task == "classification" and len(titles) == 2 else 0
    weight, scores = judged.weight.numpy(), judged.scores.numpy()
    able = [place for place in range(first, len(titles)) if 0 < there[:, place].sum() < len(there)]
    largest = sorted(able, key=lambda place: (-float(weight[there[:, place]].sum()), place))[:MOST_CURVES]
    word = "class" if judged.task == "classification" else "label"
    drawn = [{word: titles[place], **_curves(scores[:, place], there[:, place], weight)} for place in sorted(largest)]
    return {"curves": drawn, "others": len(titles) - first - len(drawn)}


def _curves(scores: NDArray[np.float32], there: NDArray[np.bool_], weight: Doubles) -> dict[str, Any]:
    """Said is what scores at least the threshold."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # the last row of each different score
    tp = np.cumsum((weight * there)[order])[ends]
    fp = np.cumsum((weight * ~there)[order])[ends]
    thresholds = ordered[ends].astype(np.float64)
    tpr, fpr, precision = tp / tp[-1], fp / fp[-1], tp / (tp + fp)
    roc = _even(np.append(0.0, fpr), np.append(0.0, tpr))
    whole = int(np.searchsorted(tp, tp[-1])) + 1  # beyond it, precision only falls
    pr = _even(tpr[:whole], precision[:whole])
    return {
        "roc": {
            "false_positive_rate": np.append(0.0, fpr)[roc].tolist(),
            "true_positive_rate": np.append(0.0, tpr)[roc].tolist(),
            "thresholds": [None if one == 0 else float(thresholds[one - 1]) for one in roc.tolist()],
        },
        "precision_recall": {
            "recall": tpr[pr].tolist(),
            "precision": precision[pr].tolist(),
            "thresholds": thresholds[pr].tolist(),
        },
    }


def _even(x: Doubles, y: Doubles) -> NDArray[np.int64]:
    """The points to keep: the first, the last, and those between at even steps along the curve."""
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    found = np.searchsorted(along, np.linspace(0, along[-1], MOST_POINTS))
    return np.unique(np.append(np.minimum(found, len(x) - 1), [0, len(x) - 1]))
