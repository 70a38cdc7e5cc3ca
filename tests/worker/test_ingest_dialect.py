"""What a CSV is taken for, over the whole of it, and what a user says instead."""

import gzip
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from core import errors
from tests.worker.factories import Read, read

NAN = pytest.approx(math.nan, nan_ok=True)


def _table(tmp_path: Path, data: str | bytes, **options: Any) -> Read:
    return read(tmp_path / "data", data, **options)


def _dialect(table: Read) -> dict[str, Any]:
    assert table.said.dialect is not None
    return table.said.dialect


# --- encoding ---------------------------------------------------------------------------------------------------------

TEXTS = {
    "cp1252": "stadt,größe\nKöln,5\nMünchen,6\nDüsseldorf,3\n",
    "cp1250": "miasto,ulica\nŁódź,Święta\nKraków,Żółta\nGdańsk,Książęca\n",
    "cp1251": "город,улица\nМосква,Тверская\nКазань,Баумана\nОмск,Ленина\n",  # noqa: RUF001
    "cp932": "都市,県\n東京,東京都\n大阪,大阪府\n札幌,北海道\n",
    "gb18030": "城市,省\n北京,北京市\n上海,上海市\n广州,广东省\n",
    "utf-16": "città,à\nRoma,1\nForlì,2\n",
    "utf-16-le": "città,à\nRoma,1\nForlì,2\n",
    "utf-16-be": "città,à\nRoma,1\nForlì,2\n",
    "utf-32": "città,à\nRoma,1\nForlì,2\n",
    "utf-8": "città,à\nRoma,1\nForlì,2\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_the_encoding_is_found_and_said(tmp_path: Path, encoding: str) -> None:
    text = TEXTS[encoding]

    table = _table(tmp_path, text.encode(encoding))

    assert ",".join(table.types) == text.split("\n")[0]
    assert _dialect(table)["encoding"] == encoding
    assert (("encoding_guessed", None) in table.warnings) is (not encoding.startswith("utf"))


def test_the_first_letter_that_tells_may_come_late(tmp_path: Path) -> None:
    table = _table(tmp_path, b"a,b\n" + b"1,x\n" * 600_000 + "2,Köln\n".encode("cp1252"))

    assert table.column("b").values == ["Köln", "x"]


def test_a_named_encoding_is_not_guessed(tmp_path: Path) -> None:
    data = "a,b\n1,ž\n".encode("iso8859-2")

    table = _table(tmp_path, data, encoding="iso8859-2")

    assert table.column("b").values == ["ž"]
    assert table.warnings == {("constant_column", "a"), ("constant_column", "b")}


@pytest.mark.parametrize(
    ("data", "encoding", "offset"),
    [
        ("a,b\n1,é\n".encode("latin-1"), "utf-8", 6),
        ("a,b\n1,é\n".encode("latin-1"), "ascii", 6),
        ("a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8", "utf-16-le", 16),
        ("é,b\n".encode("cp932", "ignore") + b"\x81\n1,2\n", "cp932", 3),
    ],
)
def test_what_a_named_encoding_does_not_have_is_refused_with_its_place(
    tmp_path: Path, data: bytes, encoding: str, offset: int
) -> None:
    with pytest.raises(errors.CsvEncoding) as problem:
        _table(tmp_path, data, encoding=encoding)

    assert problem.value.facts["offset"] == offset


# --- delimiter, quote, header -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", ":", " ", "^", "~"])
def test_the_delimiter_splits_every_row_alike(tmp_path: Path, delimiter: str) -> None:
    rows = [["a", "b", "c"], ["1", "x", "2.5"], ["2", "y", "3.5"], ["3", "x", "4.5"]]

    table = _table(tmp_path, "".join(delimiter.join(row) + "\n" for row in rows))

    assert table.types == {"a": "integer", "b": "category", "c": "number"}


def test_a_comma_in_numbers_is_none_between_fields(tmp_path: Path) -> None:
    table = _table(tmp_path, "1,5;2,5\n3,5;4,5\n")

    assert (_dialect(table)["delimiter"], _dialect(table)["decimal"]) == (";", ",")


def test_the_line_of_excel_is_believed_and_is_no_row(tmp_path: Path) -> None:
    assert _table(tmp_path, "sep=|\na|b,c\n1|2\n").types == {"a": "integer", "b,c": "integer"}


def test_single_quotation_marks_are_found(tmp_path: Path) -> None:
    table = _table(tmp_path, "'a','b'\n'1','x, y'\n'2','it''s'\n")

    assert table.types == {"a": "integer", "b": "category"}
    assert table.column("b").values == ["it's", "x, y"]


def test_without_a_quotation_mark_they_are_text(tmp_path: Path) -> None:
    table = _table(tmp_path, 'a\tb\n5" pipe\t"x\n6\t"y"\n', quote="none")

    assert table.column("b").values == ['"x', '"y"']


@pytest.mark.parametrize(
    ("data", "header"),
    [
        ("a,b\n1,x\n", True),
        ("5.1,3.5,setosa\n4.9,3.0,virginica\n", False),
        ("x,y\na,b\n", True),
        ("1,2\n3,4\n", False),
        ("2020-01-01,a\n2020-01-02,b\n", False),
        ("day,a\n2020-01-02,b\n", True),
        ("true,a\nfalse,b\n", False),
        ("country,2019,2020\nFrance,1,2\nSpain,3,4\n", True),
        ("1,a,\n2,b,\n", False),
    ],
)
def test_a_name_above_a_column_of_numbers_is_a_header(tmp_path: Path, data: str, header: bool) -> None:
    table = _table(tmp_path, data)

    assert _dialect(table)["header"] is header
    assert table.rows == data.count("\n") - header


@pytest.mark.parametrize("header", [True, False])
def test_whether_there_is_a_header_may_be_said(tmp_path: Path, header: bool) -> None:
    assert _table(tmp_path, "1,2\n3,4\n", header=header).rows == 2 - header


# --- numbers, missing values, dates -----------------------------------------------------------------------------------


def test_a_decimal_comma_is_found_where_no_number_has_a_point(tmp_path: Path) -> None:
    table = _table(tmp_path, "a;b;c\n1,5;2;x\n-,5;3;y\n1,5e3;4;x\n".replace("-,5", "-0,5"))

    assert table.numbers("a").tolist() == [1.5, -0.5, 1500]
    assert table.types == {"a": "number", "b": "integer", "c": "category"}
    assert _dialect(table)["decimal"] == ","


def test_two_decimal_marks_are_not_both_believed(tmp_path: Path) -> None:
    table = _table(tmp_path, "a;b\n1,5;1.5\n2,5;2.5\n")

    assert table.types == {"a": "category", "b": "number"}
    assert ("number_like_text", "a") in table.warnings


def test_a_decimal_mark_may_be_said(tmp_path: Path) -> None:
    assert _table(tmp_path, 'a,b\n"1,5",x\n"2,5",y\n', decimal=",").numbers("a").tolist() == [1.5, 2.5]


@pytest.mark.parametrize("word", ["?", "-", ".", "*", "None", "n/a", "<NA>"])
def test_a_word_between_numbers_is_missing_and_said(tmp_path: Path, word: str) -> None:
    table = _table(tmp_path, f"a,b\n1.5,x\n{word},y\n2.5,x\n")

    assert table.numbers("a").tolist() == [1.5, NAN, 2.5]
    assert word in _dialect(table)["missing_values"]


def test_such_a_word_among_texts_is_a_text(tmp_path: Path) -> None:
    assert _table(tmp_path, "a,b\n1,None\n2,x\n").column("b").values == ["None", "x"]


def test_words_for_missing_may_be_said_and_then_are_all(tmp_path: Path) -> None:
    table = _table(tmp_path, "a,b\n1,NA\n-9,x\n", missing_values=["-9"])

    assert table.numbers("a").tolist() == [1, NAN]
    assert table.column("b").values == ["NA", "x"]


@pytest.mark.parametrize(
    ("cells", "formats"),
    [
        (["31.01.2020", "01.02.2020"], ["%d.%m.%Y"]),
        (["01/31/2020", "02/01/2020"], ["%m/%d/%Y"]),
        (["31/01/2020", "01/02/2020"], ["%d/%m/%Y"]),
        (["1/31/2020 3:04 PM", "2/1/2020 11:59 AM"], ["%m/%d/%Y %I:%M %p"]),
        (["31.01.2020 10:00", "01.02.2020 23:59"], ["%d.%m.%Y %H:%M"]),
        (["31 Jan 2020", "1 Feb 2020"], ["%d %b %Y"]),
        (["2020/01/31", "2020/02/01"], ["%Y/%m/%d"]),
        (["2020-01-31", "2020-02-01"], []),
        (["2020-01-31T10:00:00.5Z", "2020-02-01T10:00:00+02:00"], []),
    ],
    ids=str,
)
def test_dates_are_found_in_the_way_they_are_written(tmp_path: Path, cells: list[str], formats: list[str]) -> None:
    table = _table(tmp_path, "day;x\n" + "".join(f"{cell};1\n" for cell in [*cells, ""]))

    assert table.types["day"] == "datetime"
    assert table.column("day").missing == 1
    assert _dialect(table)["date_formats"] == formats


def test_a_date_that_could_be_two_is_said_and_settled_by_its_neighbours(tmp_path: Path) -> None:
    alone = _table(tmp_path / "1", "day,x\n01/02/2020,1\n03/04/2020,2\n")
    beside = _table(tmp_path / "2", "day,other\n01/02/2020,31/01/2020\n03/04/2020,01/02/2020\n")

    assert ("ambiguous_dates", "day") in alone.warnings
    assert _dialect(alone)["date_formats"] == ["%m/%d/%Y"]
    assert ("ambiguous_dates", "day") not in beside.warnings
    assert _dialect(beside)["date_formats"] == ["%d/%m/%Y"]


def test_a_format_of_dates_may_be_said(tmp_path: Path) -> None:
    table = _table(tmp_path, "day,x\n01/02/2020,1\n03/04/2020,2\n", date_formats=["%d/%m/%Y"])

    assert table.types["day"] == "datetime"
    assert table.warnings == set()


@pytest.mark.parametrize(
    ("late", "kind"),
    [
        ("x", "category"),
        ("2.5", "number"),
        ("-", "integer"),
        (" 7 ", "integer"),
        ("01", "category"),
        ("1_0", "category"),
    ],
)
def test_a_row_behind_the_sample_is_believed_too(tmp_path: Path, late: str, kind: str) -> None:
    table = _table(tmp_path, "a,b,c\n" + "1,2,\n" * 20_000 + f"{late},3,5\n")

    assert table.types == {"a": kind, "b": "integer", "c": "integer"}
    assert table.rows == 20_001
    assert table.column("c").missing == 20_000


# --- types that a user has chosen -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "chosen", "missing"),
    [
        (["01234", "00999"], "category", 0),
        (["10115", "20095"], "category", 0),
        (["10115", "20095"], "text", 0),
        (["1", "0"], "boolean", 0),
        (["yes", "No"], "boolean", 0),
        (["1", "2"], "number", 0),
        (["1.0", "2"], "integer", 0),
        (["1", "x"], "number", 1),
        (["1", "2.5"], "integer", 1),
        (["2020-01-01", "x"], "datetime", 1),
    ],
    ids=str,
)
def test_a_chosen_type_is_what_the_column_has(tmp_path: Path, cells: list[str], chosen: str, missing: int) -> None:
    table = _table(tmp_path, "a,b\n" + "".join(f"{cell},x\n" for cell in cells), columns={"a": chosen})

    assert (table.types["a"], table.column("a").missing) == (chosen, missing)
    assert (("values_not_read", "a") in table.warnings) is (missing > 0)


