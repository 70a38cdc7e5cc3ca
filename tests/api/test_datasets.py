"""Datasets: what is taken, what is refused and why, pages, previews, and what deleting means."""

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.api.asking import TABLE, post_table, problem, raw
from tests.api.conftest import SHORT
from tests.running import Api, Serve


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("parquet") / "table.parquet"
    columns = "i AS x, i * 0.5 AS half, 'c' || i % 3 AS y, i % 2 = 0 AS flag, DATE '2026-01-01' + i::INT AS day"
    duckdb.connect().execute(f"COPY (SELECT {columns} FROM range(50) t(i)) TO '{file}' (FORMAT parquet)")
    return file.read_bytes()


# --- taken ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", ["text/csv", "text/csv; charset=utf-8", "TEXT/CSV", "application/csv"])
def test_a_raw_csv_is_read_at_once(serve: Serve, media_type: str) -> None:
    answer = post_table(serve, TABLE, media_type, name="sixty rows")

    dataset = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert (dataset["status"], dataset["rows"], dataset["name"]) == ("ready", 60, "sixty rows")
    assert [column["name"] for column in dataset["columns"]] == ["x", "y"]
    assert serve.http.get(answer.headers["location"]).json() == dataset


@pytest.mark.parametrize(
    ("name", "media_type", "table"),
    [
        ("a.csv", "text/csv", TABLE),
        ("a.csv", "application/octet-stream", TABLE),
        ("A.CSV", "application/vnd.ms-excel", TABLE),
        ("a.tsv", "text/tab-separated-values", TABLE.replace(b",", b"\t")),
        ("a.txt", "text/plain", TABLE.replace(b",", b";")),
        ("a.csv", "text/csv", b"\xef\xbb\xbf" + TABLE),
        ("a.csv", "text/csv", TABLE.replace(b"\n", b"\r\n")),
    ],
)
def test_a_form_is_taken_by_its_files_type_or_name(serve: Serve, name: str, media_type: str, table: bytes) -> None:
    answer = serve.http.post("/v1/datasets", files={"file": (name, table, media_type)})

    assert answer.status_code == 201, answer.text
    assert [column["name"] for column in answer.json()["columns"]] == ["x", "y"]
    assert answer.json()["rows"] == 60


def test_a_raw_body_without_a_type_is_taken_by_its_name(serve: Serve) -> None:
    answer = serve.http.post("/v1/datasets?name=table.csv", content=TABLE, headers={"Content-Type": ""})

    assert answer.status_code == 201


@pytest.mark.parametrize("media_type", ["application/vnd.apache.parquet", "application/octet-stream"])
def test_parquet_is_taken(serve: Serve, parquet: bytes, media_type: str) -> None:
    answer = post_table(serve, parquet, media_type, name="table.parquet")

    types = {column["name"]: column["type"] for column in answer.json()["columns"]}
    assert types == {"x": "integer", "half": "number", "y": "category", "flag": "boolean", "day": "datetime"}
    assert answer.json()["format"] == "parquet"


