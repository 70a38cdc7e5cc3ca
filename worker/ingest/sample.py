"""A sample of the rows, as the measures of association want it: the same rows of the same table every time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.profile import Column

ROWS, CELLS = 10_000, 1_000_000
COLUMNS = 200
LEAST = 30  # rows: of fewer, nothing goes together but by chance
CLASSES = 100  # that are told apart when they are predicted; the rarest are one together
FEW = 20  # different integers that are predicted as classes


@dataclass(frozen=True)
class Sampled:
    """One column in the rows of the sample."""

    column: Column
    is_category: bool
    levels: "NDArray[np.int64]"  # (rows,): categories, or bins of numbers; missing is the last one, if any is
    is_missing: "NDArray[np.bool_]"  # (rows,)
    ranks: "NDArray[np.float64] | None"  # (rows,): of a number, about their mean, missing is NaN
    classes: "NDArray[np.int64] | None"  # (rows,): where it is predicted as one of a few, missing is -1


def draw(folder: Path, columns: Sequence[Column], rows: int) -> list[Sampled]:
    """The columns that can be compared; nothing where there are too few rows.

    Of more than 200 columns the first and the last hundred, among which a target most often is.
    """
    usable = [
        column
        for column in columns
        if column.type != "vector"
        and column.distinct > 1
        and (column.number_row, column.code_row, column.moment_row) != (None, None, None)
    ]
    if len(usable) > COLUMNS:
        usable = usable[: COLUMNS // 2] + usable[-COLUMNS // 2 :]
    if rows < LEAST or len(usable) < 2:
        return []
    drawn = min(rows, ROWS, CELLS // len(usable))
    chosen = np.sort(np.random.default_rng(0).choice(rows, drawn, replace=False, shuffle=False))
    arrays: dict[str, Any] = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in ("numbers", "codes", "moments")
        if (folder / f"{name}.npy").exists()
    }
    return [one for column in usable if (one := _sampled(column, arrays, chosen)) is not None]


def _sampled(column: Column, arrays: dict[str, Any], chosen: "NDArray[np.int64]") -> Sampled | None:
    codes = None if column.code_row is None else arrays["codes"][column.code_row, chosen].astype(np.int64)
    if column.type in ("category", "boolean"):
        assert codes is not None
        if len(np.unique(codes[codes >= 0])) < 2:
            return None
        levels = np.where(codes < 0, len(column.values or []), codes)
        return Sampled(column, True, _renumbered(levels), codes < 0, None, _most_frequent(codes))
    if column.number_row is not None:
        values = arrays["numbers"][column.number_row, chosen].astype(np.float64)
        values[~np.isfinite(values)] = np.nan
    else:
        moments = arrays["moments"][column.moment_row, chosen]
        values = np.where(moments == np.iinfo(np.int64).min, np.nan, moments.astype(np.float64))
    known = ~np.isnan(values)
    different, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(different) < 2:
        return None
    smaller = np.cumsum(counts) - counts
    ranks = np.full(len(values), np.nan)
    ranks[known] = (smaller + (counts - 1) / 2 - (known.sum() - 1) / 2)[place]
    levels = np.full(len(values), len(values))
    levels[known] = _bins(different, smaller, int(known.sum()), max(4, min(20, len(values) // 100)))[place]
    few = codes is not None and column.distinct <= FEW
    return Sampled(column, False, _renumbered(levels), ~known, ranks, codes if few else None)


def _bins(different: "NDArray[np.float64]", smaller: "NDArray[np.int64]", rows: int, width: int) -> "NDArray[np.int64]":
    """The bin of each different value, of about `width` rows; `smaller` are the rows below each value.

    Each cut is made in the widest gap near its place, so that values that stand together stay so.
    """
    gaps = np.diff(different)
    near = smaller[1:] // width
    by_gap = np.lexsort((-gaps, near))
    cuts = by_gap[np.unique(near[by_gap], return_index=True)[1]]
    # A row that would be alone in its bin has nobody to be predicted from: the narrower of the gaps beside it is none.
    alone = np.flatnonzero(np.diff(smaller[cuts + 1], prepend=0, append=rows) == 1)
    beside = np.concatenate([[np.inf], gaps[cuts], [np.inf]])
    joined = np.where(beside[alone] < beside[alone + 1], alone - 1, alone)
    found = np.zeros(len(different), dtype=np.int64)
    found[np.delete(cuts, joined[joined < len(cuts)]) + 1] = 1
    return np.cumsum(found)


def _renumbered(levels: "NDArray[np.int64]") -> "NDArray[np.int64]":
    return np.unique(levels, return_inverse=True)[1]


def _most_frequent(codes: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """Codes of at most `CLASSES` classes."""
    if codes.max(initial=0) < CLASSES:
        return codes
    known = codes[codes >= 0]
    kept = np.argsort(-np.bincount(known), kind="stable")[: CLASSES - 1]
    place = np.full(int(codes.max()) + 1, CLASSES - 1)
    place[kept] = np.arange(len(kept))
    return np.where(codes < 0, -1, place[codes])