def test_a_chosen_category_keeps_its_zeros(tmp_path: Path) -> None:
    table = _table(tmp_path, "a,b\n1,x\n02,y\n", columns={"a": "category"})

    assert table.column("a").values == ["02", "1"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_type_may_be_chosen_in_any_format(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        sink = pa.BufferOutputStream()
        pa.parquet.write_table(pa.table({"a": [1.0, 2.0, None], "b": ["1", "2", "x"]}), sink)
        data = sink.getvalue().to_pybytes()
    else:
        data = b'{"a": 1.0, "b": "1"}\n{"a": 2.0, "b": "2"}\n{"a": null, "b": "x"}\n'

    table = _table(tmp_path, data, kind=kind, columns={"a": "category", "b": "number"})

    assert table.types == {"a": "category", "b": "number"}
    assert table.values("a") == ["1", "2", None]
    assert table.numbers("b").tolist() == [1, 2, NAN]


# --- compressed -------------------------------------------------------------------------------------------------------

PLAIN = b"a,b\n" + b"".join(b"%d,x\n" % row for row in range(5000))


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(PLAIN),
        gzip.compress(PLAIN[:100]) + gzip.compress(PLAIN[100:]),
        bytes(pa.compress(PLAIN, codec="zstd", asbytes=True)),
    ],
    ids=["gzip", "two members", "zstd"],
)
def test_a_compressed_text_is_the_text(tmp_path: Path, packed: bytes) -> None:
    table = _table(tmp_path, packed)

    assert table.rows == 5000
    assert _dialect(table)["compression"] in ("gzip", "zstd")


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_bomb_is_refused_at_its_cap(tmp_path: Path, codec: str) -> None:
    bomb = bytes(pa.compress(bytes(50_000_000), codec=codec, asbytes=True))
    assert len(bomb) < 100_000

    with pytest.raises(errors.DatasetTooLarge) as problem:
        _table(tmp_path, bomb, expanded_bytes=1_000_000)

    assert problem.value.facts == {"limit_bytes": 1_000_000}
    assert (tmp_path / "data" / "private" / "expanded").stat().st_size <= 1_000_000


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize("part", [0.1, 0.6, 0.99])
def test_a_truncated_compressed_file_is_malformed(tmp_path: Path, codec: str, part: float) -> None:
    data = bytes(pa.compress(PLAIN, codec=codec, asbytes=True))

    with pytest.raises(errors.DatasetProblem) as problem:
        _table(tmp_path, data[: int(len(data) * part)])

    assert problem.value.code == "compression_malformed"


def test_a_flipped_bit_of_a_gzip_is_malformed(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(PLAIN))
    data[len(data) // 2] ^= 16

    with pytest.raises(errors.CompressionMalformed):
        _table(tmp_path, bytes(data))