def test_numbers_that_json_does_not_have_are_null(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "odd.parquet"
    values = "('nan'::DOUBLE, 1), ('inf'::DOUBLE, 2), (1e308, 3), (-1e308, 4), (NULL, 5)"
    duckdb.connect().execute(f"COPY (SELECT * FROM (VALUES {values}) t(odd, n)) TO '{file}' (FORMAT parquet)")

    dataset = post_table(serve, file.read_bytes(), "application/vnd.apache.parquet").json()

    column = dataset["columns"][0]
    assert (column["minimum"], column["maximum"]) == (-1e308, 1e308)
    rows = serve.http.get(f"/v1/datasets/{dataset['id']}/rows").json()["rows"]
    assert [row["odd"] for row in rows] == [None, None, 1e308, -1e308, None]


def test_the_same_bytes_twice_are_two_datasets(serve: Serve) -> None:
    first, second = post_table(serve, TABLE).json(), post_table(serve, TABLE).json()

    assert first["id"] != second["id"]
    assert first["sha256"] == second["sha256"]


def test_the_same_bytes_of_another_project_are_no_ones_business(serve: Serve, neighbour: Api) -> None:
    table = TABLE + b"60,no\n"  # of no other test
    alone = post_table(serve, table)
    answer = neighbour.http.post("/v1/datasets", content=table, headers={"Content-Type": "text/csv"})

    assert (alone.status_code, answer.status_code) == (201, 201)
    first, second = alone.json(), answer.json()
    assert first["id"] != second["id"]
    assert {**first, "id": "", "created_at": "", "links": ""} == {**second, "id": "", "created_at": "", "links": ""}
    assert serve.http.delete(f"/v1/datasets/{first['id']}").status_code == 204
    assert neighbour.http.get(f"/v1/datasets/{second['id']}/content").status_code == 200


# --- refused ----------------------------------------------------------------------------------------------------------

UNREADABLE: dict[str, tuple[bytes, str, dict[str, Any]]] = {
    "empty": (b"", "dataset_empty", {}),
    "whitespace": (b" \n\n  ", "dataset_empty", {}),
    "header only": (b"x,y\n", "dataset_no_rows", {}),
    "ragged": (b"x,y\n1,2\n3\n4,5\n", "csv_malformed", {"row": 3, "fields": 1, "expected": 2}),
    "too many fields": (b"x,y\n1,2\n3,4,5\n", "csv_malformed", {"row": 3, "fields": 3, "expected": 2}),
    "open quote": (b'x,y\n1,2\n"3,4\n', "csv_malformed", {"row": 3}),
    "NUL": (b"x,y\n1,\x002\n", "csv_malformed", {"offset": 6}),
    "same name twice": (b"x,y,x\n1,2,3\n", "duplicate_column", {"positions": [1, 3]}),
    "same name after trimming": (b"x,y, x \n1,2,3\n", "duplicate_column", {"positions": [1, 3]}),
    "same name after NFC": ("é,y,e\u0301\n1,2,3\n".encode(), "duplicate_column", {"positions": [1, 3]}),
    "no name": (b"x,,y\n1,2,3\n", "empty_column_name", {"position": 2}),
    "name of control characters": (b"x,a\x07b\n1,2\n", "invalid_column_name", {"position": 2}),
    "name of 300 letters": (b"x," + b"y" * 300 + b"\n1,2\n", "invalid_column_name", {"position": 2}),
    "UTF-8 and Latin-1": ("x,é\n".encode() + "1,é\n".encode("latin-1"), "csv_encoding", {"offset": 7}),
    "cut in mid letter": ("é,y\n1,é".encode()[:-1], "csv_encoding", {"offset": 7}),
    "gzip cut short": (gzip.compress(TABLE)[:-9], "compression_malformed", {}),
    "two megabytes on a line": (b"x,y\n1," + b"2" * (2 << 20) + b"\n", "csv_malformed", {}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_table_says_why_and_stays_invalid(serve: Serve, name: str) -> None:
    table, code, facts = UNREADABLE[name]

    answer = post_table(serve, table)

    body = problem(answer, 422, code)
    assert facts.items() <= body.items(), body
    kept = serve.http.get(f"/v1/datasets/{body['dataset_id']}").json()
    assert kept["status"] == "invalid"
    assert kept["error"]["code"] == code
    again = problem(serve.http.get(f"/v1/datasets/{body['dataset_id']}/rows"), 422, code)
    assert again["dataset_id"] == body["dataset_id"]


def test_broken_parquet_is_refused_and_the_reader_lives(serve: Serve, parquet: bytes) -> None:
    broken = [parquet[: len(parquet) // 2], parquet[:-4], b"PAR1" + os.urandom(4000) + b"PAR1", os.urandom(3000),
              b"PAR1", TABLE]  # fmt: skip

    answers = [post_table(serve, table, "application/vnd.apache.parquet") for table in broken]

    for answer in answers:
        problem(answer, 422, "parquet_malformed")
    assert post_table(serve, parquet, "application/vnd.apache.parquet").status_code == 201


def test_a_refusal_quotes_no_data(serve: Serve) -> None:
    answer = post_table(serve, b"x,y\n1,2\ns3cr3t,v4lue,more\n")

    problem(answer, 422, "csv_malformed")
    assert "s3cr3t" not in answer.text


def test_an_invalid_dataset_cannot_be_trained_on(serve: Serve) -> None:
    dataset_id = post_table(serve, b"x,y\n1\n").json()["dataset_id"]

    answer = serve.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": {"target": "y"}})

    assert problem(answer, 422, "dataset_invalid")["dataset_id"] == dataset_id


FORMS = {
    "no boundary": ("multipart/form-data", b"x"),
    "garbage": ("multipart/form-data; boundary=x", b"garbage"),
    "cut off": ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"'),
    "no name": ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: text/csv\r\n\r\na\r\n--x--\r\n"),
    "another field": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="data"; filename="a.csv"\r\n\r\na\n1\r\n--x--\r\n',
    ),
    "text and no file": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\n1\r\n--x--\r\n',
    ),
    "long boundary": ("multipart/form-data; boundary=" + "x" * 5000, b"x"),
    "not UTF-8": ("multipart/form-data; boundary=x; charset=unicode_escape", b"--x--\r\n"),
    "no codec of text": ("multipart/form-data; boundary=x; charset=rot13", b"--x--\r\n"),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs"])
def test_a_form_that_is_none_is_400(serve: Serve, path: str, name: str) -> None:
    media_type, body = FORMS[name]

    answer = serve.http.post(path, content=body, headers={"Content-Type": media_type})

    problem(answer, 400, "invalid_request")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd.csv", "passwd.csv"),
        ("..\\..\\boot.csv", "boot.csv"),
        ("%2e%2e%2fx.csv", "%2e%2e%2fx.csv"),
        ("a;/../b.csv", "b.csv"),
        ("C:\\x.csv", "x.csv"),
        ("a\u202eb\u200b.csv", "ab.csv"),
        ("n" * 4096 + ".csv", "n" * 255),
        ("=cmd|x!A0.csv", "=cmd|x!A0.csv"),
        ("データ🧠.csv", "データ🧠.csv"),
        ("<script>.csv", "<script>.csv"),
    ],
)  # fmt: skip
def test_a_file_name_is_text_to_show_and_never_a_path(serve: Serve, given: str, shown: str) -> None:
    before = {path for path in serve.data_dir.rglob("*") if "storage" not in path.parts}

    answer = serve.http.post("/v1/datasets", files={"file": (given, TABLE, "text/csv")})

    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == shown
    assert {path for path in serve.data_dir.rglob("*") if "storage" not in path.parts} == before


def test_no_control_character_of_a_file_name_is_kept(anywhere: Serve) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\x07b\x1b[31m\x7f\xe2\x80\xae.csv"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}

    answer = anywhere.http.post("/v1/datasets", content=head + TABLE + b"\r\n--x--\r\n", headers=headers)

    assert answer.json()["name"] == "ab[31m.csv"


@pytest.mark.parametrize(("name", "status"), [("n" * 4096, 422), ("a%00b", 422), ("a%0d%0ab", 201), ("%ff", 201)])
def test_a_name_in_the_query_is_text(anywhere: Serve, name: str, status: int) -> None:
    answer = anywhere.http.post(f"/v1/datasets?name={name}", content=TABLE, headers={"Content-Type": "text/csv"})

    assert answer.status_code == status


@pytest.mark.parametrize(
    "column", ["../x", "__proto__", "=cmd|' /C calc'!A0", "a b", "🧠", "شيء", "'; DROP TABLE jobs"]
)
def test_any_column_name_without_control_characters_is_data(serve: Serve, column: str) -> None:
    answer = post_table(serve, f'"{column}",y\n1,2\n3,4\n'.encode())

    assert [one["name"] for one in answer.json()["columns"]] == [column, "y"]


# --- too large --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that takes 100,000 bytes a file."""
    folder = tmp_path_factory.mktemp("small") / "data"
    with Serve(folder, BACKPROPD_MAX_UPLOAD_BYTES="100000", BACKPROPD_TRAINING_SLOTS="1") as running:
        yield running


def stored(serve: Serve) -> set[Path]:
    return {path for path in (serve.data_dir / "storage").rglob("*") if path.is_file() and path.name != "probe"}


def test_a_file_over_the_cap_is_refused_by_its_stated_length(small: Serve) -> None:
    head = f"POST /v1/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.key}\r\nContent-Type: text/csv\r\n"

    answer = raw(small, f"{head}Content-Length: 100001\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("form", [False, True])
def test_a_file_over_the_cap_is_refused_while_it_arrives_and_nothing_is_left(small: Serve, form: bool) -> None:
    def chunks() -> Iterator[bytes]:
        if form:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        for _ in range(100):
            yield b"1,2\n" * 2500

    before = stored(small)
    media_type = "multipart/form-data; boundary=x" if form else "text/csv"

    answer = small.http.post("/v1/datasets", content=chunks(), headers={"Content-Type": media_type})

    assert problem(answer, 413, "payload_too_large")["limit_bytes"] >= 100_000
    assert stored(small) == before
    assert small.http.get("/v1/datasets").json()["items"] == []


def test_a_file_of_exactly_the_cap_is_taken(small: Serve) -> None:
    table = b"x,y\n" + b"1,2\n" * 24_999

    answer = post_table(small, table)

    assert len(table) == 100_000
    assert answer.status_code == 201
    assert small.http.delete(answer.headers["location"]).status_code == 204


def test_a_client_that_hangs_up_in_mid_upload_leaves_nothing(small: Serve) -> None:
    before = stored(small)
    head = f"POST /v1/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.key}\r\nContent-Type: text/csv\r\n"

    raw(small, f"{head}Content-Length: 90000\r\n\r\nx,y\n1,2\n".encode(), seconds=0.5)

    assert small.http.get("/v1/datasets").json()["items"] == []
    assert stored(small) == before


# --- pages, previews, content -----------------------------------------------------------------------------------------


def test_pages_lose_nothing_and_repeat_nothing_while_more_arrives(serve: Serve, neighbour: Api) -> None:
    for _ in range(7):
        neighbour.http.post("/v1/datasets?wait=0", content=TABLE, headers={"Content-Type": "text/csv"})
    every = [one["id"] for one in neighbour.http.get("/v1/datasets?limit=200").json()["items"]]
    seen: list[str] = []
    path: str | None = "/v1/datasets?limit=3"

    while path:
        answer = neighbour.http.get(path)
        seen += [one["id"] for one in answer.json()["items"]]
        neighbour.http.post("/v1/datasets?wait=0", content=TABLE, headers={"Content-Type": "text/csv"})
        path = answer.links["next"]["url"] if "next" in answer.links else None
        assert (path is None) == (answer.json()["next_page"] is None)

    assert seen == every
    assert seen == sorted(seen, reverse=True)


def test_a_page_keeps_the_filters_in_its_link_and_trusts_no_host(serve: Serve, trained: str, penguins: str) -> None:
    serve.submit(penguins, SHORT)

    answer = serve.http.get(
        "/v1/jobs?limit=1&status=succeeded&status=queued&status=running", headers={"Host": "evil/x?"}
    )

    assert answer.headers["link"].startswith(
        "</v1/jobs?limit=1&status=succeeded&status=queued&status=running&page=job_"
    )


def test_a_preview_shows_the_first_rows(serve: Serve) -> None:
    dataset_id = post_table(serve, TABLE).json()["id"]

    rows = serve.http.get(f"/v1/datasets/{dataset_id}/rows?limit=2").json()["rows"]

    assert rows == [{"x": 0, "y": "no"}, {"x": 1, "y": "yes"}]
    assert len(serve.http.get(f"/v1/datasets/{dataset_id}/rows").json()["rows"]) == 20
    problem(serve.http.get(f"/v1/datasets/{dataset_id}/rows?limit=101"), 422, "invalid_query")


def test_the_content_is_the_table_as_parquet(serve: Serve, tmp_path: Path) -> None:
    dataset_id = post_table(serve, TABLE).json()["id"]

    answer = serve.http.get(f"/v1/datasets/{dataset_id}/content")

    file = tmp_path / "content.parquet"
    file.write_bytes(answer.content)
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    found = duckdb.connect().execute("SELECT count(*), sum(x), min(y) FROM read_parquet(?)", [str(file)]).fetchall()
    assert found == [(60, 1770, "no")]


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_dataset_is_gone(serve: Serve) -> None:
    path = post_table(serve, TABLE).headers["location"]

    first, second = serve.http.delete(path), serve.http.delete(path)

    assert (first.status_code, first.content) == (204, b"")
    for answer in (second, serve.http.get(path), serve.http.get(f"{path}/rows"), serve.http.get(f"{path}/content")):
        problem(answer, 404, "not_found")


def test_a_dataset_in_use_is_not_deleted_before_its_job_has_ended(
    serve: Serve, start_long: Callable[..., dict[str, Any]], penguins: str
) -> None:
    job = start_long()

    answer = serve.http.delete(f"/v1/datasets/{penguins}")

    problem(answer, 409, "dataset_in_use")
    assert serve.job(job["id"])["status"] in ("queued", "running")


def test_a_job_outlives_its_dataset(serve: Serve) -> None:
    dataset_id = post_table(serve, TABLE).json()["id"]
    job = serve.finished(serve.submit(dataset_id, {"target": "y", "training": {"epochs": 2}})["id"])

    deleted = serve.http.delete(f"/v1/datasets/{dataset_id}")

    assert deleted.status_code == 204
    assert serve.job(job["id"])["status"] == "succeeded"
    assert len(serve.artifact(job["id"], "weights.safetensors")) > 100
