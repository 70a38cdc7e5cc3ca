"""Many rows of nothing but numbers are read by a faster way, and mean the same; all that is unusual goes the other."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from api.rows import LARGE, Named, read
from core.errors import Problem

NAMES = [f"a long name of column {number}" for number in range(12)]
NAMED = Named(inputs=NAMES, beside={"y"}, vector=None, all_numbers=True)
Rows = list[dict[str, Any]]


def _rows() -> Rows:
    generator = np.random.default_rng(0)
    return [dict(zip(NAMES, values, strict=True)) for values in generator.normal(size=(4000, 12)).tolist()]


def _body(rows: Rows) -> bytes:
    body = json.dumps({"rows": rows}).encode()
    assert len(body) > LARGE
    return body


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "in any order"])
def test_a_block_holds_what_the_columns_would(shuffled: bool) -> None:
    rows = _rows()
    rows[7] |= {NAMES[0]: True, NAMES[1]: 12345678901234567890123, NAMES[2]: -0.0, NAMES[3]: 5e-324}
    if shuffled:
        rows[::3] = [dict(reversed(row.items())) for row in rows[::3]]

    fast, slow = read(_body(rows), "application/json", NAMED), read(_body([*rows, {**rows[0], "y": 1}]), "", NAMED)

    assert fast.block is not None
    assert slow.block is None
    assert fast.count == 4000
    columns = np.array([slow.columns[name][:-1] for name in NAMES], np.float64)
    assert np.array_equal(np.frombuffer(fast.block).reshape(4000, 12).T, columns)
    assert np.array_equal(np.array([fast.columns[name] for name in NAMES], np.float64), columns)
    assert fast.pointer(3, NAMES[1]) == slow.pointer(3, NAMES[1])


UNUSUAL: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a gap": lambda row: row | {NAMES[4]: None},
    "a text": lambda row: row | {NAMES[4]: "1.5"},
    "a list": lambda row: row | {NAMES[4]: [1.5]},
    "an object": lambda row: row | {NAMES[4]: {}},
    "the target as well": lambda row: row | {"y": 3},
    "a column less": lambda row: {name: row[name] for name in NAMES[1:]},
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_in_one_row_is_left_to_the_other_way(change: Callable[[dict[str, Any]], Any]) -> None:
    rows = _rows()
    rows[5] = change(rows[5])

    asked = read(_body(rows), "application/json", NAMED)

    assert asked.block is None
    assert [column[5] for column in asked.columns.values()] == [rows[5].get(name) for name in NAMES]


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a key twice": (lambda body: body.replace(b"{", b'{"rows": 1, ', 1), "malformed_json"),
    "a column twice": (lambda body: body[:-3] + b', "a long name of column 0": 1}]}', "malformed_json"),
    "NaN": (lambda body: body[:-3] + b"}, NaN]}", "malformed_json"),
    "another column": (lambda body: body.replace(b"column 11", b"colum 11", 1), "invalid_rows"),
    "a row that is a number": (lambda body: body[:-2] + b", 1]}", "invalid_rows"),
    "cut off": (lambda body: body[:-2], "malformed_json"),
}


@pytest.mark.parametrize(("spoil", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_as_in_a_small_body(spoil: Callable[[bytes], bytes], code: str) -> None:
    with pytest.raises(Problem) as caught:
        read(spoil(_body(_rows())), "application/json", NAMED)

    assert caught.value.code == code
