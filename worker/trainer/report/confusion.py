"""Which classes were taken for which."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from worker.trainer.report.judged import Judged

MOST_CLASSES = 50  # rows and columns of the matrix: the largest ones, and one more for the rest
MOST_LABELS = 100


def confusion_of(judged: Judged, classes: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Each row of the matrix is a class that is so, each column one that was said, in the order of `classes`.

    Rows of the table count by their sample weight, as in the metrics. Of labels, there are four counts for each.
    """
    if judged.task == "multilabel":
        return _of_labels(judged, names)
    count = len(classes)
    if count <= MOST_CLASSES:
        return {"classes": list(classes), "others": 0, "matrix": _matrix(judged, judged.target, judged.said, count)}
    largest = torch.zeros(count, dtype=torch.float64).index_add(0, judged.target, judged.weight)
    kept = largest.argsort(descending=True, stable=True)[:MOST_CLASSES].sort().values
    places = torch.full((count,), MOST_CLASSES).index_put((kept,), torch.arange(MOST_CLASSES))
    matrix = _matrix(judged, places[judged.target], places[judged.said], MOST_CLASSES + 1)
    return {"classes": [classes[one] for one in kept.tolist()], "others": count - MOST_CLASSES, "matrix": matrix}


def _matrix(judged: Judged, target: Tensor, said: Tensor, count: int) -> list[list[float]]:
    cells = torch.zeros(count * count, dtype=torch.float64).index_add(0, target * count + said, judged.weight)
    return [_counted(row, judged) for row in cells.reshape(count, count)]


def _of_labels(judged: Judged, names: Sequence[str]) -> dict[str, Any]:
    there, said, each = judged.target > 0.5, judged.said, judged.weight.unsqueeze(1)
    cells = {
        "true_negatives": ~said & ~there,
        "false_positives": said & ~there,
        "false_negatives": ~said & there,
        "true_positives": said & there,
    }
    counted = {name: _counted((each * one).sum(0), judged) for name, one in cells.items()}
    labels = [
        {"label": label, **{name: values[place] for name, values in counted.items()}}
        for place, label in enumerate(names[:MOST_LABELS])
    ]
    return {"labels": labels, "others": max(0, len(names) - MOST_LABELS)}


def _counted(values: Tensor, judged: Judged) -> list[float]:
    return values.tolist() if judged.is_weighted else values.long().tolist()
