"""Specs made of the models of other libraries. Nothing is stored, and nothing of theirs is loaded."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api import strict_json, uploads
from api.keys import CurrentCaller
from api.problems import responses, validated
from core import errors
from core.importers.keras_model import from_keras
from core.importers.notes import Imported, Outcome
from core.importers.sklearn_mlp import Estimator, from_sklearn
from core.spec import Targets
from core.spec.values import LIST, OBJECT, TEXT, TEXT_OR_LIST, TEXT_OR_OBJECT, ColumnName

router = APIRouter(prefix="/v1/specs", tags=["specs"])

Target = Annotated[Annotated[ColumnName, TEXT] | Annotated[Targets, LIST], TEXT_OR_LIST]
TARGET = "The column to predict, or several: of one-hot y, its columns."


class KerasModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: Target = Field(description=TARGET)
    model: Annotated[Annotated[str, TEXT] | Annotated[dict[str, Any], OBJECT], TEXT_OR_OBJECT] = Field(
        description="What `model.to_json()` of Keras 3 says, as text or as JSON; or `config.json` of a `.keras` file."
    )
    compile: dict[str, Any] | None = Field(
        default=None,
        description="The arguments of `compile`: names, or objects as `keras.optimizers.serialize` writes them. Where "
        "it is left out, the model must be a compiled one.",
    )
    fit: dict[str, Any] | None = Field(
        default=None,
        description="The arguments of `fit`, callbacks as `{class_name, config}`. Where it is left out, the defaults "
        "of the spec hold, not those of Keras.",
    )


class SklearnEstimator(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: Target = Field(description=TARGET)
    estimator: Estimator = Field(description="The class of the estimator.")
    params: dict[str, Any] = Field(default={}, description="What `get_params()` says.")
    classes: Annotated[int, Field(ge=2, le=65_536)] | None = Field(
        default=None, description="Classes of the target, where they are known: the output layer gets its `alpha` too."
    )


class OptionRead(BaseModel):
    option: str = Field(description="As the other library calls it.")
    pointer: str = Field(description="JSON Pointer (RFC 6901) into the body; into the text of `model` as well.")
    outcome: Outcome
    note: str = Field(description="What is different, or why it is left out.")


class ImportedSpec(BaseModel):
    spec: dict[str, Any] = Field(description="A TrainingSpec of what was said; what was not has its default.")
    options: list[OptionRead] = Field(description="What became of each option.")


def _body_of(model: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


ANSWERS = responses(
    errors.MalformedJson,
    errors.IncompleteBody,
    errors.Unauthenticated,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidQuery,
    errors.InvalidSpec,
    errors.InvalidText,
    errors.ModelNotMappable,
    errors.Unavailable,
)


@router.post("/from-keras", response_model=ImportedSpec, openapi_extra=_body_of("KerasModel"), responses=ANSWERS)
async def spec_from_keras(request: Request, caller: CurrentCaller) -> ImportedSpec:
    """The spec of a Keras 3 model of one layer after the other, and what became of each of its options.

    Read as JSON: Keras's own loader is never called. What has no counterpart here, or would silently train another
    network, is refused by name. Nothing is stored: the spec is for `POST /v1/jobs`.
    """

    def answer(body: Any) -> Imported:
        asked = validated(KerasModel, body)
        return from_keras(_as_object(asked.model), asked.compile, asked.fit, asked.target)

    return await _answered(request, answer)


@router.post(
    "/from-sklearn", response_model=ImportedSpec, openapi_extra=_body_of("SklearnEstimator"), responses=ANSWERS
)
async def spec_from_sklearn(request: Request, caller: CurrentCaller) -> ImportedSpec:
    """The spec of scikit-learn's `MLPClassifier` or `MLPRegressor`, from what `get_params()` says."""

    def answer(body: Any) -> Imported:
        asked = validated(SklearnEstimator, body)
        return from_sklearn(asked.estimator, asked.params, asked.target, asked.classes)

    return await _answered(request, answer)


async def _answered(request: Request, answer: Callable[[Any], Imported]) -> ImportedSpec:
    if uploads.media_type(request) not in ("application/json", ""):
        raise errors.UnsupportedMediaType("A model is sent as `application/json`.")
    text = await uploads.whole(request)
    found = await run_in_threadpool(lambda: answer(strict_json.read(text)))
    return ImportedSpec(spec=found.spec, options=[OptionRead(**vars(one)) for one in found.options])


def _as_object(model: str | dict[str, Any]) -> dict[str, Any]:
    """The JSON in the text, read as a body is."""
    if isinstance(model, dict):
        return model
    try:
        found = strict_json.read(model.encode())
    except (errors.MalformedJson, errors.InvalidText) as problem:
        found, said = None, problem.detail.replace("The body", "The text")
    else:
        said = "Must be a JSON object."
    if not isinstance(found, dict):
        raise errors.InvalidSpec(errors=[{"pointer": "/model", "code": "json_invalid", "message": said}])
    return found
