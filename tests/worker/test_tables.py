"""Real tables have one schema, in whatever form they come."""

from datetime import date, datetime
from pathlib import Path

import pytest

from tests.worker.factories import Read, read
from tests.worker.tables import FEW, FORMS, NAMES, Table, folder_of, load


def _schema(table: Read) -> dict[str, tuple[str, int]]:
    """Name, type and missing values of each column; in JSON and XLSX a whole number may be either kind of number."""
    return {
        column.name: ("number" if column.type == "integer" else column.type, column.missing) for column in table.columns
    }


def _differ(found: Read, table: Table) -> dict[str, tuple[str, str]]:
    """Columns whose type is another than that of Python's own values, which a reader that is not ours has made."""
    words = {bool: "boolean", int: "integer", float: "number", date: "datetime", datetime: "datetime", str: "category"}
    own = {}
    for name, values in table.items():
        kinds = {type(value) for value in values if value is not None}
        if kinds:
            own[name.strip()] = "number" if kinds == {int, float} else words[kinds.pop()]
    ours = {name: "category" if kind == "text" else kind for name, kind in found.types.items()}
    return {name: (kind, ours[name]) for name, kind in own.items() if ours[name] != kind}


def _same_schema_in_each_form(tmp_path: Path, name: str) -> None:
    table = load(name)
    found = {}
    for form, (kind, write) in FORMS.items():
        found[form] = read(folder_of(tmp_path, name, form), write(table), kind)

    assert _differ(found["plain"], table) == {}
    expected = _schema(found["plain"])
    assert list(expected) == [column.strip() for column in table]
    assert {form: _schema(one) for form, one in found.items()} == dict.fromkeys(FORMS, expected)
    exact = {form: one.types for form, one in found.items() if FORMS[form][0] in ("csv", "parquet")}
    assert exact == dict.fromkeys(exact, found["plain"].types)


@pytest.mark.parametrize("name", FEW)
def test_a_table_has_one_schema_in_every_form(tmp_path: Path, name: str) -> None:
    _same_schema_in_each_form(tmp_path, name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in FEW])
def test_every_table_has_one_schema_in_every_form(tmp_path: Path, name: str) -> None:
    _same_schema_in_each_form(tmp_path, name)
