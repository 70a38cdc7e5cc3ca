"""Errors as every client sees them: `application/problem+json` (RFC 9457), one shape, no input, path or SQL in it."""

import errno
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from core import errors
from core.logs import logger
from core.spec.values import JSON_TYPES

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100  # in one answer
MAX_COUNTED = 10_000  # beyond this they are not even looked at: listing 300,000 takes seconds

# What other libraries call our fields: a typo is found by likeness, a habit only by knowing it.
HABITS = {
    "lr": "learning_rate",
    "learning_rate_init": "learning_rate",
    "max_iter": "epochs",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "early_stopping": "stop",
    "validation_split": "split",
    "hidden_layer_sizes": "hidden",
    "label": "target",
    "y": "target",
    "model": "network",
    "use_bias": "bias",
    "random_state": "seed",
    "early_stopping_patience": "patience",
    "p": "rate",
    "n_units": "units",
    "kernel_initializer": "weight_initializer",
    "kernel_constraint": "max_norm",
    "kernel_regularizer": "l2",
    "epsilon": "eps",
    "beta_1": "betas",
    "beta_2": "betas",
    "lr_scheduler": "schedule",
    "scheduler": "schedule",
    "solver": "optimizer",
    "clipnorm": "clip_norm",
    "global_clipnorm": "clip_norm",
    "clipvalue": "clip_value",
    "gradient_clipping": "clip_norm",
    "gradient_accumulation_steps": "accumulate",
    "ema_momentum": "ema_decay",
    "mixed_precision": "precision",
    "n_iter_no_change": "patience",
    "tol": "min_delta",
    "validation_fraction": "validation",
    "min_lr": "min_factor",
    "eta_min": "final_factor",
    "weights_column": "sample_weight",
    "warmup": "warmup_epochs",
    "warmup_steps": "warmup_epochs",
    "slope": "negative_slope",
    "alpha": "negative_slope",
    "embedding_dim": "dimension",
    "output_dim": "dimension",
}


# Where a field lives that is often written one level too high.
PART_OF = {
    "learning_rate": "optimizer",
    "momentum": "optimizer",
    "weight_decay": "optimizer",
    "patience": "stop",
    "target_loss": "stop",
    "monitor": "stop",
    "min_delta": "stop",
    "max_seconds": "stop",
    "betas": "optimizer",
    "eps": "optimizer",
    "label_smoothing": "loss",
    "epochs": "training",
    "batch_size": "training",
    "optimizer": "training",
    "loss": "training",
    "schedule": "training",
    "metrics": "training",
    "class_weights": "training",
    "clip_norm": "training",
    "precision": "training",
    "stop": "training",
    "hidden": "network",
    "layers": "network",
    "activation": "network",
    "validation": "split",
    "test": "split",
    "device": "resources",
    "threads": "resources",
    "exclude": "features",
    "target": "spec",
}


class FieldProblem(BaseModel):
    pointer: str = Field(description="JSON Pointer (RFC 6901) into the body.")
    code: str
    message: str
    suggestion: str | None = None


class ProblemBody(BaseModel):
    """RFC 9457. `code` is stable; further members carry the facts of that code."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem] | None = None


def responses(*problems: type[errors.Problem]) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides success, for its OpenAPI text."""
    by_status: dict[int, list[type[errors.Problem]]] = {}
    for problem in problems:
        by_status.setdefault(problem.status, []).append(problem)
    return {
        status: {
            "description": " ".join(f"`{problem.code}`: {problem.title()}" for problem in found),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
        }
        for status, found in by_status.items()
    }


