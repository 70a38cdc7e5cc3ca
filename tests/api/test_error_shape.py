"""The body of every error, whatever was asked and whoever asked it.

An error is `application/problem+json` (RFC 9457):

- `type` ends in the code: `/errors/not_found`;
- `title` is the sentence of that code, `detail` the one of this case;
- `status` is the status of the answer;
- `code` is stable, lower_snake, and what a program should branch on;
- `request_id` is the `X-Request-Id` of the answer, and stands on the server's log lines;
- `errors`, where there are any, has one entry for each thing that is wrong: `pointer` (RFC 6901, into the body; or
  `/query/limit`), `code`, `message`, and `suggestion` where it is known what was meant;
- further members are the facts of that code (`dataset_id`, `limit_bytes`), and never take the place of one of these.

It shows no value of the input, no path of the server, no SQL and no stack.
"""

import pytest

from core import errors
from tests.api.asking import RANDOM, pointers, post_job, post_table, problem, raw
from tests.running import Serve


def test_every_problem_has_a_code_of_its_own_a_sentence_and_a_status() -> None:
    problems = errors.every_problem()

    codes = [one.code for one in problems]

    assert len(set(codes)) == len(codes)
    assert all(one.title().endswith(".") for one in problems)
    assert {one.status for one in problems} <= {400, 401, 403, 404, 405, 406, 409, 413, 415, 416, 422, 500, 503, 507}


def test_400_body_that_is_no_json(serve: Serve) -> None:
    answer = post_job(serve, "{")

    assert "line 1, column 2" in problem(answer, 400, "malformed_json")["detail"]


def test_401_without_a_key(serve: Serve) -> None:
    answer = serve.http.get("/v1/jobs", headers={"Authorization": ""})

    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_403_for_a_key_that_is_no_admins(neighbour: Serve) -> None:
    answer = neighbour.http.get("/metrics")

    problem(answer, 403, "insufficient_scope")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2/jobs",
        "/v1",
        "/v1/jobs/",
        "/v1/datasets/",
        "/v1/sweeps",
        "/v1/webhooks",
        "/v1/projects",
        "/v1/workers",
        "/v1/sweeps/x",
        f"/v1/jobs/{RANDOM['job']}/nothing",
        "/wp-login.php",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_404_for_what_is_not_there_or_not_there_yet(serve: Serve, method: str, path: str) -> None:
    answer = serve.http.request(method, path)

    problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    "name", ["nothing.js", "%2e%2e/main.py", "..%5cmain.py", "swagger-ui/%2e%2e/%2e%2e/main.py", ""]
)
def test_404_for_a_static_file_that_is_none(serve: Serve, name: str) -> None:
    answer = raw(serve, f"GET /static/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/datasets", "GET, POST"),
        ("PUT", f"/v1/datasets/{RANDOM['dataset']}", "DELETE, GET, PATCH"),
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("GET", f"/v1/jobs/{RANDOM['job']}/cancel", "POST"),
        ("POST", f"/v1/jobs/{RANDOM['job']}/weights", "GET, HEAD"),
        ("POST", "/static/swagger-ui/LICENSE", "GET, HEAD"),
        ("OPTIONS", "/v1/jobs", "GET, POST"),
    ],
)
def test_405_names_every_method_of_the_address(serve: Serve, method: str, path: str, allowed: str) -> None:
    answer = serve.http.request(method, path)

    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_406_for_a_media_type_that_events_do_not_have(serve: Serve, trained: str) -> None:
    answer = serve.http.get(f"/v1/jobs/{trained}/events", headers={"Accept": "application/xml"})

    problem(answer, 406, "not_acceptable")


def test_409_keeps_its_status_a_number(serve: Serve, trained: str) -> None:
    answer = serve.http.post(f"/v1/jobs/{trained}/cancel")

    problem(answer, 409, "job_already_terminal")


def test_413_for_json_beyond_its_cap_and_the_connection_closes(serve: Serve) -> None:
    answer = post_job(serve, b" " * (2 << 20))

    assert problem(answer, 413, "payload_too_large")["limit_bytes"] == 1 << 20
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "types",
    [
        ["multipart/form-data"],
        ["application/json", "multipart/form-data; boundary=x"],
        ["multipart/form-data; boundary=x", "application/json"],
    ],
)
def test_no_content_type_lifts_the_cap_of_a_route_that_holds_its_body_in_memory(
    serve: Serve, trained: str, types: list[str]
) -> None:
    headers = [("Content-Type", one) for one in types]

    answer = serve.http.post(f"/v1/jobs/{trained}/cancel", content=b" " * (2 << 20), headers=headers)

    problem(answer, 413, "payload_too_large")


