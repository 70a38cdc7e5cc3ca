"""Questions that a worker answers, on both databases: claimed like any run, answered once, forgotten after a day.

`factories.check_rows` looks at all rows at the end of each of these tests.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, update

from core import database, errors, lifecycle
from core.database import db_now
from core.lifecycle import Capacity, Claim, Fenced
from core.lifecycle.inquiries import FORGET_AFTER
from core.tables import Attempt, Inquiry, Run, Worker
from tests.core.factories import (
    GIB,
    all_rows,
    at_once,
    attempts_of,
    cancel,
    claim,
    claimed,
    do,
    expire,
    inquiry_row,
    job_row,
    make_inquiry,
    make_job,
    run_row,
    set_run,
)

FILES = {"trace.json": {"sha256": "0" * 64, "bytes": 2}}
BUSY = Capacity(training_slots=0, short_slots=1, free_memory=2 * GIB, total_memory=8 * GIB)


def answer(held: Claim) -> None:
    do(lifecycle.inquiry_answered, held, FILES)


def asked(project: str) -> tuple[str, Claim]:
    """A question about a job that has ended, and the claim on it."""
    job_id = make_job(project)
    cancel(project, job_id)
    inquiry_id = make_inquiry(project, job_id)
    held = claimed()
    assert (held.subject_id, held.kind) == (inquiry_id, "trace")
    return inquiry_id, held


def test_a_question_is_queued_for_the_short_slot(project: str) -> None:
    inquiry_id = make_inquiry(project, make_job(project))

    run = run_row(inquiry_id)
    assert (run.kind, run.slot, run.status, run.memory) == ("trace", "short", "queued", GIB)
    assert inquiry_row(inquiry_id).status == "queued"


def test_a_question_that_no_living_worker_could_answer_is_refused(project: str) -> None:
    job_id = make_job(project)
    facts: dict[str, Any] = {"host": "h", "pid": 1, "slots": 1, "memory": 1, "capabilities": {}}
    with database.writing() as session:
        at = database.now(session)
        session.add(Worker(id="wrk_small", started_at=at, last_beat=at, **facts))
        session.commit()
    before = all_rows()

    with pytest.raises(errors.ResourcesExceeded):
        make_inquiry(project, job_id)

    assert all_rows() == before


def test_a_worker_whose_training_slots_are_full_takes_it(project: str) -> None:
    inquiry_id = make_inquiry(project, make_job(project))

    held = claimed(capacity=BUSY)

    assert held.subject_id == inquiry_id
    assert held.log_context()["inquiry_id"] == inquiry_id
    assert inquiry_row(inquiry_id).status == "running"
    assert claim(capacity=BUSY) is None


def test_an_answer_ends_it_and_leaves_its_job_alone(project: str) -> None:
    inquiry_id, held = asked(project)
    job_id = inquiry_row(inquiry_id).job_id
    assert job_id is not None
    before = repr(job_row(job_id).__dict__ | {"_sa_instance_state": None})

    answer(held)

    row = inquiry_row(inquiry_id)
    assert (row.status, row.files, row.error) == ("succeeded", FILES, None)
    assert [one.outcome for one in attempts_of(held.run_id)] == ["succeeded"]
    assert repr(job_row(job_id).__dict__ | {"_sa_instance_state": None}) == before


def test_what_cannot_be_answered_says_why(project: str) -> None:
    inquiry_id, held = asked(project)

    do(lifecycle.inquiry_failed, held, errors.DatasetDeleted())

    row = inquiry_row(inquiry_id)
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["code"] == "dataset_deleted"
    assert [(one.outcome, one.cause) for one in attempts_of(held.run_id)] == [("failed", "dataset_deleted")]


def test_a_process_that_dies_is_tried_once_more(project: str) -> None:
    inquiry_id, held = asked(project)

    do(lifecycle.crash, held, "signal_11")
    assert inquiry_row(inquiry_id).status == "queued"
    do(lifecycle.crash, claimed(), "signal_11")

    row = inquiry_row(inquiry_id)
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["code"] == "worker_crashed"


@pytest.mark.parametrize("how", ["stopped", "lost"])
def test_another_worker_answers_what_one_had_to_leave(project: str, how: str) -> None:
    inquiry_id, held = asked(project)

    if how == "stopped":
        do(lifecycle.release, held, "worker_stopped")
    else:
        expire(held)
        assert do(lifecycle.rescue_dead) == [inquiry_id]
    assert inquiry_row(inquiry_id).status == "queued"
    answer(claimed("wrk_2"))

    assert inquiry_row(inquiry_id).status == "succeeded"
    assert run_row(inquiry_id).interruptions == 1


def test_one_that_is_interrupted_without_end_is_given_up(project: str) -> None:
    inquiry_id, held = asked(project)
    set_run(inquiry_id, interruptions=20)

    do(lifecycle.release, held, "worker_stopped")

    row = inquiry_row(inquiry_id)
    assert row.error is not None
    assert (row.status, row.error["code"]) == ("failed", "worker_lost")


@pytest.mark.parametrize(
    "act",
    [
        answer,
        partial(do, lifecycle.renew),
        lambda held: do(lifecycle.inquiry_failed, held, errors.Internal()),
        lambda held: do(lifecycle.crash, held, "signal_9"),
        lambda held: do(lifecycle.release, held, "worker_stopped"),
    ],
)
def test_a_worker_that_lost_its_claim_writes_nothing(project: str, act: Callable[[Claim], Any]) -> None:
    _, held = asked(project)
    expire(held)
    do(lifecycle.rescue_dead)
    claimed("wrk_2")
    before = all_rows()

    with pytest.raises(Fenced):
        act(held)

    assert all_rows() == before


def test_of_two_answers_at_once_one_counts(project: str) -> None:
    inquiry_id, held = asked(project)

    done = at_once([partial(answer, held)] * 2)

    assert sorted(type(one).__name__ for one in done) == ["Fenced", "NoneType"]
    assert inquiry_row(inquiry_id).status == "succeeded"


def test_answers_are_forgotten_a_day_after(project: str) -> None:
    (old, first), (young, second) = asked(project), asked(project)
    do(lifecycle.inquiry_failed, first, errors.Internal())
    answer(second)
    waiting, _ = asked(project)
    with database.writing() as session:
        session.execute(
            update(Inquiry).where(Inquiry.id.in_((old, waiting))).values(created_at=db_now() - 2 * FORGET_AFTER)
        )
        session.execute(update(Inquiry).where(Inquiry.id == old).values(finished_at=db_now() - FORGET_AFTER - 1))
        session.commit()

    assert do(lifecycle.forget_inquiries) == 1

    with database.reading() as session:
        assert set(session.scalars(select(Inquiry.id))) == {young, waiting}
        assert session.scalar(select(Run.id).where(Run.id == first.run_id)) is None
        assert session.scalar(select(Attempt.number).where(Attempt.run_id == first.run_id)) is None
