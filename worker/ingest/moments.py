"""The figures of a column of dates, times of day, or both at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND


def microseconds_of(cell: str) -> str:
    """The query of a moment's microseconds: since 1970 in UTC, of a time of day since midnight.

    Infinity is NULL, and so is what is too far away for them: years beyond 290,000.
    """
    return f"TRY(epoch_us({cell}))"


def profile_moments(known: "NDArray[np.int64]", kind: str) -> dict[str, Any]:
    """`known` are the microseconds that are not missing; they are sorted in place."""
    known.sort()
    found: dict[str, Any] = {"type": "datetime", "distinct": 0}
    if len(known):
        found["distinct"] = int(np.count_nonzero(known[1:] != known[:-1])) + 1
        found |= {"earliest": _written(known[0], kind), "latest": _written(known[-1], kind)}
        if kind != "TIME":
            found["dates_only"] = not np.any(known % DAY)
    return found


def _written(moment: np.int64, kind: str) -> str:
    """ISO 8601, without the time of a date and the date of a time."""
    seconds, fraction = divmod(int(moment), SECOND)
    date, _, time = str(np.datetime64(seconds, "s")).partition("T")
    time += f".{fraction:06}".rstrip("0") if fraction else ""
    return date if kind == "DATE" else time if kind == "TIME" else f"{date}T{time}"
