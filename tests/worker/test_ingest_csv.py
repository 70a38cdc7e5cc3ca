"""CSV: what it is taken for, and where exactly a broken file is broken."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import errors
from tests.worker.factories import Read, read

NAN = pytest.approx(math.nan, nan_ok=True)


def _refusal(tmp_path: Path, data: str | bytes) -> errors.DatasetProblem:
    with pytest.raises(errors.DatasetProblem) as problem:
        read(tmp_path / "data", data)
    return problem.value


def _table(tmp_path: Path, data: str | bytes) -> Read:
    return read(tmp_path / "data", data)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "30"], "integer"),
        (["1.5", "-2", ".5"], "number"),
        (["1e3", "2E-4", "-5.0e+2"], "number"),
        (["true", "FALSE", "True"], "boolean"),
        (["0", "1", "1"], "integer"),
        (["yes", "no", "yes"], "category"),
        (["t", "f", "t"], "category"),
        (["true", "no", "f"], "category"),
        (["red", "1", "2"], "category"),
        (["2020-01-31", "2021-02-28", "2022-03-01"], "datetime"),
        (["2020-01-31 10:00:00", "2021-02-28 23:59:59", "2022-03-01 00:00:00"], "datetime"),
        (["2020-01-31T10:00:00Z", "2021-02-28T23:59:59+02:00", "2022-03-01T00:00:00Z"], "datetime"),
        (["01234", "00001", "09999"], "category"),
        (["0x10", "0x11", "3"], "category"),
        (["0b1", "0b0", "1"], "category"),
        (["1_000", "2_000", "3"], "category"),
        (["٣", "٤", "٦"], "category"),
        (["3 kg", "4 kg", "5 kg"], "category"),
    ],
    ids=str,
)
def test_the_type_of_a_column_is_that_of_all_its_cells(tmp_path: Path, cells: list[str], kind: str) -> None:
    table = _table(tmp_path, "x,other\n" + "".join(f"{cell},a\n" for cell in cells))

    assert table.types["x"] == kind


def test_the_type_may_be_decided_by_the_last_row(tmp_path: Path) -> None:
    table = _table(tmp_path, "x,y\n" + "1,2\n" * 60_000 + "a,2.5\n")

    assert table.types == {"x": "category", "y": "number"}


def test_many_different_texts_are_text(tmp_path: Path) -> None:
    table = _table(tmp_path, "x,y\n" + "".join(f"note {row},{row % 3}\n" for row in range(60)))

    assert table.types["x"] == "text"
    assert table.column("x").code_row is None


def test_long_texts_are_text_however_few(tmp_path: Path) -> None:
    table = _table(tmp_path, f"x,y\n{'a' * 300},1\nb,2\n")

    assert table.types["x"] == "text"


@pytest.mark.parametrize("word", ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", '""', '"NA"'])
def test_words_for_missing_are_missing_in_every_column(tmp_path: Path, word: str) -> None:
    table = _table(tmp_path, f"n,c,b\n1.5,red,true\n{word},{word},{word}\n2.5,blue,false\n")

    assert table.types == {"n": "number", "c": "category", "b": "boolean"}
    assert table.numbers("n").tolist() == [1.5, NAN, 2.5]
    assert table.values("c") == ["red", None, "blue"]
    assert table.values("b") == [True, None, False]


def test_numbers_written_for_people_stay_text_with_a_warning(tmp_path: Path) -> None:
    table = _table(tmp_path, 'price,share,name\n"1,200",3%,x\n"2,500",4%,y\n')

    assert table.types["price"] == table.types["share"] == "category"
    assert table.warnings == {("number_like_text", "price"), ("number_like_text", "share")}


def test_infinity_is_a_number_with_a_warning(tmp_path: Path) -> None:
    table = _table(tmp_path, "x,y\n1.5,a\ninf,b\n-inf,c\n1e39,d\n")

    assert table.numbers("x").tolist() == [1.5, math.inf, -math.inf, math.inf]
    assert ("infinite_values", "x") in table.warnings


@pytest.mark.parametrize(
    "cells", [["1e308", "2.5"], ["1e309", "2.5"], ["-3.5e38", "2.5"], ["Infinity", "2.5"], ["-inf", "2.5"]], ids=str
)
def test_what_float32_does_not_hold_is_infinite_with_a_warning(tmp_path: Path, cells: list[str]) -> None:
    table = _table(tmp_path, "x,y\n" + "".join(f"{cell},a\n" for cell in cells))

    assert math.isinf(table.numbers("x")[0])
    assert ("infinite_values", "x") in table.warnings


@pytest.mark.parametrize(
    ("cells", "example"),
    [
        (["1_000", "2_000", "3"], "1_000"),
        (["0x10", "0x11", "3"], "0x10"),
        (["٣", "٤", "٦\u066b\u0665"], "٣"),
        (["\uff11", "\uff12", "\uff13"], "\uff11"),
        (["३", "४", "६"], "३"),
    ],
    ids=str,
)
def test_digits_of_another_grammar_are_said_with_an_example(tmp_path: Path, cells: list[str], example: str) -> None:
    table = _table(tmp_path, "x,other\n" + "".join(f"{cell},a\n" for cell in cells))

    found = [warning for warning in table.said.warnings if warning["column"] == "x"]
    assert table.types["x"] == "category"
    assert [(warning["code"], warning["evidence"]["example"]) for warning in found] == [("number_like_text", example)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    table = _table(tmp_path, f"a{delimiter}b\n1{delimiter}x,;\n2{delimiter}y\n".replace("x,;", "x"))

    assert table.types == {"a": "integer", "b": "category"}
    assert table.said.dialect is not None
    assert table.said.dialect["delimiter"] == delimiter


def test_a_delimiter_in_quotes_is_none(tmp_path: Path) -> None:
    assert list(_table(tmp_path, '"a;b;c",d\n1,2\n').types) == ["a;b;c", "d"]


def test_a_decimal_comma_between_semicolons_is_no_delimiter(tmp_path: Path) -> None:
    assert list(_table(tmp_path, "a;b\n1,5;2\n2,5;3\n").types) == ["a", "b"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_each_way_to_end_a_line_is_read(tmp_path: Path, end: str, last: bool) -> None:
    table = _table(tmp_path, end.join(["a,b", "1,x", "2,y"]) + (end if last else ""))

    assert table.numbers("a").tolist() == [1, 2]
    assert table.values("b") == ["x", "y"]


def test_a_file_that_mixes_line_ends_says_so(tmp_path: Path) -> None:
    problem = _refusal(tmp_path, "a,b\n1,2\r\n3,4\n")

    assert problem.code == "csv_malformed"
    assert "end in different ways" in problem.detail


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("inner", ["\n", "\r\n"])
def test_quoted_newlines_delimiters_and_quotes_are_text(tmp_path: Path, end: str, inner: str) -> None:
    table = _table(tmp_path, end.join(["a,b", f'"x{inner}y",1', '"say ""hi"", twice",2', ""]))

    assert table.values("a") == [f"x{inner}y", 'say "hi", twice']


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\n\n\n"])
def test_blank_lines_are_no_rows(tmp_path: Path, blank: str) -> None:
    table = _table(tmp_path, f"{blank}a,b{blank[-1]}1,x\n\n2,y\n\n".replace("\r\n", "\n"))

    assert table.rows == 2
    assert list(table.types) == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert list(_table(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n").types) == ["a", "b"]


def test_spaces_around_names_and_numbers_do_not_count(tmp_path: Path) -> None:
    table = _table(tmp_path, " a , b ,c, d \n 1 , 2.5 ,x, 01\n 3 , NA ,x, 02\n 4 ,-1e3 ,x, 03\n")

    assert table.types == {"a": "integer", "b": "number", "c": "category", "d": "category"}
    assert table.numbers("b").tolist() == [2.5, NAN, -1000]


def test_a_file_of_numbers_only_has_no_header(tmp_path: Path) -> None:
    table = _table(tmp_path, "1,2.5\n3,-4e3\n")

    assert table.said.dialect is not None
    assert table.said.dialect["header"] is False
    assert list(table.types) == ["column0", "column1"]
    assert table.numbers("column1").tolist() == [2.5, -4000]


ODD = [
    'a"b',
    "'",
    "__proto__",
    "😀",
    "x" * 256,
    "=cmd|'/c calc'!A1",
    "naïve",
    "select",
    "c0",
    "../x",
    "a.b",
    "%s",
    "$1",
]


def test_odd_names_are_names(tmp_path: Path) -> None:
    header = ",".join('"' + name.replace('"', '""') + '"' for name in ODD)

    table = _table(tmp_path, header + "\n" + ",".join(str(place) for place in range(len(ODD))) + "\n")

    assert list(table.types) == ODD
    assert [table.numbers(name).tolist() for name in ODD] == [[place] for place in range(len(ODD))]
    assert list(json.loads((table.folder / "preview.json").read_text())[0]) == ODD


def test_names_that_differ_in_case_are_two_columns(tmp_path: Path) -> None:
    table = _table(tmp_path, "t,T,T_1\n1,x,5.5\n2,y,6.5\n")

    assert table.types == {"t": "integer", "T": "category", "T_1": "number"}
    assert table.values("T") == ["x", "y"]
    assert table.numbers("T_1").tolist() == [5.5, 6.5]


REFUSED: list[tuple[str, str | bytes, str, dict[str, Any]]] = [
    ("empty", "", "dataset_empty", {}),
    ("whitespace", " \n\n", "dataset_empty", {}),
    ("header-only", "a,b\n", "dataset_no_rows", {}),
    ("header-without-end", "a,b", "dataset_no_rows", {}),
    ("duplicate", "a,b,a\n1,2,3\n", "duplicate_column", {"positions": [1, 3]}),
    ("duplicate-trimmed", "a, a\n1,2\n", "duplicate_column", {"positions": [1, 2]}),
    ("duplicate-normalised", "é,e\u0301\n1,2\n", "duplicate_column", {"positions": [1, 2]}),
    ("no-name", "a,,b\n1,2,3\n", "empty_column_name", {"position": 2}),
    ("long-name", "x" * 257 + ",b\n1,2\n", "invalid_column_name", {"position": 1}),
    ("control-name", "a,b\x07\n1,2\n", "invalid_column_name", {"position": 2}),
    ("too-few", "a,b\n1,2\n3\n4,5\n", "csv_malformed", {"row": 3, "fields": 1, "expected": 2}),
    ("too-many", "a,b\n1,2\n3,4,5\n", "csv_malformed", {"row": 3, "fields": 3, "expected": 2}),
    ("too-few-late", "a,b\n" + "1,2\n" * 49_999 + "3\n", "csv_malformed", {"row": 50_001, "fields": 1, "expected": 2}),
    (
        "too-few-after-a-long-field",
        "a,b\n" + "x" * 200_000 + ",1\ny\n",
        "csv_malformed",
        {"row": 3, "fields": 1, "expected": 2},
    ),
    ("open-quote", 'a,b\n1,"2\n3,4\n', "csv_malformed", {"row": 3}),
    ("open-quote-in-header", '"a,b\n1,2\n', "csv_malformed", {"row": 2}),
    ("open-quote-in-long-header", '"a,b\n' + "1,2\n" * 60_000, "csv_malformed", {"row": 60_001}),
    ("text-after-quote", 'a,b\n"5" pipe,1\n', "csv_malformed", {"row": 2}),
    ("long-line", "a,b\n" + "x" * 1_100_000 + ",1\n", "csv_malformed", {"limit_bytes": 1_048_576}),
    ("long-header", "a" * 2_000_000 + ",b\n1,2\n", "csv_malformed", {"limit_bytes": 1_048_576}),
    ("nul", b"a,b\n1,\x002\n", "csv_malformed", {"offset": 6}),
    ("nul-late", b"a,b\n" + b"1,2\n" * 600_000 + b"\0,1\n", "csv_malformed", {"offset": 2_400_004}),
    (
        "mixed",
        "a,b\né,1\n".encode() + "2,café\n".encode("latin-1"),
        "csv_encoding",
        {"offset": 14, "encoding": "utf-8"},
    ),
    (
        "mixed-late",
        "é,b\n".encode() + b"1,2\n" * 600_000 + b"\xe9,1\n",
        "csv_encoding",
        {"offset": 2_400_005, "encoding": "utf-8"},
    ),
    ("cut-in-mid-character", "é,b\n1,é".encode()[:-1], "csv_encoding", {"offset": 7, "encoding": "utf-8"}),
]


@pytest.mark.parametrize(("data", "code", "facts"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_an_unreadable_file_is_refused_with_the_place(
    tmp_path: Path, data: str | bytes, code: str, facts: dict[str, Any]
) -> None:
    problem = _refusal(tmp_path, data)

    assert (problem.code, problem.facts) == (code, facts)


def test_a_character_on_the_border_of_two_blocks_is_whole(tmp_path: Path) -> None:
    head = "a,b\n" + "1,2\n" * 262_142 + "1,x"
    assert len(head) == 1024 * 1024 - 1

    table = _table(tmp_path, head + "é\n")

    assert table.values("b")[-1] == "xé"


def test_no_refusal_shows_what_the_file_holds(tmp_path: Path) -> None:
    problem = _refusal(tmp_path, "a,b\n1,secret\n2,secret,secret\n")

    assert "secret" not in json.dumps(problem.as_error())


def test_rows_keep_their_order(tmp_path: Path) -> None:
    rows = 200_000
    data = "n,c\n" + "".join(f"{row},{'abc'[row % 3]}\n" for row in range(rows))

    table = _table(tmp_path, data)

    assert np.array_equal(table.numbers("n"), np.arange(rows, dtype=np.float32))
    assert np.array_equal(table.codes("c"), np.arange(rows) % 3)
