"""Tables coming in: every format, what is said of their text, other readings of them, data in the body of a job."""

import base64
import gzip
import hashlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.api.asking import TABLE, post_job, post_table, problem
from tests.api.conftest import SHORT
from tests.running import Api, Serve, wait_until

ROWS = [{"x": number, "y": "yes" if number % 3 else "no"} for number in range(60)]
NAMES = ["x", "y"]


def _arrow(write: Callable[[Any, Any], None]) -> bytes:
    file = io.BytesIO()
    write(pa.table({name: [row[name] for row in ROWS] for name in NAMES}), file)
    return file.getvalue()


def _ipc(table: Any, file: Any) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.array([row["x"] for row in ROWS]), y=np.array([row["y"] for row in ROWS]))
    return file.getvalue()


def _zst(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def _xlsx() -> bytes:
    import xlsxwriter

    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Data")
        for at, row in enumerate([NAMES, *([row["x"], row["y"]] for row in ROWS)]):
            sheet.write_row(at, 0, row)
    return file.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FILES: dict[str, tuple[bytes, str, str]] = {
    "a.csv": (TABLE, "text/csv", "csv"),
    "a.tsv": (TABLE.replace(b",", b"\t"), "text/tab-separated-values", "csv"),
    "a.csv.gz": (gzip.compress(TABLE), "application/gzip", "csv"),
    "a.csv.zst": (_zst(TABLE), "application/zstd", "csv"),
    "a.jsonl": (LINES, "application/x-ndjson", "jsonl"),
    "a.jsonl.gz": (gzip.compress(LINES), "application/octet-stream", "jsonl"),
    "a.json": (json.dumps(ROWS).encode(), "application/json", "json"),
    "a.parquet": (_arrow(pa.parquet.write_table), "application/vnd.apache.parquet", "parquet"),
    "a.arrow": (_arrow(_ipc), "application/vnd.apache.arrow.file", "arrow"),
    "a.npz": (_npz(), "application/zip", "npz"),
    "a.xlsx": (_xlsx(), XLSX, "xlsx"),
}


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_each_format_is_taken_raw_and_as_a_form(serve: Serve, name: str) -> None:
    data, media_type, kind = FILES[name]

    answers = [
        post_table(serve, data, media_type, name=name, wait=60),
        serve.http.post("/v1/datasets?wait=60", files={"file": (name, data, "application/octet-stream")}),
    ]

    for answer in answers:
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert (body["format"], body["rows"], body["bytes"]) == (kind, 60, len(data))
        assert {one["name"]: one["type"] for one in body["columns"]} == {"x": "integer", "y": "category"}


def test_a_matrix_is_a_vector_column(serve: Serve) -> None:
    file = io.BytesIO()
    np.savez(file, X=np.eye(4, dtype=np.float32), y=np.arange(4))

    body = post_table(serve, file.getvalue(), "application/x-npz", wait=60).json()

    assert [(one["name"], one["type"], one["size"]) for one in body["columns"]] == [
        ("X", "vector", 4),
        ("y", "integer", None),
    ]
    assert serve.http.get(f"/v1/datasets/{body['id']}/rows?limit=1").json()["rows"] == [{"X": [1, 0, 0, 0], "y": 0}]


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("", None),
        ("application/octet-stream", None),
        ("application/octet-stream", "table"),
        ("application/octet-stream", "table.exe"),
        ("application/gzip", "table.gz"),
        ("application/zip", "table.zip"),
        ("image/png", "table.png"),
        ("application/x-hdf5", "table.h5"),
    ],
)
def test_what_is_not_known_says_how_to_send_it_right(serve: Serve, media_type: str, name: str | None) -> None:
    answer = post_table(serve, TABLE, media_type, **({"name": name} if name else {}))

    detail = problem(answer, 415, "unsupported_media_type")["detail"]
    assert "--data-binary @file.csv -H 'Content-Type: text/csv'" in detail
    assert "-F file=@file.csv" in detail


@pytest.mark.parametrize("encoding", ["br", "gzip", "deflate"])
def test_a_content_encoding_says_how_to_send_it_right(serve: Serve, encoding: str) -> None:
    headers = {"Content-Type": "text/csv", "Content-Encoding": encoding}

    answer = serve.http.post("/v1/datasets", content=TABLE, headers=headers)

    assert "file.csv.gz" in problem(answer, 415, "unsupported_media_type")["detail"]


