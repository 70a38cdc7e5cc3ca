"""Predictors: stable names, each of which points at one job's network, for callers that must not change when it is
trained again."""

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import strict_json, uploads
from api.answers import PredictionsRead
from api.keys import Caller, CurrentCaller
from api.loaded_networks import job_that_answers
from api.pages import Limit, Page, PageCursor, page_of
from api.predict import BODY, PREDICTING, OtherColumns, Shape, answer
from api.problems import responses, validated
from core import database, errors
from core.database import changed, commit, db_now, insert_or_nothing
from core.ids import new_id
from core.start import JOB_ID
from core.tables import Job, Predictor

router = APIRouter(prefix="/v1/predictors", tags=["predictors"])

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
Name = Annotated[str, Path(pattern=NAME)]


class PredictorPut(BaseModel):
    model_config = ConfigDict(extra="forbid")

    job_id: str = Field(pattern=JOB_ID, description="A job of this project that has ended and left `network.onnx`.")


class PredictorRead(BaseModel):
    name: str
    job_id: str = Field(description="The job whose network answers.")
    previous: str | None = Field(description="The job before it, to which a rollback goes; null once it is deleted.")
    version: int = Field(description="1, and one more each time it points at another job.")
    created_at: datetime
    updated_at: datetime
    links: dict[str, str]

    @classmethod
    def of(cls, row: Predictor) -> "PredictorRead":
        self = f"/v1/predictors/{row.name}"
        return cls(
            **{field: getattr(row, field) for field in ("name", "job_id", "version", "created_at", "updated_at")},
            previous=row.previous_job_id,
            links={
                "self": self,
                "predict": f"{self}/predict",
                "rollback": f"{self}/rollback",
                "job": f"/v1/jobs/{row.job_id}",
            },
        )


@router.put(
    "/{name}",
    response_model=PredictorRead,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictorPut"}}},
        }
    },
    responses={
        201: {"model": PredictorRead, "description": "There was none of this name."},
        **responses(
            errors.MalformedJson,
            errors.IncompleteBody,
            errors.Unauthenticated,
            errors.NotFound,
            errors.JobNotFinished,
            errors.NoNetwork,
            errors.PayloadTooLarge,
            errors.InvalidSpec,
            errors.InvalidText,
            errors.InvalidQuery,
        ),
    },
)
async def put_predictor(name: str, request: Request, response: Response, caller: CurrentCaller) -> PredictorRead:
    """Makes a predictor, or points it at another job: from one request to the next, and the job before is kept as
    `previous`. Pointing it at the job that it has changes nothing."""
    if not re.fullmatch(NAME, name):
        message = "A name is 1 to 128 letters, digits, dots, dashes and underscores, and begins with a letter or digit."
        found = {"pointer": errors.pointer("path", "name"), "code": "invalid_name", "message": message}
        raise errors.InvalidQuery(message, errors=[found])
    text = await uploads.whole(request)

    def put() -> tuple[PredictorRead, bool]:
        asked = validated(PredictorPut, strict_json.read(text))
        with database.writing() as session:
            made = _point(session, caller, name, asked.job_id)
            commit(session, "point")
            return PredictorRead.of(_predictor_or_404(session, caller, name)), made

    predictor, made = await run_in_threadpool(put)
    response.status_code = 201 if made else 200
    return predictor


def _point(session: Session, caller: Caller, name: str, job_id: str) -> bool:
    """True where the predictor is new."""
    _hold(session, job_id)
    job_that_answers(session, caller, job_id=job_id)
    moment = database.now(session)
    row: dict[str, Any] = {"project_id": caller.project_id, "name": name, "job_id": job_id, "version": 1}
    if insert_or_nothing(session, Predictor, id=new_id("prd"), **row, created_at=moment, updated_at=moment):
        return True
    session.execute(
        update(Predictor)
        .where(Predictor.project_id == caller.project_id, Predictor.name == name, Predictor.job_id != job_id)
        .values(previous_job_id=Predictor.job_id, job_id=job_id, version=Predictor.version + 1, updated_at=moment)
        .execution_options(synchronize_session=False)
    )
    return False


def _hold(session: Session, job_id: str) -> None:
    """Against a deletion of the job before this transaction ends."""
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update(read=True))


def _predictor_or_404(session: Session, caller: Caller, name: str) -> Predictor:
    mine = (Predictor.project_id == caller.project_id, Predictor.name == name)
    found = session.scalar(select(Predictor).where(*mine).execution_options(populate_existing=True))
    if found is None:
        raise errors.NotFound()
    return found


@router.get("/{name}", responses=responses(errors.Unauthenticated, errors.NotFound))
def read_predictor(name: Name, caller: CurrentCaller) -> PredictorRead:
    """Which job answers under this name, and which one did before."""
    with database.reading() as session:
        return PredictorRead.of(_predictor_or_404(session, caller, name))


@router.get("", responses=responses(errors.Unauthenticated, errors.InvalidQuery))
def list_predictors(
    request: Request, response: Response, caller: CurrentCaller, limit: Limit = 20, page: PageCursor = None
) -> Page[PredictorRead]:
    """The project's predictors, newest first."""
    query = select(Predictor).where(Predictor.project_id == caller.project_id)
    with database.reading() as session:
        rows, cursor = page_of(session, query, Predictor.id, page, limit, request, response)
    return Page(items=[PredictorRead.of(row) for row in rows], next_page=cursor)


@router.post("/{name}/rollback", responses=responses(errors.Unauthenticated, errors.NotFound, errors.NoPreviousJob))
def roll_back_predictor(name: Name, caller: CurrentCaller) -> PredictorRead:
    """Goes back to the job before; a second rollback undoes the first."""
    with database.writing() as session:
        while (previous := _predictor_or_404(session, caller, name).previous_job_id) is not None:
            _hold(session, previous)
            swapped = session.execute(
                update(Predictor)
                .where(
                    Predictor.project_id == caller.project_id,
                    Predictor.name == name,
                    Predictor.previous_job_id == previous,  # else it was pointed elsewhere, or that job was deleted
                )
                .values(
                    job_id=Predictor.previous_job_id,
                    previous_job_id=Predictor.job_id,
                    version=Predictor.version + 1,
                    updated_at=db_now(),
                )
                .execution_options(synchronize_session=False)
            )
            if changed(swapped):
                commit(session, "point")
                return PredictorRead.of(_predictor_or_404(session, caller, name))
    raise errors.NoPreviousJob()


@router.delete("/{name}", status_code=204, responses=responses(errors.Unauthenticated, errors.NotFound))
def delete_predictor(name: Name, caller: CurrentCaller) -> None:
    """Deletes the name; the jobs that it pointed at stay."""
    mine = (Predictor.project_id == caller.project_id, Predictor.name == name)
    with database.writing() as session:
        if not changed(session.execute(delete(Predictor).where(*mine))):
            raise errors.NotFound()
        commit(session, "point")


@router.post("/{name}/predict", response_model=PredictionsRead, openapi_extra=BODY, responses=PREDICTING)
async def predict_by_name(
    name: Name,
    request: Request,
    caller: CurrentCaller,
    shape: Shape = "rows",
    other_columns: OtherColumns = "refuse",
) -> Response:
    """Predicts as `POST /v1/jobs/{job_id}/predict` does, by the job that the predictor points at now.

    `job_id` says which job has answered: all rows of a request are answered by one.
    """
    return await answer(request, caller, shape, other_columns, name=name)
