"""The figures of a column of text, asked of its different values and their counts instead of its rows."""

import re
from typing import Any

import duckdb

from core.profile import MAX_VALUES, Warning
from worker.ingest import dates, identifiers

MAX_VALUE = 256  # characters of a category; longer ones are text
COMMON = 20
PROBE = 100  # values that are looked at before a question is asked of all

NUMBER = r"\s*-?\d+(\.\d+)?([eE][+-]?\d+)?\s*"
# Digits with a sign, a separator, a unit or a base in front: what a person would read as a number.
NUMBER_LIKE = r"[-+]?[$€£¥]?\s?(0[xXbB][0-9a-fA-F]+|\.?\d[\d.,_']*(\s\d{3})*\s?([%$€£¥]|[A-Za-z]{1,3})?)"
UNIT = r"[.\s]*[%$€£¥A-Za-z]*$"
MAX_WORDS = 5  # between numbers: more are not words for a missing one


def profile_text(
    connection: duckdb.DuckDBPyConnection, column: str, cell: str, source: str, rows: int, *, nested: bool
) -> tuple[dict[str, Any], list[Warning]]:
    """The facts of the column named `column`, which is `cell` in `source`; and what is odd about its values."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE counted AS SELECT {cell} AS value, count(*) AS count "  # noqa: S608
        f"FROM {source} WHERE {cell} IS NOT NULL GROUP BY 1"
    )

    def ask(what: str, *parameters: Any) -> list[Any]:
        return connection.execute(f"SELECT {what}", list(parameters)).fetchall()

    distinct, known, shortest, longest = ask(
        "count(*), coalesce(sum(count), 0)::BIGINT, min(length(value)), max(length(value)) FROM counted"
    )[0]
    found: dict[str, Any] = {"type": "category", "known": known, "distinct": distinct}
    found |= {"shortest": shortest, "longest": longest}
    is_text = distinct > MAX_VALUES or (distinct > 50 and distinct > known / 2)
    if is_text or nested or (longest or 0) > MAX_VALUE:
        found["type"] = "text"
        common = ask(f"value, count FROM counted WHERE length(value) <= {MAX_VALUE} ORDER BY 2 DESC, 1 LIMIT {COMMON}")
        found["common"] = common if common and common[0][1] > 1 else None
    else:
        counted = sorted(ask("value, count FROM counted"))
        found |= {"values": [value for value, _ in counted], "counts": [count for _, count in counted]}
    if nested or not distinct:
        return found, []

    probe = [value for (value,) in ask(f"left(value, {MAX_VALUE}) FROM counted ORDER BY hash(value) LIMIT {PROBE}")]

    def all_are(form: str) -> bool:
        if not all(re.fullmatch(form, value) for value in probe):
            return False
        return bool(ask("count(*) FROM counted WHERE NOT regexp_full_match(value, ?)", form)[0][0] == 0)

    example = str(ask("min(value) FROM counted")[0][0])
    if distinct > 1 and (form := dates.form_of_text(connection, "counted", probe)):
        found["date_format"] = form
        return found, [dates.warning(column, form, example, distinct, "text")]
    if all_are(NUMBER_LIKE):
        units = ask(
            "count(DISTINCT regexp_extract(value, ?)) FROM counted WHERE NOT starts_with(lower(value), '0x')", UNIT
        )
        is_number = units[0][0] <= 1 and (distinct > 1 or known < rows)  # `1st` and `2nd` have two: they are words
        return found, [_number_like(column, example, distinct)] if is_number else []
    if sum(re.fullmatch(NUMBER, value) is not None for value in probe) >= len(probe) / 2:
        words = ask(
            f"value, count FROM counted WHERE NOT regexp_full_match(value, ?) ORDER BY 2 DESC, 1 LIMIT {MAX_WORDS + 1}",
            NUMBER,
        )
        if len(words) <= MAX_WORDS and distinct >= 2 * identifiers.LEAST:
            return found, [_words_among_numbers(column, words, known)]
    found["id_like"] = identifiers.mark_of_text(
        column,
        distinct,
        known,
        rows,
        alike=distinct == known and all_are(identifiers.PATTERN),
        category=found["type"] == "category",
    )
    return found, []


def _number_like(column: str, example: str, distinct: int) -> Warning:
    return Warning(
        code="number_like_text",
        message=f"Values such as `{example[:64]}` are kept as text; as numbers they have digits and a point only.",
        column=column,
        evidence={"example": example[:64], "distinct": distinct},
    )


def _words_among_numbers(column: str, words: list[tuple[str, int]], known: int) -> Warning:
    total = sum(count for _, count in words)
    shown = ", ".join(f"`{value[:64]}`" for value, _ in words)
    return Warning(
        code="words_among_numbers",
        message=f"All values but {total} of {known} are numbers; {shown} made the whole column text. If it stands for "
        "a missing value, leave the cell empty.",
        column=column,
        evidence={"words": {value[:64]: count for value, count in words}, "values": known},
    )