# --- the dialect ------------------------------------------------------------------------------------------------------

EUROPEAN = "Größe;Preis;Tag\n1,5;-;31.01.2020\n2,5;3,25;01.02.2020\n".encode("cp1252")


def test_the_dialect_is_found_and_shown(anywhere: Serve) -> None:
    body = post_table(anywhere, EUROPEAN, wait=60).json()

    assert {one["name"]: one["type"] for one in body["columns"]} == {
        "Größe": "number",
        "Preis": "number",
        "Tag": "datetime",
    }
    shown = body["dialect"]
    assert (shown["encoding"], shown["delimiter"], shown["decimal"], shown["header"]) == ("cp1252", ";", ",", True)
    assert "-" in shown["missing_values"]
    assert shown["date_formats"] == ["%d.%m.%Y"]
    assert "encoding_guessed" in [one["code"] for one in body["warnings"]]


SAID = {"delimiter": ";", "decimal": ",", "encoding": "latin-1", "header": "false", "missing_values": "NA,-"}


@pytest.mark.parametrize("form", [False, True])
def test_what_is_said_of_a_text_is_not_found(serve: Serve, form: bool) -> None:
    data = "ä;1,5;NA\nö;-;x\n".encode("latin-1")

    if form:
        answer = serve.http.post("/v1/datasets?wait=60", files={"file": ("a.csv", data, "text/csv")}, data=SAID)
    else:
        answer = post_table(serve, data, wait=60, **SAID)

    body = answer.json()
    assert [one["type"] for one in body["columns"]] == ["category", "number", "category"]
    assert [one["name"] for one in body["columns"]] == ["column0", "column1", "column2"]
    assert [one["missing"] for one in body["columns"]] == [0, 1, 1]
    assert body["dialect"]["missing_values"] == ["NA", "-"]
    assert body["dialect"]["encoding"] == "iso8859-1"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"delimiter": "ab"}, "delimiter"),
        ({"delimiter": "a"}, "delimiter"),
        ({"delimiter": "\n"}, "delimiter"),
        ({"quote": "xx"}, "quote"),
        ({"encoding": "rot13"}, "encoding"),
        ({"encoding": "klingon"}, "encoding"),
        ({"encoding": "../../etc"}, "encoding"),
        ({"header": "perhaps"}, "header"),
        ({"decimal": ";"}, "decimal"),
        ({"date_formats": "%Q"}, "date_formats"),
        ({"date_formats": "no"}, "date_formats"),
        ({"missing_values": "x" * 65}, "missing_values"),
        ({"sheet": "One"}, "sheet"),
    ],
)
def test_what_cannot_be_said_of_a_text_is_refused_by_name(serve: Serve, parameters: dict[str, str], name: str) -> None:
    body = problem(post_table(serve, TABLE, **parameters), 422, "invalid_query")

    assert body["errors"][0]["pointer"].startswith(f"/query/{name}")


def test_an_unknown_field_of_a_form_is_refused_with_what_was_meant(serve: Serve) -> None:
    answer = serve.http.post("/v1/datasets", files={"file": ("a.csv", TABLE)}, data={"delimeter": ";"})

    found = problem(answer, 422, "invalid_spec")["errors"]
    assert [(one["pointer"], one.get("suggestion")) for one in found] == [("/delimeter", "delimiter")]


def test_nothing_is_said_of_the_text_of_a_parquet(serve: Serve) -> None:
    data, media_type, _ = FILES["a.parquet"]

    body = problem(post_table(serve, data, media_type, delimiter=";"), 422, "invalid_query")

    assert body["errors"][0]["code"] == "not_applicable"


# --- another reading of the same bytes --------------------------------------------------------------------------------


def uploads(serve: Serve) -> set[Path]:
    return {path for path in (serve.data_dir / "storage" / "uploads").rglob("*") if path.is_file()}


def patch(serve: Serve, dataset_id: str, **change: Any) -> Any:
    return serve.http.patch(f"/v1/datasets/{dataset_id}?wait=60", json=change)


