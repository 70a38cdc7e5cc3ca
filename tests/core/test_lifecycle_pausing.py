"""Pause and resume, on both databases: a checkpoint is kept, the slot is free, and nothing is counted."""

from functools import partial

import pytest
from sqlalchemy import select

from core import database, errors, lifecycle
from core.database import db_now
from core.events import NewEvent
from core.lifecycle import Fenced
from core.tables import Checkpoint, Project
from tests.core.factories import (
    PROFILE,
    at_once,
    attempts_of,
    cancel,
    claim,
    claimed,
    do,
    events_of,
    expire,
    fold_rows,
    job_row,
    make_dataset,
    make_job,
    make_project,
    pause,
    resume,
    run_row,
    running,
    set_run,
    succeed,
)

EPOCH = NewEvent("epoch", {"epoch": 1})


def statuses(job_id: str) -> list[str]:
    return [event.data["status"] for event in events_of(run_row(job_id).id) if event.type == "status"]


def checkpoints(run_id: str) -> int:
    with database.reading() as session:
        return len(session.scalars(select(Checkpoint.number).where(Checkpoint.run_id == run_id)).all())


def counters(project_id: str) -> tuple[int, int]:
    with database.reading() as session:
        found = session.get_one(Project, project_id)
        return found.queued, found.running


def rested(project: str) -> str:
    """A job that was paused in its first attempt, with a checkpoint."""
    held = running(project)
    do(lifecycle.save_checkpoint, held, 1, {"state.json": {"sha256": "0" * 64, "bytes": 1}})
    pause(project, held.subject_id)
    do(lifecycle.release, held, "paused")
    assert job_row(held.subject_id).status == "paused"
    return held.subject_id


# --- pausing --------------------------------------------------------------------------------------------------------


def test_a_queued_job_is_paused_at_once_and_nobody_claims_it(project: str) -> None:
    job_id = make_job(project)

    job = pause(project, job_id)

    assert (job.status, job.phase) == ("paused", None)
    assert claim() is None
    assert counters(project) == (0, 0)
    assert statuses(job_id) == ["queued", "paused"]


def test_a_running_job_is_pausing_until_its_worker_lets_it_go(project: str) -> None:
    held = running(project)

    job = pause(project, held.subject_id)

    assert job.status == "pausing"
    assert do(lifecycle.renew, held) == "pause"
    assert do(lifecycle.record, held, [EPOCH]) == "pause"
    order, deadline = do(lifecycle.orders, held)
    assert order == "pause"
    assert deadline is not None
    do(lifecycle.release, held, "paused")
    assert job_row(held.subject_id).status == "paused"
    assert (run_row(held.subject_id).status, counters(project)) == ("waiting", (0, 0))
    assert statuses(held.subject_id) == ["queued", "running", "pausing", "paused"]


def test_a_pause_keeps_the_checkpoint_and_counts_for_nothing(project: str) -> None:
    job_id = rested(project)

    run = run_row(job_id)
    assert (run.interruptions, run.failures) == (0, 0)
    assert checkpoints(run.id) == 1
    assert [(one.outcome, one.cause) for one in attempts_of(run.id)] == [("interrupted", "paused")]


def test_a_job_may_be_paused_more_often_than_it_may_be_interrupted(project: str) -> None:
    job_id = make_job(project)

    for _ in range(25):
        held = claimed()
        pause(project, job_id)
        do(lifecycle.release, held, "paused")
        resume(project, job_id)

    assert succeed(claimed()) == "succeeded"
    assert run_row(job_id).interruptions == 0


@pytest.mark.parametrize("force", [False, True])
def test_pausing_twice_is_pausing_once(project: str, force: bool) -> None:
    job_id = rested(project)
    before = statuses(job_id)

    assert pause(project, job_id, force=force).status == "paused"
    assert statuses(job_id) == before


def test_a_second_pause_moves_no_deadline_unless_it_is_by_force(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)
    before = do(lifecycle.orders, held)

    pause(project, held.subject_id)
    assert do(lifecycle.orders, held) == before
    pause(project, held.subject_id, force=True)

    assert do(lifecycle.orders, held)[1] < before[1]
    assert statuses(held.subject_id).count("pausing") == 1


