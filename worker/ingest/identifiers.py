"""Columns that name a row instead of describing it: a network learns them by heart and knows nothing of the next row.

That all values differ is no mark of it: so do those of a measurement. What counts is how they are written, named and
ordered.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.profile import IdMark

LEAST = 20  # rows: in fewer, anything may look like a count
NEARLY = 0.98  # of the rows have a value of their own: a named id may be doubled here and there
PART = 1000  # values that are looked at before all others

_ANYWHERE = {"id", "ids", "uuid", "guid", "rownames", "rowname", "rownumber", "rownum", "rowid", "pk"}
_LAST = {"key", "index", "idx", "number", "no", "nr", "num", "code", "ref", "reference", "serial", "unnamed", "row"}
_OF_WHAT = (
    "account|case|client|customer|cust|device|employee|item|member|order|passenger|patient|person|product|record|"
    "sample|session|student|subject|transaction|user"
)
_CALENDAR = {"year", "years", "quarter", "month", "week", "day", "date", "hour"}
_TIME_AXIS = _CALENDAR | {"time", "t", "step", "epoch", "period"}

UUID = r"\{?[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?"
# A hash; or digits with a word before them, as in `cust_00017`.
PATTERN = rf"{UUID}|[0-9a-fA-F]{{16,}}|[A-Za-z]{{1,12}}[-_#:/]?[0-9]{{2,}}"


def mark_of_numbers(name: str, known: "NDArray[Any]", rows: int) -> IdMark | None:
    """What the column is if its values are different ones, see `NEARLY`.

    `known` are the values that are not missing, in the order of the rows.
    """
    if len(known) < max(LEAST, NEARLY * rows) or not _are_whole(known):
        return None
    if is_named(name):
        return "name"
    least, most = float(known.min()), float(known.max())
    if len(known) < rows or most - least != rows - 1:
        return None
    if set(_words(name)) & _TIME_AXIS or (least >= 1500 and most <= 2200):  # years count as well
        return None
    steps = np.diff(known)
    in_order = bool(np.all(steps == 1) or np.all(steps == -1))
    return "counts_rows" if in_order or rows >= 5 * LEAST else None


def _are_whole(known: "NDArray[Any]") -> bool:
    return known.dtype.kind != "f" or all(bool(np.all(part == np.floor(part))) for part in (known[:PART], known))


def mark_of_text(name: str, distinct: int, known: int, rows: int, *, alike: bool, category: bool) -> IdMark | None:
    """`alike`: all values have the form `PATTERN`."""
    if distinct < LEAST or distinct < NEARLY * rows:
        return None
    if is_named(name):
        return "name"
    if distinct < known:
        return None
    return "pattern" if alike else "unique" if category else None


def is_named(name: str) -> bool:
    """Whether the name of the column says that it is an id."""
    words = _words(name) or [""]
    return (
        name == "#"
        or bool(_ANYWHERE & {words[0], words[-1]})
        or words[-1] in _LAST
        or words[0] == "unnamed"
        or re.fullmatch(rf"({_OF_WHAT})(id|no|nr|key)", words[-1]) is not None
    )


def _words(name: str) -> list[str]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W\d_]+", parted.lower())