def test_a_change_of_type_makes_a_new_dataset_of_the_same_bytes(anywhere: Serve) -> None:
    first = post_table(anywhere, b"zip,y\n10115,a\n20095,b\n10115,a\n", wait=60).json()

    answer = patch(anywhere, first["id"], columns={"zip": {"type": "category"}})

    second = answer.json()
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/datasets/{second['id']}"
    assert second["id"] != first["id"]
    assert second["derived_from"] == first["id"]
    assert (second["sha256"], second["bytes"], second["name"]) == (first["sha256"], first["bytes"], first["name"])
    assert [one["type"] for one in second["columns"]] == ["category", "category"]
    assert anywhere.http.get(f"/v1/datasets/{first['id']}").json() == first


def test_another_dialect_mends_what_could_not_be_read(serve: Serve) -> None:
    refused = problem(post_table(serve, b"a,b\n1,2\n3,4,5\n", wait=60), 422, "csv_malformed")

    mended = patch(serve, refused["dataset_id"], dialect={"delimiter": "tab"})

    assert mended.status_code == 201, mended.text
    assert [one["name"] for one in mended.json()["columns"]] == ["a,b"]


def test_what_was_said_before_still_holds(serve: Serve) -> None:
    first = post_table(serve, b"a;b\n1,5;x\n2,5;y\n", wait=60, decimal=".").json()
    second = patch(serve, first["id"], columns={"b": {"type": "text"}}).json()
    third = patch(serve, second["id"], dialect={"decimal": None}).json()

    assert [one["type"] for one in first["columns"]] == ["category", "category"]
    assert [one["type"] for one in second["columns"]] == ["category", "text"]
    assert [one["type"] for one in third["columns"]] == ["number", "text"]
    assert third["derived_from"] == second["id"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_bytes_are_stored_once_and_stay_as_long_as_a_reading_of_them(serve: Serve, order: tuple[int, ...]) -> None:
    before = uploads(serve)
    first = post_table(serve, TABLE, wait=60).json()["id"]
    second = patch(serve, first, columns={"x": {"type": "text"}}).json()["id"]
    ids = [first, second, patch(serve, second, columns={"x": {"type": "number"}}).json()["id"]]
    assert len(uploads(serve) - before) == 1

    for place in order[:-1]:
        assert serve.http.delete(f"/v1/datasets/{ids[place]}").status_code == 204
    last = ids[order[-1]]
    assert patch(serve, last, dialect={"header": True}).status_code == 201
    for one in serve.http.get("/v1/datasets?limit=5").json()["items"]:
        if one["id"] == last or one["derived_from"] == last:
            assert serve.http.delete(f"/v1/datasets/{one['id']}").status_code == 204

    assert uploads(serve) == before


def test_a_job_trains_on_another_reading(serve: Serve) -> None:
    first = post_table(serve, TABLE, wait=60).json()["id"]
    second = patch(serve, first, columns={"x": {"type": "category"}}).json()["id"]
    serve.http.delete(f"/v1/datasets/{first}")

    job = serve.finished(serve.submit(second, {"target": "y", "training": {"epochs": 2}})["id"])

    assert job["status"] == "succeeded", job["error"]


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"dialect": {"delimeter": ";"}}, "/dialect/delimeter", "unknown_field"),
        ({"dialect": {"delimiter": "ab"}}, "/dialect/delimiter", "too_long"),
        ({"dialect": {"sheet": "One"}}, "/dialect/sheet", "not_applicable"),
        ({"dialect": 5}, "/dialect", "dict_type"),
        ({"columns": {"x": {"type": "zip"}}}, "/columns/x/type", "literal_error"),
        ({"columns": {"x": "number"}}, "/columns/x", "dict_type"),
        ({"colums": {}}, "/colums", "unknown_field"),
    ],
)
def test_a_change_that_is_none_is_refused(serve: Serve, change: dict[str, Any], pointer: str, code: str) -> None:
    dataset_id = post_table(serve, TABLE, wait=60).json()["id"]

    body = problem(patch(serve, dataset_id, **change), 422, "invalid_spec")

    assert [(one["pointer"], one["code"]) for one in body["errors"]] == [(pointer, code)]


def test_a_column_that_is_not_there_is_named(serve: Serve) -> None:
    dataset_id = post_table(serve, TABLE, wait=60).json()["id"]

    body = problem(patch(serve, dataset_id, columns={"z": {"type": "number"}}), 422, "column_unknown")

    assert body["errors"][0]["pointer"] == "/columns/z"


