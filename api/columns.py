"""The profile of a dataset as it is shown: what each column holds."""

from typing import Any

from pydantic import BaseModel, Field

from core.profile import QUANTILES, Association, Column, ColumnType, Histogram, IdMark, Value

TOP_VALUES = 20


class ColumnRead(BaseModel):
    """What a column holds. What does not apply to its type is null."""

    name: str
    type: ColumnType
    missing: int = Field(description="Rows without a value; of numbers, NaN is none.")
    distinct: int = Field(description="Different values.")
    minimum: float | None = Field(
        description="Of numbers, as the six fields that follow; infinity is left out of them."
    )
    maximum: float | None
    mean: float | None
    std: float | None = Field(description="Standard deviation, of the values themselves: divided by their number.")
    quantiles: dict[str, float] | None = Field(description="By share of the values that are smaller.")
    histogram: "HistogramRead | None"
    zeros: int | None = Field(description="Values that are 0.")
    negatives: int | None = Field(description="Values under 0.")
    top_values: list[tuple[Value, int]] | None = Field(
        description="The most frequent values with their counts, at most 20. Of text where one of them comes twice."
    )
    shortest: int | None = Field(description="Characters of the shortest text.")
    longest: int | None = Field(description="Characters of the longest text.")
    earliest: str | None = Field(description="Of dates and times, ISO 8601.")
    latest: str | None
    dates_only: bool | None = Field(description="Whether all moments are at midnight.")
    size: int | None = Field(description="Numbers in each vector.")
    id_like: IdMark | None = Field(
        description="By what the column looks like an id of the row: consecutive integers, its name, values that are "
        "all different and written alike, or just all different."
    )
    date_format: str | None = Field(description="How the dates are written that this column of another type holds.")
    associations: list[Association] = Field(
        description="The columns that go together with this one the most, at most 10, on a sample of the rows."
    )

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "ColumnRead":
        column = Column.model_validate(stored)
        top = column.common
        if column.values is not None and column.counts is not None:
            pairs = zip(column.values, column.counts, strict=True)
            top = sorted(pairs, key=lambda pair: -pair[1])[:TOP_VALUES]
        same = column.model_dump(include=set(cls.model_fields) - {"quantiles", "histogram"})
        quantiles = None
        if column.quantiles is not None:
            quantiles = {f"{share:g}": value for share, value in zip(QUANTILES, column.quantiles, strict=True)}
        histogram = None if column.histogram is None else HistogramRead.of(column.histogram)
        return cls(**same, quantiles=quantiles, histogram=histogram, top_values=top)


class HistogramRead(BaseModel):
    """Equal bins. They reach beyond the 1st and the 99th percentile by no more than the distance of the two; what lies
    farther out is counted apart. Integers of at most 20 in a row have a bin each."""

    edges: list[float] = Field(description="Of the bins, one more than there are counts.")
    counts: list[int] = Field(description="Values of each bin; a bin holds its lower edge, the last one both.")
    below: int = Field(description="Values under the first edge.")
    above: int = Field(description="Values over the last edge.")

    @classmethod
    def of(cls, found: Histogram) -> "HistogramRead":
        return cls(edges=found.edges, counts=found.counts, below=found.below, above=found.above)
