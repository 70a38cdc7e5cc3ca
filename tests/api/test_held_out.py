"""Validation and test datasets, over HTTP."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.asking import RANDOM, pointers, post_table, problem
from tests.api.conftest import SHORT
from tests.conftest import PENGUINS
from tests.running import Serve

LINES = PENGUINS.read_text().splitlines(keepends=True)
SOME = "".join([LINES[0], *LINES[1::7]]).encode()
HELD_OUT = ("validation_dataset_id", "test_dataset_id")


@pytest.fixture(scope="module")
def some(serve: Serve) -> str:
    """The id of a dataset of a few penguins."""
    return str(post_table(serve, SOME, wait=60).raise_for_status().json()["id"])


def _report(serve: Serve, job_id: str) -> dict[str, Any]:
    return dict(serve.http.get(f"/v1/jobs/{job_id}/artifacts/report.json").raise_for_status().json())


def test_a_job_measures_on_the_rows_of_other_datasets(serve: Serve, penguins: str, some: str) -> None:
    job = serve.finished(serve.submit(penguins, SHORT, validation_dataset_id=some, test_dataset_id=some)["id"])

    report = _report(serve, job["id"])
    assert (job["status"], job["best"]["metric"]) == ("succeeded", "valid_loss")
    assert [job[name] for name in HELD_OUT] == [some, some]
    assert report["rows"]["train"] == len(LINES) - 1
    assert report["validation"] == report["test"]
    assert job["test"] == report["test"]
    assert serve.events(job["id"])[-1]["data"]["test"] == report["test"]


def test_a_share_of_test_rows_stands_on_the_job_too(serve: Serve, penguins: str) -> None:
    spec = SHORT | {"split": {"test": 0.1}}

    job = serve.finished(serve.submit(penguins, spec)["id"])

    assert job["test"] == _report(serve, job["id"])["test"]
    assert job["test"]["rows"] == 34
    assert set(job["test"]) == {"rows", "loss", "accuracy"}


def test_a_form_brings_all_of_them(serve: Serve) -> None:
    files = {name: (f"{name}.csv", SOME) for name in ("validation_file", "test_file")}

    answer = serve.http.post(
        "/v1/jobs", data={"spec": json.dumps(SHORT)}, files={"file": ("all.csv", PENGUINS.read_bytes()), **files}
    )

    assert answer.status_code == 202, answer.text
    job = serve.finished(answer.json()["id"])
    assert job["status"] == "succeeded"
    assert job["test"]["rows"] == SOME.count(b"\n") - 1
    names = [serve.http.get(f"/v1/datasets/{job[name]}").json()["name"] for name in ("dataset_id", *HELD_OUT)]
    assert names == ["all.csv", "validation_file.csv", "test_file.csv"]


@pytest.mark.parametrize(
    ("data", "files", "pointer"),
    [
        ({"test_dataset_id": RANDOM["dataset"]}, {"test_file": SOME}, "/test_file"),
        ({"validation_file": "a text"}, {}, "/validation_file"),
        ({}, {"other_file": SOME}, "/other_file"),
    ],
)
def test_a_form_says_each_part_once(serve: Serve, data: dict[str, str], files: dict[str, bytes], pointer: str) -> None:
    sent = {name: (f"{name}.csv", content) for name, content in {"file": SOME, **files}.items()}

    answer = serve.http.post("/v1/jobs", data={"spec": json.dumps(SHORT), **data}, files=sent)

    assert list(pointers(answer)) == [pointer]


def test_a_clone_measures_on_the_same_rows_unless_told_otherwise(serve: Serve, penguins: str, some: str) -> None:
    parent = serve.submit(penguins, SHORT, validation_dataset_id=some)["id"]

    same = serve.http.post(f"/v1/jobs/{parent}/clone").json()
    other = serve.http.post(f"/v1/jobs/{parent}/clone", json={"validation_dataset_id": None, "test_dataset_id": some})

    assert [same[name] for name in HELD_OUT] == [some, None]
    assert [other.json()[name] for name in HELD_OUT] == [None, some]
    assert other.json()["resolved_spec"]["split"]["validation"] == 0.2


@pytest.mark.parametrize("field", HELD_OUT)
def test_the_rows_that_are_trained_on_do_not_measure(serve: Serve, penguins: str, field: str) -> None:
    answer = serve.http.post("/v1/jobs", json={"dataset_id": penguins, "spec": SHORT, field: penguins})

    assert pointers(answer) == {f"/{field}": "same_dataset"}


@pytest.mark.parametrize("field", HELD_OUT)
def test_one_that_is_not_there_is_not_found(serve: Serve, penguins: str, field: str) -> None:
    answer = serve.http.post("/v1/jobs", json={"dataset_id": penguins, "spec": SHORT, field: RANDOM["dataset"]})

    problem(answer, 404, "not_found")


def test_a_class_that_only_the_test_rows_have_is_refused(serve: Serve, penguins: str) -> None:
    strange = post_table(serve, SOME + LINES[1].replace("Adelie", "Emperor").encode(), wait=60).json()["id"]

    answer = serve.http.post("/v1/jobs", json={"dataset_id": penguins, "spec": SHORT, "test_dataset_id": strange})

    body = problem(answer, 422, "class_unknown")
    assert [one["pointer"] for one in body["errors"]] == ["/test_dataset_id"]
    assert (body["classes"], body["rows"]) == (1, 1)


def test_a_dataset_that_measures_is_in_use(serve: Serve, some: str, start_long: Callable[..., dict[str, Any]]) -> None:
    start_long(validation_dataset_id=some)

    problem(serve.http.delete(f"/v1/datasets/{some}"), 409, "dataset_in_use")
