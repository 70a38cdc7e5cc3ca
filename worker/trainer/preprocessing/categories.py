"""A column of categories: a place for each, a place in their order, or a learned vector."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from core import errors
from core.spec.features import ColumnChoice
from worker.trainer.order import TableColumn
from worker.trainer.preprocessing.numbers import imputed_of
from worker.trainer.preprocessing.scaling import Scaling, fit_scaling, scaled, single
from worker.trainer.preprocessing.table import Codes, Floats

MISSING = -1  # code of a missing value: the last of an array by code


class CategoryInput(BaseModel):
    """feature k = 1 where the value is `categories[k]`, else 0; null stands for a missing value.

    Where some are `rare`, one more feature is 1 for all of those, and for a value that is unknown; else an unknown one
    is all 0. With `imputed`, that value stands for a missing one.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["category"] = "category"
    categories: list[Any]
    rare: list[Any] = []
    imputed: Any = None

    @property
    def features(self) -> list[str]:
        named = [f"{self.name}={'' if value is None else text(value)}" for value in self.categories]
        return [*named, *([f"{self.name}=<rare>"] if self.rare else [])]


class OrdinalInput(BaseModel):
    """feature = the place of the value in `categories`, from 0, or `imputed` where it is missing or unknown, scaled.
    With `missing_indicator` one more: 1 where it was either, else 0."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["ordinal"] = "ordinal"
    categories: list[Any]
    imputed: float
    scaling: Scaling
    missing_indicator: bool = False

    @property
    def features(self) -> list[str]:
        return [self.name, *([f"{self.name}="] if self.missing_indicator else [])]


class EmbeddingInput(BaseModel):
    """code = 1 + the place of the value in `categories`; null stands for a missing value. Unknown or `rare`: 0. With
    `imputed`, that value stands for a missing one."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["embedding"] = "embedding"
    categories: list[Any]
    rare: list[Any] = []
    imputed: Any = None
    dimension: int

    @property
    def features(self) -> list[str]:
        return []


def text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- fit ----------------------------------------------------------------------------------------------------------


def fit_one_hot(column: TableColumn, codes: Codes, choice: ColumnChoice) -> CategoryInput:
    categories, rare, imputed = _seen(column, codes, choice)
    return CategoryInput(name=column.name, categories=categories, rare=rare, imputed=imputed)


def fit_embedding(column: TableColumn, codes: Codes, choice: ColumnChoice) -> EmbeddingInput:
    categories, rare, imputed = _seen(column, codes, choice)
    return EmbeddingInput(
        name=column.name, categories=categories, rare=rare, imputed=imputed, dimension=choice.dimension or 1
    )


def _seen(column: TableColumn, codes: Codes, choice: ColumnChoice) -> tuple[list[Any], list[Any], Any]:
    """The categories that these rows have often enough, the others, and what stands for a missing one.

    In the order of the column's values, null last; a fill value that is none of them before that.
    """
    counts = np.bincount(codes + 1, minlength=len(column.values or []) + 1)
    found = {value: int(count) for value, count in zip(column.values or [], counts[1:], strict=True)}
    imputed = choice.fill_value
    if choice.impute == "mode":
        imputed = max(found, key=lambda value: found[value], default=None) if any(found.values()) else None
    found[imputed] = found.get(imputed, 0) + int(counts[0])
    frequency = choice.min_frequency or 1
    least = frequency if frequency >= 1 else frequency * len(codes)
    return (
        [value for value, count in found.items() if count and count >= least],
        [value for value, count in found.items() if 0 < count < least],
        imputed,
    )


def fit_ordinal(column: TableColumn, codes: Codes, choice: ColumnChoice) -> OrdinalInput:
    """Raises `FeatureNotSupported` where the fill value is none of the categories."""
    seen = np.unique(codes)
    categories = choice.order or [(column.values or [])[code] for code in seen if code != MISSING]
    place_of = _places(column, categories, unknown=MISSING)
    places = place_of[codes]
    fill = choice.fill_value
    if choice.impute == "constant" and fill not in categories:
        raise errors.FeatureNotSupported(
            "The `fill_value` of this column is none of its categories.", column=column.name, type=column.type
        )
    known = places[places != MISSING]
    fill_place = categories.index(fill) if choice.impute == "constant" and fill is not None else None
    imputed = single(imputed_of(known, choice.impute or "mode", fill_place))
    filled = np.where(places == MISSING, np.float32(imputed), places.astype(np.float32))
    return OrdinalInput(
        name=column.name,
        categories=categories,
        imputed=imputed,
        scaling=fit_scaling(filled, choice.scale or "standard"),
        missing_indicator=bool(choice.missing_indicator),
    )


# --- transform ----------------------------------------------------------------------------------------------------


def one_hot_columns(fitted: CategoryInput, column: TableColumn, codes: Codes) -> Iterator[Floats]:
    unknown = len(fitted.categories) if fitted.rare else MISSING
    places = _places(column, fitted.categories, unknown=unknown, missing=fitted.imputed)[codes]
    for place in range(len(fitted.categories) + bool(fitted.rare)):
        yield (places == place).astype(np.float32)


def ordinal_columns(fitted: OrdinalInput, column: TableColumn, codes: Codes) -> Iterator[Floats]:
    places = _places(column, fitted.categories, unknown=MISSING)[codes]
    missing = places == MISSING
    yield scaled(np.where(missing, np.float32(fitted.imputed), places.astype(np.float32)), fitted.scaling)
    if fitted.missing_indicator:
        yield missing.astype(np.float32)


def embedding_codes(fitted: EmbeddingInput, column: TableColumn, codes: Codes) -> Codes:
    return _places(column, fitted.categories, unknown=-1, missing=fitted.imputed)[codes] + np.int32(1)


def unseen_rows(fitted: CategoryInput | OrdinalInput | EmbeddingInput, column: TableColumn, codes: Codes) -> int:
    """How many of these rows have a value that was in no row of the fit."""
    rare = [] if isinstance(fitted, OrdinalInput) else fitted.rare
    places = _places(column, [*fitted.categories, *rare], unknown=MISSING)
    if isinstance(fitted, OrdinalInput) or fitted.imputed is not None:
        places[MISSING] = 0  # it is imputed
    return int((places[codes] == MISSING).sum())


def _places(column: TableColumn, categories: list[Any], *, unknown: int, missing: Any = None) -> Codes:
    """By code, the place of its value in `categories`; the last is of a missing value, for which `missing` stands.

    Kept preprocessing knows categories that its table has not, and the other way round.
    """
    place_of = {value: place for place, value in enumerate(categories)}
    return np.array([place_of.get(value, unknown) for value in [*(column.values or []), missing]], np.int32)