def render(problem: errors.Problem, request_id: str) -> JSONResponse:
    fixed = {
        "type": f"/errors/{problem.code}",
        "title": problem.title(),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
    }
    body = {**fixed, **problem.facts, **fixed}  # no fact takes the place of what every problem has
    if problem.errors:
        body["errors"] = problem.errors
    return JSONResponse(body, problem.status, problem.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    def answer(request: Request, problem: errors.Problem) -> JSONResponse:
        return render(problem, getattr(request.state, "request_id", ""))

    @app.exception_handler(errors.Problem)
    async def ours(request: Request, problem: errors.Problem) -> JSONResponse:
        return answer(request, problem)

    @app.exception_handler(RequestValidationError)
    async def query_or_path(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        if any(one["loc"][0] == "path" for one in found):
            return answer(request, errors.NotFound())  # what no id looks like is no id of anybody
        return answer(request, errors.InvalidQuery(errors=[_parameter(one) for one in found[:MAX_ERRORS]]))

    @app.exception_handler(HTTPException)
    async def starlettes(request: Request, error: HTTPException) -> JSONResponse:
        known = {404: errors.NotFound, 405: errors.MethodNotAllowed, 413: errors.PayloadTooLarge}
        problem = known.get(error.status_code, errors.InvalidRequest)()
        problem.headers |= dict(error.headers or {})
        if isinstance(problem, errors.MethodNotAllowed):
            problem.headers["Allow"] = _allowed(request)
        return answer(request, problem)

    @app.exception_handler(OSError)
    async def disk_full(request: Request, error: OSError) -> JSONResponse:
        if error.errno != errno.ENOSPC:
            raise error
        return answer(request, errors.StorageFull())  # the temporary file of a form had no room

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeout)
    async def database_away(request: Request, error: Exception) -> JSONResponse:
        logger().error("database_failed", error=type(error).__name__, exc_info=error)
        return answer(request, errors.Unavailable())


def _allowed(request: Request) -> str:
    """The methods of all routes at this address: Starlette's own answer names those of the first."""
    routes = iter_route_contexts(request.app.routes)
    here = [route for route in routes if route.path_regex.match(request.scope["path"])]
    return ", ".join(sorted({method for route in here for method in route.methods or {"GET", "HEAD"}}))


def _parameter(error: Mapping[str, Any]) -> errors.FieldError:
    return {"pointer": errors.pointer(*error["loc"]), "code": _code(error), "message": _sentence(error)}


# --- what pydantic found in a body --------------------------------------------------------------------------------


def validated(model: type[Any], body: Any) -> Any:
    """The body as this model. Raises `InvalidSpec`."""
    if not isinstance(body, dict):
        raise errors.InvalidSpec("The body must be a JSON object.")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise from_validation(error, model) from None


def from_validation(error: ValidationError, root: type[BaseModel]) -> errors.InvalidSpec:
    """Each thing that is wrong, with its JSON Pointer and, for an unknown field, what was probably meant."""
    if error.error_count() > MAX_COUNTED:
        return errors.InvalidSpec(f"More than {MAX_COUNTED:,} parts of the body are not acceptable.")
    found: list[errors.FieldError] = []
    for one in error.errors(include_url=False, include_input=False)[:MAX_ERRORS]:
        path, siblings = _walk(root, one["loc"])
        if one["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path.append(one["ctx"]["discriminator"].strip("'"))
        field: errors.FieldError = {"pointer": errors.pointer(*path), "code": _code(one), "message": _sentence(one)}
        if one["type"] == "extra_forbidden":
            near = meant(str(one["loc"][-1]), siblings)
            field |= {"suggestion": near} if near else {}
        found.append(field)
    return errors.InvalidSpec(errors=found)


def _code(error: Mapping[str, Any]) -> str:
    renamed = {
        "extra_forbidden": "unknown_field",
        "missing": "missing_field",
        "union_tag_not_found": "missing_field",
        "value_error": "invalid_value",
        "model_type": "dict_type",
        "model_attributes_type": "dict_type",
    }
    return renamed.get(error["type"], str(error["type"]))


def _sentence(error: Mapping[str, Any]) -> str:
    """Pydantic's message without the input that some of them quote."""
    context = error.get("ctx") or {}
    match error["type"]:
        case "union_tag_invalid":
            return f"Must be one of {context.get('expected_tags')}."
        case "extra_forbidden":
            return "There is no such field."
        case "missing" | "union_tag_not_found":
            return "This field is required."
        case "model_type" | "model_attributes_type" | "dict_type":
            return "Must be an object."
        case "value_error":
            return str(context.get("error", "Not acceptable."))
        case _:
            return str(error["msg"])


def _walk(root: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str | int], Iterable[str]]:
    """The path of an error in the body (pydantic's location also names union members), and the fields beside it."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [root]
    siblings: list[str] = list(root.model_fields)
    for part in location:
        if part == "[key]" or part in JSON_TYPES:
            continue  # marks of a key that is wrong itself (the key before it says which), and of a type of JSON
        fields = [model.model_fields[part] for model in models if isinstance(part, str) and part in model.model_fields]
        if len(models) > 1 and (tagged := [model for model in models if part in _tags(model)]):
            # One of several forms of a part, also where it is named like a field of another (`gamma`, `threshold`).
            models, siblings = tagged, [name for model in tagged for name in model.model_fields]
        elif fields:
            siblings = [name for model in models for name in model.model_fields]
            models = [model for field in fields for model in _models_in(field.annotation)]
            path.append(part)
        elif isinstance(part, int):
            path.append(part)
        else:
            siblings = [name for model in models for name in model.model_fields]
            path.append(part)
    return path, siblings


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models_in(get_args(annotation)[0])
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _tags(model: type[BaseModel]) -> set[str]:
    tags = (model.model_fields[name].annotation for name in ("name", "type", "op") if name in model.model_fields)
    return {tag for annotation in tags for tag in get_args(annotation) if isinstance(tag, str)}


def meant(name: str, siblings: Iterable[str]) -> str | None:
    """The field that was meant: beside the unknown one, or a level below."""
    known = set(siblings)
    ours = HABITS.get(name, name)
    if ours in known:
        return ours
    if (part := PART_OF.get(ours)) in known:
        return f"{part}.{ours}"
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.6)), None)
