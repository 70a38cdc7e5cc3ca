"""Which columns go together, and which of them gives another one away.

Two figures for each pair, of a sample: `strength` is symmetric and corrected for chance. `predicts` is what a leak is
found by: one column alone predicts another, each row from the other rows of its level, so that neither a fine partition
nor a column of different values in each row gains anything by luck.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.profile import Association, Column
from worker.ingest.sample import LEAST, Sampled, draw

KEPT = 10  # associations of a column
WEAK = 0.1  # what is less is not kept

Floats = NDArray[np.float64]


def associate(folder: Path, columns: list[Column], rows: int) -> list[Column]:
    """The columns with their associations, by the arrays that lie in `folder`."""
    sampled = draw(folder, columns, rows)
    if len(sampled) < 2:
        return columns
    strength, predicts = measure(sampled)
    found = {one.column.name: _strongest(sampled, strength[:, at], predicts[:, at]) for at, one in enumerate(sampled)}
    return [
        column.model_copy(update={"associations": found[column.name]}) if found.get(column.name) else column
        for column in columns
    ]


def _strongest(sampled: Sequence[Sampled], strength: Floats, predicts: Floats) -> list[Association]:
    most = np.maximum(strength, predicts)
    order = [at for at in np.argsort(-most, kind="stable") if most[at] >= WEAK][:KEPT]
    return [
        Association(
            column=sampled[at].column.name,
            strength=round(float(strength[at]), 4),
            predicts=round(float(predicts[at]), 4),
        )
        for at in order
    ]


def measure(sampled: Sequence[Sampled]) -> tuple[Floats, Floats]:
    """Two matrices of (columns, columns): `strength`, and how well the column of the row predicts that of the column.

    Their diagonals are 0.
    """
    size, rows = len(sampled), len(sampled[0].levels)
    strength, predicts = np.zeros((size, size)), np.zeros((size, size))
    numbers = np.array([at for at, one in enumerate(sampled) if one.ranks is not None], dtype=np.int64)
    as_numbers = np.array([at for at in numbers if sampled[at].classes is None], dtype=np.int64)
    ranks, known = np.zeros((rows, size)), np.ones((rows, size))
    for at in numbers:
        ranks[:, at] = np.nan_to_num(sampled[at].ranks) / rows
        known[:, at] = ~sampled[at].is_missing
    of_numbers, of_targets = (
        [figure[:, part] for figure in (ranks, known, ranks**2)] for part in (numbers, as_numbers)
    )
    strength[np.ix_(numbers, numbers)] = spearman(of_numbers[0], of_numbers[1])

    for at, one in enumerate(sampled):
        parted = Parted(one.levels)
        missing = float(one.is_missing.mean())
        present = slice(0, -1 if missing else None)  # the levels but that of the missing
        # That a value is missing may say much. Where it says nothing, the rows that have one say how much it says.
        asked = [slice(None)] if missing > 0.5 or not missing else [slice(None), present]
        if one.is_category:
            found = correlation_ratio(*(parted.sums(figure)[present] for figure in of_numbers))
            strength[at, numbers] = strength[numbers, at] = found
        sums, counts, squares = (parted.sums(figure) for figure in of_targets)
        linear = strength[at, as_numbers] ** 2 * (not one.is_category)
        by_level = (explained(sums[part], counts[part], squares[part]) for part in asked)
        predicts[at, as_numbers] = np.max([linear, *by_level], axis=0)
        for target, other in enumerate(sampled):
            if other.classes is not None and target != at:
                table = parted.table(other.classes)
                predicts[at, target] = max(skill(table[part]) for part in asked)
                if one.is_category and other.is_category and target > at:
                    strength[at, target] = strength[target, at] = cramers_v(table[present])
    np.fill_diagonal(strength, 0)
    np.fill_diagonal(predicts, 0)
    return strength, predicts


class Parted:
    """The rows of the sample by the level of one column."""

    def __init__(self, levels: "NDArray[np.int64]") -> None:
        self._levels = levels
        self._order = np.argsort(levels, kind="stable")
        self._starts = np.searchsorted(levels[self._order], np.arange(levels.max() + 1))

    def sums(self, values: Floats) -> Floats:
        """Of `values` (rows, columns): (levels, columns)."""
        if not values.shape[1]:
            return np.empty((len(self._starts), 0))
        return np.add.reduceat(values[self._order], self._starts, axis=0)

    def table(self, classes: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """The rows of each class (missing is -1): (levels, classes)."""
        known, width = classes >= 0, int(classes.max()) + 1
        cells = (self._levels * width + classes)[known]
        return np.bincount(cells, minlength=len(self._starts) * width).reshape(-1, width)


def explained(sums: Floats, counts: Floats, squares: Floats) -> Floats:
    """R2 of predicting each number by the mean of the other rows of its level, from (levels, columns); at least 0."""
    total, number, square = sums.sum(axis=0), counts.sum(axis=0), squares.sum(axis=0)
    spread = square - _divided(total**2, number)
    # Without the row itself a mean is (sum - y) / (n - 1): its error is n / (n - 1) times that of the whole mean.
    inside = (squares - _divided(sums**2, counts)) * _divided(counts, counts - 1) ** 2
    overall = _divided(total, number)
    alone = squares - 2 * overall * sums + overall**2 * counts  # of a row that is alone in its level
    error = np.where(counts > 1, inside, alone).sum(axis=0)
    return np.where(number >= LEAST, np.clip(1 - _divided(error, spread, empty=1.0), 0, 1), 0.0)


def skill(table: "NDArray[np.int64]") -> float:
    """Which share of the errors of always saying the most common class is avoided by saying that of the other rows of
    the level, from (levels, classes)."""
    total, common = int(table.sum()), table.sum(axis=0)
    base = int(common.max())
    if total < LEAST or total == base:
        return 0.0
    first, second = np.partition(table, -2, axis=1)[:, :-3:-1].T if table.shape[1] > 1 else (table[:, 0], 0)
    # A row of the first class meets one less of its own; of another class, its level speaks against it.
    right = first[first - 1 > second].sum() + first[(first - 1 == second) & (first > 1)].sum() / 2
    right += table[table.sum(axis=1) == 1, common.argmax()].sum()
    return max(0.0, float(right - base) / (total - base))


def spearman(ranks: Floats, known: Floats) -> Floats:
    """Without its sign, of each two columns (rows, columns) over the rows that both know. Unknown ranks are 0."""
    number = known.T @ known
    sums = ranks.T @ known
    spread = (ranks**2).T @ known - _divided(sums**2, number)
    together = ranks.T @ ranks - _divided(sums * sums.T, number)
    found = _divided(np.abs(together), np.sqrt(np.clip(spread * spread.T, 0, None)))
    return np.where(number >= LEAST, np.clip(found, 0, 1), 0.0)


def correlation_ratio(sums: Floats, counts: Floats, squares: Floats) -> Floats:
    """Of numbers by category, from (levels, columns); corrected for the number of levels (Kelley's epsilon)."""
    number, levels = counts.sum(axis=0), (counts > 0).sum(axis=0)
    middle = _divided(sums.sum(axis=0) ** 2, number)
    within = squares.sum(axis=0) - _divided(sums**2, counts).sum(axis=0)
    spread = squares.sum(axis=0) - middle
    error = _divided(within * (number - 1), spread * (number - levels), empty=1.0)
    return np.where(number >= LEAST, np.sqrt(np.clip(1 - error, 0, 1)), 0.0)


def cramers_v(table: "NDArray[np.int64]") -> float:
    """Of (levels, classes), corrected for chance: https://doi.org/10.1016/j.jkss.2012.10.002."""
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    number, (levels, classes) = int(table.sum()), table.shape
    if number < LEAST or min(levels, classes) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / number
    chi = float(((table - expected) ** 2 / expected).sum()) / number
    chi = max(0.0, chi - (levels - 1) * (classes - 1) / (number - 1))
    width = min(one - (one - 1) ** 2 / (number - 1) for one in (levels, classes)) - 1
    return min(1.0, float(np.sqrt(chi / width))) if width > 0 else 0.0


def _divided(above: Any, below: Any, empty: float = 0.0) -> Any:
    """`above / below`, and `empty` where nothing is below."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, empty), where=below > 1e-12)
