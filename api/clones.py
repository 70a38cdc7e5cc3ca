"""Cloning a job: the same again from the spec as sent, with changes to it as a JSON Patch (RFC 6902)."""

import copy
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from jsonpatch import (
    InvalidJsonPatch,
    JsonPatch,
    JsonPatchConflict,
    JsonPatchPathNotFound,
    JsonPatchTestFailed,
    JsonPointer,
    JsonPointerException,
)
from pydantic import AfterValidator, BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api import idempotency, jobs, strict_json, submissions, uploads
from api.idempotency import IdempotencyKey
from api.jobs import JobId, JobRead
from api.keys import CurrentCaller
from api.problems import meant, responses, validated
from api.submissions import JobCreate, JobOptions
from api.waiting import wait_seconds
from core import errors
from core.resolve.output import DEFAULT_HIDDEN
from core.settings import settings
from core.spec import TrainingSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MAX_OPERATIONS = 100
JSON = dict, list, str, int, float, type(None)


def _is_pointer(text: str) -> str:
    if not re.fullmatch(r"(/([^~/]|~[01])*)*", text):
        raise ValueError("a place is a JSON Pointer (RFC 6901), as `/training/epochs`; `~` is written `~0`, `/` `~1`")
    return text


Place = Annotated[
    str, AfterValidator(_is_pointer), Field(description="JSON Pointer into the spec, as `/training/epochs`.")
]


class OperationWithValue(BaseModel):
    """RFC 6902: members that an operation does not have are ignored, here and below."""

    op: Literal["add", "replace", "test"]
    path: Place
    value: Any


class OperationAlone(BaseModel):
    op: Literal["remove"]
    path: Place


class OperationFrom(BaseModel):
    op: Literal["move", "copy"]
    path: Place
    source: Place = Field(alias="from")


Operation = Annotated[OperationWithValue | OperationAlone | OperationFrom, Field(discriminator="op")]


class JobClone(JobOptions):
    """What shall differ: name, metadata, priority, dataset and `start_from` are the job's own unless they are given."""

    dataset_id: str | None = Field(default=None, max_length=64, description="Another dataset of this project.")
    patch: list[Operation] = Field(
        default=[],
        max_length=MAX_OPERATIONS,
        description="JSON Patch (RFC 6902) of the spec as sent. What it names and was not sent, as `/training` or "
        "`/training/optimizer`, is filled from the resolved spec first.",
    )


@router.post(
    "/{job_id}/clone",
    status_code=202,
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobClone"}}}}
    },
    responses=responses(
        errors.MalformedJson,
        errors.IncompleteBody,
        errors.InvalidIdempotencyKey,
        errors.Unauthenticated,
        errors.NotFound,
        errors.IdempotencyInProgress,
        errors.StartNotReady,
        errors.PayloadTooLarge,
        errors.UnsupportedMediaType,
        errors.InvalidSpec,
        errors.InvalidText,
        errors.PatchNotApplicable,
        errors.PatchTestFailed,
        errors.DatasetInvalid,
        errors.DataInvalid,
        errors.IdempotencyKeyReused,
        errors.Unavailable,
    ),
)
async def clone_job(
    job_id: JobId,
    request: Request,
    response: Response,
    caller: CurrentCaller,
    wait: Annotated[float | None, Depends(wait_seconds)] = None,
    idempotency_key: IdempotencyKey = None,
) -> JobRead:
    """Submits a job again, whatever became of it, with what the body changes; without a body, exactly again.

    It starts from the job's `spec`, which is what was sent, with `patch` applied, and is then checked and resolved as
    in a `POST /v1/jobs`; the answer is the same, with `cloned_from`.
    """
    text = await uploads.whole(request)
    if text and uploads.media_type(request) not in ("application/json", ""):
        raise errors.UnsupportedMediaType("What shall differ is sent as `application/json`.")

    def clone() -> submissions.Submitted:
        body = strict_json.read(text) if text else {}
        asked = validated(JobClone, body)
        fingerprint = idempotency.fingerprint(f"{submissions.PATH}/{job_id}/clone", body)
        # Before the patch is applied: the job may have been resolved since, and the patch may not fit any more.
        earlier = idempotency.earlier_job(caller.project_id, idempotency_key, fingerprint)
        if earlier is not None:
            return submissions.Submitted(earlier)
        parent = jobs.read(caller, job_id)
        create = _body_of_create(parent, asked)
        whole = validated(JobCreate, create)
        job = submissions.new_job(request, caller, whole, create["spec"], create["dataset_id"], cloned_from=parent.id)
        return submissions.submit(job, idempotency_key, fingerprint, whole.start_from)

    return await submissions.accepted(caller, await run_in_threadpool(clone), wait, response)


def _body_of_create(parent: JobRead, asked: JobClone) -> dict[str, Any]:
    """What a `POST /v1/jobs` of this clone would have sent."""
    options = parent.model_dump(include=set(JobOptions.model_fields))
    given = asked.model_dump(include=set(JobOptions.model_fields), exclude_unset=True)
    spec = _patched(_filled(parent, asked.patch), asked.patch)
    return {**options, **given, "dataset_id": asked.dataset_id or parent.dataset_id, "spec": spec}


