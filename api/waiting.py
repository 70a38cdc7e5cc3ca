"""Waiting without a thread or a connection: one reader of wake-ups a process, and whoever waits for a row.

A wake-up is a hint. While Redis is away, those who wait look at SQL twice a second instead; nothing is missed.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import redis.asyncio
from fastapi import Header, Query, Response
from redis.exceptions import RedisError

from core.queue import WAKE_CHANNEL
from core.settings import settings

POLL_SECONDS, POLL_SECONDS_ALONE = 5.0, 0.5  # between two looks, with Redis and without
MAX_WAIT = 60.0

Found = TypeVar("Found")


class Waker:
    """Fans wake-ups out to those who wait for a subject (a job or a dataset)."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listening = False
        self.closing = asyncio.Event()

    async def listen(self) -> None:
        """Runs as long as the process does, through any outage of the broker."""
        client = redis.asyncio.Redis.from_url(settings.broker_url, socket_timeout=None, socket_connect_timeout=2)
        while True:
            try:
                async with client.pubsub() as channel:
                    await channel.subscribe(WAKE_CHANNEL)
                    self._listening = True
                    self._wake_all()  # something may have happened before we heard again
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._wake(message["data"].decode())
            except (RedisError, OSError):
                self._listening = False
                await asyncio.sleep(0.5)

    def _wake(self, subject_id: str) -> None:
        for event in self._waiting.get(subject_id, ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    def close(self) -> None:
        """Lets everybody go who waits: the process ends."""
        self.closing.set()
        self._wake_all()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until a wake-up, the next look, or so many seconds."""
        poll = POLL_SECONDS if self._listening else POLL_SECONDS_ALONE
        try:
            async with asyncio.timeout(min(poll, seconds)):
                await event.wait()
        except TimeoutError:
            return
        finally:
            event.clear()

    def enter(self, subject_id: str) -> asyncio.Event:
        event = asyncio.Event()
        self._waiting[subject_id].add(event)
        return event

    def leave(self, subject_id: str, event: asyncio.Event) -> None:
        self._waiting[subject_id].discard(event)
        if not self._waiting[subject_id]:
            del self._waiting[subject_id]

    async def until(
        self, subject_id: str, seconds: float, look: Callable[[], Awaitable[Found]], enough: Callable[[Found], bool]
    ) -> Found:
        """Looks until it is enough or the time is over; returns what was seen last."""
        event = self.enter(subject_id)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            while True:
                found = await look()
                left = deadline - asyncio.get_running_loop().time()
                if enough(found) or left <= 0 or self.closing.is_set():
                    return found
                await self.wait(event, left)
        finally:
            self.leave(subject_id, event)


def wait_seconds(
    response: Response,
    wait: Annotated[
        float | None, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for the end; 60 at most.")
    ] = None,
    prefer: Annotated[str | None, Header(description="`wait=30` is the same as `?wait=30` (RFC 7240).")] = None,
) -> float | None:
    if wait is None and prefer and (found := re.search(r"(?:^|[,;\s])wait=(\d{1,5})\b", prefer, re.ASCII)):
        wait = min(float(found[1]), MAX_WAIT)
        response.headers["Preference-Applied"] = f"wait={wait:.0f}"
    return wait


waker = Waker()
