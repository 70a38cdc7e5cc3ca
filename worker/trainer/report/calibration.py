"""Whether what was said with a probability of 80 % is so in 80 % of the rows."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.spec.losses import Quantile
from worker.trainer.report.intervals import wilson
from worker.trainer.report.judged import Judged

BINS = 10  # of equal width
MOST_SHOWN = 50  # targets x quantiles

Doubles = NDArray[np.float64]


def calibration_of(judged: Judged) -> dict[str, Any]:
    """Of two classes, the probability of the second against its share; of more, that of the class that was most likely
    against how often it was right; of labels, all of them together."""
    scores, weight = judged.scores.numpy().astype(np.float64), judged.weight.numpy()
    if judged.task == "multilabel":
        of, there = "labels", judged.target.numpy() > 0.5
        probabilities, outcome, counts = scores.ravel(), there.ravel(), np.repeat(weight, scores.shape[1])
    elif scores.shape[1] == 2:
        of, probabilities, outcome, counts = "second_class", scores[:, 1], judged.target.numpy() == 1, weight
    else:
        of, likeliest = "likeliest_class", scores.argmax(1)
        probabilities, outcome, counts = scores.max(1), likeliest == judged.target.numpy(), weight
    place = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    found, off = [], 0.0
    for number in range(BINS):
        here = place == number
        if not here.any():
            continue
        own, mean = counts[here], float(np.average(probabilities[here], weights=counts[here]))
        share = wilson(torch.from_numpy(outcome[here]), torch.from_numpy(own))
        found.append(
            {
                "from": number / BINS,
                "to": (number + 1) / BINS,
                "count": int(here.sum()),
                "probability": mean,
                "share": share.value,
                "low": share.low,
                "high": share.high,
            }
        )
        off += float(own.sum()) * abs(mean - share.value)
    return {"of": of, "bins": found, "expected_calibration_error": off / float(counts.sum())}


def coverage_of(judged: Judged, loss: Quantile, names: list[str]) -> dict[str, Any]:
    """How many rows lie at or below each quantile that was predicted of them."""
    assert judged.quantiles is not None, "quantiles were predicted"
    found: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        for number, quantile in enumerate(loss.quantiles):
            if len(found) == MOST_SHOWN:
                break
            below = judged.target[:, place] <= judged.quantiles[:, place, number]
            share = wilson(below, judged.weight)
            found.append(
                {"target": name, "quantile": quantile, "share": share.value, "low": share.low, "high": share.high}
            )
    return {"of": "quantiles", "quantiles": found, "others": len(names) * len(loss.quantiles) - len(found)}
