"""The folds of a job, on both databases: claimed like any run, and its network after the last of them.

`factories.check_rows` looks at all rows at the end of each of these tests.
"""

from functools import partial

import numpy as np
import pytest

from core import database, errors, lifecycle
from core.cross_validation import cross_validation
from core.events import NewEvent
from core.lifecycle import Capacity, Claim, Fenced
from core.lifecycle.ending import MAX_INTERRUPTIONS, RETRY_DELAYS
from core.tables import Event
from tests.core.factories import (
    GIB,
    PROFILE,
    ROOMY,
    all_rows,
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
    run_row,
    set_run,
    succeed,
)

LOSSES = [0.4, 0.1, 0.7]


def folds_claimed(project: str, folds: int = 3) -> tuple[str, list[Claim]]:
    """A job, and the claim on each of its folds."""
    job_id = make_job(project, folds=folds)
    held = [claimed() for _ in range(folds)]
    assert [one.fold for one in held] == list(range(1, folds + 1))
    return job_id, held


def trained(held: Claim, loss: float | None = 0.5, epoch: int = 3) -> None:
    do(lifecycle.fold_trained, held, {"rows": 33, "epoch": epoch, "stop_reason": "completed", "loss": loss})


def log_of(job_id: str, *types: str) -> list[Event]:
    return [event for event in events_of(run_row(job_id).id) if event.type in types]


# --- the queue --------------------------------------------------------------------------------------------------------


def test_each_fold_is_a_run_of_its_own_and_the_job_waits_for_them(project: str) -> None:
    job_id = make_job(project, folds=3, priority=1)

    folds, own = [run_row(fold.id) for fold in fold_rows(job_id)], run_row(job_id)
    assert (own.status, job_row(job_id).status) == ("waiting", "queued")
    assert [(run.kind, run.slot, run.status, run.priority) for run in folds] == [("fold", "training", "queued", 1)] * 3
    assert {run.memory for run in folds} == {own.memory}
    assert own.memory > 0


def test_folds_are_claimed_in_order_and_beside_each_other(project: str) -> None:
    job_id, held = folds_claimed(project)

    assert {one.concerns for one in held} == {job_id}
    assert (job_row(job_id).status, job_row(job_id).phase) == ("running", "cross_validation")
    assert claim() is None


def test_a_worker_takes_as_many_folds_as_its_memory_and_its_slots_hold(project: str) -> None:
    job_id = make_job(project, folds=3)
    memory = run_row(job_id).memory

    assert claim(capacity=Capacity(0, 1, 8 * GIB, 8 * GIB)) is None
    assert claim(capacity=Capacity(3, 1, memory - 1, 8 * GIB)) is None
    assert claim(capacity=Capacity(3, 1, memory, 8 * GIB)) is not None


def test_folds_count_as_runs_of_their_project(database_url: str) -> None:
    cross_validating, other = make_project(), make_project()
    make_job(cross_validating, folds=3)
    later = make_job(other)

    first, second = claimed(), claimed()

    assert (first.fold, second.subject_id) == (1, later)


def test_after_the_last_fold_the_job_goes_before_those_that_came_later(project: str) -> None:
    job_id, held = folds_claimed(project)
    later = make_job(project)
    for one in held[:2]:
        trained(one)
    assert run_row(job_id).status == "waiting"

    trained(held[2])

    assert (run_row(job_id).status, job_row(job_id).status, job_row(job_id).phase) == ("queued", "queued", None)
    assert [claimed().subject_id, claimed().subject_id] == [job_id, later]


def test_folds_that_end_at_the_same_moment_queue_the_job_once(project: str) -> None:
    job_id, held = folds_claimed(project)

    ended = at_once([partial(trained, one) for one in held])

    assert ended == [None] * 3
    assert run_row(job_id).status == "queued"
    assert [event.data.get("fold") for event in log_of(job_id, "status")].count(None) == 3  # queued, running, queued


