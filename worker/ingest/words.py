"""The figures of a column of text, asked of its different values and their counts instead of its rows."""

import re
from functools import cached_property
from typing import Any

import duckdb

from core.profile import MAX_VALUES, ColumnType, Warning
from worker.ingest import dates, identifiers

MAX_VALUE = 256  # characters of a category; longer ones are text
COMMON = 20
PROBE = 100  # values that are looked at before a question is asked of all

NUMBER = r"\s*-?\d+(\.\d+)?([eE][+-]?\d+)?\s*"
# Digits of any script that is common in tables: Latin, Arabic, Persian, Devanagari, Bengali, full width.
DIGIT = "[0-9\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef\uff10-\uff19]"
MARKS = ".,_'\u066b\u066c"
# Digits with a sign, a separator, a unit or a base in front: what a person would read as a number.
NUMBER_LIKE = (
    r"[-+]?[$€£¥]?\s?"
    rf"(0[xXbB][0-9a-fA-F]+|\.?{DIGIT}({DIGIT}|[{MARKS}])*(\s{DIGIT}{{3}})*\s?([%$€£¥]|[A-Za-z]{{1,3}})?)"
)
UNIT = r"[.\s]*[%$€£¥A-Za-z]*$"
MAX_WORDS = 5  # between numbers: more are not words for a missing one


def profile_text(
    connection: duckdb.DuckDBPyConnection,
    column: str,
    cell: str,
    rows: int,
    *,
    nested: bool,
    chosen: ColumnType | None,
) -> tuple[dict[str, Any], list[Warning]]:
    """The facts of the column named `column`, which is `cell` of `stretch`; and what is odd about its values.

    `chosen` is the type that a user has given it.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE counted AS SELECT {cell} AS value, count(*) AS count "  # noqa: S608
        f"FROM stretch WHERE {cell} IS NOT NULL GROUP BY 1"
    )
    counted = Counted(connection)
    distinct, known, shortest, longest = counted.ask(
        "count(*), coalesce(sum(count), 0)::BIGINT, min(length(value)), max(length(value))"
    )[0]
    found: dict[str, Any] = {"type": "category", "known": known, "distinct": distinct}
    found |= {"shortest": shortest, "longest": longest}
    is_free = nested or (distinct > 50 and distinct > known / 2)
    as_text = chosen == "text" or (is_free and chosen != "category")
    if as_text or distinct > MAX_VALUES or (longest or 0) > MAX_VALUE:
        found["type"] = "text"
        common = counted.ask("value, count", f"length(value) <= {MAX_VALUE} ORDER BY 2 DESC, 1 LIMIT {COMMON}")
        found["common"] = common if common and common[0][1] > 1 else None
    else:
        pairs = sorted(counted.ask("value, count"))
        found |= {"values": [value for value, _ in pairs], "counts": [count for _, count in pairs]}
    if nested or distinct == 0 or (distinct == 1 and known == rows):
        return found, []
    if form := dates.form_of_text(connection, "counted", counted.probe):
        return found | {"date_format": form}, [dates.warning(column, form, counted.example, distinct, "text")]
    if odd := _number_like(column, counted, distinct) or _words_among_numbers(column, counted, distinct, known):
        return found, [odd]
    alike = distinct == known and counted.all_are(identifiers.PATTERN)
    mark = identifiers.mark_of_text(column, distinct, known, rows, alike=alike, category=found["type"] == "category")
    return found | {"id_like": mark}, []


class Counted:
    """The different values of a column, each with its rows: the table `counted`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def ask(self, what: str, where: str = "true", *parameters: Any) -> list[Any]:
        return self._connection.execute(f"SELECT {what} FROM counted WHERE {where}", list(parameters)).fetchall()  # noqa: S608

    @cached_property
    def probe(self) -> list[str]:
        """Some values, the same ones of the same column."""
        found = self.ask(f"left(value, {MAX_VALUE})", f"true ORDER BY hash(value) LIMIT {PROBE}")
        return [value for (value,) in found]

    @cached_property
    def example(self) -> str:
        return str(self.ask("min(value)")[0][0])

    def all_are(self, form: str) -> bool:
        if not all(re.fullmatch(form, value) for value in self.probe):
            return False
        return bool(self.ask("count(*)", "NOT regexp_full_match(value, ?)", form)[0][0] == 0)


def _number_like(column: str, counted: Counted, distinct: int) -> Warning | None:
    if not counted.all_are(f"{NUMBER_LIKE}|{NUMBER}"):
        return None
    units = f"count(DISTINCT regexp_extract(value, '{UNIT}'))"
    if counted.ask(units, "NOT starts_with(lower(value), '0x')")[0][0] > 1:
        return None  # `1st` and `2nd` are words
    return Warning(
        code="number_like_text",
        message=f"Values such as `{counted.example[:64]}` are kept as text; as numbers they have digits and a point "
        "only.",
        column=column,
        evidence={"example": counted.example[:64], "distinct": distinct},
    )


def _words_among_numbers(column: str, counted: Counted, distinct: int, known: int) -> Warning | None:
    numbers = sum(re.fullmatch(NUMBER, value) is not None for value in counted.probe)
    if distinct < 2 * identifiers.LEAST or numbers < len(counted.probe) / 2:
        return None
    others = f"NOT regexp_full_match(value, ?) ORDER BY 2 DESC, 1 LIMIT {MAX_WORDS + 1}"
    words = counted.ask("value, count", others, NUMBER)
    if not 1 <= len(words) <= MAX_WORDS:
        return None
    total = sum(count for _, count in words)
    shown = ", ".join(f"`{value[:64]}`" for value, _ in words)
    return Warning(
        code="words_among_numbers",
        message=f"All values but {total} of {known} are numbers; {shown} made the whole column text. If it stands for "
        "a missing value, leave the cell empty.",
        column=column,
        evidence={"words": {value[:64]: count for value, count in words}, "values": known},
    )
