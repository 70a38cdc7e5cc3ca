"""Asking like a client that knows nothing of the server: every error has one shape, and an id in it to be masked."""

import json
import re
import socket
from typing import Any

import httpx2

from tests.running import Serve

TABLE = b"x,y\n" + b"".join(b"%d,%s\n" % (number, b"yes" if number % 3 else b"no") for number in range(60))
REQUEST_ID = re.compile(rb"req_[0-9a-z]{26}")
RANDOM = {
    "dataset": "ds_01m85aed7remsr4cmx2hj3ac69",
    "job": "job_01m85aedgree8bzrywp47by84p",
    "trace": "inq_01m85aedgree8bzrywp47by84p",
    "plan": "inq_01m85aedgree8bzrywp47by84q",
}  # nobody has these


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error, after its whole shape was compared with what `test_error_shape` says."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert body["code"] == code, body
    assert body["type"] == f"/errors/{code}"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{8,64}", body["request_id"])
    for text in ("title", "detail"):
        assert isinstance(body[text], str)
        assert len(body[text]) > 10
    for one in body.get("errors", []):
        assert set(one) <= {"pointer", "code", "message", "suggestion"}, one
        assert all(isinstance(one[name], str) for name in one)
        assert re.fullmatch(r"(/[^/]*)*", one["pointer"]), one
        assert re.fullmatch(r"[a-z0-9_]+", one["code"]), one
        assert one["message"]
    return body


def masked(answer: httpx2.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Everything of an answer that may tell one error from another."""
    headers = [pair for pair in answer.headers.multi_items() if pair[0] not in ("date", "x-request-id")]
    return answer.status_code, REQUEST_ID.sub(b"req_", answer.content), sorted(headers)


def pointers(answer: httpx2.Response) -> dict[str, str]:
    """What an `invalid_spec` finds: the pointer and the code of each error."""
    return {one["pointer"]: one["code"] for one in problem(answer, 422, "invalid_spec")["errors"]}


def post_job(serve: Serve, body: bytes | str | dict[str, Any], **headers: str) -> httpx2.Response:
    content = json.dumps(body) if isinstance(body, dict) else body
    return serve.http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json", **headers})


def post_table(serve: Serve, table: bytes, media_type: str = "text/csv", **parameters: Any) -> httpx2.Response:
    """Waits for longer than the default, unless told: the machine may be busy."""
    asked = {"wait": "60", **parameters}
    return serve.http.post("/v1/datasets", content=table, headers={"Content-Type": media_type}, params=asked)


def raw(serve: Serve, request: bytes, seconds: float = 10) -> bytes:
    """What comes back for exactly these bytes, until the server closes or has been silent for so long."""
    host, port = serve.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), seconds) as connection:
        connection.sendall(request)
        found = b""
        try:
            while piece := connection.recv(65_536):
                found += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return found
