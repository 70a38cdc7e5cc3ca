"""Plans: what a job would be, said before there is one. By arithmetic on the stored profile; or measured as well, by a
worker that trains for a moment."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import from_json
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import strict_json, submissions, uploads
from api.inquiries import ANSWER_WAIT, answered
from api.keys import CurrentCaller
from api.problems import responses, validated
from api.submissions import HELD_OUT_FILES, JobCreate
from api.waiting import wait_seconds
from core import database, errors, lifecycle, queue, storage
from core.database import commit, now
from core.ids import new_id
from core.profile import Warning
from core.resolve import Resolved
from core.resolve.plan import PlannedFold, PlannedLayer, layer_table, planned_folds, steps_of
from core.spec import TrainingSpec
from core.spec.data import PartName
from core.storage import blob_key
from core.tables import Inquiry, InquiryStatus, Job

router = APIRouter(prefix="/v1", tags=["jobs"])

FILE = "measured.json"
PlanId = Annotated[str, Path(pattern=r"^inq_[0-9a-z]{26}$")]


class PlanRead(BaseModel):
    resolved_spec: TrainingSpec = Field(description="What would be trained: every default written out.")
    outputs: dict[str, Any] = Field(description="task, classes, names")
    inputs: int = Field(description="Width of the first layer's input, at most: by all categories of the dataset.")
    layers: list[PlannedLayer] = Field(
        description="The modules of the network, named as their tensors in the weights file, with the shape of one row."
    )
    parameters: int = Field(description="Trainable numbers, at most.")
    memory_bytes: int = Field(description="Of the training process alone, at its peak; so much is reserved for it.")
    rows: dict[PartName, int] = Field(
        description="Rows of each part that have a target; about so many where moments or groups stay together."
    )
    folds: list[PlannedFold] = Field(
        description="Rows and weight updates of each fold of a cross-validation, before the network of all rows."
    )
    steps_per_epoch: int = Field(description="Weight updates an epoch, with folds those on all rows.")
    steps: int = Field(
        description="Weight updates in all, at most, without those of a `refit`; with folds of all networks together."
    )
    warnings: list[Warning]


class Measured(BaseModel):
    """By a worker, as busy as it was meanwhile. Of a job that trains as long as it may: nobody knows when it would end
    early."""

    steps: int = Field(description="Weight updates that were timed.")
    step_seconds: float = Field(description="Of one of them.")
    epoch_seconds: float = Field(description="With validation.")
    loading_seconds: float = Field(description="From the claim to the first step.")
    training_seconds: float = Field(description="All epochs; at most the time budget.")
    export_seconds: float = Field(description="Until the artifacts are stored.")
    seconds: float = Field(description="Of the whole job, from its claim on.")
    memory_bytes: int = Field(description="Of the training process alone, at its peak.")


class MeasuredPlanRead(PlanRead):
    id: str
    status: InquiryStatus
    error: dict[str, Any] | None = Field(description="code, message and the facts of that code")
    measured: Measured | None
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


@router.post(
    "/jobs/plan",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobCreate"}}},
        }
    },
    response_model=PlanRead | MeasuredPlanRead,
    responses={
        202: {"model": MeasuredPlanRead, "description": "Asked, and not measured yet."},
        **responses(
            errors.MalformedJson,
            errors.IncompleteBody,
            errors.Unauthenticated,
            errors.NotFound,
            errors.DatasetNotReady,
            errors.StartNotReady,
            errors.PayloadTooLarge,
            errors.UnsupportedMediaType,
            errors.InvalidQuery,
            errors.InvalidSpec,
            errors.InvalidText,
            errors.DatasetInvalid,
            errors.DataInvalid,
            errors.Unavailable,
        ),
    },
)
async def plan_job(
    request: Request,
    caller: CurrentCaller,
    measure: Annotated[bool, Query(description="Have a worker time a few batches as well.")] = False,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
) -> Response:
    """Says what a `POST /v1/jobs` of this body would train, or refuses it as that would. Nothing is stored.

    The datasets must have been read. `name`, `metadata` and `priority` change nothing here. With `?measure=true` a
    worker begins the job, stops after 2 seconds, and says what the whole of it will take: 200 when it has answered
    within the wait (10 s by default), else 202; the answer can be read for a day.
    """
    if uploads.media_type(request) not in ("application/json", ""):
        raise errors.UnsupportedMediaType("A plan is asked for as `application/json`, of a dataset that is there.")
    for name in request.query_params:
        if name not in ("measure", "wait"):
            found = {"pointer": errors.pointer("query", name), "code": "unknown_parameter", "message": "There is none."}
            raise errors.InvalidQuery(errors=[found])
    text = await uploads.whole(request)

    def plan() -> PlanRead | str:
        body = strict_json.read(text)
        asked = validated(JobCreate, body)
        job = submissions.new_job(request, caller, asked, body["spec"], asked.dataset_id)
        with database.reading() as session:
            resolved = lifecycle.resolve_new(session, job, asked.start_from)
        if resolved is None:
            raise errors.DatasetNotReady()
        planned = _plan(resolved)
        if not measure:
            return planned
        with database.writing() as session:
            inquiry = lifecycle.submit_inquiry(session, _inquiry(session, job, planned), resolved.memory)
            commit(session, "ask")
        queue.ring()
        return inquiry.id

    planned = await run_in_threadpool(plan)
    if isinstance(planned, PlanRead):
        return Response(planned.model_dump_json(), media_type="application/json")
    row = await answered(caller, planned, "plan", ANSWER_WAIT if wait is None else wait)
    status = 200 if row.finished_at else 202
    return await run_in_threadpool(_as_answer, row, status, Location=f"/v1/plans/{planned}")


@router.get(
    "/plans/{plan_id}",
    response_model=MeasuredPlanRead,
    responses=responses(errors.Unauthenticated, errors.NotFound, errors.InvalidQuery, errors.Unavailable),
)
async def read_plan(
    plan_id: PlanId, caller: CurrentCaller, wait: Annotated[float | None, Depends(wait_seconds)] = None
) -> Response:
    """A measured plan. With `?wait=30` the answer comes when it is there, or after 30 s. Forgotten after a day."""
    found = await answered(caller, plan_id, "plan", wait or 0.0)
    return await run_in_threadpool(_as_answer, found, 200)


def _as_answer(row: Inquiry, status: int, **headers: str) -> Response:
    made = row.files.get(FILE)
    stored = storage.storage().read(blob_key(row.project_id, made["sha256"])) if made else None
    found = MeasuredPlanRead(
        **row.request["plan"],
        **{name: getattr(row, name) for name in ("id", "status", "error", "created_at", "finished_at")},
        measured=None if stored is None else from_json(stored),
        links={"self": f"/v1/plans/{row.id}"},
    )
    if row.finished_at is None:
        headers["Retry-After"] = "1"
    return Response(found.model_dump_json(), status, headers, "application/json")


def _plan(resolved: Resolved) -> PlanRead:
    spec, rows = resolved.spec, resolved.rows
    assert spec.network.output is not None, "a resolved spec has its output"
    folds = planned_folds(spec, rows["train"])
    steps_per_epoch, steps = steps_of(spec, resolved.drawn)
    return PlanRead(
        resolved_spec=spec,
        outputs=resolved.outputs,
        inputs=resolved.inputs,
        layers=layer_table(spec.network.layers or [], spec.network.output, resolved.inputs, resolved.embeddings),
        parameters=resolved.parameters,
        memory_bytes=resolved.memory,
        rows=rows,
        steps_per_epoch=steps_per_epoch,
        folds=folds,
        steps=steps + sum(fold.steps for fold in folds),
        warnings=resolved.warnings,
    )


def _inquiry(session: Session, job: Job, planned: PlanRead) -> Inquiry:
    """With all of the job that a worker needs: there is no row of it."""
    needed = ("project_id", "dataset_id", *HELD_OUT_FILES.values(), "start")
    return Inquiry(
        id=new_id("inq"),
        project_id=job.project_id,
        kind="plan",
        request={"plan": planned.model_dump(mode="json"), "job": {name: getattr(job, name) for name in needed}},
        created_at=now(session),
    )