def test_a_job_that_waited_for_its_dataset_has_its_folds_then(project: str) -> None:
    dataset_id = make_dataset(project, ready=False)
    job_id = make_job(project, dataset_id, folds=2)
    assert fold_rows(job_id) == []

    do(lifecycle.dataset_ready, claimed(), **PROFILE)

    assert [claimed().fold, claimed().fold] == [1, 2]
    assert run_row(job_id).status == "waiting"
    assert run_row(job_id).memory > 0


# --- what they come to ------------------------------------------------------------------------------------------------


def test_the_job_and_its_end_say_mean_and_sample_standard_deviation(project: str) -> None:
    job_id, held = folds_claimed(project)
    for one, loss, epoch in zip(reversed(held), LOSSES, (2, 4, 5), strict=True):
        trained(one, loss, epoch)
    succeed(claimed())

    found = log_of(job_id, "end")[0].data["cross_validation"]
    assert [(one["fold"], one["loss"], one["epoch"]) for one in found["folds"]] == [
        (1, 0.7, 5),
        (2, 0.1, 4),
        (3, 0.4, 2),
    ]
    assert found["mean"] == {"loss": pytest.approx(np.mean(LOSSES), rel=1e-12)}
    assert found["std"] == {"loss": pytest.approx(np.std(LOSSES, ddof=1), rel=1e-12)}
    assert found["epochs"] == 4  # 11 / 3


def test_there_is_no_mean_before_the_last_fold_nor_of_what_one_could_not_measure(project: str) -> None:
    job_id, held = folds_claimed(project, 2)
    trained(held[0], None)
    with database.reading() as session:
        before = cross_validation(session, job_id)
    trained(held[1], 0.5)
    with database.reading() as session:
        after = cross_validation(session, job_id)

    assert before is not None
    assert after is not None
    assert [one["fold"] for one in before["folds"]] == [1]
    assert (before["mean"], before["std"], before["epochs"]) == (None, None, None)
    assert (after["mean"], after["std"]) == ({"loss": None}, {"loss": None})


def test_progress_counts_all_networks_together(project: str) -> None:
    job_id, held = folds_claimed(project, 2)
    assert job_row(job_id).progress["epochs"] == 300

    do(lifecycle.record, held[0], [], progress={"epoch": 10, "step": 30}, latest_metrics={"valid_loss": 0.5})
    do(lifecycle.record, held[1], [], progress={"epoch": 20, "step": 60})
    shared = job_row(job_id)

    assert {**shared.progress, "eta_seconds": 0} == {
        "epoch": 30,
        "epochs": 300,
        "step": 90,
        "fraction": 0.1,
        "eta_seconds": 0,
    }
    assert shared.progress["eta_seconds"] > 0
    assert shared.latest_metrics == {"fold": 1, "valid_loss": 0.5}
    trained(held[0], epoch=8)  # stopped early: its other epochs will not come
    assert job_row(job_id).progress["epochs"] == 210


# --- one log ----------------------------------------------------------------------------------------------------------


def test_folds_write_into_the_log_of_their_job(project: str) -> None:
    job_id, held = folds_claimed(project, 2)

    do(lifecycle.record, held[1], [NewEvent("epoch", {"epoch": 1})])
    do(lifecycle.save_checkpoint, held[0], 1, {})
    trained(held[0])

    written = [(event.type, event.data["fold"]) for event in log_of(job_id, "epoch", "checkpoint", "fold")]
    assert written == [("epoch", 2), ("checkpoint", 1), ("fold", 1)]


