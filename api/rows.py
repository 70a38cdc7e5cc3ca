"""Rows to predict, as they come in the body of a request: checked for their form, and turned into columns."""

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from pydantic_core import from_json

from api import strict_json
from core import errors
from core.settings import settings

JSON_LINES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines", "application/json-lines")
MAX_ERRORS = 100  # in one answer
LARGE = 1024 * 1024  # bytes of a body that takes a while
FORMS = ("rows", "columns", "X")


@dataclass(frozen=True)
class Named:
    """The columns that a network takes, and those that may come along: of its table, and not looked at."""

    inputs: Sequence[str]
    beside: Collection[str]
    vector: str | None  # the only input, where that is one of vectors
    all_numbers: bool
    ignore_others: bool = False

    def but(self, *, ignore_others: bool) -> "Named":
        return replace(self, ignore_others=ignore_others)


@dataclass(frozen=True)
class Asked:
    """Values of each input, in the order of the rows; None where a row has none."""

    count: int
    columns: Mapping[str, Sequence[Any]]
    absent: dict[str, Sequence[int]]  # the rows that lack the column
    pointer: Callable[[int, str], str]  # where the value of a row stands in the body
    block: "array[float] | None" = None  # where all of them are numbers: row by row, in the order of the inputs


def refuse(*found: errors.FieldError) -> errors.InvalidRows:
    return errors.InvalidRows(errors=found[:MAX_ERRORS])


def field_error(pointer: str, code: str, message: str, suggestion: str | None = None) -> errors.FieldError:
    return {"pointer": pointer, "code": code, "message": message} | ({"suggestion": suggestion} if suggestion else {})


def read(body: bytes, media_type: str, named: Named) -> Asked:
    """Raises `MalformedJson`, `InvalidText`, `PayloadTooLarge` or `InvalidRows`."""
    if media_type in JSON_LINES:
        return _objects(_lines(body), named)
    if named.all_numbers and len(body) > LARGE and (asked := _numbers_alone(body, named)) is not None:
        return asked
    value = _json(body)
    if not isinstance(value, dict):
        raise errors.InvalidRows('The body must be a JSON object: {"rows": [{"column": value, ...}]}.')
    if unknown := [name for name in value if name not in FORMS]:
        raise refuse(*(_unknown(errors.pointer(name), name, FORMS) for name in unknown))
    if ("X" in value) == ("rows" in value) or ("X" in value and "columns" in value):
        raise errors.InvalidRows("The body has either `rows` (with or without `columns`), or `X`.")
    form = "X" if "X" in value else "rows"
    rows = value[form]
    if not isinstance(rows, list):
        raise refuse(field_error(f"/{form}", "list_type", "Must be a list, with one entry a row."))
    if form == "X":
        return _matrix(rows, named)
    return _lists(rows, value["columns"], named) if "columns" in value else _objects(rows, named)


