"""Jobs with several datasets, on both databases: they wait for all of them."""

from functools import partial

import pytest

from core import errors, lifecycle
from tests.core.factories import (
    PROFILE,
    WEIGHTS,
    all_rows,
    at_once,
    cancel,
    claimed,
    do,
    events_of,
    job_row,
    make_dataset,
    make_job,
    make_project,
    running,
)


@pytest.fixture
def project(database_url: str) -> str:
    return make_project()


def test_a_job_waits_for_all_of_its_datasets(project: str) -> None:
    train, test = make_dataset(project, ready=False), make_dataset(project, ready=False)
    job_id = make_job(project, train, test_dataset_id=test)
    first, second = claimed(), claimed()

    assert do(lifecycle.dataset_ready, first, **PROFILE) == []
    assert job_row(job_id).phase == "waiting_for_dataset"
    assert do(lifecycle.dataset_ready, second, **PROFILE) == [job_id]

    job = job_row(job_id)
    assert (job.status, job.phase) == ("queued", None)
    assert job.resolved_spec is not None
    assert claimed().subject_id == job_id


def test_datasets_that_are_read_at_the_same_moment_leave_no_job_waiting(project: str) -> None:
    train, validation = make_dataset(project, ready=False), make_dataset(project, ready=False)
    jobs = [make_job(project, train, validation_dataset_id=validation) for _ in range(3)]
    ingests = [claimed(), claimed()]

    told = at_once([partial(do, lifecycle.dataset_ready, ingest, **PROFILE) for ingest in ingests])

    assert sorted(told, key=str) == sorted([[], jobs], key=str)
    assert {job_row(job_id).phase for job_id in jobs} == {None}


@pytest.mark.parametrize("part", ["validation_dataset_id", "test_dataset_id"])
def test_a_job_fails_with_any_of_its_datasets(project: str, part: str) -> None:
    bad = make_dataset(project, ready=False)
    job_id = make_job(project, **{part: bad})

    assert do(lifecycle.dataset_invalid, claimed(), errors.CsvMalformed()) == [job_id]

    job = job_row(job_id)
    assert job.error is not None
    assert (job.status, job.error["reason"]) == ("failed", "csv_malformed")


def test_a_dataset_of_another_project_is_as_one_that_is_not_there(project: str) -> None:
    foreign = make_dataset(make_project())
    before = all_rows()

    with pytest.raises(errors.NotFound):
        make_job(project, make_dataset(project), validation_dataset_id=foreign)

    assert all_rows().keys() == before.keys()
    assert all_rows()["jobs"] == before["jobs"]


def test_what_the_test_rows_have_come_to_stands_on_the_job_and_at_its_end(project: str) -> None:
    held = running(project)
    found = {"rows": 10, "loss": 0.5, "accuracy": 0.9}

    do(lifecycle.succeed, held, "completed", [WEIGHTS], test=found)

    assert job_row(held.subject_id).test == found
    assert events_of(held.run_id)[-1].data["test"] == found


def test_of_a_job_whose_weights_are_thrown_away_the_test_rows_say_nothing(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id, "none")

    do(lifecycle.succeed, held, "completed", [WEIGHTS], test={"rows": 10, "loss": 0.5})

    assert job_row(held.subject_id).test is None
