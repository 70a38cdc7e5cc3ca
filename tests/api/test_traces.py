"""Traces over HTTP: one update of a job's network, made by a worker and answered as JSON."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from safetensors.numpy import load

from tests.api.asking import RANDOM, TABLE, masked, pointers, post_table, problem
from tests.api.conftest import SHORT
from tests.api.test_hostile_json import MALFORMED
from tests.conftest import PENGUINS
from tests.running import Api, Serve, wait_until

Start = Callable[..., dict[str, Any]]
STEPS = ["forward", "logits", "predictions", "loss", "backward", "update"]


def ask(api: Api, job_id: str, /, wait: float | None = 60, **body: Any) -> httpx2.Response:
    return api.http.post(f"/v1/jobs/{job_id}/trace", json=body, params={} if wait is None else {"wait": wait})


def traced(api: Api, job_id: str, /, **body: Any) -> dict[str, Any]:
    """The trace, which was made."""
    answer = ask(api, job_id, **body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "succeeded", answer.text
    return dict(answer.json()["trace"])


# --- an answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"{}"])
def test_a_finished_job_is_traced_from_the_weights_it_kept(serve: Serve, trained: str, body: bytes | None) -> None:
    answer = serve.http.post(f"/v1/jobs/{trained}/trace", content=body)

    found = answer.json()
    kept = load(serve.artifact(trained, "weights.safetensors"))
    assert answer.status_code == 201
    assert answer.headers["location"] == found["links"]["self"] == f"/v1/traces/{found['id']}"
    assert "retry-after" not in answer.headers
    assert (found["job_id"], found["status"], found["error"]) == (trained, "succeeded", None)
    assert found["links"]["job"] == f"/v1/jobs/{trained}"
    assert found["finished_at"] >= found["created_at"]
    assert [*found["trace"]] == ["epoch", "step", "rows", "inputs", "target", *STEPS]
    assert len(found["trace"]["rows"]) == 4
    assert {name for name, _ in found["trace"]["update"]["parameters"].items()} == set(kept)
    for name, moved in found["trace"]["update"]["parameters"].items():
        assert np.array_equal(np.array(moved["before"], np.float32), kept[name]), name
        assert moved["after"] != moved["before"]


def test_a_job_links_to_its_trace(serve: Serve, trained: str) -> None:
    link = serve.job(trained)["links"]["trace"]

    assert serve.http.post(link, params={"wait": 60}).status_code == 201


def test_the_initial_weights_are_those_the_training_began_with(serve: Serve, penguins: str) -> None:
    spec = {**SHORT, "trace": {"epochs": [1], "rows": 3}}
    job = serve.finished(serve.submit(penguins, spec)["id"])

    trace = traced(serve, job["id"], rows=3, weights="initial")

    assert json.loads(serve.artifact(job["id"], "trace.json")) == [trace]
    assert trace["update"]["learning_rate"] == job["resolved_spec"]["training"]["optimizer"]["learning_rate"]


def test_a_trace_leaves_the_job_as_it_was(serve: Serve, trained: str) -> None:
    before = (serve.job(trained), serve.events(trained))

    traced(serve, trained)

    assert (serve.job(trained), serve.events(trained)) == before


def test_a_job_that_trains_is_traced_from_its_initial_weights(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]

    trace = traced(serve, job_id, weights="initial")

    assert trace["step"] == 1


def test_without_waiting_the_answer_comes_later(serve: Serve, trained: str) -> None:
    answer = ask(serve, trained, wait=0)

    asked = answer.json()
    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["location"] == f"/v1/traces/{asked['id']}"
    assert asked["status"] in ("queued", "running")
    assert (asked["trace"], asked["finished_at"]) == (None, None)
    read = serve.http.get(answer.headers["location"], params={"wait": 60})
    assert (read.status_code, read.json()["status"]) == (200, "succeeded")
    assert read.json()["trace"]["step"] == 1
    assert serve.http.get(answer.headers["location"]).content == read.content


# --- no answer ----------------------------------------------------------------------------------------------------


def test_409_where_there_are_no_weights_yet(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]

    found = problem(ask(serve, job_id), 409, "no_weights")

    assert "initial" in found["detail"]
    assert found["job_status"] in ("queued", "running")


def test_409_where_nothing_was_kept(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]
    serve.http.post(f"/v1/jobs/{job_id}/cancel", json={"keep": "none"})
    serve.finished(job_id)

    found = problem(ask(serve, job_id), 409, "no_weights")

    assert found["job_status"] == "cancelled"


def test_409_where_the_dataset_was_deleted(serve: Serve) -> None:
    dataset = post_table(serve, TABLE).json()["id"]
    job_id = serve.finished(serve.submit(dataset, {"target": "y", "training": {"epochs": 1}})["id"])["id"]
    assert serve.http.delete(f"/v1/datasets/{dataset}").status_code == 204

    problem(ask(serve, job_id), 409, "dataset_deleted")


def test_422_for_a_network_with_too_many_numbers(serve: Serve, penguins: str) -> None:
    spec = {"target": "species", "network": {"hidden": [1000, 1000]}, "training": {"epochs": 1}}
    job_id = serve.submit(penguins, spec)["id"]

    found = problem(ask(serve, job_id, weights="initial"), 422, "trace_too_large")
    refused = serve.http.post("/v1/jobs", json={"dataset_id": penguins, "spec": {**spec, "trace": {}}})

    assert found["numbers"] > found["limit"]
    assert problem(refused, 422, "trace_too_large")["limit"] == found["limit"]
    serve.http.post(f"/v1/jobs/{job_id}/cancel", json={"force": True})


def test_another_projects_job_and_trace_answer_as_random_ids_do(serve: Serve, neighbour: Api, trained: str) -> None:
    trace_id = ask(serve, trained).json()["id"]

    assert masked(ask(neighbour, trained)) == masked(ask(neighbour, RANDOM["job"]))
    theirs, nobodys = (neighbour.http.get(f"/v1/traces/{one}") for one in (trace_id, RANDOM["trace"]))
    assert masked(theirs) == masked(nobodys)
    problem(theirs, 404, "not_found")
    problem(serve.http.get(f"/v1/traces/{trained}"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"rows": 0}, "/rows"),
        ({"rows": 33}, "/rows"),
        ({"rows": 1.5}, "/rows"),
        ({"rows": "4"}, "/rows"),
        ({"rows": True}, "/rows"),
        ({"rows": None}, "/rows"),
        ({"rows": 10**18}, "/rows"),
        ({"weights": "best"}, "/weights"),
        ({"weights": None}, "/weights"),
        ({"row": 4}, "/row"),
    ],
)
def test_a_body_that_asks_for_something_else_is_refused(serve: Serve, trained: str, body: Any, where: str) -> None:
    answer = serve.http.post(f"/v1/jobs/{trained}/trace", json=body)

    assert [*pointers(answer)] == [where]


@pytest.mark.parametrize("body", [[], "rows", 4, None])
def test_a_body_that_is_no_object_is_refused(serve: Serve, trained: str, body: Any) -> None:
    problem(serve.http.post(f"/v1/jobs/{trained}/trace", content=json.dumps(body)), 422, "invalid_spec")


@pytest.mark.parametrize("name", [name for name in MALFORMED if name != "empty"])
def test_what_is_no_json_is_400(serve: Serve, trained: str, name: str) -> None:
    problem(serve.http.post(f"/v1/jobs/{trained}/trace", content=MALFORMED[name]), 400, "malformed_json")


def test_a_body_of_another_type_is_415(serve: Serve, trained: str) -> None:
    headers = {"Content-Type": "text/csv"}

    answer = serve.http.post(f"/v1/jobs/{trained}/trace", content=b"rows\n4\n", headers=headers)

    problem(answer, 415, "unsupported_media_type")


def test_a_row_that_cannot_pass_alone_is_refused(serve: Serve, penguins: str) -> None:
    layers = [{"type": "dense", "units": 3}, {"type": "batch_norm"}]
    spec = {"target": "species", "network": {"layers": layers}, "training": {"epochs": 1}}
    job_id = serve.finished(serve.submit(penguins, spec)["id"])["id"]

    problem(ask(serve, job_id, rows=1), 422, "data_invalid")

    assert len(traced(serve, job_id, rows=2)["logits"]) == 2


# --- what may happen meanwhile --------------------------------------------------------------------------------------


def test_a_trace_that_was_asked_for_outlives_the_worker(own_serve: Serve) -> None:
    spec = json.dumps({"target": "species", "training": {"epochs": 1}})
    files = {"file": (PENGUINS.name, PENGUINS.read_bytes())}
    submitted = own_serve.http.post("/v1/jobs", files=files, data={"spec": spec})
    job_id = own_serve.finished(submitted.json()["id"])["id"]
    worker = own_serve.child("worker")
    worker.suspend()
    path = ask(own_serve, job_id, wait=0).headers["location"]

    worker.kill()

    def look() -> dict[str, Any] | None:
        found = dict(own_serve.http.get(path).json())
        return found if found["finished_at"] else None

    assert wait_until(look, 90, "the answer")["status"] == "succeeded"  # type: ignore[index]
