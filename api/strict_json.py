"""JSON as RFC 8259 and RFC 7493 have it, and nothing else.

Python's reader takes NaN, `1e999`, duplicate keys and unpaired surrogates; each of them ends as a 500 further down
(an error body that cannot be encoded, a text that Postgres refuses) or as a value that nobody sent.
"""

import json
import math
from typing import Any

from core.errors import InvalidText, MalformedJson

MAX_DEPTH = 32
MAX_DIGITS = 20


def read(body: bytes) -> Any:
    """The value of a JSON text. Raises `MalformedJson` or `InvalidText`."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise MalformedJson("The body begins with a byte order mark; send plain UTF-8.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson(f"The body is not UTF-8 at byte {error.start}.") from error
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
            object_pairs_hook=_without_duplicates,
        )
    except json.JSONDecodeError as error:
        raise MalformedJson(f"The body is not valid JSON: line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise MalformedJson(f"The body is nested deeper than {MAX_DEPTH} levels.") from error
    _check(value, 0)
    return value


def is_text(value: str) -> bool:
    """Whether both databases can hold it."""
    return "\0" not in value and not any(0xD800 <= ord(letter) <= 0xDFFF for letter in value)


def _refuse_constant(name: str) -> Any:
    raise MalformedJson(f"{name} is not JSON; send null.")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MalformedJson("A number is too large.")
    return value


def _bounded(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise MalformedJson(f"A number has more than {MAX_DIGITS} digits.")
    return int(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedJson("An object has the same key twice.")
    return found


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedJson(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        if not is_text(value):
            raise InvalidText()
    elif isinstance(value, dict):
        for key, one in value.items():
            if not is_text(key):
                raise InvalidText()
            _check(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _check(one, depth + 1)
