"""Bytes that no honest client sends: refused before any route, and never two answers for one request."""

import pytest

from tests.api.asking import raw
from tests.running import Serve

POST = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HIDDEN = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_text",
    [
        POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + HIDDEN,
        POST + "Content-Length: -1\r\n\r\n" + HIDDEN,
        POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" + HIDDEN,
        POST + "X: a\rb\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
        "GET /healthz HTTP/1.1\nHost: x\n\n" + HIDDEN,
        "GET /" + "x" * 200_000 + " HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
        "\x16\x03\x01\x02\x00\x01",
    ],
)
def test_a_request_that_two_readers_would_read_differently_is_refused(serve: Serve, request_text: str) -> None:
    answer = raw(serve, request_text.encode("latin-1"), seconds=3)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b'"spec_versions"' not in answer


def test_a_path_with_a_line_break_in_it_is_no_second_line(serve: Serve) -> None:
    answer = raw(serve, b"GET /healthz%0d%0aX-Injected:%20yes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"injected" not in answer.lower()