class _OfObjects(dict[str, Sequence[Any]]):
    """The columns of rows that have all of them, each when it is asked for."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, name: str) -> Sequence[Any]:
        return [row[name] for row in self._rows]


def _numbers_alone(body: bytes, named: Named) -> Asked | None:
    """Many rows as objects that have all columns of a network of numbers, and a number in each, as one block: half of
    the time. None where anything is not so: it is read again, and then it is said what.
    """
    names, quotes, colons = named.inputs, body.count(b'"'), body.count(b":")
    # No text but the keys, none of which comes twice: else there were more colons than values.
    count, rest = divmod(colons - 1, len(names))
    if rest or quotes != 2 * colons or b"\\" in body or b"null" in body:
        return None
    try:
        value = orjson.loads(body)
        if value.keys() != {"rows"} or len(value["rows"]) != count:
            return None
        rows = value["rows"]
        _some(rows, "/rows")
        block = array("d", chain.from_iterable(map(_getter(names), rows)))
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return None
    return Asked(count, _OfObjects(rows), {}, lambda row, name: errors.pointer("rows", row, name), block)


def _json(body: bytes) -> Any:
    """The value of a JSON text, as `strict_json` reads it, and several times as fast where nothing is unusual."""
    if b"\\u" not in body:
        try:
            value = from_json(body, allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            return strict_json.read(body)  # which knows what to say
        # A key that comes twice is a colon more than there are entries; so is one in a text, which is looked at again.
        if body.count(b":") == _entries(value):
            return value
    return strict_json.read(body)


def _entries(value: Any) -> int:
    if not isinstance(value, dict):
        return -1
    rows = value.get("rows")
    return len(value) + (sum(len(row) for row in rows if isinstance(row, dict)) if isinstance(rows, list) else 0)


def _lines(body: bytes) -> list[Any]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    _not_too_many(len(lines))
    try:
        value = _json(b'{"rows": [' + b",".join(lines) + b"]}")
        if len(value) == 1 and len(value["rows"]) == len(lines):
            return list(value["rows"])
        raise errors.MalformedJson("Each line of the body must be one JSON object.")
    except errors.Problem:
        for place, line in enumerate(lines):
            try:
                strict_json.read(line)
            except errors.MalformedJson as problem:
                detail = problem.detail.replace("The body", "A line of the body", 1)
                raise errors.MalformedJson(
                    detail, errors=[field_error(f"/rows/{place}", "malformed_json", detail)]
                ) from None
        raise


# --- the forms ----------------------------------------------------------------------------------------------------


def _objects(rows: list[Any], named: Named) -> Asked:
    """[{column: value, ...}, ...]"""
    _some(rows, "/rows")
    if wrong := [place for place, row in enumerate(rows) if type(row) is not dict]:
        message = "Must be an object: {column: value, ...}."
        raise refuse(*(field_error(f"/rows/{place}", "dict_type", message) for place in wrong[:MAX_ERRORS]))
    names = named.inputs
    columns: list[Sequence[Any]] = []
    absent: dict[str, Sequence[int]] = {}
    if all(map(len(names).__eq__, map(len, rows))):  # then a row that has all of them has nothing else
        try:
            columns = list(zip(*map(_getter(names), rows), strict=True))
        except KeyError:
            columns = []
    if not columns:
        _know(rows, named)
        for name in names:
            lacking = [place for place, row in enumerate(rows) if name not in row]
            absent |= {name: lacking} if lacking else {}
            columns.append([row.get(name) for row in rows])
        _refuse_empty(len(rows), absent, names)
    return Asked(
        len(rows), dict(zip(names, columns, strict=True)), absent, lambda row, name: errors.pointer("rows", row, name)
    )


def _getter(names: Sequence[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: (row[names[0]],)


def _know(rows: list[dict[str, Any]], named: Named) -> None:
    """Refuses columns that the network does not take, each by the first row that has it."""
    if named.ignore_others:
        return
    known = {*named.inputs, *named.beside}
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        for name in row.keys() - known:
            first.setdefault(name, place)
        if len(first) >= MAX_ERRORS:
            break
    if first:
        raise refuse(*(_unknown(errors.pointer("rows", row, name), name, named.inputs) for name, row in first.items()))


def _unknown(pointer: str, name: str, known: Iterable[str]) -> errors.FieldError:
    near = get_close_matches(name[: errors.KEY_LENGTH], list(known), n=1, cutoff=0.6)
    message = "There is no such column." if pointer.count("/") > 1 else "There is no such field."
    return field_error(pointer, "unknown_column" if pointer.count("/") > 1 else "unknown_field", message, *near)


def _lists(rows: list[Any], columns: Any, named: Named) -> Asked:
    """{"columns": [name, ...], "rows": [[value, ...], ...]}"""
    _some(rows, "/rows")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise refuse(field_error("/columns", "list_type", "Must be a list of names."))
    if twice := [place for place, name in enumerate(columns) if name in columns[:place]]:
        raise refuse(field_error(f"/columns/{twice[0]}", "duplicate_column", "This name was there before."))
    known = {*named.inputs, *named.beside}
    if not named.ignore_others and (other := [place for place, name in enumerate(columns) if name not in known]):
        raise refuse(*(_unknown(f"/columns/{place}", columns[place], named.inputs) for place in other))
    _same_length(rows, "/rows", len(columns))
    by_name = dict(zip(columns, zip(*rows, strict=True), strict=True))
    every, nothing = range(len(rows)), [None] * len(rows)
    absent: dict[str, Sequence[int]] = {name: every for name in named.inputs if name not in by_name}
    _refuse_empty(len(rows), absent, named.inputs)
    places = {name: place for place, name in enumerate(columns)}
    found = {name: by_name.get(name, nothing) for name in named.inputs}
    return Asked(len(rows), found, absent, lambda row, name: errors.pointer("rows", row, places.get(name, name)))


def _matrix(rows: list[Any], named: Named) -> Asked:
    """{"X": [[number, ...], ...]}: the vectors of a network that takes nothing else, or all of its numbers in order."""
    _some(rows, "/X")
    if named.vector is not None:
        return Asked(len(rows), {named.vector: rows}, {}, lambda row, _: errors.pointer("X", row))
    if not named.all_numbers:
        message = "`X` is for a network of one vector, or of numbers alone; send `rows`, with the columns by name."
        raise refuse(field_error("/X", "not_a_matrix", message))
    _same_length(rows, "/X", len(named.inputs))
    places = {name: place for place, name in enumerate(named.inputs)}
    found: dict[str, Sequence[Any]] = dict(zip(named.inputs, zip(*rows, strict=True), strict=True))
    return Asked(len(rows), found, {}, lambda row, name: errors.pointer("X", row, places[name]))


# --- what all of them must be -------------------------------------------------------------------------------------


def _some(rows: list[Any], pointer: str) -> None:
    if not rows:
        raise refuse(field_error(pointer, "no_rows", "There is no row."))
    _not_too_many(len(rows))


def _not_too_many(count: int) -> None:
    if count > settings.max_predict_rows:
        raise errors.PayloadTooLarge(
            f"These are more rows than are predicted in one request: at most {settings.max_predict_rows:,}. "
            "Upload them as a dataset, and use `POST /v1/jobs/{id}/predictions`.",
            limit_rows=settings.max_predict_rows,
        )


def _same_length(rows: list[Any], pointer: str, length: int) -> None:
    wrong = [place for place, row in enumerate(rows) if type(row) is not list or len(row) != length]
    if wrong:
        message = f"Must be a list of {length} values."
        raise refuse(*(field_error(f"{pointer}/{place}", "list_length", message) for place in wrong[:MAX_ERRORS]))


def _refuse_empty(count: int, absent: dict[str, Sequence[int]], names: Sequence[str]) -> None:
    """A row without one of the columns is no row of this table."""
    if len(absent) < len(names):
        return
    lacks = [0] * count
    for place in chain.from_iterable(absent.values()):
        lacks[place] += 1
    if empty := [place for place, lacking in enumerate(lacks) if lacking == len(names)]:
        message = "This row has none of the columns that the network takes."
        raise refuse(*(field_error(f"/rows/{place}", "empty_row", message) for place in empty[:MAX_ERRORS]))
