"""The event log of a job, live and replayed: Server-Sent Events, JSON lines, or pages. The same events on each.

SQL is what is read. For each job that is followed, one task a process reads what is new and encodes it once, whoever
and however many follow.
"""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from api.jobs import JobId, job_or_404
from api.keys import RECHECK_SECONDS, Caller, CurrentCaller, still_valid
from api.metrics import EVENT_READERS
from api.problems import responses
from api.waiting import MAX_WAIT, waker
from core import database, errors, events
from core.settings import settings
from core.tables import Event, Run

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["events"])

KEEP_ALIVE_SECONDS = 15.0
KEPT_FRAMES = 2000  # of a job that is followed; who is further behind reads SQL until it has caught up
PAGE = 1000
MAX_SEQ = 2**53 - 1
SSE: Final = "text/event-stream"
LINES: Final = "application/jsonl"
JSON: Final = "application/json"


@dataclass(frozen=True)
class Frame:
    """An event, encoded for both streams."""

    seq: int
    last: bool
    sse: bytes
    line: bytes

    @classmethod
    def of(cls, event: Event) -> "Frame":
        text = json.dumps(events.as_json(event), separators=(",", ":"), allow_nan=False)
        sse = f"id: {event.seq}\nevent: {event.type}\ndata: {text}\n\n"
        return cls(event.seq, event.type == "end", sse.encode(), text.encode() + b"\n")


class Tail:
    """The newest frames of one job, read by one task for all who follow it."""

    def __init__(self, job_id: str, run_id: str, after: int) -> None:
        self.job_id, self.run_id = job_id, run_id
        self.start, self.frames = after, deque[Frame](maxlen=KEPT_FRAMES)
        self.readers = 0
        self.changed = asyncio.Event()
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        wake = waker.enter(self.job_id)
        try:
            while not waker.closing.is_set():
                last = self.frames[-1].seq if self.frames else self.start
                new = await run_in_threadpool(read_frames, self.run_id, last)
                for frame in new:
                    self.frames.append(frame)
                if new:
                    self._tell()
                if new and new[-1].last:
                    return
                if len(new) < PAGE:
                    await waker.wait(wake, KEEP_ALIVE_SECONDS)
        finally:
            waker.leave(self.job_id, wake)
            self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def since(self, seq: int) -> list[Frame] | None:
        """The frames after number `seq`, or None where they are no longer kept here."""
        oldest = self.frames[0].seq if self.frames else self.start + 1
        if seq + 1 < oldest:
            return None
        newest = self.frames[-1].seq if self.frames else self.start
        behind = newest - seq
        return [self.frames[place] for place in range(-behind, 0)] if behind > 0 else []


_tails: dict[str, Tail] = {}


def followers() -> int:
    return sum(tail.readers for tail in _tails.values())


EVENT_READERS.set_function(followers)


def read_frames(run_id: str, after: int) -> list[Frame]:
    with database.reading() as session:
        return [Frame.of(event) for event in events.after(session, run_id, after, PAGE)]


async def follow(job_id: str, run_id: str, after: int, key_id: str) -> AsyncIterator[list[Frame]]:
    """The frames after number `after` to the end, as they come; an empty list is a sign of life.

    Ends early when the process does, and when the key is revoked.
    """
    tail = _tails.get(job_id)
    if tail is None or tail.task.done():
        tail = _tails[job_id] = Tail(job_id, run_id, after)
    tail.readers += 1
    said_at = time.monotonic()
    try:
        while await still_valid(key_id):
            changed = tail.changed
            new = tail.since(after)
            if new is None:
                new = await run_in_threadpool(read_frames, run_id, after)
            if new:
                yield new
                after, said_at = new[-1].seq, time.monotonic()
                if new[-1].last:
                    return
                continue
            if waker.closing.is_set():
                return
            if tail.task.done():
                tail.task.result()  # what ended it, where that was an error: the reader comes again by Last-Event-ID
                return
            try:
                async with asyncio.timeout(RECHECK_SECONDS):
                    await changed.wait()
            except TimeoutError:
                if time.monotonic() - said_at >= KEEP_ALIVE_SECONDS:
                    yield []
                    said_at = time.monotonic()
    finally:
        tail.readers -= 1
        if not tail.readers:
            tail.task.cancel()
            if _tails.get(job_id) is tail:
                del _tails[job_id]


# --- the route --------------------------------------------------------------------------------------------------------


class EventRead(BaseModel):
    seq: int = Field(description="1, 2, 3, ... without a gap.")
    type: events.EventType
    at: str
    attempt: int
    data: dict[str, Any]


