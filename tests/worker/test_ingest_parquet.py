"""Parquet: plain types, types that no network can learn from, and bytes that nobody trusts."""

import random
from pathlib import Path

import duckdb
import pytest

from core import errors
from tests.worker.factories import Read, read
from worker.ingest import reader

PLAIN = {
    "ti": ("x::TINYINT", "integer"),
    "si": ("x::SMALLINT", "integer"),
    "i": ("x::INTEGER", "integer"),
    "bi": ("x::BIGINT", "integer"),
    "uti": ("x::UTINYINT", "integer"),
    "usi": ("x::USMALLINT", "integer"),
    "ui": ("x::UINTEGER", "integer"),
    "ubi": ("x::UBIGINT", "number"),
    "hi": ("x::HUGEINT", "number"),
    "f": ("(x / 2)::FLOAT", "number"),
    "d": ("(x / 2)::DOUBLE", "number"),
    "dec": ("(x / 4)::DECIMAL(9, 2)", "number"),
    "dec38": ("(x / 4)::DECIMAL(38, 2)", "number"),
    "b": ("x % 2 = 0", "boolean"),
    "v": ("'v' || x % 3", "category"),
    "e": ("(['ash', 'oak'][1 + x % 2])::ENUM('ash', 'oak')", "category"),
    "blob": ("('b' || x % 2)::BLOB", "category"),
    "u": ("'00000000-0000-0000-0000-00000000000' || x % 2", "category"),
    "da": ("DATE '2020-01-01' + x::INTEGER", "datetime"),
    "ts": ("TIMESTAMP '2020-01-01 10:00:00'", "datetime"),
    "tz": ("TIMESTAMPTZ '2020-01-01 10:00:00+02'", "datetime"),
    "tns": ("TIMESTAMP_NS '2020-01-01 10:00:00'", "datetime"),
    "t": ("TIME '10:00:00'", "datetime"),
    "li": ("[x, x + 1]", "vector"),
    "lv": ("['a', 'b']", "text"),
    "ld": ("[1.5::DECIMAL(5, 2)]", "vector"),
    "lr": ("range(x + 1)", "text"),
    "st": ("{'x': x, 'y': 'z'}", "text"),
    "ls": ("[{'x': x}]", "text"),
    "m": ("MAP {'a': x}", "text"),
    "void": ("NULL", "category"),
}


def _parquet(tmp_path: Path, select: str, options: str = "") -> bytes:
    file = tmp_path / "made.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {select} FROM range(20) AS r(x)) TO '{file}' (FORMAT parquet {options})")
    return file.read_bytes()


def _all_types(tmp_path: Path) -> bytes:
    return _parquet(tmp_path, ", ".join(f"{expression} AS {name}" for name, (expression, _) in PLAIN.items()))


def _table(tmp_path: Path, data: bytes) -> Read:
    return read(tmp_path / "data", data, "parquet")


def test_each_type_is_what_a_profile_knows(tmp_path: Path) -> None:
    table = _table(tmp_path, _all_types(tmp_path))

    assert table.types == {name: kind for name, (_, kind) in PLAIN.items()}


def test_decimals_are_their_numbers(tmp_path: Path) -> None:
    table = _table(tmp_path, _all_types(tmp_path))

    assert table.numbers("dec").tolist() == table.numbers("dec38").tolist() == [x / 4 for x in range(20)]


def test_lists_and_structures_are_read_but_not_used(tmp_path: Path) -> None:
    table = _table(tmp_path, _all_types(tmp_path))

    nested = [column for column in table.columns if column.name in ("lv", "lr", "st", "ls", "m")]
    assert all(column.number_row is None and column.code_row is None for column in nested)


@pytest.mark.parametrize("encoding", [", DICTIONARY_SIZE_LIMIT 1", ", COMPRESSION snappy", ", ROW_GROUP_SIZE 2048"])
def test_how_it_was_written_does_not_matter(tmp_path: Path, encoding: str) -> None:
    table = _table(tmp_path, _parquet(tmp_path, "x, 'v' || x % 3 AS v", encoding))

    assert table.numbers("x").tolist() == list(range(20))
    assert table.values("v") == [f"v{x % 3}" for x in range(20)]


def test_missing_and_not_a_number_are_missing(tmp_path: Path) -> None:
    select = "CASE WHEN x % 2 = 0 THEN 'nan'::DOUBLE WHEN x > 10 THEN x END AS x"

    column = _table(tmp_path, _parquet(tmp_path, select)).column("x")

    assert (column.missing, column.distinct, column.minimum) == (15, 5, 11)