def test_a_type_that_nothing_fits_is_refused(serve: Serve) -> None:
    dataset_id = post_table(serve, TABLE, wait=60).json()["id"]

    problem(patch(serve, dataset_id, columns={"y": {"type": "datetime"}}), 422, "column_type_unreadable")


def test_nobody_reads_anothers_bytes(serve: Serve, neighbour: Api) -> None:
    dataset_id = post_table(serve, TABLE, wait=60).json()["id"]

    problem(neighbour.http.patch(f"/v1/datasets/{dataset_id}", json={}), 404, "not_found")


# --- data in the body of a job ----------------------------------------------------------------------------------------

INLINE: dict[str, dict[str, Any]] = {
    "rows": {"rows": ROWS},
    "columns": {"columns": NAMES, "rows": [[row["x"], row["y"]] for row in ROWS]},
}


@pytest.mark.parametrize("form", INLINE)
def test_small_data_rides_in_the_body(anywhere: Serve, form: str) -> None:
    spec = {"target": "y", "training": {"epochs": 2}}

    answer = anywhere.http.post("/v1/jobs?wait=60", json={"dataset": INLINE[form], "spec": spec})

    job = answer.json()
    assert answer.status_code == 202, answer.text
    assert job["status"] == "succeeded", job["error"]
    dataset = anywhere.http.get(f"/v1/datasets/{job['dataset_id']}").json()
    assert (dataset["status"], dataset["rows"], dataset["name"]) == ("ready", 60, "rows.json")
    assert [one["name"] for one in dataset["columns"]] == NAMES


@pytest.mark.parametrize(
    ("sample", "target", "rows"),
    [
        ("iris", "species", 150),
        ("wine", "cultivar", 178),
        ("breast_cancer", "diagnosis", 569),
        ("digits", "digit", 1797),
        ("diabetes", "progression", 442),
        ("penguins", "species", 344),
    ],
)
def test_each_sample_trains(serve: Serve, sample: str, target: str, rows: int) -> None:
    body = {"dataset": {"sample": sample}, "spec": {"target": target, "training": {"epochs": 1}}}

    job = serve.http.post("/v1/jobs?wait=60", json=body).json()

    assert job["status"] == "succeeded", job["error"]
    dataset = serve.http.get(f"/v1/datasets/{job['dataset_id']}").json()
    assert (dataset["name"], dataset["rows"]) == (f"{sample}.csv", rows)


def test_the_samples_are_what_their_script_writes(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    before = {path.name: path.read_bytes() for path in (root / "api" / "samples").iterdir()}

    subprocess.run([sys.executable, str(root / "examples" / "make_samples.py")], check=True)

    assert {path.name: path.read_bytes() for path in (root / "api" / "samples").iterdir()} == before


def test_a_key_makes_one_dataset_and_one_job(anywhere: Serve) -> None:
    body = {"dataset": INLINE["rows"], "spec": {"target": "y", "training": {"epochs": 1}}}
    key = f"inline-{anywhere.url}"
    before = len(anywhere.http.get("/v1/datasets?limit=200").json()["items"])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: post_job(anywhere, body, **{"Idempotency-Key": key}), range(4)))

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    after = post_job(anywhere, body, **{"Idempotency-Key": key})
    assert after.headers["idempotent-replayed"] == "true"
    assert len(anywhere.http.get("/v1/datasets?limit=200").json()["items"]) == before + 1
    other = post_job(anywhere, body | {"dataset": {"sample": "iris"}}, **{"Idempotency-Key": key})
    problem(other, 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("dataset", "pointer"),
    [
        ({}, "/dataset"),
        ({"rows": []}, "/dataset/rows"),
        ({"rows": ROWS, "sample": "iris"}, "/dataset"),
        ({"sample": "iris", "columns": ["a"]}, "/dataset"),
        ({"sample": "mnist"}, "/dataset/sample"),
        ({"sample": "../samples/iris"}, "/dataset/sample"),
        ({"columns": ["a"], "rows": [{"a": 1}]}, "/dataset"),
        ({"rows": [[1, 2]]}, "/dataset"),
        ({"columns": ["a", "b"], "rows": [[1, 2], [3]]}, "/dataset"),
        ({"url": "https://example.org/x.csv"}, "/dataset/url"),
        ([1], "/dataset"),
        (None, "/dataset"),
    ],
    ids=str,
)
def test_data_that_is_none_is_refused_where_it_stands(serve: Serve, dataset: Any, pointer: str) -> None:
    before = uploads(serve)

    body = problem(post_job(serve, {"dataset": dataset, "spec": SHORT}), 422, "invalid_spec")

    assert pointer in [one["pointer"] for one in body["errors"]]
    assert uploads(serve) == before