class EventPage(BaseModel):
    items: list[EventRead]
    next_page: int | None = Field(description="The `after` of the next page; null once the end was delivered.")


@router.get(
    "/events",
    response_model=EventPage,
    responses={
        200: {
            "content": {
                SSE: {"itemSchema": {"$ref": "#/components/schemas/EventRead"}},
                LINES: {"itemSchema": {"$ref": "#/components/schemas/EventRead"}},
            }
        },
        204: {"description": "A stream from the end of a finished job: there is nothing more to come."},
        **responses(
            errors.InvalidLastEventId,
            errors.Unauthenticated,
            errors.NotFound,
            errors.NotAcceptable,
            errors.InvalidQuery,
            errors.Unavailable,
        ),
    },
)
async def read_events(
    job_id: JobId,
    request: Request,
    caller: CurrentCaller,
    after: Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="Only events after this number.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE, description="Events a page.")] = 100,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait where the page is empty.")] = 0,
    last_event_id: Annotated[str | None, Header(description="Goes on after this number (SSE).")] = None,
) -> Response:
    """Everything that happens to the job: by `Accept`, Server-Sent Events, JSON lines, or pages of JSON.

    Streams replay from the first event (or after `Last-Event-ID`), go on live, and close after `end`.
    """
    form = _form(",".join(request.headers.getlist("accept")))
    run_id, newest, finished = await run_in_threadpool(_locate, caller, job_id)
    if last_event_id is not None:
        after = _number(last_event_id, newest)
    elif after is not None and after > newest:
        raise errors.InvalidQuery("`after` must be the number of an event of this job.")
    after = after or 0
    if finished and after == newest and form != JSON:
        return Response(status_code=204)
    if form == JSON:
        return await _page(job_id, run_id, after, limit, 0.0 if finished else wait)
    if followers() >= settings.max_event_readers:
        raise errors.Unavailable("Too many event streams are open; try again.")
    frames = follow(job_id, run_id, after, caller.key_id)
    stream = _sse(frames) if form == SSE else _lines(frames)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type=form, headers=headers)


def _form(accept: str) -> Literal["text/event-stream", "application/jsonl", "application/json"]:
    for media_type in _by_weight(accept):
        if media_type in (SSE, "text/*"):
            return SSE
        if media_type in (LINES, "application/x-ndjson"):
            return LINES
        if media_type in (JSON, "application/*", "*/*"):
            return JSON
    raise errors.NotAcceptable()


def _by_weight(accept: str) -> list[str]:
    """The media types that a client accepts, best first (RFC 9110, 12.5.1)."""
    weighed: list[tuple[float, str]] = []
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        weights = [float(word[2:]) for word in parameters if re.fullmatch(r"q=[01](\.\d{0,3})?", word)]
        weighed.append((weights[0] if weights else 1.0, media_type))
    return [media_type for weight, media_type in sorted(weighed, key=lambda pair: -pair[0]) if weight]


def _locate(caller: Caller, job_id: str) -> tuple[str, int, bool]:
    """The run, the number of its newest event, and whether that is the end."""
    with database.reading() as session:
        job_or_404(session, caller, job_id)
        run = session.execute(
            select(Run.id, Run.next_seq, Run.status).where(Run.subject_id == job_id, Run.kind == "training")
        ).one()
    return run.id, run.next_seq - 1, run.status == "ended"


def _number(text: str, newest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > newest:
        raise errors.InvalidLastEventId()
    return int(text)


async def _page(job_id: str, run_id: str, after: int, limit: int, wait: float) -> JSONResponse:
    def look() -> list[dict[str, Any]]:
        with database.reading() as session:
            return [events.as_json(event) for event in events.after(session, run_id, after, limit)]

    found = await waker.until(job_id, wait, lambda: run_in_threadpool(look), bool)
    newest = found[-1]["seq"] if found else after
    ended = found[-1]["type"] == "end" if found else await run_in_threadpool(_is_end, run_id, after)
    return JSONResponse({"items": found, "next_page": None if ended else newest})


def _is_end(run_id: str, seq: int) -> bool:
    with database.reading() as session:
        kind = session.scalar(select(Event.type).where(Event.run_id == run_id, Event.seq == seq))
        return kind == "end"


async def _sse(batches: AsyncIterator[list[Frame]]) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    async for frames in batches:
        yield b"".join(frame.sse for frame in frames) or b": keep-alive\n\n"
    if waker.closing.is_set():
        yield b": the server is restarting, come again\n\n"


async def _lines(batches: AsyncIterator[list[Frame]]) -> AsyncIterator[bytes]:
    async for frames in batches:
        if frames:
            yield b"".join(frame.line for frame in frames)
