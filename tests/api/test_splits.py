"""Splits by a column, over HTTP: the whole way from a table to the rows of each part."""

from typing import Any

import pytest

from tests.api.asking import post_table, problem
from tests.running import Serve

ROWS = 1200
SPEC = {"target": "y", "task": "regression", "network": {"hidden": [4]}, "training": {"epochs": 2}}
MINUTES = [f"2024-03-{1 + row // 60:02} 12:{row % 60:02}" for row in range(ROWS)]


@pytest.fixture(scope="module")
def visits(serve: Serve) -> str:
    """The id of a dataset whose rows have a moment, latest first, and a person of two rows each."""
    lines = [f"{MINUTES[row]},person {row // 2},{row % 13},{row * 0.01}" for row in reversed(range(ROWS))]
    answer = post_table(serve, "\n".join(["at,who,x,y", *lines]).encode(), wait=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _report(serve: Serve, dataset_id: str, split: dict[str, Any]) -> dict[str, Any]:
    job = serve.finished(serve.submit(dataset_id, SPEC | {"split": split})["id"])
    assert job["status"] == "succeeded", job["error"]

    found: dict[str, Any] = serve.http.get(f"/v1/jobs/{job['id']}/artifacts/report.json").json()
    return found | {"job": job["id"]}


def test_the_latest_rows_of_a_table_are_held_back(serve: Serve, visits: str) -> None:
    found = _report(serve, visits, {"method": "time", "by": "at", "validation": 0.25, "test": 0.1})

    assert found["rows"]["test"] == list(range(120))
    assert found["rows"]["validation"] == list(range(120, 420))


def test_no_person_of_a_table_is_in_two_parts(serve: Serve, visits: str) -> None:
    found = _report(serve, visits, {"method": "group", "by": "who", "validation": 0.25})

    held_back = set(found["rows"]["validation"])
    assert len(held_back) == 300
    assert all((row // 2 * 2 in held_back) == (row // 2 * 2 + 1 in held_back) for row in range(ROWS))


def test_an_update_of_such_a_job_is_traced(serve: Serve, visits: str) -> None:
    job_id = _report(serve, visits, {"method": "time", "by": "at"})["job"]

    answer = serve.http.post(f"/v1/jobs/{job_id}/trace", json={"rows": 2})

    assert answer.json()["trace"]["rows"] == [240, 241]


def test_what_cannot_split_is_refused_with_its_place(serve: Serve, visits: str) -> None:
    spec = SPEC | {"split": {"method": "column", "by": "who"}}

    body = problem(serve.http.post("/v1/jobs", json={"dataset_id": visits, "spec": spec}), 422, "split_column_invalid")

    assert [one["pointer"] for one in body["errors"]] == ["/spec/split/by"]
