"""Which rows train, which validate, which test: a function of the spec's seed and the table alone."""

from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from core.spec.data import Split
from worker.trainer.preprocessing import Rows


@dataclass(frozen=True)
class Parts:
    """Row numbers from 0, each part ascending; together every row that has a target, once."""

    train: Rows
    validation: Rows
    test: Rows


def draw(split: Split, rows: Rows, target: NDArray[Any]) -> Parts:
    """Draws validation and test rows; for a stratified split in each class's own proportion, give or take a row.

    A part has `round(share * rows)` rows whatever the classes; a class of one row trains.
    """
    generator = np.random.Generator(np.random.PCG64(split.seed))
    shuffled = rows[generator.permutation(len(rows))]
    sizes = [round(len(rows) * split.test), round(len(rows) * split.validation)]
    match split.method:
        case "stratified":
            shuffled = _stratify(shuffled, target[shuffled], sizes)
        case "random" | "auto":
            pass
        case _:
            assert_never(split.method)
    test, validation, train = np.split(shuffled, np.cumsum(sizes))
    return Parts(np.sort(train), np.sort(validation), np.sort(test))


def _stratify(rows: Rows, classes: NDArray[Any], sizes: list[int]) -> Rows:
    """Orders rows so that the first `sizes[0]` of them hold each class in its proportion, and so the next ones.

    Whole rows first, then one more to the classes with the largest remainders (ties: as shuffled). The last row of a
    class is given away only when nothing else is left.
    """
    _, first, member, counts = np.unique(classes, return_index=True, return_inverse=True, return_counts=True)
    part = np.full(len(rows), len(sizes))
    place = _places(member, counts)
    taken = np.zeros_like(counts)
    for number, size in enumerate(sizes):
        quota, remainder = np.divmod(size * counts, len(rows))
        given = np.minimum(quota, counts - taken)
        by_need = np.lexsort((first, -remainder))
        for spare in (1, 0):
            while (lacking := size - given.sum()) > 0:
                able = by_need[(taken + given + spare < counts)[by_need]]
                if not len(able):
                    break
                given[able[:lacking]] += 1
        part[(place >= taken[member]) & (place < (taken + given)[member])] = number
        taken += given
    return rows[np.argsort(part, kind="stable")]


def _places(member: Rows, counts: Rows) -> Rows:
    """Of each row, its number among those of its class, in order."""
    by_class = np.argsort(member, kind="stable")
    places = np.empty(len(member), np.int64)
    places[by_class] = np.arange(len(member)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places