def test_a_worker_that_stops_while_its_job_pauses_leaves_it_paused(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)

    do(lifecycle.release, held, "worker_stopped")

    assert job_row(held.subject_id).status == "paused"
    assert run_row(held.subject_id).interruptions == 0


def test_a_dead_worker_does_not_undo_a_pause_and_is_counted(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)
    expire(held)

    assert do(lifecycle.rescue_dead) == [held.subject_id]

    assert job_row(held.subject_id).status == "paused"
    assert run_row(held.subject_id).interruptions == 1
    assert claim() is None
    with pytest.raises(Fenced):
        do(lifecycle.record, held, [EPOCH])


def test_a_training_process_that_dies_while_its_job_pauses_is_counted(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)

    do(lifecycle.crash, held, "signal_11")

    assert job_row(held.subject_id).status == "paused"
    assert (run_row(held.subject_id).failures, run_row(held.subject_id).not_before) == (1, None)


def test_a_job_that_crashes_too_often_fails_though_it_pauses(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)
    set_run(held.subject_id, failures=3)

    do(lifecycle.crash, held, "signal_11")

    assert job_row(held.subject_id).status == "failed"


def test_a_job_that_is_done_before_it_hears_of_the_pause_succeeds(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)

    assert succeed(held) == "succeeded"

    assert job_row(held.subject_id).status == "succeeded"


def test_a_job_between_two_attempts_is_paused_at_once(project: str) -> None:
    held = running(project)
    do(lifecycle.crash, held, "signal_11")
    do(lifecycle.crash, claimed(), "signal_11")  # due in ten seconds

    assert pause(project, held.subject_id).status == "paused"
    resume(project, held.subject_id)
    assert claimed().attempt == 3


# --- resuming -------------------------------------------------------------------------------------------------------


def test_a_resumed_job_is_claimed_by_any_worker_with_its_checkpoint(project: str) -> None:
    job_id = rested(project)

    job = resume(project, job_id)
    again = claimed("wrk_2")

    assert job.status == "queued"
    assert (again.subject_id, again.attempt, again.order) == (job_id, 2, None)
    assert checkpoints(again.run_id) == 1
    assert succeed(again) == "succeeded"
    assert statuses(job_id) == ["queued", "running", "pausing", "paused", "queued", "running", "succeeded"]


def test_a_resumed_job_queues_behind_those_that_came_meanwhile(project: str) -> None:
    job_id = rested(project)
    other = make_job(project)

    resume(project, job_id)

    assert [claimed().subject_id, claimed().subject_id] == [other, job_id]


def test_a_project_whose_job_is_resumed_rejoins_the_others_without_an_advantage(project: str) -> None:
    job_id = rested(project)  # its project has been given a single run
    busy = make_project()
    for _ in range(5):
        make_job(busy)
        claimed()
    queued = make_job(busy)

    resume(project, job_id)

    assert [claimed().subject_id, claimed().subject_id] in ([queued, job_id], [job_id, queued])
    with database.reading() as session:
        mine, theirs = session.get_one(Project, project), session.get_one(Project, busy)
    assert mine.virtual_time >= theirs.virtual_time - 1


@pytest.mark.parametrize("state", ["queued", "running"])
def test_resuming_what_was_not_paused_changes_nothing(project: str, state: str) -> None:
    job_id = make_job(project)
    if state == "running":
        claimed()
    before = statuses(job_id)

    assert resume(project, job_id).status == state

    assert statuses(job_id) == before


def test_resuming_twice_queues_once(project: str) -> None:
    job_id = rested(project)

    found = at_once([partial(resume, project, job_id)] * 4)

    assert [one.status for one in found if not isinstance(one, Exception)] == ["queued"] * 4
    assert counters(project) == (1, 0)


def test_a_pause_that_is_taken_back_in_time_lets_the_job_run_on(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)

    job = resume(project, held.subject_id)

    assert job.status == "running"
    assert do(lifecycle.orders, held) == (None, None)
    assert succeed(held) == "succeeded"


