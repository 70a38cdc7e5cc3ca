"""A column of numbers, and what is done with each."""

from collections.abc import Iterator
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from core.spec.features import ColumnChoice, ImputeWord
from worker.trainer.preprocessing.scaling import Scaling, fit_scaling, scaled, single
from worker.trainer.preprocessing.table import Floats

SAMPLED = 1024  # values, about, that tell where the middle of a column is


class NumberInput(BaseModel):
    """feature = the value, or `imputed` where it is missing or infinite, scaled. With `missing_indicator` one more: 1
    where it was missing, else 0.

    `minimum` and `maximum` are those of the rows of the fit, None where they had no value.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["number"] = "number"
    imputed: float
    scaling: Scaling
    missing_indicator: bool = False
    minimum: float | None = None
    maximum: float | None = None

    @property
    def features(self) -> list[str]:
        return [self.name, *([f"{self.name}="] if self.missing_indicator else [])]


def fit_number(name: str, raw: Floats, choice: ColumnChoice) -> NumberInput:
    """Where these rows have no value at all, a missing one becomes 0."""
    imputed, scaling = fit_filled(raw, choice)
    minimum, maximum = range_of(raw)
    return NumberInput(
        name=name,
        imputed=imputed,
        scaling=scaling,
        missing_indicator=bool(choice.missing_indicator),
        minimum=minimum,
        maximum=maximum,
    )


def range_of(raw: Floats) -> tuple[float, float] | tuple[None, None]:
    """The least and the largest of the finite values."""
    least, most = float(raw.min(initial=np.inf)), float(raw.max(initial=-np.inf))
    if not (np.isfinite(least) and np.isfinite(most)):  # nothing at all, or among them what is missing or infinite
        known = raw[np.isfinite(raw)]
        return (float(known.min()), float(known.max())) if len(known) else (None, None)
    return least, most


def fit_filled(raw: Floats, choice: ColumnChoice) -> tuple[float, Scaling]:
    """The imputed value, and the scaling of the values with it in the place of those that are missing."""
    finite = np.isfinite(raw)
    known = raw if finite.all() else raw[finite]
    imputed = single(imputed_of(known, choice.impute or "median", choice.fill_value))
    filled = raw if known is raw else np.where(finite, raw, np.float32(imputed))
    return imputed, fit_scaling(filled, choice.scale or "standard")


def imputed_of(known: NDArray[Any], impute: ImputeWord, fill_value: Any) -> Any:
    """What stands for a missing number; 0 where none is known."""
    if impute == "constant":
        return fill_value
    if not len(known):
        return 0
    match impute:
        case "median":
            return _median(known)
        case "mean":
            return known.astype(np.float64).mean()
        case "mode":
            values, counts = np.unique(known, return_counts=True)
            return values[counts.argmax()]  # of several, the least: they are sorted
        case "none":
            raise ValueError("numbers have no place for a missing one")
        case _:
            assert_never(impute)


def _median(values: NDArray[Any]) -> float:
    """As numpy's: the one in the middle, or halfway between the two there. Of numbers that are all finite."""
    middle = len(values) // 2
    found = _middle_among_equals(values)
    if found is not None:
        return found
    parted = np.partition(values, middle)
    upper = float(parted[middle])
    return upper if len(values) % 2 else (float(parted[:middle].max()) + upper) / 2


def _middle_among_equals(values: NDArray[Any]) -> float | None:
    """The median of many values that are often the same, as pixels are; None where it is not found this way.

    numpy's partition takes ten times as long for those. Two values of a sample, on either side of its middle, leave out
    nearly all others, and with them what is equal.
    """
    sample = np.sort(values[:: len(values) // SAMPLED + 1])
    if np.count_nonzero(sample[1:] == sample[:-1]) * 16 < len(sample):
        return None
    middle, half, margin = len(values) // 2, len(sample) // 2, len(sample) // 16
    guess, low, high = sample[[half, half - margin, min(half + margin, len(sample) - 1)]]
    for one in (guess, low, high):
        if np.count_nonzero(values < one) < middle < np.count_nonzero(values <= one):
            return float(one)
    between = values[(values > low) & (values < high)]
    place = middle - np.count_nonzero(values <= low)
    if not 0 < place < len(between):
        return None
    below, upper = map(float, np.partition(between, (place - 1, place))[place - 1 : place + 1])
    return upper if len(values) % 2 else (below + upper) / 2


def number_columns(fitted: NumberInput, raw: Floats) -> Iterator[Floats]:
    """`raw` is overwritten."""
    missing = ~np.isfinite(raw)
    raw[missing] = fitted.imputed
    yield scaled(raw, fitted.scaling)
    if fitted.missing_indicator:
        yield missing.astype(np.float32)
