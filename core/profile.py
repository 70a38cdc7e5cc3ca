"""What is known of a dataset's columns once it was read: written by ingest, asked by `resolve`, shown by the API."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ColumnType = Literal["number", "integer", "boolean", "category", "text", "datetime", "vector"]
Value = bool | int | str

MAX_VALUES = 1000  # different values of a column that may be a category or a class
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

# Why a column looks like an id, the strongest mark first: it counts the rows one by one; its name says so; each row has
# another value and all are written alike; each row has another value.
IdMark = Literal["counts_rows", "name", "pattern", "unique"]


class Histogram(BaseModel):
    """Equal bins from `low` to `high`, each with its lower edge, the last one with both.

    They span the values from the least to the largest, but reach beyond the 1st and the 99th percentile by no more
    than the distance of the two: what lies farther out is counted in `below` and `above`, so that one outlier does not
    put all others into one bin. Integers of at most 20 in a row have a bin each.
    """

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    counts: list[int]
    below: int = 0
    above: int = 0

    @property
    def edges(self) -> list[float]:
        """Of the bins, one more than there are counts."""
        bins = len(self.counts)
        # Not `low + step`: the distance of two floats may be larger than any float.
        return [self.low * (1 - place / bins) + self.high * (place / bins) for place in range(bins + 1)]


class Association(BaseModel):
    """How another column goes together with this one, on a sample of the rows."""

    model_config = ConfigDict(frozen=True)

    column: str = Field(description="The other column.")
    strength: float = Field(
        description="0 to 1. Two numbers: Spearman's rank correlation without its sign. Two categories: Cramer's V, "
        "corrected for chance. A number and a category: the correlation ratio of the ranks, corrected for chance."
    )
    predicts: float = Field(
        description="0 to 1: which share of the error the other column alone takes away when it predicts this one, "
        "each row from the other rows. Of a number: R2 of its ranks; of classes: 0 is always saying the most common "
        "one, 1 is no error."
    )


class Column(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    type: ColumnType
    missing: int
    distinct: int
    # Of numbers; infinity is left out of every figure.
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: list[float] | None = None  # at `QUANTILES`
    histogram: Histogram | None = None
    zeros: int | None = None
    negatives: int | None = None
    # All different values where there are at most MAX_VALUES: numbers ascending, text by code point, false before
    # true. The position in this list is the code in `codes.npy`, and the order of classes.
    values: list[Value] | None = None
    counts: list[int] | None = None
    common: list[tuple[Value, int]] | None = None  # where `values` are not listed: the most frequent, with counts
    shortest: int | None = None  # characters
    longest: int | None = None
    earliest: str | None = None  # ISO 8601
    latest: str | None = None
    dates_only: bool | None = None  # every moment is at midnight
    size: int | None = None  # numbers in each vector
    id_like: IdMark | None = None
    date_format: str | None = None  # of text (or integers) that are dates
    associations: list[Association] = []  # the strongest, strongest first
    number_row: int | None = None  # row of this column in `numbers.npy` (float32, missing is NaN)
    code_row: int | None = None  # row of this column in `codes.npy` (int32, missing is -1)
    moment_row: int | None = None  # row of this column in `moments.npy` (int64 seconds, missing is the least int64)


class Warning(BaseModel):
    """Something a user should know that stopped nothing."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    column: str | None = None
    evidence: dict[str, Any] = Field(default={}, description="The figures that the warning rests on.")
