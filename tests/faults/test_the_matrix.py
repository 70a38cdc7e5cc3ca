"""Each row of the fault matrix has a test with its number in its name, or says on the page that it has none yet."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
ROWS = {
    name: line for line in PAGE.splitlines() for name in re.findall(r"F\d+", line.split("|")[1] if "|" in line else "")
}


def _numbers(name: str) -> set[int]:
    """Those of `test_f8_f9_an_api`, and all between the two of `test_f1_to_f5_a_sample`."""
    if found := re.match(r"test_f(\d+)_to_f(\d+)_", name):
        return set(range(int(found[1]), int(found[2]) + 1))
    head = re.match(r"test((?:_f\d+)*)_", name)
    return {int(number) for number in re.findall(r"\d+", head[1])} if head else set()


def _tested() -> set[int]:
    names = (
        name for file in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    )
    return {number for name in names for number in _numbers(name)}


@pytest.mark.parametrize("number", range(1, 35))
def test_a_row_has_its_test_or_says_that_it_has_none(number: int) -> None:
    row = ROWS[f"F{number}"]

    untested = re.search(r"not (tested|built) yet|nothing is sent yet", row) is not None

    assert number in _tested() or untested, row
