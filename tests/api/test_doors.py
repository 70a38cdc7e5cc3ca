"""Who may come in: nobody without a key, and nobody to what is another project's."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.asking import RANDOM, TABLE, masked, post_table, problem, raw
from tests.api.conftest import new_key
from tests.running import Api, Serve, clean_environment, wait_until

OPEN = {"/healthz", "/readyz", "/version"}


def test_every_method_of_every_path_asks_for_a_key(serve: Serve) -> None:
    paths = serve.http.get("/openapi.json").json()["paths"]
    walked = [
        (method.upper(), re.sub(r"\{\w+\}", RANDOM["job"], path))
        for path, methods in paths.items()
        for method in methods
        if path not in OPEN
    ]

    answers = {walk: serve.http.request(*walk, headers={"Authorization": ""}) for walk in walked}

    assert len(walked) >= 15
    for answer in answers.values():
        problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/version", "/docs", "/openapi.json", "/openapi-3.1.json", "/v1/schemas/spec.json"],
)
def test_what_says_nothing_of_any_project_is_open(serve: Serve, path: str) -> None:
    answer = serve.http.get(path, headers={"Authorization": ""})

    assert answer.status_code == 200


WRONG = {
    "none": [],
    "empty": [b"Authorization: "],
    "scheme alone": [b"Authorization: Bearer"],
    "another scheme": [b"Authorization: Basic dXNlcjpwYXNz"],
    "wrong key": [b"Authorization: Bearer bp_live_000000000000000000000000000000000000"],
    "short": [b"Authorization: Bearer x"],
    "long": [b"Authorization: Bearer " + b"x" * 50_000],
    "latin": [b"Authorization: Bearer \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"],
    "quotes": [b"Authorization: Bearer ' OR 1=1 --      "],
    "in the query": [],
}


@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_key_gets_the_same_bytes(serve: Serve, name: str) -> None:
    def ask(lines: list[bytes], query: bytes = b"") -> bytes:
        head = b"\r\n".join([b"GET /v1/jobs" + query + b" HTTP/1.1", b"Host: x", b"Connection: close", *lines])
        return re.sub(rb"req_\w+|date: [^\r]*", b"", raw(serve, head + b"\r\n\r\n"))

    answer = ask(WRONG[name], b"?api_key=" + serve.key.encode() if name == "in the query" else b"")

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer == ask([])


def test_two_keys_are_none(serve: Serve) -> None:
    key = f"Bearer {serve.key}"
    twice = [("Authorization", key), ("Authorization", key)]

    answer = serve.http.get("/v1/jobs", headers=twice)

    assert masked(answer) == masked(serve.http.get("/v1/jobs", headers={"Authorization": ""}))


def revoke_keys(serve: Serve, project: str) -> None:
    environment = clean_environment(BACKPROPD_DATABASE_URL=f"sqlite:///{serve.data_dir / 'backpropd.sqlite3'}")
    command = [sys.executable, "-m", "standalone.command", "keys"]
    listed = subprocess.run([*command, "list", "--json"], env=environment, capture_output=True, check=True).stdout
    for key in json.loads(listed):
        if key["project"] == project:
            subprocess.run([*command, "revoke", key["id"]], env=environment, check=True)


def test_a_revoked_key_is_dead_its_open_streams_included(serve: Serve) -> None:
    api = Api()
    api.connect(serve.url, new_key(serve, "revoked"))
    dataset_id = post_table(api, TABLE).json()["id"]
    job = api.submit(dataset_id, {"target": "y", "network": {"hidden": [2]}, "training": {"epochs": 100_000}})
    with ThreadPoolExecutor(1) as reader:
        seen = reader.submit(lambda: (list(api.sse(job["id"])), time.monotonic()))

        revoke_keys(serve, "revoked")
        revoked_at = time.monotonic()
        frames, ended_at = seen.result(60)

    assert frames
    assert b"event: end" not in frames[-1]
    assert ended_at - revoked_at < 5
    wait_until(
        lambda: api.http.get(f"/v1/jobs/{job['id']}").status_code == 401, revoked_at + 5 - time.monotonic(), "a refusal"
    )
    problem(api.http.get(f"/v1/jobs/{job['id']}"), 401, "unauthenticated")
    api.http.close()
    api.connect(serve.url, new_key(serve, "revoked"))
    assert api.job(job["id"])["status"] == "running"
    api.http.post(f"/v1/jobs/{job['id']}/cancel", json={"force": True})
    api.http.close()


DATASET_DOORS = [("GET", ""), ("GET", "/rows"), ("GET", "/content"), ("HEAD", "/content"), ("DELETE", "")]
JOB_DOORS = [
    ("GET", ""),
    ("GET", "?wait=1"),
    ("GET", "/events"),
    ("GET", "/artifacts"),
    ("GET", "/artifacts/weights.safetensors"),
    ("GET", "/weights"),
    ("HEAD", "/weights"),
    ("POST", "/cancel"),
    ("POST", "/clone"),
    ("POST", "/trace"),
]


@pytest.mark.parametrize(("method", "rest"), DATASET_DOORS)
def test_another_projects_dataset_answers_as_a_random_id_does(
    neighbour: Api, penguins: str, method: str, rest: str
) -> None:
    theirs = neighbour.http.request(method, f"/v1/datasets/{penguins}{rest}")
    nobodys = neighbour.http.request(method, f"/v1/datasets/{RANDOM['dataset']}{rest}")

    assert theirs.status_code == 404
    assert masked(theirs) == masked(nobodys)


@pytest.mark.parametrize(("method", "rest"), JOB_DOORS)
def test_another_projects_job_answers_as_a_random_id_does(neighbour: Api, trained: str, method: str, rest: str) -> None:
    theirs = neighbour.http.request(method, f"/v1/jobs/{trained}{rest}")
    nobodys = neighbour.http.request(method, f"/v1/jobs/{RANDOM['job']}{rest}")

    assert theirs.status_code == 404
    assert masked(theirs) == masked(nobodys)


def test_another_projects_running_job_cannot_be_cancelled(
    serve: Serve, neighbour: Api, start_long: Callable[..., dict[str, Any]]
) -> None:
    job = start_long()

    answer = neighbour.http.post(f"/v1/jobs/{job['id']}/cancel", json={"force": True})

    problem(answer, 404, "not_found")
    assert serve.job(job["id"])["status"] in ("queued", "running")


def test_another_projects_dataset_cannot_be_trained_on(neighbour: Api, penguins: str) -> None:
    def ask(dataset_id: str) -> Any:
        return neighbour.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": {"target": "species"}})

    theirs, nobodys = ask(penguins), ask(RANDOM["dataset"])

    problem(theirs, 404, "not_found")
    assert masked(theirs) == masked(nobodys)


def test_lists_and_filters_hold_nothing_of_another_project(serve: Serve, trained: str, penguins: str) -> None:
    stranger = {"Authorization": f"Bearer {new_key(serve, 'stranger')}"}
    asked = ["/v1/datasets", "/v1/jobs", "/v1/jobs?metadata[made]=once", f"/v1/jobs?dataset_id={penguins}"]

    found = [serve.http.get(path, headers=stranger).json() for path in asked]

    assert found == [{"items": [], "next_page": None}] * len(asked)


@pytest.mark.parametrize("made_up", ["../../etc/passwd", "%00", "x" * 10_000, "%F0%9F%A7%A0", "%ff", "a%2fb", "'--",
                                     "job_01M85AEDGREE8BZRYWP47BY84P", "ds_", "%0a", "*", "null"])  # fmt: skip
@pytest.mark.parametrize("place", ["/v1/datasets/{}", "/v1/datasets/{}/rows", "/v1/jobs/{}", "/v1/jobs/{}/events",
                                   "/v1/jobs/" + RANDOM["job"] + "/artifacts/{}"])  # fmt: skip
def test_what_no_id_looks_like_is_not_found_on_either_database(anywhere: Serve, place: str, made_up: str) -> None:
    answer = anywhere.http.get(place.format(made_up))

    problem(answer, 404, "not_found")
