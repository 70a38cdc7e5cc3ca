"""A job that has ended is deleted whole, on both databases; not one that has not, or that a predictor points at.

`factories.check_rows` looks at all rows at the end of each of these tests.
"""

from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from core import database, errors, lifecycle
from core.ids import new_id
from core.lifecycle import Fenced
from core.tables import Attempt, Event, Predictor, Project, Run
from tests.core.factories import (
    all_rows,
    at_once,
    cancel,
    claimed,
    do,
    job_row,
    make_inquiry,
    make_job,
    make_project,
    running,
    succeed,
)


def delete(project_id: str, job_id: str) -> None:
    do(lifecycle.delete_job, project_id, job_id)


def ended(project_id: str) -> str:
    held = running(project_id)
    succeed(held)
    return held.subject_id


def point(project_id: str, job_id: str, previous: str | None = None) -> None:
    with database.writing() as session:
        moment = database.now(session)
        row: dict[str, Any] = {
            "project_id": project_id,
            "name": "stable",
            "job_id": job_id,
            "previous_job_id": previous,
        }
        session.add(Predictor(id=new_id("prd"), **row, created_at=moment, updated_at=moment))
        session.commit()


def test_nothing_of_a_deleted_job_is_left(project: str) -> None:
    job_id = ended(project)

    delete(project, job_id)

    with database.reading() as session:
        for table in (Run, Event, Attempt):
            assert session.scalars(select(table)).all() == []
    with pytest.raises(errors.NotFound):
        delete(project, job_id)


def test_a_question_about_it_that_was_queued_is_none_any_more(project: str) -> None:
    job_id = ended(project)
    make_inquiry(project, job_id)

    delete(project, job_id)

    with database.reading() as session:
        assert (session.get_one(Project, project).queued, session.get_one(Project, project).running) == (0, 0)


def test_a_worker_that_answers_about_it_is_cut_off(project: str) -> None:
    job_id = ended(project)
    make_inquiry(project, job_id)
    held = claimed()

    delete(project, job_id)

    with pytest.raises(Fenced):
        do(lifecycle.inquiry_answered, held, {})
    with database.reading() as session:
        assert session.get_one(Project, project).running == 0


def test_a_job_that_has_not_ended_stays(project: str) -> None:
    held, waiting = running(project), make_job(project)

    for job_id in (waiting, held.subject_id):
        with pytest.raises(errors.JobNotFinished):
            delete(project, job_id)
    cancel(project, waiting)
    delete(project, waiting)
    assert job_row(held.subject_id).status == "running"


def test_another_projects_job_is_not_found(project: str) -> None:
    job_id = ended(project)
    before = all_rows()

    with pytest.raises(errors.NotFound):
        delete(make_project(), job_id)

    assert all_rows()["jobs"] == before["jobs"]


def test_a_job_that_a_predictor_points_at_stays_and_the_one_before_may_go(project: str) -> None:
    current, previous = ended(project), ended(project)
    point(project, current, previous)

    with pytest.raises(errors.JobInUse) as refused:
        delete(project, current)
    delete(project, previous)

    assert refused.value.facts == {"predictors": ["stable"]}
    with database.reading() as session:
        assert session.scalars(select(Predictor.previous_job_id)).all() == [None]


def test_of_many_that_delete_it_at_once_one_does(project: str) -> None:
    job_id = ended(project)

    found = at_once([partial(delete, project, job_id)] * 6)

    assert [type(one) for one in found].count(errors.NotFound) == 5
    assert found.count(None) == 1
