"""What is known of a dataset's columns once it was read: written by ingest, asked by `resolve`, shown by the API."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

ColumnType = Literal["number", "integer", "boolean", "category", "text", "datetime", "vector"]
Value = bool | int | str

MAX_VALUES = 1000  # different values of a column that may be a category or a class


class Column(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    type: ColumnType
    missing: int
    distinct: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    # All different values where there are at most MAX_VALUES: numbers ascending, text by code point, false before
    # true. The position in this list is the code in `codes.npy`, and the order of classes.
    values: list[Value] | None = None
    counts: list[int] | None = None
    number_row: int | None = None  # row of this column in `numbers.npy` (float32, missing is NaN)
    size: int | None = None  # of a vector: it is that many rows of `numbers.npy` from `number_row` on
    code_row: int | None = None  # row of this column in `codes.npy` (int32, missing is -1)


class Warning(BaseModel):
    """Something a user should know that stopped nothing."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    column: str | None = None