# --- the patch --------------------------------------------------------------------------------------------------------


def _filled(parent: JobRead, patch: Sequence[Operation]) -> dict[str, Any]:
    """The spec as sent, and what the patch names of it that nobody sent, as that was settled or will be."""
    settled = parent.resolved_spec or TrainingSpec.model_validate(parent.spec)
    whole, spec = settled.model_dump(mode="json"), copy.deepcopy(parent.spec)
    for one in patch:
        for place in (one.path, one.source if isinstance(one, OperationFrom) else ""):
            names = JsonPointer(place).parts
            if names[:1] == ["network"] and len(names) > 1:
                _fill_network(spec, whole["network"], names[1])
            _fill(spec, whole, names)
    return spec


def _fill(spec: dict[str, Any], whole: dict[str, Any], names: Sequence[str]) -> None:
    """Adds the first part on the way that was not sent, with all that is in it."""
    here: Any = spec
    for place, name in enumerate(names):
        if not isinstance(here, dict) or not isinstance(whole, dict) or name not in whole:
            return
        bare = isinstance(here.get(name), str) and isinstance(whole[name], dict) and place + 1 < len(names)
        if name not in here or bare:  # `adam` has members as well, where the patch names one
            here[name] = copy.deepcopy(whole[name])
            return
        here, whole = here[name], whole[name]


def _fill_network(spec: dict[str, Any], settled: dict[str, Any], part: str) -> None:
    """The two forms of a network exclude each other: what is filled has the form that the patch names. An output that
    was sent as the last of the layers is one of its own where the patch names it."""
    sent = spec.get("network", {})
    if part in ("hidden", "activation"):
        if "network" not in spec:
            spec["network"] = {"hidden": list(DEFAULT_HIDDEN), "activation": "relu"}
    elif (
        isinstance(sent, dict)
        and settled["layers"] is not None
        and ("layers" not in sent or (part == "output" and "output" not in sent))
    ):
        spec["network"] = copy.deepcopy(settled)


def _patched(spec: Any, patch: Sequence[Operation]) -> Any:
    """The spec after all operations. Raises `PatchNotApplicable` or `PatchTestFailed` at the first that fails."""
    copied = 0
    for position, one in enumerate(patch):
        member, place = "path", one.path
        try:
            if isinstance(one, OperationFrom):
                member, place = "from", one.source
                source = JsonPointer(place).resolve(spec)
                if isinstance(source, JSON):  # not so behind the end of a list
                    member, place = "path", one.path
                    copied += _bytes(source) if one.op == "copy" else 0
            if copied > settings.max_body_bytes:  # each copy of the whole into itself doubles it
                raise _refused(
                    position, "from", "copies_too_large", "The copies together are larger than a body may be."
                )
            spec = JsonPatch([one.model_dump(by_alias=True)]).apply(spec, in_place=True)
        # What the library says quotes the spec, so it is said in other words.
        except JsonPatchTestFailed as error:
            found = _at(position, "path", "test_failed", "The value there is another one, or there is none.")
            raise errors.PatchTestFailed(errors=[found]) from error
        except (JsonPointerException, JsonPatchPathNotFound) as error:
            near = _near(spec, place)
            raise _refused(position, member, "path_not_found", "The spec has no such place.", near) from error
        except (JsonPatchConflict, InvalidJsonPatch) as error:
            message = (
                "This cannot be done there: a list has no place beyond its end (`-` is where `add` appends), the whole "
                "spec cannot be removed, and nothing moves into itself."
            )
            raise _refused(position, member, "not_possible", message) from error
        except RecursionError as error:
            raise _refused(position, member, "too_deep", "The spec would be nested too deeply.") from error
    return spec


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _refused(position: int, member: str, code: str, message: str, near: str | None = None) -> errors.PatchNotApplicable:
    found = _at(position, member, code, message)
    return errors.PatchNotApplicable(errors=[found | ({"suggestion": near} if near else {})])


def _at(position: int, member: str, code: str, message: str) -> errors.FieldError:
    return {"pointer": errors.pointer("patch", position, member), "code": code, "message": message}


def _near(spec: Any, place: str) -> str | None:
    """The name that was probably meant by the first one on the way that is not there."""
    known, here = set(TrainingSpec.model_fields), spec
    for name in JsonPointer(place).parts:
        if isinstance(here, dict) and name in here:
            here = here[name]
        elif isinstance(here, dict) and len(name) <= errors.KEY_LENGTH:
            # Likeness takes time with the product of the lengths: only what may be a field's name is compared.
            names = [one for one in (*known, *here) if one != name and len(one) <= errors.KEY_LENGTH]
            return meant(name, names[:1000])
        elif isinstance(here, list) and re.fullmatch(r"[0-9]{1,9}", name) and int(name) < len(here):
            here = here[int(name)]
        else:
            return None
        known = set()
    return None
