"""The application: `uvicorn api.main:app`."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import (
    artifacts,
    clones,
    datasets,
    events,
    health,
    intake,
    jobs,
    metrics,
    pausing,
    plans,
    predict,
    predictions,
    predictors,
    problems,
    reference,
    specs,
    submissions,
    traces,
    transcripts,
)
from api.requests import Requests
from api.waiting import waker
from core import logs, storage


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    logs.configure()
    storage.storage()
    _end_streams_on(signal.SIGTERM, signal.SIGINT)
    listening = asyncio.create_task(waker.listen())
    yield
    waker.close()
    listening.cancel()


def _end_streams_on(*signals: signal.Signals) -> None:
    """Open streams end with the signal itself: uvicorn would wait for them before it tells anybody."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def and_then(before: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
        def end_streams(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(waker.close)
            before(number, frame)

        return end_streams

    for number in signals:
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, and_then(handler))


def _operation_id(route: APIRoute) -> str:
    """The function's name, so that generated clients read well."""
    return route.name


app = FastAPI(
    version=version("backpropd"),
    lifespan=lifespan,
    docs_url=None,
    redoc_url=None,
    redirect_slashes=False,  # a redirect would be built from the Host that the client claims
    generate_unique_id_function=_operation_id,
)
problems.install(app)
for routes in (
    predict,  # before the others: routes are tried in this order, and this one is asked the most and has the least time
    submissions,
    intake,
    datasets,
    specs,
    plans,
    jobs,
    pausing,
    clones,
    events,
    artifacts,
    transcripts,
    traces,
    predictions,
    predictors,
    health,
    metrics,
):
    app.include_router(routes.router)
reference.install(app)
app.add_middleware(Requests)
