"""A dataset that a job is being submitted for is not deleted before the job is there.

On Postgres: SQLite has one writer at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.datasets import dataset_or_404
from api.keys import Caller, create_project
from core import database
from core.database import now
from core.tables import Dataset
from tests.api.asking import RANDOM

on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def caller(database_url: str) -> Caller:
    """Of a project with one dataset, which is still being read."""
    with database.writing() as session:
        project_id = create_project(session, "growth")
        plain = {"name": "a.csv", "format": "csv", "bytes": 1, "sha256": "0", "upload_key": "uploads/0"}
        session.add(
            Dataset(id=RANDOM["dataset"], project_id=project_id, status="processing", created_at=now(session), **plain)
        )
        session.commit()
    return Caller(project_id, "key_0", admin=False)


@contextmanager
def impatient() -> Iterator[Session]:
    with database.writing() as session:
        session.execute(text("SET LOCAL lock_timeout = '200ms'"))
        yield session


@on_postgres
def test_a_dataset_is_not_deleted_while_a_job_is_submitted_for_it(caller: Caller) -> None:
    with database.writing() as submitting, impatient() as deleting:
        submitting.execute(select(Dataset).with_for_update(read=True))

        with pytest.raises(OperationalError, match="lock timeout"):
            dataset_or_404(deleting, caller, RANDOM["dataset"], hold=True)
