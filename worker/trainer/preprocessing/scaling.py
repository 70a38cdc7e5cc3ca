"""How a number is scaled: fitted values, and the arithmetic that they stand for."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Annotated, Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from core.spec.features import ScaleWord
from worker.trainer.preprocessing.table import Floats

KNOTS = 64  # of a quantile scale, at most: its normal deviates are then about 0.1 apart


class Affine(BaseModel):
    """(value - `center`) / `scale`"""

    model_config = ConfigDict(frozen=True)

    type: Literal["affine"] = "affine"
    center: float
    scale: float


class Quantiles(BaseModel):
    """Straight lines through the points (`knots`, `deviates`); a value beyond the outermost knots is taken as the knot.

    `knots` rise. With i the number of inner knots at or below the value:
    `deviates[i]` + (value - `knots[i]`) / (`knots[i + 1]` - `knots[i]`) x (`deviates[i + 1]` - `deviates[i]`).
    A single knot makes every value its deviate.
    """

    model_config = ConfigDict(frozen=True)

    type: Literal["quantile"] = "quantile"
    knots: list[float]
    deviates: list[float]


Scaling = Annotated[Affine | Quantiles, Field(discriminator="type")]
UNSCALED = Affine(center=0.0, scale=1.0)


def single(value: float | np.number) -> float:
    """Rounded to float32: what the arithmetic will see of it."""
    return float(np.float32(value))


def fit_scaling(values: Floats, scale: ScaleWord) -> Affine | Quantiles:
    """`values` are all finite. From float32 values on, in float64: the deviation of a constant column is 0, and no
    rounding noise; then its scale is 1."""
    match scale:
        case "none":
            return UNSCALED
        case "standard":
            exact = values.astype(np.float64)
            mean = exact.mean()
            exact -= mean
            return _affine(mean, np.sqrt(np.dot(exact, exact) / len(exact)))
        case "robust":
            low, middle, high = np.percentile(values.astype(np.float64), (25, 50, 75))
            return _affine(middle, high - low)
        case "min_max":
            least = float(values.min())
            return _affine(least, float(values.max()) - least)
        case "quantile":
            return _fit_quantiles(values)
        case _:
            assert_never(scale)


def _affine(center: float, scale: float) -> Affine:
    return Affine(center=single(center), scale=single(scale) or 1.0)


def _fit_quantiles(values: Floats) -> Quantiles:
    """Knots are values whose normal deviates are about equally far apart, the outermost the least and the largest.

    The deviate of a knot is that of its rank, in the middle of all values that equal it: a value that many rows share
    becomes the middle of its share.
    """
    normal, ordered, rows = NormalDist(), np.sort(values), len(values)
    end = normal.inv_cdf(1 - 0.5 / max(rows, 2))
    shares = np.array([normal.cdf(deviate) for deviate in np.linspace(-end, end, KNOTS)])
    knots = np.unique(ordered[np.rint(shares * (rows - 1)).astype(np.int64)])
    ranks = np.searchsorted(ordered, knots, "left") + np.searchsorted(ordered, knots, "right")
    return Quantiles(
        knots=knots.tolist(), deviates=[single(normal.inv_cdf(rank / (2 * rows))) for rank in ranks.tolist()]
    )


def scaled(values: Floats, scaling: Affine | Quantiles) -> Floats:
    """In place where it can be, in float32."""
    match scaling:
        case Affine(center=0.0, scale=1.0):
            return values
        case Affine():
            values -= np.float32(scaling.center)
            values /= np.float32(scaling.scale)
            return values
        case Quantiles():
            return _interpolated(values, _singles(scaling.knots), _singles(scaling.deviates))
        case _:
            assert_never(scaling)


def _interpolated(values: Floats, knots: Floats, deviates: Floats) -> Floats:
    if len(knots) == 1:
        return np.full_like(values, deviates[0])
    held = np.clip(values, knots[0], knots[-1])
    place = np.searchsorted(knots[1:-1], held, "right")
    share = (held - knots[place]) / np.diff(knots)[place]
    return deviates[place] + share * np.diff(deviates)[place]


def _singles(values: Sequence[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)
