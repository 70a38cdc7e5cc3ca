"""The contract as documents: OpenAPI 3.2, a 3.1 file for generators, the spec's JSON Schema, and a page to read."""

import copy
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema

from api import (
    clones,
    events,
    intake,
    jobs,
    pausing,
    predict,
    predictions,
    predictors,
    problems,
    specs,
    submissions,
    traces,
)
from core.dialect import Dialect
from core.errors import InvalidQuery, NotFound, every_problem
from core.spec import TrainingSpec

STATIC = Path(__file__).parent / "static"
TITLE = "backpropd"
ABOUT = """Neural-network training as a service: send a table and a spec, follow every loss value, download the weights.

Every request carries `Authorization: Bearer <key>`. Errors are `application/problem+json` with a stable `code`."""

SECTIONS = ("datasets", "specs", "jobs", "events", "artifacts", "traces", "predictions", "predictors", "operations")

# In no route's signature, for the routes read these bodies themselves.
EXTRA_MODELS = (
    submissions.JobCreate,
    submissions.JobWithData,
    intake.DatasetChange,
    Dialect,
    clones.JobClone,
    jobs.Cancel,
    pausing.Pause,
    traces.TraceCreate,
    predict.RowsToPredict,
    predictions.PredictionsCreate,
    predictors.PredictorPut,
    specs.KerasModel,
    specs.SklearnEstimator,
    problems.ProblemBody,
    events.EventRead,
)


def install(app: FastAPI) -> None:
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(router)
    app.openapi = cache(lambda: document(app))  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.2: the version whose `itemSchema` describes what a stream is made of."""
    found = get_openapi(
        title=TITLE,
        version=app.version,
        openapi_version="3.2.0",
        description=ABOUT,
        tags=[{"name": name} for name in SECTIONS],
        routes=app.routes,
        separate_input_output_schemas=False,
    )
    schemas = found["components"]["schemas"]
    _, extra = models_json_schema(
        [(model, "validation") for model in EXTRA_MODELS], ref_template="#/components/schemas/{model}"
    )
    schemas |= extra["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in found["paths"].items():
        for operation in methods.values():
            if path.startswith("/v1/") or path == "/metrics":
                operation["security"] = [{"key": []}]
            _use_problems(operation)
    return found


def _use_problems(operation: dict[str, Any]) -> None:
    """FastAPI's own 422 is never sent: ours is, and says so where the route did not."""
    answer = operation["responses"].get("422", {})
    if "application/json" in answer.get("content", {}):
        operation["responses"]["422"] = problems.responses(InvalidQuery)[422]


def downgraded(found: dict[str, Any]) -> dict[str, Any]:
    """The same contract as OpenAPI 3.1, for generators that know no `itemSchema`."""
    older = copy.deepcopy(found)
    older["openapi"] = "3.1.0"
    for methods in older["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                for media in answer.get("content", {}).values():
                    if media.pop("itemSchema", None):
                        media["schema"] = {"type": "string"}
    return older


router = APIRouter(include_in_schema=False)


@router.get("/openapi-3.1.json")
def openapi_for_generators(request: Request) -> JSONResponse:
    return JSONResponse(downgraded(request.app.openapi()))


@router.get("/docs")
def docs() -> HTMLResponse:
    """Swagger UI from this server alone: it works without a network."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=TITLE,
        swagger_js_url="/static/swagger-ui/swagger-ui-bundle.js",
        swagger_css_url="/static/swagger-ui/swagger-ui.css",
        swagger_favicon_url="/static/swagger-ui/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "persistAuthorization": False, "validatorUrl": None},
    )


@router.get("/errors/{code}")
def explain_error(code: str) -> PlainTextResponse:
    """What the `type` of an error leads to."""
    for problem in every_problem():
        if problem.code == code:
            text = inspect.cleandoc(problem.__doc__ or "")
            return PlainTextResponse(f"{problem.code} (HTTP {problem.status})\n\n{text}\n")
    raise NotFound()


@router.get("/v1/schemas/spec.json")
def spec_schema() -> JSONResponse:
    """JSON Schema (2020-12) of a spec: editors complete and check by it."""
    schema = TrainingSpec.model_json_schema()
    return JSONResponse(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "/v1/schemas/spec.json", **schema},
        media_type="application/schema+json",
    )
