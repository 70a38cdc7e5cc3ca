"""Which rows train, which validate, which test: a function of the spec's seed and the table alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.spec import Split
from worker.trainer.preprocessing import Rows


@dataclass(frozen=True)
class Parts:
    """Row numbers from 0, each part ascending; together every row that has a target, once."""

    train: Rows
    validation: Rows
    test: Rows


def draw(split: Split, rows: Rows, target: NDArray[Any]) -> Parts:
    """Draws validation and test rows; for a stratified split in each class's own proportion.

    A part has `round(share * rows)` rows whatever the classes; a class of one row trains.
    """
    generator = np.random.Generator(np.random.PCG64(split.seed))
    shuffled = rows[generator.permutation(len(rows))]
    wanted = [round(len(rows) * split.test), round(len(rows) * split.validation)]
    if split.method == "stratified":
        shuffled = _interleave(shuffled, target[shuffled])
    test, validation, train = np.split(shuffled, np.cumsum(wanted))
    return Parts(np.sort(train), np.sort(validation), np.sort(test))


def _interleave(rows: Rows, classes: NDArray[Any]) -> Rows:
    """Orders rows so that every stretch of them holds each class in its proportion.

    The k-th of n rows of a class goes to position (k + 1/2) / n of the whole; ties keep the shuffled order.
    A class of a single row goes to the very end, where the training rows are.
    """
    position = np.empty(len(rows))
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        position[members] = (np.arange(len(members)) + 0.5) / len(members) if len(members) > 1 else 1.0
    return rows[np.argsort(position, kind="stable")]
