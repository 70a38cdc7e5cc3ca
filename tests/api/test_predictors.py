"""Predictors over HTTP: a stable name, another job behind it from one request to the next, and back again."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.asking import RANDOM, masked, pointers, problem
from tests.api.conftest import SHORT
from tests.api.test_predict import ROW
from tests.running import Api, Serve


@pytest.fixture(scope="module")
def retrained(serve: Serve, penguins: str) -> str:
    """Another job of the same table, which predicts otherwise."""
    return str(serve.finished(serve.submit(penguins, {**SHORT, "training": {"epochs": 1}})["id"])["id"])


@pytest.fixture
def name(serve: Serve, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that is free, and free again afterwards."""
    found = f"species-{abs(hash(request.node.name)) % 10**9}"
    yield found
    serve.http.delete(f"/v1/predictors/{found}")


def put(api: Api, name: str, job_id: str) -> httpx2.Response:
    return api.http.put(f"/v1/predictors/{name}", json={"job_id": job_id})


def read(api: Api, name: str) -> dict[str, Any]:
    answer = api.http.get(f"/v1/predictors/{name}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_predictor_predicts_as_its_job_and_says_which(serve: Serve, trained: str, name: str) -> None:
    made = put(serve, name, trained)

    found = serve.http.post(f"/v1/predictors/{name}/predict", json={"rows": [ROW]})

    assert made.status_code == 201
    assert (made.json()["job_id"], made.json()["previous"], made.json()["version"]) == (trained, None, 1)
    assert found.status_code == 200, found.text
    of_job = serve.http.post(f"/v1/jobs/{trained}/predict", json={"rows": [ROW]}).json()
    assert found.json() == {"predictor": name, **of_job}
    assert found.json()["job_id"] == trained


def test_the_job_before_is_kept_and_a_rollback_goes_back(serve: Serve, trained: str, retrained: str, name: str) -> None:
    put(serve, name, trained)
    swapped = put(serve, name, retrained)

    back = serve.http.post(f"/v1/predictors/{name}/rollback")

    assert (swapped.status_code, swapped.json()["job_id"], swapped.json()["previous"]) == (200, retrained, trained)
    assert (back.status_code, back.json()["job_id"], back.json()["previous"]) == (200, trained, retrained)
    assert back.json()["version"] == 3
    assert read(serve, name) == back.json()


def test_pointing_at_the_same_job_again_changes_nothing(serve: Serve, trained: str, retrained: str, name: str) -> None:
    put(serve, name, retrained)
    before = put(serve, name, trained).json()

    again = put(serve, name, trained)

    assert again.json() == before
    assert before["previous"] == retrained


def test_without_a_job_before_there_is_no_way_back(serve: Serve, trained: str, name: str) -> None:
    put(serve, name, trained)

    problem(serve.http.post(f"/v1/predictors/{name}/rollback"), 409, "no_previous_job")


def test_predictors_are_listed_newest_first(serve: Serve, trained: str, name: str) -> None:
    for one in (name, f"{name}-2"):
        put(serve, one, trained)

    page = serve.http.get("/v1/predictors", params={"limit": 1})

    following = serve.http.get("/v1/predictors", params={"limit": 1, "page": page.json()["next_page"]})
    assert [one["name"] for one in (*page.json()["items"], *following.json()["items"])] == [f"{name}-2", name]
    serve.http.delete(f"/v1/predictors/{name}-2")


def test_a_deleted_predictor_is_gone_and_its_job_stays(serve: Serve, trained: str, name: str) -> None:
    put(serve, name, trained)

    gone = serve.http.delete(f"/v1/predictors/{name}")

    assert gone.status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rollback"), ("POST", "/predict")):
        problem(serve.http.request(method, f"/v1/predictors/{name}{path}", json={"rows": [ROW]}), 404, "not_found")
    assert serve.job(trained)["status"] == "succeeded"


def test_another_projects_predictor_is_as_none(serve: Serve, neighbour: Api, trained: str, name: str) -> None:
    put(serve, name, trained)

    theirs = neighbour.http.get(f"/v1/predictors/{name}")

    assert masked(theirs) == masked(neighbour.http.get("/v1/predictors/nobody-has-this"))
    assert neighbour.http.get("/v1/predictors").json()["items"] == []
    problem(put(neighbour, name, trained), 404, "not_found")
    assert read(serve, name)["job_id"] == trained


def test_what_cannot_answer_is_not_pointed_at(serve: Serve, start_long: Any, name: str) -> None:
    problem(put(serve, name, start_long()["id"]), 409, "job_not_finished")
    problem(put(serve, name, RANDOM["job"]), 404, "not_found")
    assert pointers(put(serve, name, "species")) == {"/job_id": "string_pattern_mismatch"}
    assert pointers(serve.http.put(f"/v1/predictors/{name}", json={"job": RANDOM["job"]})).keys() == {"/job", "/job_id"}
    problem(serve.http.get(f"/v1/predictors/{name}"), 404, "not_found")


@pytest.mark.parametrize("bad", ["-species", "spe%20cies", "x" * 129, "%C3%A9"])
def test_a_name_is_plain(serve: Serve, trained: str, bad: str) -> None:
    problem(put(serve, bad, trained), 422, "invalid_query")


def test_two_jobs_swapped_under_load_give_no_failed_and_no_mixed_answer(
    serve: Serve, trained: str, retrained: str, name: str
) -> None:
    put(serve, name, trained)
    rows = [ROW, ROW | {"bill_length_mm": 50}, ROW | {"body_mass_g": 5000}]
    expected = {}
    for job_id in (trained, retrained):
        answer = serve.http.post(f"/v1/jobs/{job_id}/predict", json={"rows": rows})
        expected[job_id] = answer.json()["predictions"]
    assert expected[trained] != expected[retrained]
    answers: list[httpx2.Response] = []
    over = threading.Event()

    def load() -> None:
        with httpx2.Client(base_url=serve.url, headers=serve.http.headers, timeout=60) as http:
            while not over.is_set():
                answers.append(http.post(f"/v1/predictors/{name}/predict", json={"rows": rows}))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for swap in range(30):
        if swap % 3 == 2:
            assert serve.http.post(f"/v1/predictors/{name}/rollback").status_code == 200
        else:
            assert put(serve, name, retrained if swap % 2 else trained).status_code == 200
    over.set()
    for thread in threads:
        thread.join()

    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json()["predictions"] == expected[answer.json()["job_id"]] for answer in answers)
    assert {answer.json()["job_id"] for answer in answers} == {trained, retrained}
