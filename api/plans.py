"""Plans: what a job would be, said before there is one. By arithmetic on the stored profile; nothing is stored."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api import strict_json, submissions, uploads
from api.keys import CurrentCaller
from api.problems import responses, validated
from api.submissions import JobCreate
from core import database, errors, lifecycle
from core.profile import Warning
from core.resolve.plan import PlannedFold, PlannedLayer, layer_table, planned_folds, steps_of
from core.spec import TrainingSpec
from core.spec.data import PartName

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class PlanRead(BaseModel):
    resolved_spec: TrainingSpec = Field(description="What would be trained: every default written out.")
    outputs: dict[str, Any] = Field(description="task, classes, names")
    inputs: int = Field(description="Width of the first layer's input, at most: by all categories of the dataset.")
    layers: list[PlannedLayer] = Field(
        description="The modules of the network, named as their tensors in the weights file, with the shape of one row."
    )
    parameters: int = Field(description="Trainable numbers, at most.")
    memory_bytes: int = Field(description="Reserved for the training process.")
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


@router.post(
    "/plan",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobCreate"}}},
        }
    },
    responses=responses(
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
)
async def plan_job(request: Request, caller: CurrentCaller) -> PlanRead:
    """Says what a `POST /v1/jobs` of this body would train, or refuses it as that would. Nothing is stored.

    The datasets must have been read. `name`, `metadata` and `priority` change nothing here.
    """
    if uploads.media_type(request) not in ("application/json", ""):
        raise errors.UnsupportedMediaType("A plan is asked for as `application/json`, of a dataset that is there.")
    for name in request.query_params:
        found = {"pointer": errors.pointer("query", name), "code": "unknown_parameter", "message": "A plan has none."}
        raise errors.InvalidQuery(errors=[found])
    text = await uploads.whole(request)

    def plan() -> PlanRead:
        body = strict_json.read(text)
        asked = validated(JobCreate, body)
        job = submissions.new_job(request, caller, asked, body["spec"], asked.dataset_id)
        with database.reading() as session:
            resolved = lifecycle.resolve_new(session, job, asked.start_from)
        if resolved is None:
            raise errors.DatasetNotReady()
        spec, rows = resolved.spec, resolved.rows
        assert spec.network.output is not None, "a resolved spec has its output"
        folds = planned_folds(spec, rows["train"])
        steps_per_epoch, steps = steps_of(spec, rows["train"])
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

    return await run_in_threadpool(plan)
