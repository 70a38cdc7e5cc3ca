"""Predictions of stored datasets over HTTP: a worker makes a file of them, which says what the API says of each row."""

import csv
import io
from typing import Any

import httpx2
import pyarrow.parquet
import pytest

from tests.api.asking import RANDOM, masked, pointers, problem
from tests.api.test_predict import MIXED_ROWS, mixed, predicted  # noqa: F401 - `mixed` is a fixture
from tests.conftest import PENGUINS
from tests.running import Api, Serve


def ask(api: Api, job_id: str, body: Any, wait: float = 60) -> httpx2.Response:
    return api.http.post(f"/v1/jobs/{job_id}/predictions", json=body, params={"wait": wait})


def made(api: Api, job_id: str, dataset_id: str, **options: Any) -> dict[str, Any]:
    answer = ask(api, job_id, {"dataset_id": dataset_id, **options})
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "succeeded", answer.text
    return dict(answer.json())


def table_of(api: Api, found: dict[str, Any]) -> list[dict[str, Any]]:
    answer = api.http.get(found["links"]["content"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == f'"{found["sha256"]}"'
    if found["format"] == "csv":
        return list(csv.DictReader(io.StringIO(answer.text)))
    return list(pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pylist())


def upload(serve: Serve, rows: list[dict[str, Any]]) -> str:
    answer = serve.http.post("/v1/datasets", json=rows, params={"wait": 60, "name": "rows.json"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_dataset_is_predicted_as_its_rows_are(serve: Serve, trained: str, penguins: str) -> None:
    found = made(serve, trained, penguins)

    rows = [
        {name: None if value in ("", "NA") else value if name in ("species", "island", "sex") else float(value)
         for name, value in row.items()}
        for row in csv.DictReader(PENGUINS.read_text().splitlines())
    ]  # fmt: skip
    expected = predicted(serve, trained, {"rows": rows})["predictions"]
    table = table_of(serve, found)
    assert found["rows"] == len(table) == len(rows)
    assert [one["row"] for one in table] == [*range(len(rows))]
    assert [one["label"] for one in table] == [one["label"] for one in expected]
    for species in expected[0]["probabilities"]:
        assert [one[f"probability_{species}"] for one in table] == pytest.approx(
            [one["probabilities"][species] for one in expected], abs=1e-6
        )
    assert found["columns"] == [*table[0]]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_columns_of_each_type_are_read_as_in_a_request(serve: Serve, mixed: str, kind: str) -> None:  # noqa: F811
    rows = [
        {"size": 1.5, "colour": "red", "at": "2014-03-12T03:30:00Z", "flag": True, "place": 2},
        {"size": None, "colour": "mauve", "at": "2014-03-12T05:30:00Z", "flag": False, "place": 9},
        {"size": 99.5, "colour": None, "at": None, "flag": None, "place": None},
    ]
    expected = predicted(serve, mixed, {"rows": rows}, shape="columns")

    found = made(serve, mixed, upload(serve, rows), format=kind)

    values = [float(one["value"]) for one in table_of(serve, found)]
    assert values == pytest.approx([value for [value] in expected["values"]], rel=1e-5)
    assert {(one["code"], one["column"], one["rows"]) for one in found["warnings"]} == {
        ("unseen_category", "colour", 1),
        ("unseen_category", "place", 1),
        ("out_of_range", "size", 1),
    }
    assert found["warnings"] == expected["warnings"]


def test_more_texts_than_a_list_of_categories_holds_are_looked_up(serve: Serve, mixed: str) -> None:  # noqa: F811
    rows = [
        MIXED_ROWS[0] | {"colour": f"colour {row}" if row % 3 else "red", "flag": bool(row % 2)} for row in range(2000)
    ]

    found = made(serve, mixed, upload(serve, rows))

    expected = predicted(serve, mixed, {"rows": rows})["predictions"]
    assert [one["value"] for one in table_of(serve, found)] == pytest.approx(
        [one["value"] for one in expected], rel=1e-5
    )
    [unseen] = [one for one in found["warnings"] if one["column"] == "colour"]
    assert unseen["rows"] == sum(row % 3 != 0 for row in range(2000))


def test_a_column_that_is_not_there_is_said(serve: Serve, trained: str) -> None:
    found = made(serve, trained, upload(serve, [{"bill_length_mm": 39.5 + row % 2} for row in range(20)]))

    missing = {one["column"]: one["rows"] for one in found["warnings"] if one["code"] == "missing_column"}
    assert missing == dict.fromkeys(("island", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "year"), 20)


def test_a_column_of_another_type_is_refused_by_name(serve: Serve, trained: str) -> None:
    dataset_id = upload(serve, [{"bill_length_mm": "long" if row % 2 else "short", "sex": "male"} for row in range(20)])

    found = ask(serve, trained, {"dataset_id": dataset_id}).json()

    assert (found["status"], found["error"]["code"]) == ("failed", "data_invalid")
    assert (found["error"]["reason"], found["error"]["column"]) == ("column_type_mismatch", "bill_length_mm")
    problem(serve.http.get(found["links"]["content"]), 409, "predictions_not_ready")


def test_a_dataset_of_other_columns_is_refused(serve: Serve, trained: str) -> None:
    found = ask(serve, trained, {"dataset_id": upload(serve, [{"x": 1.5 + row} for row in range(20)])}).json()

    assert (found["status"], found["error"]["reason"]) == ("failed", "column_not_found")


def test_without_waiting_the_answer_comes_later(serve: Serve, trained: str, penguins: str) -> None:
    answer = ask(serve, trained, {"dataset_id": penguins}, wait=0)

    asked = answer.json()
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
    assert answer.headers["location"] == f"/v1/predictions/{asked['id']}"
    assert (asked["rows"], asked["sha256"], asked["finished_at"]) == (None, None, None)
    read = serve.http.get(answer.headers["location"], params={"wait": 60})
    assert (read.status_code, read.json()["status"]) == (200, "succeeded")


def test_what_is_not_there_or_not_ready_is_refused(
    serve: Serve, neighbour: Api, trained: str, penguins: str, start_long: Any
) -> None:
    problem(ask(serve, trained, {"dataset_id": RANDOM["dataset"]}), 404, "not_found")
    problem(ask(serve, start_long()["id"], {"dataset_id": penguins}), 409, "job_not_finished")
    assert pointers(ask(serve, trained, {})) == {"/dataset_id": "missing_field"}
    assert pointers(ask(serve, trained, {"dataset_id": penguins, "format": "xlsx"})) == {"/format": "literal_error"}
    theirs, random = (ask(neighbour, job_id, {"dataset_id": penguins}) for job_id in (trained, RANDOM["job"]))
    assert masked(theirs) == masked(random)


def test_another_projects_predictions_are_as_none(serve: Serve, neighbour: Api, trained: str, penguins: str) -> None:
    found = made(serve, trained, penguins)

    for path in ("", "/content"):
        theirs = neighbour.http.get(f"/v1/predictions/{found['id']}{path}")
        assert masked(theirs) == masked(neighbour.http.get(f"/v1/predictions/{RANDOM['trace']}{path}"))