def test_an_empty_text_is_a_value_and_null_is_missing(tmp_path: Path) -> None:
    table = _table(tmp_path, _parquet(tmp_path, "CASE WHEN x % 2 = 0 THEN '' WHEN x > 10 THEN 'a' END AS v"))

    assert table.column("v").values == ["", "a"]
    assert table.column("v").missing == 5


def test_no_rows_and_no_bytes_are_said(tmp_path: Path) -> None:
    file = tmp_path / "none.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS x WHERE false) TO '{file}' (FORMAT parquet)")

    with pytest.raises(errors.DatasetNoRows):
        read(tmp_path / "no-rows", file.read_bytes(), "parquet")
    with pytest.raises(errors.DatasetEmpty):
        read(tmp_path / "no-bytes", b"", "parquet")


def test_names_are_those_of_the_file_not_of_the_reader(tmp_path: Path) -> None:
    data = _parquet(tmp_path, 'x AS "abc", x + 1 AS "xyz"').replace(b"xyz", b"ABC")

    table = _table(tmp_path, data)

    assert list(table.types) == ["abc", "ABC"]
    assert table.numbers("ABC")[0] == 1


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    data = _parquet(tmp_path, 'x AS "abc", [x] AS "l", x + 1 AS "xyz"').replace(b"xyz", b"abc")

    with pytest.raises(errors.DuplicateColumn) as problem:
        _table(tmp_path, data)

    assert problem.value.facts == {"positions": [1, 3]}


def test_a_footer_that_promises_too_many_cells_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _parquet(tmp_path, "x, x AS y")
    monkeypatch.setattr(reader, "MAX_CELLS", 39)

    with pytest.raises(errors.DatasetTooLarge) as problem:
        _table(tmp_path, data)

    assert (problem.value.facts["rows"], problem.value.facts["columns"]) == (20, 2)
    assert not (tmp_path / "data" / "private" / "dataset" / "table.parquet").exists()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_malformed(tmp_path: Path, part: float) -> None:
    data = _all_types(tmp_path)

    with pytest.raises(errors.ParquetMalformed):
        _table(tmp_path, data[: int(len(data) * part)])


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_malformed(tmp_path: Path, seed: int) -> None:
    noise = random.Random(seed).randbytes(3000)

    with pytest.raises(errors.ParquetMalformed):
        _table(tmp_path, noise)
    with pytest.raises(errors.ParquetMalformed):
        read(tmp_path / "framed", b"PAR1" + noise + b"PAR1", "parquet")


@pytest.mark.parametrize("flips", [150, pytest.param(300, marks=pytest.mark.long)])
def test_a_flipped_bit_is_a_refusal_or_a_good_read(tmp_path: Path, flips: int) -> None:
    data = _parquet(tmp_path, "x, x / 3 AS d, 'v' || x % 3 AS v, [x] AS l, DATE '2020-01-01' AS da, x % 2 = 0 AS b")
    generator = random.Random(0)
    outcomes = {"refused": 0, "read": 0}

    for flip in range(flips):
        broken = bytearray(data)
        broken[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        try:
            table = read(tmp_path / str(flip), bytes(broken), "parquet", 256 << 20)
        except errors.DatasetProblem:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert table.rows > 0

    assert outcomes["refused"] > flips // 6
    assert outcomes["read"] > flips // 30


def test_the_reader_cannot_leave_its_folder(tmp_path: Path) -> None:
    source, folder, outside = tmp_path / "upload", tmp_path / "private", tmp_path / "outside"
    source.write_text("a,b\n1,2\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    folder.mkdir()
    outside.mkdir()
    forbidden = [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        f"SELECT * FROM read_csv('{tmp_path}/other.csv')",
        f"SELECT * FROM read_csv('{folder}/../other.csv')",
        "SELECT * FROM glob('/etc/*')",
        f"COPY (SELECT 1) TO '{outside}/made.csv'",
        f"ATTACH '{outside}/made.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET memory_limit = '100GB'",
    ]

    with reader.sandboxed(source, folder, 1 << 28) as connection:
        assert connection.execute("SELECT count(*) FROM read_csv(?)", [str(source)]).fetchall() == [(1,)]
        for statement in forbidden:
            with pytest.raises(duckdb.Error):
                connection.execute(statement).fetchall()

    assert list(outside.iterdir()) == []