def test_folds_that_write_at_the_same_moment_leave_no_gap(project: str) -> None:
    job_id, held = folds_claimed(project)

    def write(one: Claim) -> None:
        for epoch in range(1, 11):
            do(lifecycle.record, one, [NewEvent("epoch", {"epoch": epoch})], progress={"epoch": epoch, "step": epoch})

    assert at_once([partial(write, one) for one in held]) == [None] * 3
    assert len(log_of(job_id, "epoch")) == 30
    assert job_row(job_id).progress["epoch"] == 30


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_cancelled_job_ends_its_folds_at_once(project: str) -> None:
    job_id, held = folds_claimed(project)
    trained(held[0])

    assert cancel(project, job_id).status == "cancelled"

    before = all_rows()
    for one in held[1:]:
        with pytest.raises(Fenced):
            do(lifecycle.renew, one)
        with pytest.raises(Fenced):
            do(lifecycle.record, one, [NewEvent("epoch", {"epoch": 1})])
        with pytest.raises(Fenced):
            trained(one)
    assert all_rows() == before
    assert [attempts_of(one.run_id)[0].outcome for one in held] == ["succeeded", "cancelled", "cancelled"]
    assert [one["fold"] for one in log_of(job_id, "end")[0].data["cross_validation"]["folds"]] == [1]


def test_a_job_is_cancelled_between_its_folds_and_its_network(project: str) -> None:
    job_id, held = folds_claimed(project, 2)
    for one in held:
        trained(one)

    assert cancel(project, job_id).status == "cancelled"
    assert claim() is None


def test_a_cancel_while_the_last_fold_ends_is_one_or_the_other(project: str) -> None:
    for _ in range(5):
        job_id, held = folds_claimed(project, 2)
        trained(held[0])

        found = at_once([partial(trained, held[1]), partial(cancel, project, job_id)])

        assert found[0] is None or isinstance(found[0], Fenced)
        assert job_row(job_id).status == "cancelled"
        assert claim() is None


def test_a_fold_that_fails_fails_its_job_and_ends_the_others(project: str) -> None:
    job_id, held = folds_claimed(project)

    do(lifecycle.fail, held[1], errors.Diverged("The loss is no number.", epoch=3))

    job = job_row(job_id)
    assert job.status == "failed"
    assert job.error == {"code": "diverged", "message": "Fold 2: The loss is no number.", "epoch": 3, "fold": 2}
    assert [attempts_of(one.run_id)[0].outcome for one in held] == ["cancelled", "failed", "cancelled"]
    assert claim() is None


def test_a_fold_whose_process_dies_is_tried_again_and_given_up_at_the_fourth_time(project: str) -> None:
    job_id, held = folds_claimed(project, 2)
    dying = held[1]
    for delay in RETRY_DELAYS:
        do(lifecycle.crash, dying, "signal_9")
        said = log_of(job_id, "status")[-1].data
        assert (said["fold"], said["cause"], said["retry_in_seconds"]) == (2, "signal_9", delay)
        set_run(dying.subject_id, not_before=None)
        dying = claimed()
    assert job_row(job_id).status == "running"

    do(lifecycle.crash, dying, "signal_9")

    error = job_row(job_id).error
    assert error is not None
    assert (error["code"], error["fold"]) == ("worker_crashed", 2)


def test_a_fold_of_a_dead_worker_is_taken_back_and_only_the_next_claim_counts(project: str) -> None:
    job_id, held = folds_claimed(project, 2)
    expire(held[0])

    assert do(lifecycle.rescue_dead) == [job_id]
    again = claimed("wrk_2")

    assert (again.fold, again.attempt) == (1, 2)
    with pytest.raises(Fenced):
        trained(held[0])
    trained(again)
    trained(held[1])
    assert run_row(job_id).status == "queued"


def test_a_fold_that_loses_too_many_workers_fails_its_job(project: str) -> None:
    job_id, held = folds_claimed(project, 2)
    set_run(held[0].subject_id, interruptions=MAX_INTERRUPTIONS)
    expire(held[0])

    do(lifecycle.rescue_dead)

    error = job_row(job_id).error
    assert error is not None
    assert (error["code"], error["fold"]) == ("worker_lost", 1)


def test_a_worker_that_stops_gives_its_fold_back(project: str) -> None:
    _, held = folds_claimed(project, 2)

    do(lifecycle.release, held[0], "worker_stopped")

    assert claimed(capacity=ROOMY).fold == 1
