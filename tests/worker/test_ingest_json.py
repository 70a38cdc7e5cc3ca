"""JSON: every form that a table has in it, and what is none."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from core import errors
from tests.worker.factories import Read, read

ROWS = [
    {"n": 1, "x": 1.5, "b": True, "c": "red", "d": "2020-01-31"},
    {"n": 2, "x": None, "b": False, "c": None, "d": "2021-02-28"},
    {"n": 3, "x": -2e3, "b": None, "c": "blue", "d": None},
]
NAMES = list(ROWS[0])
LISTS = [list(row.values()) for row in ROWS]
COLUMNS = {name: [row[name] for row in ROWS] for name in NAMES}

FORMS: dict[str, Any] = {
    "lines": "\n".join(map(json.dumps, ROWS)),
    "lines that end": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "list": json.dumps(ROWS),
    "list over lines": json.dumps(ROWS, indent=2),
    "rows": json.dumps({"rows": ROWS}),
    "columns and rows": json.dumps({"columns": NAMES, "rows": LISTS}),
    "columns and data, as pandas": json.dumps({"columns": NAMES, "index": [0, 1, 2], "data": LISTS}, indent=1),
    "columns of lists": json.dumps(COLUMNS),
    "columns by index, as pandas": json.dumps(
        {name: {str(place): value for place, value in enumerate(column)} for name, column in COLUMNS.items()}
    ),
    "a mark first": "\ufeff" + json.dumps(ROWS),
}


def _table(tmp_path: Path, data: str | bytes, kind: str = "json", **options: Any) -> Read:
    return read(tmp_path / "data", data, kind, **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_each_form_is_the_same_table(tmp_path: Path, form: str, kind: str) -> None:
    table = _table(tmp_path, FORMS[form], kind)

    assert table.types == {"n": "integer", "x": "number", "b": "boolean", "c": "category", "d": "datetime"}
    assert table.rows == 3
    assert table.numbers("n").tolist() == [1, 2, 3]
    assert table.values("c") == ["red", None, "blue"]
    assert table.column("x").missing == table.column("b").missing == table.column("d").missing == 1


def test_an_object_alone_is_one_row(tmp_path: Path) -> None:
    assert _table(tmp_path, '{"a": 1, "b": "x"}').rows == 1


def test_lists_of_lists_have_numbered_columns(tmp_path: Path) -> None:
    table = _table(tmp_path, "[[1, 2.5], [3, 4]]")

    assert table.types == {"column0": "integer", "column1": "number"}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "cp1252"])
def test_any_encoding_compressed_or_not(tmp_path: Path, encoding: str, packed: bool) -> None:
    data = '{"città": "é", "n": 1}\n{"città": "ü", "n": 2}\n'.encode(encoding)

    table = _table(tmp_path, gzip.compress(data) if packed else data, "jsonl")

    assert table.values("città") == ["é", "ü"]
    assert table.said.dialect is not None
    assert table.said.dialect["encoding"] == encoding
    assert table.said.dialect["compression"] == ("gzip" if packed else None)


def test_a_key_that_a_row_lacks_is_missing(tmp_path: Path) -> None:
    table = _table(tmp_path, '{"a": 1}\n{"b": 2}\n{"a": 3, "b": 4}\n', "jsonl")

    assert [column.missing for column in table.columns] == [1, 1]


def test_texts_stay_texts_whatever_they_look_like(tmp_path: Path) -> None:
    data = '{"a": "1", "b": "true", "c": "NA", "d": ""}\n{"a": "2", "b": "false", "c": "x", "d": "y"}\n'

    table = _table(tmp_path, data, "jsonl")

    assert set(table.types.values()) == {"category"}
    assert table.values("c") == ["NA", "x"]
    assert table.values("d") == ["", "y"]


def test_words_for_missing_are_missing_where_they_are_named(tmp_path: Path) -> None:
    data = '{"a": 1, "c": "NA"}\n{"a": "NA", "c": "x"}\n'

    table = _table(tmp_path, data, "jsonl", missing_values=["NA"])

    assert table.types == {"a": "integer", "c": "category"}
    assert table.values("c") == [None, "x"]


def test_numbers_that_json_does_not_have_are_missing(tmp_path: Path) -> None:
    table = _table(tmp_path, '[{"a": NaN}, {"a": 1.5}, {"a": -Infinity}]')

    assert table.types == {"a": "number"}
    assert table.column("a").missing == 1


def test_a_mixed_column_is_text(tmp_path: Path) -> None:
    assert _table(tmp_path, '[{"a": 1}, {"a": "x"}, {"a": true}]').values("a") == ["1", "x", "true"]


def test_keys_that_differ_in_case_are_two_columns(tmp_path: Path) -> None:
    table = _table(tmp_path, '{"t": 1, "T": "x", "T_1": 5.5}\n{"t": 2, "T": "y", "T_1": 6.5}\n', "jsonl")

    assert table.types == {"t": "integer", "T": "category", "T_1": "number"}
    assert table.values("T") == ["x", "y"]


def test_lists_of_equally_many_numbers_are_a_vector(tmp_path: Path) -> None:
    data = '{"v": [1, 2.5], "w": [1], "y": 0}\n{"v": [3, 4], "w": [1, 2], "y": 1}\n{"v": null, "w": [], "y": 1}\n'

    table = _table(tmp_path, data, "jsonl")

    assert table.types == {"v": "vector", "w": "text", "y": "integer"}
    assert (table.column("v").size, table.column("v").missing) == (2, 1)


@pytest.mark.parametrize(
    ("data", "code", "facts"),
    [
        ("", "dataset_empty", {}),
        (" \n ", "dataset_empty", {}),
        ("[]", "dataset_no_rows", {}),
        ("{}", "dataset_no_rows", {}),
        ('{"rows": []}', "dataset_no_rows", {}),
        ('{"columns": ["a"], "rows": []}', "dataset_no_rows", {}),
        ('{"a": []}', "dataset_no_rows", {}),
        ("1\n2\n", "json_malformed", {"line": 1}),
        ('"x"', "json_malformed", {"line": 1}),
        ('{"a": 1}\n[2]\n', "json_malformed", {"line": 2}),
        ('{"a": 1}\n{"a": \n', "json_malformed", {"line": 2}),
        ('{"a": 1}\n{"a": 2, "a": 3}\n', "json_malformed", {"line": 2}),
        ('{"a": 1}\n{"a": 2} {"a": 3}\n', "json_malformed", {"line": 2}),
        ('[{"a": 1}, {"a": 2}', "json_malformed", {}),
        ('[{"a": 1}, 2]', "json_malformed", {}),
        ('[{"a": 1}] x', "json_malformed", {}),
        ('{"rows": [{"a": 1}, 2]}', "json_malformed", {"row": 2}),
        ('{"columns": ["a", "b"], "rows": [[1, 2], [3]]}', "json_malformed", {"row": 2}),
        ('{"columns": ["a", 1], "rows": [[1, 2]]}', "json_malformed", {}),
        ('{"columns": ["a", "a"], "rows": [[1, 2]]}', "duplicate_column", {"positions": [1, 2]}),
        ('{"a": [1, 2], "b": [3]}', "json_malformed", {}),
        ('{"": 1}\n{"": 2}\n', "json_malformed", {}),
        ('{"columns": ["a", ""], "rows": [[1, 2]]}', "empty_column_name", {"position": 2}),
        ('{"a\\u0000b": 1}\n{"a\\u0000b": 2}\n', "invalid_column_name", {"position": 1}),
        ('{"a": "x\\u0000y"}\n{"a": "z"}\n', "nul_character", {}),
        ('{"a": "\\ud800"}\n{"a": "z"}\n', "json_malformed", {}),
        ("[" * 200_000, "json_malformed", {}),
        ('{"a": ' * 100_000, "json_malformed", {}),
        ('{"a": ' + "[" * 50_000 + "]" * 50_000 + "}\n" + '{"a": 1}', "json_malformed", {}),
        (b'{"a": "\xff\xfe\x00"}'[:9], "json_malformed", {}),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str | bytes) else "",
)
def test_what_is_no_table_is_refused(tmp_path: Path, data: str | bytes, code: str, facts: dict[str, Any]) -> None:
    with pytest.raises(errors.DatasetProblem) as problem:
        _table(tmp_path, data)

    assert problem.value.code == code
    assert facts.items() <= problem.value.facts.items()


def test_no_refusal_shows_what_the_file_holds(tmp_path: Path) -> None:
    with pytest.raises(errors.JsonMalformed) as problem:
        _table(tmp_path, '{"a": "secret"}\n{"a": "secret"\n', "jsonl")

    assert "secret" not in json.dumps(problem.value.as_error())