def test_a_dataset_and_its_id_exclude_each_other(serve: Serve, penguins: str) -> None:
    body = {"dataset": {"sample": "iris"}, "dataset_id": penguins, "spec": SHORT}

    assert problem(post_job(serve, body), 422, "invalid_spec")["errors"][0]["pointer"] == "/dataset_id"


def test_a_spec_that_is_wrong_stores_no_data(serve: Serve) -> None:
    before = uploads(serve)

    problem(post_job(serve, {"dataset": {"sample": "iris"}, "spec": {"traget": "y"}}), 422, "invalid_spec")

    assert uploads(serve) == before


def test_a_form_may_say_how_its_file_is_written(serve: Serve) -> None:
    form = {"spec": json.dumps({"target": "y", "training": {"epochs": 1}}), "dialect": '{"delimiter": "pipe"}'}

    answer = serve.http.post("/v1/jobs?wait=60", files={"file": ("a.csv", TABLE.replace(b",", b"|"))}, data=form)

    job = answer.json()
    assert job["status"] == "succeeded", job["error"]
    assert serve.http.get(f"/v1/datasets/{job['dataset_id']}").json()["dialect"]["delimiter"] == "|"


# --- digests ----------------------------------------------------------------------------------------------------------


def _digest(data: bytes, name: str = "sha-256") -> str:
    return f"{name}=:{base64.b64encode(hashlib.new(name.replace('-', ''), data).digest()).decode()}:"


@pytest.mark.parametrize("name", ["sha-256", "sha-512"])
def test_a_body_that_is_what_its_digest_says_is_taken(serve: Serve, name: str) -> None:
    headers = {"Content-Type": "text/csv", "Content-Digest": f"unixsum=:AAA=:, {_digest(TABLE, name)}"}

    assert serve.http.post("/v1/datasets?wait=60", content=TABLE, headers=headers).status_code == 201


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs"])
@pytest.mark.parametrize("form", [False, True])
def test_a_body_that_is_not_is_refused_and_nothing_is_stored(serve: Serve, path: str, form: bool) -> None:
    before = uploads(serve)
    body, media_type = (TABLE, "text/csv") if path == "/v1/datasets" else (b"{}", "application/json")
    if form:
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + TABLE + b"\r\n--b--\r\n"
        )
        media_type = "multipart/form-data; boundary=b"
    headers = {"Content-Type": media_type, "Content-Digest": _digest(body + b"!")}

    problem(serve.http.post(path, content=body, headers=headers), 422, "digest_mismatch")

    assert uploads(serve) == before


@pytest.mark.parametrize("stated", ["sha-256=abc", "sha-256=:!!:", "sha-256=", "sha-256=::", "sha-256=:YQ:"])
def test_a_digest_that_is_none_is_refused(serve: Serve, stated: str) -> None:
    headers = {"Content-Type": "text/csv", "Content-Digest": stated}

    problem(serve.http.post("/v1/datasets", content=TABLE, headers=headers), 400, "invalid_request")


# --- a reader that dies ---------------------------------------------------------------------------------------------


def test_a_reader_that_dies_is_an_unparseable_dataset_and_nothing_else(own_serve: Serve) -> None:
    large = b"a,b\n" + b"".join(b"%d.5,k%d\n" % (row, row) for row in range(1_500_000))
    dataset_id = post_table(own_serve, large, wait=0).json()["id"]

    for _ in range(2):  # the second time it is given up
        reader = own_serve.child("training")
        reader.send_signal(signal.SIGSEGV)
        wait_until(lambda: not reader.is_running(), 20, "the end of the reader")  # noqa: B023

    kept = wait_until(
        lambda: (found := own_serve.http.get(f"/v1/datasets/{dataset_id}").json())["status"] == "invalid" and found,
        30,
        "the refusal",
    )
    assert kept["error"]["code"] == "dataset_unparseable"
    problem(own_serve.http.get(f"/v1/datasets/{dataset_id}/rows"), 422, "dataset_unparseable")
    assert post_table(own_serve, TABLE, wait=60).status_code == 201
