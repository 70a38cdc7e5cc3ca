"""What becomes of each column: numbers, categories, dates and vectors, and how they are made ready for the network."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SkipValidation, Strict, WithJsonSchema, model_validator

from core.spec.values import INTEGRAL, ColumnName, Flag, Number, Part, distinct, one_of

MAX_NAMED_COLUMNS = 10_000
MAX_ORDER = 1000
MAX_CELL = 256  # characters

IMPUTE_SYNONYMS = {"most_frequent": "mode"}
SCALE_SYNONYMS = {"zscore": "standard", "minmax": "min_max"}
ENCODE_SYNONYMS = {"onehot": "one_hot"}

FeatureType = Literal["number", "category", "datetime", "vector"]
ImputeWord = Literal["median", "mean", "mode", "constant", "none"]
ScaleWord = Literal["standard", "robust", "min_max", "quantile", "none"]
EncodeWord = Literal["one_hot", "ordinal", "embedding"]
CyclicPart = Literal["month", "day", "weekday", "hour", "minute"]
DatePart = Literal["elapsed", "year", "month", "day", "weekday", "hour", "minute"]

Impute = Annotated[ImputeWord, one_of(ImputeWord, IMPUTE_SYNONYMS)]
Scale = Annotated[ScaleWord, one_of(ScaleWord, SCALE_SYNONYMS)]
Encode = Annotated[EncodeWord, one_of(EncodeWord, ENCODE_SYNONYMS)]


def _a_cell(value: Any) -> Any:
    """What may stand in one cell of a table."""
    if isinstance(value, str) and len(value) <= MAX_CELL:
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"must be a number, true, false, or a text of at most {MAX_CELL} characters")


CELL_SCHEMA = {"anyOf": [{"type": "string", "maxLength": MAX_CELL}, {"type": "number"}, {"type": "boolean"}]}
Cell = Annotated[bool | int | float | str, SkipValidation, AfterValidator(_a_cell), WithJsonSchema(CELL_SCHEMA)]


def _rows_or_share(value: float) -> float:
    if value >= 1 and not value.is_integer():
        raise ValueError("must be a share below 1, or a whole number of rows")
    return value


@dataclass(frozen=True)
class Kind:
    """What may be said of one kind of input."""

    words: str
    type: FeatureType
    encode: EncodeWord | None
    fields: frozenset[str]
    impute: tuple[ImputeWord, ...]
    scale: tuple[ScaleWord, ...] = ()


_FILLED = {"type", "impute", "fill_value"}
_SCALED = {*_FILLED, "missing_indicator", "scale"}
_OF_CATEGORIES = {*_FILLED, "encode", "min_frequency"}
_AFFINE: tuple[ScaleWord, ...] = ("standard", "robust", "min_max", "none")
_ANY_SCALE: tuple[ScaleWord, ...] = ("standard", "robust", "min_max", "quantile", "none")
_OF_NUMBERS: tuple[ImputeWord, ...] = ("median", "mean", "mode", "constant")
_OF_CODES: tuple[ImputeWord, ...] = ("none", "mode", "constant")

NUMBER = Kind("numbers", "number", None, frozenset(_SCALED), _OF_NUMBERS, _ANY_SCALE)
ONE_HOT = Kind("one-hot categories", "category", "one_hot", frozenset(_OF_CATEGORIES), _OF_CODES)
ORDINAL = Kind(
    "ordinal categories",
    "category",
    "ordinal",
    frozenset({*_SCALED, "encode", "order"}),
    ("median", "mode", "constant"),
    _ANY_SCALE,
)
EMBEDDING = Kind("embedded categories", "category", "embedding", frozenset({*_OF_CATEGORIES, "dimension"}), _OF_CODES)
DATETIME = Kind("dates", "datetime", None, frozenset({*_SCALED, "parts", "cyclic"}), _OF_NUMBERS, _ANY_SCALE)
VECTOR = Kind("vectors", "vector", None, frozenset(_SCALED), ("median", "mean", "constant"), _AFFINE)
KINDS = (NUMBER, ONE_HOT, ORDINAL, EMBEDDING, DATETIME, VECTOR)


class ColumnChoice(Part):
    """What is not said follows from the column; `docs/features.md` has every rule and formula."""

    type: FeatureType | None = Field(default=None, description="Takes the column as this type.")
    impute: Impute | None = Field(
        default=None,
        description="What a missing value becomes, from the training rows; `mode` is the most frequent value, "
        "`constant` is `fill_value`, and `none` keeps a missing category as one of its own.",
    )
    fill_value: Cell | None = Field(
        default=None, description="What a missing value becomes with `impute: constant`; a date as ISO 8601."
    )
    missing_indicator: Flag | None = Field(
        default=None, description="Whether one more input says that the value was missing."
    )
    scale: Scale | None = Field(
        default=None,
        description="`standard`: minus the mean, divided by the standard deviation. `robust`: minus the median, "
        "divided by the distance of the quartiles. `min_max`: from 0 to 1. `quantile`: its rank, as a normal deviate.",
    )
    encode: Encode | None = Field(
        default=None,
        description="How a category becomes numbers: one place each, its place in the order, or a learned vector.",
    )
    min_frequency: Annotated[Number, Field(gt=0), AfterValidator(_rows_or_share)] | None = Field(
        default=None,
        description="Categories with fewer training rows than this are taken together as one; below 1 it is a share of "
        "the rows.",
    )
    dimension: Annotated[int, Strict(), Field(ge=1, le=1024), INTEGRAL] | None = Field(
        default=None, description="Width of the learned vector; by default 1.6 x categories ** 0.56, at most 600."
    )
    order: Annotated[list[Cell], AfterValidator(distinct)] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_ORDER,
        description="Of an ordinal category: its values, the least first; by default as they sort.",
    )
    parts: Annotated[list[DatePart], AfterValidator(distinct)] | None = Field(
        default=None,
        min_length=1,
        description="What a date becomes. `elapsed` is the time since the mean of the training rows, in seconds; "
        "`weekday` is 0 on Mondays.",
    )
    cyclic: Annotated[list[CyclicPart], AfterValidator(distinct)] | None = Field(
        default=None,
        description="Which of the `parts` become a sine and a cosine, so that December is next to January; the others "
        "are numbers.",
    )

    @model_validator(mode="after")
    def goes_together(self) -> "ColumnChoice":
        if self.fill_value is not None and self.impute != "constant":
            raise ValueError("`fill_value` belongs to `impute: constant`")
        if self.impute == "constant" and self.fill_value is None:
            raise ValueError("`impute: constant` needs a `fill_value`")
        if self.dimension is not None and self.encode != "embedding":
            raise ValueError("`dimension` belongs to `encode: embedding`")
        if self.order is not None and self.encode != "ordinal":
            raise ValueError("`order` belongs to `encode: ordinal`")
        if self.parts is not None and not set(self.cyclic or ()) <= set(self.parts):
            raise ValueError("`cyclic` names parts that are not among `parts`")
        if not any(self.fits(kind) for kind in KINDS):
            near = [kind for kind in KINDS if self.type in (None, kind.type) and self.encode in (None, kind.encode)]
            raise ValueError(f"{self.words()} do not go together. {legal(near or KINDS)}")
        return self

    @property
    def said(self) -> dict[str, Any]:
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    def fits(self, kind: Kind) -> bool:
        """Whether all that is said may be said of this kind of input."""
        return (
            self.said.keys() <= kind.fields
            and self.type in (None, kind.type)
            and self.encode in (None, kind.encode)
            and (self.impute is None or self.impute in kind.impute)
            and (self.scale is None or self.scale in kind.scale)
        )

    def words(self) -> str:
        """What is said, without the values of the table."""
        named = ("type", "encode", "impute", "scale")
        return ", ".join(f"`{name}: {value}`" if name in named else f"`{name}`" for name, value in self.said.items())


def legal(kinds: Iterable[Kind]) -> str:
    """What may be said of these kinds, a sentence each."""
    return " ".join(map(_legal, kinds))


def _legal(kind: Kind) -> str:
    words = {"impute": kind.impute, "scale": kind.scale}
    fields = [
        f"`{name}` ({', '.join(words[name])})" if name in words else f"`{name}`"
        for name in ColumnChoice.model_fields
        if name in kind.fields and name not in ("type", "encode")
    ]
    return f"Of {kind.words}: {', '.join(fields)}."


def _of(*kinds: Kind) -> AfterValidator:
    def check(choice: ColumnChoice) -> ColumnChoice:
        if not any(choice.fits(kind) for kind in kinds):
            raise ValueError(legal(kinds))
        return choice

    return AfterValidator(check)


class Features(Part):
    include: Annotated[list[ColumnName], AfterValidator(distinct)] | None = Field(
        default=None,
        max_length=MAX_NAMED_COLUMNS,
        description="The columns to learn from; by default all but the target that can be used.",
    )
    exclude: Annotated[list[ColumnName], AfterValidator(distinct)] = Field(
        default=[], max_length=MAX_NAMED_COLUMNS, description="Columns to leave out."
    )
    columns: dict[ColumnName, ColumnChoice] = Field(
        default={}, max_length=MAX_NAMED_COLUMNS, description="Choices for single columns."
    )
    numbers: Annotated[ColumnChoice, _of(NUMBER)] | None = Field(
        default=None, description="Choices for all columns of numbers, where `columns` says nothing."
    )
    categories: Annotated[ColumnChoice, _of(ONE_HOT, ORDINAL, EMBEDDING)] | None = Field(
        default=None, description="Choices for all categories and booleans, where `columns` says nothing."
    )
    datetimes: Annotated[ColumnChoice, _of(DATETIME)] | None = Field(
        default=None, description="Choices for all dates, where `columns` says nothing."
    )
    vectors: Annotated[ColumnChoice, _of(VECTOR)] | None = Field(
        default=None, description="Choices for all vectors, where `columns` says nothing."
    )
