"""Real tables have one schema, in whatever form they come."""

from pathlib import Path

import pytest

from tests.worker.factories import Read, read
from tests.worker.tables import FEW, FORMS, NAMES, folder_of, load


def _schema(table: Read) -> dict[str, tuple[str, int]]:
    """Name, type and missing values of each column; in JSON and XLSX a whole number may be either kind of number."""
    return {
        column.name: ("number" if column.type == "integer" else column.type, column.missing) for column in table.columns
    }


def _same_schema_in_each_form(tmp_path: Path, name: str) -> None:
    table = load(name)
    found = {}
    for form, (kind, write) in FORMS.items():
        found[form] = read(folder_of(tmp_path, name, form), write(table), kind)

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
