"""What every request gets: an id, a cap on its body, a log line, and a place in the histogram."""

import re
import time
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import REQUEST_SECONDS
from api.problems import render
from core import errors
from core.ids import new_id
from core.logs import logger
from core.settings import settings

QUIET = {"/healthz", "/readyz", "/metrics"}
FORM_OVERHEAD = 64 * 1024  # bytes that a form adds to its file


class Requests:
    """A plain ASGI middleware: Starlette's base class would buffer streams.

    It also answers what nobody expected: Starlette would do so outside of it, without an id and a log line.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                self._count(scope, status, time.monotonic() - started)
            await send(message)

        cap = _cap(scope, headers)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > cap:
            problem = errors.PayloadTooLarge(limit_bytes=cap, headers={"Connection": "close"})
            await render(problem, request_id)(scope, receive, answer)
            return
        try:
            await self._app(scope, _capped(receive, cap), answer)
        except Exception as error:
            if status:
                raise  # the answer has begun: all that can still be said is to cut it off
            logger().error("request_failed", exc_info=error)
            await render(errors.Internal(), request_id)(scope, receive, answer)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", "unknown")
        REQUEST_SECONDS.labels(scope["method"], path, str(status)).observe(seconds)
        if path not in QUIET:
            logger().info(
                "request_answered", method=scope["method"], route=path, status=status, seconds=round(seconds, 4)
            )


def _request_id(given: str) -> str:
    return given if re.fullmatch(r"[A-Za-z0-9_-]{8,64}", given) else new_id("req")


def _cap(scope: Scope, headers: Headers) -> int:
    """Only a route that streams its body takes more than fits in memory; rows to predict may be more than a spec."""
    is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
    if is_form and scope["path"] in ("/v1/datasets", "/v1/jobs"):
        return settings.max_upload_bytes + FORM_OVERHEAD
    if scope["path"].startswith(("/v1/jobs/", "/v1/predictors/")) and scope["path"].endswith("/predict"):
        return settings.max_predict_bytes
    return settings.max_upload_bytes if scope["path"] == "/v1/datasets" else settings.max_body_bytes


def _capped(receive: Receive, cap: int) -> Receive:
    """A body without a stated length is counted as it comes."""
    seen = 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > cap:
                raise errors.PayloadTooLarge(limit_bytes=cap, headers={"Connection": "close"})
        return message

    return counted
