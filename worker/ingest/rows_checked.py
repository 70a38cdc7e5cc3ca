"""The cells of a row checked together: one match of a pattern for all columns of a kind.

A match takes longer than the number itself to be read, and half of that is the price of the call: joined into one text,
columns are checked in 60 % of the time (65 ns a cell instead of 106).
"""

from collections.abc import Sequence
from typing import Any

import duckdb

from worker.ingest.grammar import NOTHING, TEXT, Cells, Misfit, checked
from worker.ingest.reader import literal

SEPARATOR = "\x1e"  # one inside a cell fits the pattern of two; the cast does not take it
TOGETHER = 100  # columns: a row of thousands is not copied at once


def condition(columns: Sequence[Cells]) -> str:
    """Of a row whose cells all fit their columns, as SQL. It stops the reader at the first that does not."""
    alike: dict[str, list[str]] = {}
    asked = []
    for one in columns:
        if one.kind is NOTHING:
            asked.append(f"{one.rest} IS NULL")
        elif one.kind is not TEXT and one.kind.pattern is not None:
            alike.setdefault(one.kind.pattern, []).append(one.rest)
    for pattern, cells in alike.items():
        asked += [_fit(pattern, cells[first : first + TOGETHER]) for first in range(0, len(cells), TOGETHER)]
    return " AND ".join(f"CASE WHEN {fit} THEN true ELSE error('{Misfit.SAID}') END" for fit in asked) or "true"


def _fit(pattern: str, cells: list[str]) -> str:
    if len(cells) == 1:
        return f"({cells[0]} IS NULL OR regexp_full_match({cells[0]}, {literal(pattern)}))"
    joined = f", '{SEPARATOR}', ".join(cells)  # a missing one is nothing between two of them
    return f"regexp_full_match(concat({joined}), {literal(f'({pattern})?({SEPARATOR}({pattern})?)*')})"


def value(one: Cells) -> str:
    """The value of a cell in such a row, as SQL. Where it has none after all, it stops the reader, or the cast does."""
    if one.kind in (TEXT, NOTHING) or one.kind.pattern is None:
        return checked(one)
    cast = one.kind.cast.format(one.rest)
    if not one.kind.fallible:
        return cast
    return f"CASE WHEN {one.rest} IS NOT NULL THEN coalesce({cast}, error('{Misfit.SAID}')) END"


def misfits(
    connection: duckdb.DuckDBPyConnection, call: str, parameters: Sequence[Any], columns: Sequence[Cells]
) -> list[int]:
    """The places of the columns that have a cell unlike what they are taken for: one scan, over all rows."""
    asked = [(place, one) for place, one in enumerate(columns) if one.kind is not TEXT]
    if not asked:
        return []
    fits = ", ".join(f"bool_and({one.rest} IS NULL OR {one.kind.check.format(one.rest)})" for _, one in asked)
    answers = connection.execute(f"SELECT {fits} FROM {call}", parameters).fetchall()[0]  # noqa: S608
    return [place for (place, _), fit in zip(asked, answers, strict=True) if fit is False]
