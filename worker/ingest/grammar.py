"""What a text may be read as, by one strict grammar, and which of it fits a whole column.

`yes` is not true, `0x10` and `1_000` are no numbers, and `01234` is a postcode: the reader would take them for such.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import duckdb

from core.dialect import Dialect
from worker.ingest.reader import literal

WHOLE = r"[-+]?(0|[1-9]\d{0,17})"
NUMBER = r"[-+]?((0|[1-9]\d*)(\{mark}\d*)?|\{mark}\d+)([eE][-+]?\d+)?|[-+]?(?i:inf(inity)?)"
ANY_NUMBER = r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?"
ISO_DATE = r"\d{4}-\d{1,2}-\d{1,2}"
ISO_TIME = r"\d{1,2}:\d{2}(:\d{2}([.,]\d{1,9})?)?"
ISO_OFFSET = r" ?(Z|UTC|[-+]\d{2}(:?\d{2})?)"
DATE_LIKE = (
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?|\d{1,2}:\d{2}.*|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{4}.*|"
    r"[A-Za-z]{3,9} \d{1,2}, \d{4}.*"
)

DATES = {
    r"\d{1,2}\.\d{1,2}\.\d{4}": ["%d.%m.%Y"],
    r"\d{1,2}/\d{1,2}/\d{4}": ["%m/%d/%Y", "%d/%m/%Y"],
    r"\d{1,2}-\d{1,2}-\d{4}": ["%d-%m-%Y", "%m-%d-%Y"],
    r"\d{4}/\d{1,2}/\d{1,2}": ["%Y/%m/%d"],
    r"\d{4}\.\d{1,2}\.\d{1,2}": ["%Y.%m.%d"],
    r"\d{1,2}\.\d{1,2}\.\d{2}": ["%d.%m.%y"],
    r"\d{1,2}/\d{1,2}/\d{2}": ["%m/%d/%y", "%d/%m/%y"],
    r"\d{1,2} [A-Za-z]{3,9} \d{4}": ["%d %b %Y", "%d %B %Y"],
    r"\d{1,2}-[A-Za-z]{3}-\d{4}": ["%d-%b-%Y"],
    r"[A-Za-z]{3,9} \d{1,2}, \d{4}": ["%b %d, %Y", "%B %d, %Y"],
}
CLOCKS = {
    "": "",
    r" \d{1,2}:\d{2}": " %H:%M",
    r" \d{1,2}:\d{2}:\d{2}": " %H:%M:%S",
    r" \d{1,2}:\d{2} [APap][Mm]": " %I:%M %p",
    r" \d{1,2}:\d{2}:\d{2} [APap][Mm]": " %I:%M:%S %p",
}


class Misfit(Exception):
    """A row is not what the sample of rows was."""

    SAID = "a value unlike the sample"


@dataclass(frozen=True)
class Kind:
    """One way to read a text: SQL in which {0} stands for it."""

    type: Literal["boolean", "integer", "number", "datetime", "text"]
    check: str  # whether a text is one
    cast: str  # the value of one that is
    pattern: str | None = None  # of all texts that are, and of none that is not but for `fallible`
    fallible: bool = False  # whether the value of a text of that pattern may be NULL: it is none then
    decimal: str | None = None  # the mark that it takes
    date_format: str | None = None


def _plain(sql: str) -> str:
    """SQL in which no brace stands for anything."""
    return sql.replace("{", "{{").replace("}", "}}")


def _matching(pattern: str) -> str:
    return f"regexp_full_match({{0}}, {_plain(literal(pattern))})"


def _number(mark: str) -> Kind:
    plain = "{0}" if mark == "." else "replace({0}, ',', '.')"
    # A sign alone in front of the point is known to the cast, a text of infinity too.
    pattern = NUMBER.replace("{mark}", mark)
    return Kind("number", _matching(pattern), f"CAST({plain} AS DOUBLE)", pattern, decimal=mark)


def dated(date_format: str, shape: str | None = None) -> Kind:
    parsed = f"try_strptime({{0}}, {_plain(literal(date_format))})"
    check = _where("{0} IS NOT NULL" if shape is None else _matching(shape), parsed)
    return Kind("datetime", check, parsed, shape, fallible=True, date_format=date_format)


def _iso(pattern: str, cast: str) -> Kind:
    return Kind("datetime", _where(_matching(pattern), cast), cast, pattern, fallible=True)


def _where(shape: str, parsed: str) -> str:
    """Whether it can be parsed, asked where the shape is right, which is cheaper to ask; null of null."""
    return f"CASE WHEN {shape} THEN {parsed} IS NOT NULL WHEN {{0}} IS NOT NULL THEN false END"


BOOLEAN = Kind("boolean", "lower({0}) IN ('true', 'false')", "CAST({0} AS BOOLEAN)", "(?i:true|false)")
INTEGER = Kind("integer", _matching(WHOLE), "CAST({0} AS BIGINT)", WHOLE)
POINT, COMMA = _number("."), _number(",")
DATE = _iso(ISO_DATE, "TRY_CAST({0} AS DATE)")
MOMENT = _iso(f"{ISO_DATE}([ T]{ISO_TIME})?", "TRY_CAST(replace({0}, ',', '.') AS TIMESTAMP)")
MOMENT_IN_ZONE = _iso(  # as its moment in UTC
    f"{ISO_DATE}([ T]{ISO_TIME}({ISO_OFFSET})?)?",
    "make_timestamp(epoch_us(TRY_CAST(replace({0}, ',', '.') AS TIMESTAMPTZ)))",
)
CLOCK = _iso(ISO_TIME, "TRY_CAST({0} AS TIME)")
TEXT = Kind("text", "true", "{0}")
NOTHING = Kind("text", "false", "{0}")  # of a column that is empty so far: any value says that more must be looked at
OTHER_DATES = [
    dated(date_format + clock, shape + clock_shape)
    for (shape, formats), (clock_shape, clock) in product(DATES.items(), CLOCKS.items())
    for date_format in formats
]
MAYBE_A_DATE = Kind("datetime", _matching(DATE_LIKE), "{0}")  # worth to be tried as all of them
ISO = [DATE, MOMENT, MOMENT_IN_ZONE, CLOCK]
NUMBERS = [INTEGER, POINT, COMMA]


@dataclass(frozen=True)
class Cells:
    """A column of texts, and what is still thought possible of it."""

    sql: str  # of the text
    kinds: Sequence[Kind]  # to be tried
    words: frozenset[str] = frozenset()  # that may turn out to mean a missing value
    used: frozenset[str] = frozenset()  # those of them that are there
    padded: bool = False  # with spaces around its values
    known: int = 0

    @property
    def kind(self) -> Kind:
        if not self.known:
            return NOTHING
        return self.kinds[0] if self.kinds else TEXT

    @property
    def text(self) -> str:
        """Spaces around a number are none of it, and part of a text."""
        return f"trim({self.sql})" if self.padded and self.kind is not TEXT else self.sql

    @property
    def rest(self) -> str:
        """The text, and NULL for a word that means a missing value: the reader knows those without spaces around."""
        if not (self.padded and self.used and self.kind is not TEXT):
            return self.text
        return f"CASE WHEN {self.text} NOT IN ({', '.join(map(literal, sorted(self.used)))}) THEN {self.text} END"


def fitting(
    connection: duckdb.DuckDBPyConnection, call: str, parameters: Sequence[Any], columns: Sequence[Cells]
) -> list[Cells]:
    """What fits all cells of each column, of what was thought possible.

    Asked of a sample first, it may be asked of the whole again: what fits that fits its sample.
    """
    found = _ask(connection, call, parameters, columns)
    unsettled = [place for place, one in enumerate(found) if one.known and one.kind is MAYBE_A_DATE]
    if unsettled:
        tried = [replace(found[place], kinds=[*ISO, *OTHER_DATES]) for place in unsettled]
        for place, one in zip(unsettled, _ask(connection, call, parameters, tried), strict=True):
            found[place] = one
    return [
        replace(one, kinds=[kind for kind in one.kinds if kind is not MAYBE_A_DATE]) if one.known else one
        for one in found
    ]


def _ask(
    connection: duckdb.DuckDBPyConnection, call: str, parameters: Sequence[Any], columns: Sequence[Cells]
) -> list[Cells]:
    """One query for all columns of which the same is thought: as many expressions a column would take longer to plan
    than to run."""
    found = list(columns)
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, one in enumerate(columns):
        alike.setdefault((tuple(one.kinds), one.words), []).append(place)
    for (kinds, known_words), places in alike.items():
        words = sorted(known_words)
        checks = ", ".join(f"bool_and({kind.check.format('rest')})" for kind in kinds)
        given = ", ".join(columns[place].sql for place in places)
        answers = connection.execute(
            f"SELECT place, count(rest), bool_or(text <> plain), bit_or(word), [{checks}] FROM "  # noqa: S608
            "(SELECT *, CASE WHEN word = 0 THEN plain END AS rest FROM "
            f"(SELECT *, {_bit('plain', words)} AS word FROM "
            "(SELECT *, trim(text) AS plain FROM "
            f"(SELECT unnest(range({len(places)})) AS place, unnest([{given}]) AS text FROM {call})))) GROUP BY place",
            parameters,
        ).fetchall()
        for place, known, padded, bits, fits in answers:
            one = columns[places[place]]
            there = frozenset(word for bit, word in enumerate(words) if (bits or 0) >> bit & 1)
            fitting = [kind for kind, fit in zip(kinds, fits, strict=True) if fit or not known]
            found[places[place]] = replace(one, kinds=fitting, used=there, padded=bool(padded), known=known)
    return found


def _bit(text: str, words: Sequence[str]) -> str:
    cases = " ".join(f"WHEN {literal(word)} THEN {1 << bit}" for bit, word in enumerate(words))
    return f"CASE {text} {cases} ELSE 0 END" if cases else "0"


def settled(columns: Sequence[Cells], decimal: str | None, *, day_first: bool) -> tuple[list[Cells], list[int]]:
    """Of several readings of the whole table the one that it most probably means, with one decimal mark and one order
    of day and month; and the columns whose dates were in doubt."""
    marks = {_mark_of(one) for one in columns} - {None}
    mark = decimal or ("," if marks == {","} else ".")
    orders = {kind.date_format for one in columns if len(one.kinds) == 1 for kind in one.kinds} - {None}

    def rank(kind: Kind) -> tuple[bool, bool]:
        if kind.date_format is None:
            return (False, False)
        return (kind.date_format not in orders, kind.date_format.startswith("%m") is day_first)

    found = [
        replace(one, kinds=sorted((kind for kind in one.kinds if kind.decimal in (None, mark)), key=rank))
        for one in columns
    ]
    doubts = [place for place, one in enumerate(found) if one.kind.date_format not in orders and len(_starts(one)) > 1]
    return found, doubts


def _starts(one: Cells) -> set[str]:
    """What may come first in the dates of a column."""
    return {kind.date_format[:2] for kind in one.kinds if kind.date_format}


def _mark_of(one: Cells) -> str | None:
    """The mark that a column has in its numbers, if only one can be."""
    found = {kind.decimal for kind in one.kinds if kind in NUMBERS} if one.known else set()
    return found.pop() if len(found) == 1 else None


def checked(one: Cells) -> str:
    """The values of a column as SQL, which stops the reader where one does not fit after all."""
    if one.kind is TEXT:
        return one.sql
    known = f"WHEN {one.kind.check.format(one.text)} THEN {one.kind.cast.format(one.text)}"
    return f"CASE WHEN {one.rest} IS NULL THEN NULL {known} ELSE error('{Misfit.SAID}') END"


def read_as(chosen: str, text: str, dialect: Dialect) -> str:
    """A text as a type that a user has chosen: what does not fit is missing."""
    text = f"trim({text})" if chosen not in ("category", "text") else text
    number = COMMA if dialect.decimal == "," else POINT
    match chosen:
        case "number":
            kinds = [number]
        case "integer":
            value = number.cast.format(text)
            fits = f"CASE WHEN {number.check.format(text)} THEN {value} = trunc({value}) AND abs({value}) < 1e15 END"
            return f"CASE WHEN {fits} THEN CAST({value} AS BIGINT) END"
        case "boolean":
            return (
                f"CASE WHEN lower({text}) IN ('true', 't', 'yes', 'y', '1') THEN true "
                f"WHEN lower({text}) IN ('false', 'f', 'no', 'n', '0') THEN false END"
            )
        case "datetime":
            moments = (DATE, MOMENT, MOMENT_IN_ZONE, *map(dated, dialect.date_formats or ()))
            kinds = [replace(kind, cast=f"CAST({kind.cast} AS TIMESTAMP)") for kind in moments]
        case _:
            kinds = [TEXT]
    cases = " ".join(f"WHEN {kind.check.format(text)} THEN {kind.cast.format(text)}" for kind in kinds)
    return f"CASE {cases} END"
