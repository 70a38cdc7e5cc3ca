"""Predictions for the rows in the body of a request, by the network of one job."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api import answers, rows, uploads
from api.answers import PredictionsRead, Warnings
from api.jobs import JobId
from api.keys import Caller, CurrentCaller
from api.loaded_networks import job_that_answers, loaded_networks
from api.problems import responses
from api.rows import JSON_LINES, LARGE
from core import database, errors

router = APIRouter(prefix="/v1/jobs", tags=["predictions"])

_large_ones = asyncio.Semaphore(2)  # at once: each takes many times its bytes in memory
_uncollected_ones = 0

Shape = Annotated[
    Literal["rows", "columns"],
    Query(description="`columns`: `classes` and `probabilities` of all rows beside each other: fewer bytes."),
]
OtherColumns = Annotated[
    Literal["refuse", "ignore"],
    Query(description="What becomes of columns that the network does not take. The target may always come along."),
]


class RowsToPredict(BaseModel):
    """`rows`, each an object, or with `columns` a list of values; or `X`."""

    model_config = ConfigDict(extra="forbid")

    rows: list[dict[str, Any] | list[Any]] | None = Field(
        default=None, description="`[{column: value}, ...]`; null is missing, and so is a column that is not there."
    )
    columns: list[str] | None = Field(default=None, description="The names, where `rows` are lists of values.")
    X: list[list[float | None]] | None = Field(
        default=None, description="Of a network of one column of vectors, or of numbers alone: a list of numbers a row."
    )


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/RowsToPredict"}},
            "application/jsonl": {"schema": {"type": "string", "description": "A row as an object a line."}},
        },
    }
}
PREDICTING = responses(
    errors.MalformedJson,
    errors.IncompleteBody,
    errors.Unauthenticated,
    errors.NotFound,
    errors.JobNotFinished,
    errors.NoNetwork,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidRows,
    errors.InvalidText,
    errors.InvalidQuery,
    errors.NetworkTooLarge,
    errors.Unavailable,
)


@router.post("/{job_id}/predict", response_model=PredictionsRead, openapi_extra=BODY, responses=PREDICTING)
async def predict(
    job_id: JobId,
    request: Request,
    caller: CurrentCaller,
    shape: Shape = "rows",
    other_columns: OtherColumns = "refuse",
) -> Response:
    """Predicts each row of the body, in its order, with the weights that the job kept.

    Categories that no training row had, values outside their range and columns that are not there are predicted all the
    same; `warnings` say so, and what was put in their place. JSON lines are answered as JSON lines where `Accept` asks
    for them.
    """
    return await answer(request, caller, shape, other_columns, job_id=job_id)


async def answer(
    request: Request, caller: Caller, shape: str, other_columns: str, *, job_id: str | None = None, name: str = ""
) -> Response:
    """By a job, or by a predictor with this name."""
    media_type = uploads.media_type(request)
    if media_type not in ("application/json", "", *JSON_LINES):
        raise errors.UnsupportedMediaType(
            "Rows are sent as `application/json`, or a row a line as `application/jsonl`."
        )
    wants_lines = any(one in request.headers.get("accept", "") for one in JSON_LINES)
    body = await uploads.whole(request)

    def work() -> Response:
        with database.reading() as session:
            answering = job_that_answers(session, caller, job_id=job_id, name=name)
        network = loaded_networks.get(answering)
        asked = rows.read(body, media_type, network.named.but(ignore_others=other_columns == "ignore"))
        warnings = Warnings()
        scores = network.predict(asked, warnings)
        heads = {**({"predictor": name} if name else {}), "job_id": answering.job_id}
        if wants_lines:
            headers = {"Backpropd-Job": answering.job_id}
            return Response(answers.as_lines(scores, network.said, warnings), 200, headers, JSON_LINES[0])
        write = answers.as_columns if shape == "columns" else answers.as_rows
        return Response(write(scores, network.said, warnings, heads), media_type="application/json")

    if len(body) <= LARGE:
        return await run_in_threadpool(work)
    async with _large_ones:
        with _uncollected():
            return await run_in_threadpool(work)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles meanwhile: millions of values, none of them in a cycle, cost it a third of the
    time. Entered and left in the event loop alone.
    """
    global _uncollected_ones
    _uncollected_ones += 1
    gc.disable()
    try:
        yield
    finally:
        _uncollected_ones -= 1
        if not _uncollected_ones:
            gc.enable()
