"""Dates that came as text, or as integers such as 20240131: which form all values of a column have."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.profile import Warning

LEAST = 3  # different values: fewer are dates by chance


@dataclass(frozen=True)
class DateForm:
    name: str
    date: str  # regular expression
    codes: str  # of strptime
    both: str | None = None  # the name where this form and the one before fit all values: nobody can tell them apart


_YEAR, _MONTH, _DAY = r"(1[5-9]|2[0-2])\d\d", r"(0?[1-9]|1[0-2])", r"(0?[1-9]|[12]\d|3[01])"
_WORD = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
FORMS = (
    DateForm("yyyy-mm-dd", rf"{_YEAR}-{_MONTH}-{_DAY}", "%Y-%m-%d"),
    DateForm("yyyy/mm/dd", rf"{_YEAR}/{_MONTH}/{_DAY}", "%Y/%m/%d"),
    DateForm("yyyymmdd", r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", "%Y%m%d"),
    DateForm("dd.mm.yyyy", rf"{_DAY}\.{_MONTH}\.{_YEAR}", "%d.%m.%Y"),
    DateForm("dd-mm-yyyy", rf"{_DAY}-{_MONTH}-{_YEAR}", "%d-%m-%Y"),
    DateForm("mm/dd/yyyy", rf"{_MONTH}/{_DAY}/{_YEAR}", "%m/%d/%Y"),
    DateForm("dd/mm/yyyy", rf"{_DAY}/{_MONTH}/{_YEAR}", "%d/%m/%Y", "mm/dd/yyyy or dd/mm/yyyy"),
    DateForm("mm/dd/yy", rf"{_MONTH}/{_DAY}/\d\d", "%m/%d/%y"),
    DateForm("dd/mm/yy", rf"{_DAY}/{_MONTH}/\d\d", "%d/%m/%y", "mm/dd/yy or dd/mm/yy"),
    DateForm("dd Mon yyyy", rf"{_DAY} {_WORD} {_YEAR}", "%d %b %Y"),
    DateForm("dd-Mon-yyyy", rf"{_DAY}-{_WORD}-{_YEAR}", "%d-%b-%Y"),
    DateForm("Mon dd, yyyy", rf"{_WORD} {_DAY}, {_YEAR}", "%b %d, %Y"),
    DateForm(
        "Day, dd Mon yyyy", rf"(?i:mon|tue|wed|thu|fri|sat|sun), {_DAY} {_WORD} {_YEAR}", "%a, %d %b %Y"
    ),  # RFC 2822
)
_TIME = r"([ T]\d\d?:\d\d(:\d\d([.,]\d{1,9})?)?( ?(?i:am|pm))?)?( ?(Z|GMT|UTC|[-+]\d\d:?\d\d))?"
_CALENDAR = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])  # days of a month


def form_of_text(connection: duckdb.DuckDBPyConnection, table: str, probe: list[str]) -> str | None:
    """The form that every value of the column `value` of `table` has. `probe` are some of the values, that spare asking
    for what cannot be."""
    fitting = [
        form
        for form in FORMS
        if len(probe) >= LEAST and all(re.fullmatch(form.date + _TIME, value) for value in probe)
        if _all_have(connection, table, form)
    ]
    if not fitting:
        return None
    return fitting[-1].both or fitting[-1].name if len(fitting) > 1 else fitting[0].name


def _all_have(connection: duckdb.DuckDBPyConnection, table: str, form: DateForm) -> bool:
    # The date is read by the calendar, the time by its look: neither is kept.
    others = f"regexp_full_match(value, ?) AND try_strptime(regexp_extract(value, ?), '{form.codes}') IS NOT NULL"
    asked = f"SELECT count(*) FROM {table} WHERE value IS NOT NULL AND NOT ({others})"  # noqa: S608
    return bool(connection.execute(asked, [form.date + _TIME, f"^{form.date}"]).fetchall()[0][0] == 0)


def form_of_integers(values: "NDArray[Any]") -> str | None:
    """`yyyymmdd`, where all of these different integers are such dates."""
    if len(values) < 10 or values[0] < 1900_01_01 or values[-1] > 2100_12_31:
        return None
    months, days = values // 100 % 100, values % 100
    if not np.all((months >= 1) & (months <= 12)):
        return None
    return "yyyymmdd" if np.all((days >= 1) & (days <= _CALENDAR[months])) else None


def warning(column: str, form: str, example: str, distinct: int, kept_as: Literal["text", "integers"]) -> Warning:
    """`example` is one of the values."""
    doubt = " Nobody can tell day and month apart here." if " or " in form else ""
    return Warning(
        code="date_as_text" if kept_as == "text" else "date_as_number",
        message=f"All {distinct} different values, such as `{example[:64]}`, are dates ({form}) and are kept as "
        f"{kept_as}.{doubt} Send them as ISO 8601, such as 2024-01-31, to have a column of type datetime.",
        column=column,
        evidence={"format": form, "example": example[:64], "distinct": distinct},
    )
