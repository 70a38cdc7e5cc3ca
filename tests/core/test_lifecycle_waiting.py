"""Why a queued job waits, on both databases; and how long one has been worked on."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from core import database, errors, lifecycle
from core.database import db_now
from core.lifecycle import Fenced, Waiting
from core.tables import Attempt, Transcript, Worker
from tests.core.factories import (
    claimed,
    do,
    expire,
    make_dataset,
    make_job,
    make_project,
    run_row,
    running,
    set_run,
    succeed,
)

GIB = 1024**3


def add_worker(name: str, memory: int = 64 * GIB, trainings: int = 1) -> None:
    with database.writing() as session:
        at = database.now(session)
        facts: dict[str, Any] = {"host": "h", "pid": 1, "slots": trainings + 1, "memory": memory, "capabilities": {}}
        session.add(Worker(id=name, started_at=at, last_beat=at, **facts))
        session.commit()


def forget(worker: str) -> None:
    with database.writing() as session:
        session.execute(update(Worker).where(Worker.id == worker).values(last_beat=db_now() - 3600.0))
        session.commit()


def why(job_id: str) -> Waiting:
    with database.reading() as session:
        return lifecycle.why_queued(session, [job_id])[job_id]


def test_a_job_without_a_worker_says_so(project: str) -> None:
    job_id = make_job(project)
    add_worker("wrk_gone")
    forget("wrk_gone")

    found = why(job_id)

    assert (found.reason, found.ahead, found.until) == ("no_worker", 0, None)
    assert found.memory_bytes == run_row(job_id).memory > 0


def test_a_job_whose_dataset_is_still_read_waits_for_that(project: str) -> None:
    add_worker("wrk_1")

    assert why(make_job(project, make_dataset(project, ready=False))).reason == "dataset"


def test_a_job_that_died_says_when_it_is_tried_again(project: str) -> None:
    add_worker("wrk_1")
    held = running(project)
    do(lifecycle.crash, held, "signal_11")
    do(lifecycle.crash, claimed(), "signal_11")

    found = why(held.subject_id)

    assert found.reason == "retry"
    assert found.until == run_row(held.subject_id).not_before


def test_a_job_that_is_larger_than_every_worker_says_what_it_needs(project: str) -> None:
    job_id = make_job(project)
    add_worker("wrk_small", memory=run_row(job_id).memory - 1)

    assert why(job_id).reason == "no_worker_large_enough"


def test_a_job_waits_for_a_slot_and_then_for_memory_and_then_for_its_turn(project: str) -> None:
    held = running(project)  # by wrk_1
    job_id = make_job(project)
    needed = run_row(job_id).memory

    add_worker("wrk_1", memory=4 * needed)
    for_a_slot = why(job_id).reason
    add_worker("wrk_small", memory=needed - 1)  # has a slot that is free, and never the memory
    still_for_a_slot = why(job_id).reason
    with database.writing() as session:
        session.execute(update(Worker).where(Worker.id == "wrk_1").values(slots=3, memory=needed + 1))
        session.commit()
    for_memory = why(job_id).reason
    succeed(held)
    for_its_turn = why(job_id).reason

    assert (for_a_slot, still_for_a_slot, for_memory, for_its_turn) == (
        "no_free_slot",
        "no_free_slot",
        "no_free_memory",
        "its_turn_comes",
    )


def test_those_ahead_are_counted_in_the_order_of_claims(project: str) -> None:
    add_worker("wrk_1")
    first, second = make_job(project), make_job(project)
    other = make_job(make_project())
    urgent = make_job(project)
    set_run(urgent, priority=1)

    with database.reading() as session:
        found = lifecycle.why_queued(session, [first, second, other, urgent])
    ahead = {job_id: waiting.ahead for job_id, waiting in found.items()}
    order = [claimed().subject_id for _ in range(4)]

    assert sorted(ahead.values()) == [0, 1, 2, 3]
    assert ahead[order[0]] == 0  # the next claim moves the project, and with it all the others
    assert ahead[urgent] < ahead[first] < ahead[second]


def test_a_running_job_waits_for_nothing(project: str) -> None:
    held = running(project)

    with database.reading() as session:
        assert lifecycle.why_queued(session, [held.subject_id]) == {}


def test_only_the_time_that_a_job_was_worked_on_counts(project: str) -> None:
    held = running(project)
    do(lifecycle.release, held, "worker_stopped")
    with database.writing() as session:
        began = session.get_one(Attempt, (held.run_id, 1)).started_at
        ended = began + timedelta(seconds=100)
        session.execute(update(Attempt).values(ended_at=ended))
        session.commit()
    again = claimed()
    with database.writing() as session:
        session.execute(update(Attempt).where(Attempt.number == 2).values(started_at=db_now() - 50.0))
        session.commit()

    with database.reading() as session:
        seconds = lifecycle.seconds_worked(session, again)

    assert seconds == pytest.approx(150, abs=5)


def test_what_a_training_process_wrote_is_kept_once_and_only_by_who_holds_the_run(project: str) -> None:
    held = running(project)

    do(lifecycle.keep_transcript, held, "first")
    do(lifecycle.keep_transcript, held, "last")
    expire(held)
    do(lifecycle.rescue_dead)
    with pytest.raises(Fenced):
        do(lifecycle.keep_transcript, held, "a zombie's")

    with database.reading() as session:
        assert session.get_one(Transcript, (held.run_id, 1)).text == "last"


def test_a_job_over_its_time_fails_by_that_name(project: str) -> None:
    held = running(project)

    do(lifecycle.fail, held, errors.DeadlineExceeded())

    with database.reading() as session:
        assert session.get_one(Attempt, (held.run_id, 1)).cause == "deadline_exceeded"