@pytest.mark.parametrize("media_type", ["application/pdf", "application/x-www-form-urlencoded", "image/png", "csv", ""])
def test_415_says_how_a_table_is_sent(serve: Serve, media_type: str) -> None:
    answer = post_table(serve, b"x,y\n1,2\n", media_type)

    detail = problem(answer, 415, "unsupported_media_type")["detail"]
    assert "--data-binary @file.csv -H 'Content-Type: text/csv'" in detail
    assert "-F file=@file.csv" in detail


def test_415_for_a_job_that_is_neither_json_nor_a_form(serve: Serve) -> None:
    answer = post_job(serve, "target=species", **{"Content-Type": "application/x-www-form-urlencoded"})

    problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets"])
def test_415_for_a_compressed_body(serve: Serve, path: str) -> None:
    headers = {"Content-Type": "application/json" if path == "/v1/jobs" else "text/csv", "Content-Encoding": "gzip"}

    answer = serve.http.post(path, content=b"\x1f\x8b", headers=headers)

    problem(answer, 415, "unsupported_media_type")


def test_416_says_how_long_the_file_is(serve: Serve, trained: str) -> None:
    size = int(serve.http.head(f"/v1/jobs/{trained}/weights").headers["content-length"])

    answer = serve.http.get(f"/v1/jobs/{trained}/weights", headers={"Range": f"bytes={size}-"})

    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{size}"


def test_422_points_at_each_thing_that_is_wrong(serve: Serve, penguins: str) -> None:
    spec = {"target": "species", "training": {"epochs": -1, "batch_size": 0}, "task": "clustering"}

    answer = post_job(serve, {"dataset_id": penguins, "spec": spec})

    assert pointers(answer) == {
        "/spec/task": "literal_error",
        "/spec/training/batch_size": "greater_than_equal",
        "/spec/training/epochs": "greater_than_equal",
    }


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=201", "limit=1e99", f"limit={10**30}", "limit=x", "status=done", "page=x", "page=",
     "page=ds_0", "page=job_01m85aedgree8bzrywp47by84p'--", "page=%00", "dataset_id=x", "dataset_id=%00"],
)  # fmt: skip
def test_422_for_a_query_that_is_not_acceptable(serve: Serve, query: str) -> None:
    answer = serve.http.get(f"/v1/jobs?{query}")

    problem(answer, 422, "invalid_query")


def test_an_error_in_the_query_points_at_the_parameter(serve: Serve) -> None:
    answer = serve.http.get("/v1/jobs?limit=0")

    found = problem(answer, 422, "invalid_query")["errors"]
    assert [(one["pointer"], one["code"]) for one in found] == [("/query/limit", "greater_than_equal")]


def test_the_type_of_an_error_leads_to_its_explanation(serve: Serve) -> None:
    body = problem(serve.http.get("/v1/jobs/nothing"), 404, "not_found")

    page = serve.http.get(body["type"])

    assert page.status_code == 200
    assert "not_found (HTTP 404)" in page.text
    problem(serve.http.get("/errors/no_such_code"), 404, "not_found")


def test_a_field_one_level_too_high_is_shown_its_place(serve: Serve) -> None:
    answer = post_job(serve, {"dataset_id": RANDOM["dataset"], "spec": {"target": "y", "training": {"lr": 0.1}}})

    found = problem(answer, 422, "invalid_spec")["errors"]

    assert [(one["pointer"], one["suggestion"]) for one in found] == [("/spec/training/lr", "optimizer.learning_rate")]


def test_a_second_file_in_a_form_is_refused_by_name(serve: Serve) -> None:
    table = ("x.csv", b"a,y\n1,2\n", "text/csv")

    answer = serve.http.post("/v1/jobs", files={"file": table, "second": table}, data={"spec": '{"target": "y"}'})

    found = problem(answer, 422, "invalid_spec")["errors"]
    assert [(one["pointer"], one["code"]) for one in found] == [("/second", "unknown_field")]