def test_a_pause_that_is_taken_back_too_late_queues_the_job_uncounted(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)
    resume(project, held.subject_id)

    do(lifecycle.release, held, "paused")  # the training process had heard of it

    assert job_row(held.subject_id).status == "queued"
    assert run_row(held.subject_id).interruptions == 0
    assert claimed().attempt == 2


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_job_that_has_ended_is_neither_paused_nor_resumed(project: str) -> None:
    held = running(project)
    succeed(held)

    with pytest.raises(errors.JobAlreadyTerminal):
        pause(project, held.subject_id)
    with pytest.raises(errors.JobAlreadyTerminal):
        resume(project, held.subject_id)


def test_a_job_that_is_being_cancelled_is_neither_paused_nor_resumed(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)

    with pytest.raises(errors.JobCancelling):
        pause(project, held.subject_id)
    with pytest.raises(errors.JobCancelling):
        resume(project, held.subject_id)


@pytest.mark.parametrize("act", [pause, resume])
def test_a_strangers_job_is_not_found(project: str, act: object) -> None:
    job_id = make_job(project)

    with pytest.raises(errors.NotFound):
        act(make_project(), job_id)  # type: ignore[operator]


def test_a_paused_job_is_not_deleted(project: str) -> None:
    job_id = rested(project)

    with pytest.raises(errors.JobNotFinished):
        do(lifecycle.delete_job, project, job_id)


# --- cancelling a paused job ----------------------------------------------------------------------------------------


def test_a_paused_job_that_never_ran_is_cancelled_at_once(project: str) -> None:
    job_id = make_job(project)
    pause(project, job_id)

    assert cancel(project, job_id).status == "cancelled"


def test_a_paused_job_that_is_cancelled_is_exported_before_anything_else(project: str) -> None:
    job_id = rested(project)
    make_job(project, priority=1)

    job = cancel(project, job_id)
    held = claimed()

    assert job.status == "cancelling"
    assert (held.subject_id, held.order) == (job_id, "cancel")
    assert do(lifecycle.orders, held)[1] is not None
    assert succeed(held) == "cancelled"


def test_a_paused_job_that_is_cancelled_waits_as_long_as_it_must_for_a_worker(project: str) -> None:
    job_id = rested(project)

    cancel(project, job_id)

    assert run_row(job_id).stop_deadline is None
    assert do(lifecycle.rescue_dead) == []
    assert cancel(project, job_id, force=True).status == "cancelling"
    set_run(job_id, stop_deadline=db_now() - 1.0)
    assert do(lifecycle.rescue_dead) == [job_id]
    assert job_row(job_id).status == "cancelled"


@pytest.mark.parametrize(("keep", "force"), [("none", False), ("best", True)])
def test_a_paused_job_with_nothing_to_export_is_cancelled_at_once(
    project: str, keep: lifecycle.Keep, force: bool
) -> None:
    job_id = rested(project)

    assert cancel(project, job_id, keep, force=force).status == "cancelled"
    assert counters(project) == (0, 0)


def test_a_pausing_job_that_is_cancelled_ends_cancelled(project: str) -> None:
    held = running(project)
    pause(project, held.subject_id)

    assert cancel(project, held.subject_id).status == "cancelling"
    do(lifecycle.release, held, "paused")  # it had heard of the pause before

    assert claimed().order == "cancel"


# --- a job that waits for its dataset -------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [None, 2])
def test_a_job_that_is_paused_before_its_dataset_is_read_stays_paused(project: str, folds: int | None) -> None:
    dataset = make_dataset(project, ready=False)
    job_id = make_job(project, dataset, folds=folds)
    ingest = claimed()
    pause(project, job_id)

    do(lifecycle.dataset_ready, ingest, **PROFILE)

    assert job_row(job_id).status == "paused"
    assert job_row(job_id).resolved_spec is not None
    assert claim() is None
    resume(project, job_id)
    assert claimed().concerns == job_id


