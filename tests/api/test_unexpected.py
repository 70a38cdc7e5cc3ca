"""What nobody expected: a defect of ours is answered in the one shape too, and logged with the answer's id."""

import asyncio

import httpx2
from fastapi import FastAPI
from structlog.testing import capture_logs

from api import problems
from api.requests import Requests
from tests.api.asking import problem


def ask_a_defect() -> httpx2.Response:
    """Our middleware and our handlers around a route that fails."""
    app = FastAPI()
    problems.install(app)
    app.add_middleware(Requests)

    @app.get("/defect")
    def defect() -> None:
        raise RuntimeError("/secret/path SELECT * FROM keys")

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/defect", headers={"X-Request-Id": "given-by-the-client"})

    return asyncio.run(ask())


def test_a_defect_has_the_one_shape_and_says_nothing_of_the_inside() -> None:
    answer = ask_a_defect()

    problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "SELECT" not in answer.text


def test_a_defect_is_logged_with_its_cause_and_the_answers_id() -> None:
    with capture_logs() as lines:
        answer = ask_a_defect()

    failed = next(line for line in lines if line["event"] == "request_failed")
    assert isinstance(failed["exc_info"], RuntimeError)
    assert answer.headers["x-request-id"] == "given-by-the-client"
    assert {"event": "request_answered", "status": 500}.items() <= next(
        line for line in lines if line["event"] == "request_answered"
    ).items()
