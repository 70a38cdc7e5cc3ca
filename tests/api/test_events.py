"""The event log over HTTP: pages, media types, many readers, and readers that go away."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.api.asking import problem
from tests.running import Serve, wait_until

Start = Callable[..., dict[str, Any]]


def page(serve: Serve, job_id: str, **parameters: Any) -> dict[str, Any]:
    answer = serve.http.get(f"/v1/jobs/{job_id}/events", params=parameters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def open_readers(serve: Serve) -> int:
    lines = serve.http.get("/metrics").text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("backpropd_event_readers "))))


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_pages_of_any_size_are_the_same_log(serve: Serve, trained: str, limit: int) -> None:
    found, after = [], 0
    while after is not None:
        one = page(serve, trained, after=after, limit=limit)
        assert len(one["items"]) <= limit
        found += one["items"]
        after = one["next_page"]

    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    assert found == serve.events(trained)
    assert found[-1]["type"] == "end"


def test_a_page_after_the_end_is_empty_and_the_last(serve: Serve, trained: str) -> None:
    last = serve.events(trained)[-1]["seq"]

    assert page(serve, trained, after=last, wait=30) == {"items": [], "next_page": None}


def test_a_page_of_a_job_under_way_says_where_to_go_on(serve: Serve, start_long: Start) -> None:
    job = start_long()

    first = page(serve, job["id"], limit=1)
    second = page(serve, job["id"], after=first["next_page"], wait=30)

    assert first["next_page"] == 1
    assert second["items"][0]["seq"] == 2


def test_a_page_waits_for_what_is_not_there_yet(serve: Serve, penguins: str) -> None:
    busy = serve.submit(penguins, {"target": "species", "training": {"epochs": 3}})
    seen = page(serve, busy["id"], limit=1000)["items"]
    started = time.monotonic()

    found = page(serve, busy["id"], after=len(seen), wait=30)

    assert found["items"]
    assert time.monotonic() - started < 25


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", f"after={2**63}", f"after={10**30}", "after=100000", "limit=0", "limit=1001",
              f"limit={10**30}", "wait=61", "wait=-1", "wait=nan", "wait=x"]
)  # fmt: skip
@pytest.mark.parametrize("media_type", ["application/json", "text/event-stream"])
def test_a_page_that_cannot_be_is_422(serve: Serve, trained: str, media_type: str, query: str) -> None:
    answer = serve.http.get(f"/v1/jobs/{trained}/events?{query}", headers={"Accept": media_type})

    problem(answer, 422, "invalid_query")


@pytest.mark.parametrize("last", ["-1", "x", "1.0", "٣", "1e3", "100000", "9" * 40, "1 OR 1"])
def test_a_last_event_id_that_cannot_be_is_400(serve: Serve, trained: str, last: str) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last.encode()}

    answer = serve.http.get(f"/v1/jobs/{trained}/events", headers=headers)  # type: ignore[arg-type]

    problem(answer, 400, "invalid_last_event_id")


@pytest.mark.parametrize("media_type", ["text/event-stream", "application/jsonl"])
def test_a_stream_from_the_end_of_a_finished_job_is_204(serve: Serve, trained: str, media_type: str) -> None:
    last = serve.events(trained)[-1]["seq"]

    answer = serve.http.get(f"/v1/jobs/{trained}/events?after={last}", headers={"Accept": media_type})

    assert answer.status_code == 204


# --- media types ------------------------------------------------------------------------------------------------------

JSON, LINES, SSE = "application/json", "application/jsonl", "text/event-stream"


@pytest.mark.parametrize(
    ("accept", "served"),
    [
        ("*/*", JSON),
        ("", JSON),
        ("application/*", JSON),
        ("application/json; charset=utf-8", JSON),
        ("text/event-stream", SSE),
        ("TEXT/EVENT-STREAM", SSE),
        ("text/event-stream, */*;q=0.1", SSE),
        ("*/*;q=0.1, text/event-stream", SSE),
        ("application/x-ndjson", LINES),
        ("application/json;q=0.5, application/jsonl", LINES),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", JSON),
        ("application/json;q=bad", JSON),
    ],
)
def test_the_media_type_that_is_liked_best_is_served(serve: Serve, trained: str, accept: str, served: str) -> None:
    answer = serve.http.get(f"/v1/jobs/{trained}/events", headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == served


@pytest.mark.parametrize("accept", ["text/html", "application/xml, image/*", "application/json;q=0", "x", ";;,,"])
def test_no_other_media_type_is_served(serve: Serve, trained: str, accept: str) -> None:
    answer = serve.http.get(f"/v1/jobs/{trained}/events", headers={"Accept": accept})

    problem(answer, 406, "not_acceptable")


def test_a_frame_has_the_number_and_the_type_of_its_event(serve: Serve, trained: str) -> None:
    frames = list(serve.sse(trained))

    for frame, event in zip(frames, serve.events(trained), strict=True):
        lines = frame.decode().split("\n")
        assert lines[:2] == [f"id: {event['seq']}", f"event: {event['type']}"]
        assert json.loads(lines[2].removeprefix("data: ")) == event


def test_a_stream_is_not_kept_by_anything_on_its_way(serve: Serve, trained: str) -> None:
    headers = serve.http.get(f"/v1/jobs/{trained}/events", headers={"Accept": SSE}).headers

    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"


# --- many readers -----------------------------------------------------------------------------------------------------


def test_two_hundred_readers_see_the_same_bytes(serve: Serve, penguins: str) -> None:
    job = serve.submit(penguins, {"target": "species", "network": {"hidden": [8]}, "training": {"epochs": 400}})
    path = f"/v1/jobs/{job['id']}/events"
    headers = {"Authorization": f"Bearer {serve.key}", "Accept": LINES}

    async def read(client: httpx2.AsyncClient) -> bytes:
        async with client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200
            return b"".join([piece async for piece in answer.aiter_bytes()])

    async def read_all() -> list[bytes]:
        limits = httpx2.Limits(max_connections=250)
        async with httpx2.AsyncClient(base_url=serve.url, timeout=httpx2.Timeout(90), limits=limits) as client:
            return await asyncio.gather(*(read(client) for _ in range(200)))

    found = asyncio.run(read_all())

    events = [json.loads(line) for line in found[0].splitlines()]
    assert events == serve.events(job["id"])
    assert set(found) == {found[0]}


def test_f26_readers_that_hang_up_leave_nothing_behind(serve: Serve, start_long: Start) -> None:
    wait_until(lambda: open_readers(serve) == 0, what="the end of others' streams")
    job = start_long()
    streams = [serve.sse(job["id"]) for _ in range(20)]
    for stream in streams:
        next(stream)
    most = open_readers(serve)

    for stream in streams:
        stream.close()  # type: ignore[attr-defined]

    assert most == 20
    wait_until(lambda: open_readers(serve) == 0, 20, what="no readers")


def test_f27_a_slow_reader_misses_nothing_and_delays_nobody(serve: Serve, penguins: str) -> None:
    job = serve.submit(penguins, {"target": "species", "network": {"hidden": [4]}, "training": {"epochs": 3000}})
    slow = serve.sse(job["id"])
    first = next(slow)
    ended = threading.Event()

    def follow() -> None:
        for _ in serve.sse(job["id"]):
            pass
        ended.set()

    quick = threading.Thread(target=follow)
    quick.start()
    quick.join(90)
    frames = [first, *slow]

    assert ended.is_set()
    assert [json.loads(frame.split(b"data: ")[1])["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert b'"type":"end"' in frames[-1]
