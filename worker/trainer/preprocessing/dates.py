"""A column of dates and times: the time that has passed, and where in its cycles a moment is."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from core.spec.features import ColumnChoice, CyclicPart, DatePart
from worker.trainer.preprocessing.numbers import imputed_of
from worker.trainer.preprocessing.scaling import Scaling, fit_scaling, scaled
from worker.trainer.preprocessing.table import MISSING_MOMENT, Floats, Moments

PERIODS: dict[CyclicPart, int] = {"month": 12, "day": 31, "weekday": 7, "hour": 24, "minute": 60}
SECONDS_A_DAY = 86_400
FIRST_WEEKDAY = 3  # 1 January 1970 was a Thursday, and Monday is 0


class PlainPart(BaseModel):
    """feature = (part - `origin`), an integer, as float32, scaled"""

    model_config = ConfigDict(frozen=True)

    type: Literal["plain"] = "plain"
    part: DatePart
    origin: int
    scaling: Scaling


class Cycle(BaseModel):
    """Two features: the sine and the cosine of 2 pi (part - `first`) / `period`"""

    model_config = ConfigDict(frozen=True)

    type: Literal["cycle"] = "cycle"
    part: CyclicPart
    first: int
    period: int


class DatetimeInput(BaseModel):
    """Features of a moment in seconds since 1970 in UTC, an integer, or of `imputed` where it is missing; then, with
    `missing_indicator`, 1 where it was missing, else 0.

    `elapsed` is the moment itself; `weekday` is 0 on Mondays; days and months count from 1. `minimum` and `maximum` are
    those of the rows of the fit.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["datetime"] = "datetime"
    imputed: int
    parts: list[Annotated[PlainPart | Cycle, Field(discriminator="type")]]
    missing_indicator: bool = False
    minimum: int | None = None
    maximum: int | None = None

    @property
    def features(self) -> list[str]:
        found: list[str] = []
        for one in self.parts:
            here = f"{self.name}.{one.part}"
            found += [f"{here}.sin", f"{here}.cos"] if isinstance(one, Cycle) else [here]
        return [*found, *([f"{self.name}="] if self.missing_indicator else [])]


def fit_datetime(name: str, moments: Moments, choice: ColumnChoice) -> DatetimeInput:
    known = moments[moments != MISSING_MOMENT]
    fill = _seconds(choice.fill_value) if isinstance(choice.fill_value, str) else None
    imputed = int(np.floor(imputed_of(known, choice.impute or "median", fill)))
    filled = np.where(moments == MISSING_MOMENT, imputed, moments)
    parts: list[PlainPart | Cycle] = []
    for part in choice.parts or []:
        if part in (choice.cyclic or ()) and part != "elapsed" and part != "year":
            parts.append(Cycle(part=part, first=_first(part), period=PERIODS[part]))
        else:
            values = part_of(filled, part)
            origin = int(np.floor(values.mean())) if part == "elapsed" else 0
            scaling = fit_scaling((values - origin).astype(np.float32), choice.scale or "standard")
            parts.append(PlainPart(part=part, origin=origin, scaling=scaling))
    return DatetimeInput(
        name=name,
        imputed=imputed,
        parts=parts,
        missing_indicator=bool(choice.missing_indicator),
        minimum=int(known.min()) if len(known) else None,
        maximum=int(known.max()) if len(known) else None,
    )


def _seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1)


def _first(part: CyclicPart) -> int:
    return 1 if part in ("month", "day") else 0


def datetime_columns(fitted: DatetimeInput, moments: Moments) -> Iterator[Floats]:
    missing = moments == MISSING_MOMENT
    filled = np.where(missing, fitted.imputed, moments)
    for one in fitted.parts:
        values = part_of(filled, one.part)
        match one:
            case PlainPart():
                yield scaled((values - one.origin).astype(np.float32), one.scaling)
            case Cycle():
                angles = 2 * np.pi * np.arange(one.period) / one.period
                for wave in (np.sin(angles), np.cos(angles)):
                    yield wave.astype(np.float32)[values - one.first]
            case _:
                assert_never(one)
    if fitted.missing_indicator:
        yield missing.astype(np.float32)


def part_of(moments: Moments, part: DatePart) -> Moments:
    """A part of each moment, by the proleptic Gregorian calendar, in UTC."""
    match part:
        case "elapsed":
            return moments
        case "year":
            return _calendar(moments, "Y").astype(np.int64) + 1970
        case "month":
            return _calendar(moments, "M").astype(np.int64) % 12 + 1
        case "day":
            first_of_month = _calendar(moments, "M").astype("datetime64[D]").astype(np.int64)
            return moments // SECONDS_A_DAY - first_of_month + 1
        case "weekday":
            return (moments // SECONDS_A_DAY + FIRST_WEEKDAY) % 7
        case "hour":
            return moments // 3600 % 24
        case "minute":
            return moments // 60 % 60
        case _:
            assert_never(part)


def _calendar(moments: Moments, unit: Literal["Y", "M", "D"]) -> NDArray[Any]:
    return moments.astype("datetime64[s]").astype(f"datetime64[{unit}]")
