"""A column of vectors: each component is a column of numbers."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from core.spec.features import ColumnChoice
from worker.trainer.preprocessing.numbers import fit_filled, range_of
from worker.trainer.preprocessing.scaling import Affine, scaled
from worker.trainer.preprocessing.table import Floats


class VectorInput(BaseModel):
    """feature k = (component k, or `imputed[k]` where it is missing, - `center[k]`) / `scale[k]`. With
    `missing_indicator` one more: 1 where any component was missing, else 0.

    `minimum` and `maximum` are those of all components, in the rows of the fit.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["vector"] = "vector"
    imputed: list[float]
    center: list[float]
    scale: list[float]
    missing_indicator: bool = False
    minimum: float | None = None
    maximum: float | None = None

    @property
    def size(self) -> int:
        return len(self.center)

    @property
    def features(self) -> list[str]:
        components = [f"{self.name}[{component}]" for component in range(self.size)]
        return [*components, *([f"{self.name}="] if self.missing_indicator else [])]


Component = Callable[[int], Floats]


def fit_vector(name: str, component: Component, size: int, choice: ColumnChoice) -> VectorInput:
    imputed: list[float] = []
    affine: list[Affine] = []
    ranges: list[float] = []
    for place in range(size):
        raw = component(place)
        ranges += [bound for bound in range_of(raw) if bound is not None]
        filled, scaling = fit_filled(raw, choice)
        assert isinstance(scaling, Affine), "the spec allows no other of vectors"
        imputed.append(filled)
        affine.append(scaling)
    return VectorInput(
        name=name,
        imputed=imputed,
        center=[one.center for one in affine],
        scale=[one.scale for one in affine],
        missing_indicator=bool(choice.missing_indicator),
        minimum=min(ranges, default=None),
        maximum=max(ranges, default=None),
    )


def vector_columns(fitted: VectorInput, component: Component) -> Iterator[Floats]:
    holed = None
    for place in range(fitted.size):
        raw = component(place)
        missing = ~np.isfinite(raw)
        raw[missing] = fitted.imputed[place]
        if fitted.missing_indicator:
            holed = missing if holed is None else holed | missing
        yield scaled(raw, Affine(center=fitted.center[place], scale=fitted.scale[place]))
    if holed is not None:
        yield holed.astype(np.float32)
