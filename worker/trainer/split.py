"""Which rows train, which validate, which test: a function of the spec's seed and the table alone."""

import warnings
from dataclasses import dataclass, replace
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from core import errors
from core.spec.data import HeldOutPart, Split, part_named
from worker.trainer.order import TableOrder
from worker.trainer.preprocessing import Rows, Table
from worker.trainer.ranks import ranks

TRAIN, VALIDATION, TEST = range(3)
NUMBER_OF = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class Parts:
    """Row numbers from 0, each part ascending; together every row that has a target, once."""

    train: Rows
    validation: Rows
    test: Rows
    folds: tuple[Rows, ...] = ()  # of the training rows, each ascending

    def with_rows(self, part: HeldOutPart, rows: Rows) -> "Parts":
        return replace(self, validation=rows) if part == "validation" else replace(self, test=rows)

    def of_fold(self, fold: int) -> "Parts":
        """The rows of one fold measure, and those of the others train; `fold` counts from 1."""
        own = self.folds[fold - 1]
        return Parts(np.setdiff1d(self.train, own, assume_unique=True), own, self.test[:0], self.folds)


def read_keys(order: TableOrder, table: Table, rows: Rows) -> Rows | None:
    """What the split goes by, of every row of the table: the rank of its moment or group, or the number of its part.

    Raises `SplitColumnInvalid` with the first of these rows that have no such value.
    """
    split = order.spec.split
    if split.by is None:
        return None
    column = order.column(split.by)
    keys = ranks(order, table, column)
    if split.method == "column":
        named = [part_named(value) for value in column.values or []]
        keys = np.array([*(-1 if part is None else NUMBER_OF[part] for part in named), -1])[keys]  # -1: the last
    lacking = rows[keys[rows] < 0]
    if len(lacking):
        raise errors.SplitColumnInvalid(
            f"{len(lacking)} rows have no value in it that says where they belong.",
            column=split.by,
            rows=lacking[:10].tolist(),
        )
    return keys


def draw(split: Split, rows: Rows, target: NDArray[Any], keys: Rows | None = None) -> Parts:
    """Takes validation and test rows: drawn, or as `keys` of all rows say (`read_keys`).

    Parts have the sizes that the shares say. A stratified part has each class in its own proportion, give or take a
    row; a class of one row trains. Where moments or groups stay together the sizes are the nearest that do. Raises
    `DatasetTooSmall` where there are fewer moments or groups than parts.
    """
    generator = np.random.Generator(np.random.PCG64(split.seed))
    validation_size, test_size = split.sizes(len(rows))
    sizes = [test_size, validation_size]
    match split.method:
        case "stratified" | "random" | "auto":
            shuffled = rows[generator.permutation(len(rows))]
            if split.method == "stratified":
                shuffled = _stratify(shuffled, target[shuffled], sizes)
            test, validation, train = np.split(shuffled, np.cumsum(sizes))
        case "last":
            train, validation, test = np.split(rows, len(rows) - np.cumsum(sizes)[::-1])
        case "time" | "group" | "column":
            assert keys is not None
            part = keys[rows]
            if split.method != "column":
                part = _whole(split, part, sizes, generator)
            train, validation, test = (rows[part == number] for number in (TRAIN, VALIDATION, TEST))
        case _:
            assert_never(split.method)
    parts = Parts(np.sort(train), np.sort(validation), np.sort(test))
    return replace(parts, folds=_folds(split, parts.train, target, keys)) if split.folds else parts


def _folds(split: Split, rows: Rows, target: NDArray[Any], keys: Rows | None) -> tuple[Rows, ...]:
    """The very rows of scikit-learn's `KFold`, `StratifiedKFold` or `GroupKFold` with `shuffle=True` and our seed."""
    drawn = {"n_splits": split.folds, "shuffle": True, "random_state": split.seed}
    folds: KFold | StratifiedKFold | GroupKFold
    labels: NDArray[Any] | None = None
    groups: Rows | None = None
    match split.method:
        case "stratified":
            folds, labels = StratifiedKFold(**drawn), target[rows]
            most = int(np.unique(labels, return_counts=True)[1].max(initial=0))
        case "group":
            assert keys is not None
            folds, groups = GroupKFold(**drawn), keys[rows]
            most = len(np.unique(groups))
        case _:
            folds, most = KFold(**drawn), len(rows)
    if most < (split.folds or 0):
        what = {"stratified": "rows of the largest class", "group": "groups"}.get(split.method, "rows")
        raise errors.DatasetTooSmall(f"{most} {what} are too few for {split.folds} folds.", rows=len(rows))
    with warnings.catch_warnings(action="ignore"):  # of a class with fewer rows than folds: the job has said so
        return tuple(rows[own] for _, own in folds.split(rows, labels, groups))


def _whole(split: Split, keys: Rows, sizes: list[int], generator: np.random.Generator) -> Rows:
    """The part of each row, where rows of one key stay together."""
    _, member, counts = np.unique(keys, return_inverse=True, return_counts=True)
    wanted = [(number, size) for number, size in zip((TEST, VALIDATION), sizes, strict=True) if size]
    if len(counts) <= len(wanted):
        raise errors.DatasetTooSmall(
            f"{len(counts)} different values of the split's column are too few for {len(wanted) + 1} parts.",
            column=split.by,
            distinct=len(counts),
        )
    part = np.full(len(counts), TRAIN)
    left = np.arange(len(counts))[::-1] if split.method == "time" else generator.permutation(len(counts))
    for place, (number, size) in enumerate(wanted):
        most = len(left) - (len(wanted) - place)  # each part that follows needs one, and so does training
        if split.method == "time":
            taken = left[: 1 + int(np.argmin(np.abs(np.cumsum(counts[left[:most]]) - size)))]
        else:
            taken = _fill(left, counts, size, most)
        part[taken] = number
        left = left[~np.isin(left, taken)]
    return part[member]


def _fill(groups: Rows, counts: Rows, size: int, most: int) -> Rows:
    """Groups in their order, each that brings the part nearer to its size; one at least: else the smallest."""
    taken: list[int] = []
    lacking = size
    for group in groups.tolist():
        if not lacking or len(taken) == most:
            break
        if abs(lacking - int(counts[group])) < abs(lacking):
            taken.append(group)
            lacking -= int(counts[group])
    return np.array(taken or [groups[np.argmin(counts[groups])]])


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
