"""Medians of few rounds, and how far they can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Bounded:
    """A median, and the interval that holds 95 % of what other rounds of the same kind would give."""

    value: float
    low: float
    high: float

    def text(self, digits: int, unit: str = "") -> str:
        return f"{self.value:.{digits}f}{unit} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def median(values: Sequence[float]) -> Bounded:
    drawn = np.asarray(values)[_rows(len(values))]
    return _bounded(float(np.median(values)), np.median(drawn, axis=1))


def ratio(above: Sequence[float], below: Sequence[float]) -> Bounded:
    """Of two medians. The two were measured round by round, so the rounds are drawn in pairs."""
    rows = _rows(len(above))
    drawn = np.median(np.asarray(above)[rows], axis=1) / np.median(np.asarray(below)[rows], axis=1)
    return _bounded(float(np.median(above) / np.median(below)), drawn)


def _rows(rounds: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.random.default_rng(0).integers(0, rounds, (DRAWS, rounds))


def _bounded(value: float, drawn: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Bounded:
    rest = (1 - CONFIDENCE) / 2
    return Bounded(value, float(np.quantile(drawn, rest)), float(np.quantile(drawn, 1 - rest)))