def test_a_job_that_is_resumed_before_its_dataset_is_read_waits_for_it(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    job_id = make_job(project, dataset)
    ingest = claimed()
    pause(project, job_id)

    job = resume(project, job_id)

    assert (job.status, job.phase) == ("queued", "waiting_for_dataset")
    assert claim() is None
    do(lifecycle.dataset_ready, ingest, **PROFILE)
    assert claimed().subject_id == job_id


def test_a_paused_job_fails_with_its_dataset(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    job_id = make_job(project, dataset)
    ingest = claimed()
    pause(project, job_id)

    do(lifecycle.dataset_invalid, ingest, errors.CsvMalformed())

    assert job_row(job_id).status == "failed"


# --- folds ----------------------------------------------------------------------------------------------------------


def test_all_folds_of_a_job_pause_together(project: str) -> None:
    job_id = make_job(project, folds=3)
    first, second = claimed(), claimed()

    assert pause(project, job_id).status == "pausing"
    assert claim() is None
    assert do(lifecycle.renew, first) == do(lifecycle.renew, second) == "pause"
    do(lifecycle.release, first, "paused")
    assert job_row(job_id).status == "pausing"
    do(lifecycle.release, second, "paused")

    assert job_row(job_id).status == "paused"
    assert counters(project) == (0, 0)
    assert {run_row(fold.id).status for fold in fold_rows(job_id)} == {"waiting"}


def test_the_folds_of_a_resumed_job_go_on_where_they_were(project: str) -> None:
    job_id = make_job(project, folds=2)
    first = claimed()
    do(lifecycle.save_checkpoint, first, 1, {})
    pause(project, job_id)
    do(lifecycle.release, first, "paused")

    assert resume(project, job_id).status == "queued"
    again, other = claimed(), claimed()

    assert {(again.fold, again.attempt), (other.fold, other.attempt)} == {(1, 2), (2, 1)}
    assert checkpoints(first.run_id) == 1
    assert job_row(job_id).status == "running"


def test_a_fold_that_ends_while_its_job_pauses_counts(project: str) -> None:
    job_id = make_job(project, folds=2)
    result = {"rows": 33, "epoch": 1, "stop_reason": "completed", "loss": 0.5}
    first, second = claimed(), claimed()
    pause(project, job_id)

    do(lifecycle.fold_trained, first, result)
    assert job_row(job_id).status == "pausing"
    do(lifecycle.fold_trained, second, result)

    assert job_row(job_id).status == "paused"
    assert claim() is None
    assert resume(project, job_id).status == "queued"
    last = claimed()
    assert (last.subject_id, last.fold) == (job_id, None)
    assert succeed(last) == "succeeded"


def test_a_paused_cross_validation_is_cancelled_at_once(project: str) -> None:
    job_id = make_job(project, folds=2)
    held = claimed()
    pause(project, job_id)
    do(lifecycle.release, held, "paused")

    assert cancel(project, job_id).status == "cancelled"
    assert counters(project) == (0, 0)


# --- races ----------------------------------------------------------------------------------------------------------


def test_pause_and_success_race_to_exactly_one_answer(project: str) -> None:
    for _ in range(20):
        held = running(project)

        ended, asked = at_once([partial(succeed, held), partial(pause, project, held.subject_id)])

        assert ended == "succeeded"
        assert job_row(held.subject_id).status == "succeeded"
        assert isinstance(asked, errors.JobAlreadyTerminal) or getattr(asked, "status", None) == "pausing"


def test_pause_and_claim_race_to_a_job_that_comes_to_rest(project: str) -> None:
    for _ in range(20):
        job_id = make_job(project)

        taken, asked = at_once([claim, partial(pause, project, job_id)])

        assert not isinstance(asked, Exception)
        if taken is not None:
            assert not isinstance(taken, Exception)
            do(lifecycle.release, taken, "paused")
        assert job_row(job_id).status == "paused"


def test_pause_and_resume_race_to_one_of_both(project: str) -> None:
    for _ in range(20):
        job_id = rested(project)

        at_once([partial(resume, project, job_id), partial(pause, project, job_id)])

        status = job_row(job_id).status
        assert status in ("queued", "paused")
        if status == "queued":
            succeed(claimed())
        else:
            cancel(project, job_id, "none")
