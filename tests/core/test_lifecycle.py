"""Every change of state, on both databases: who may make it, what it leaves, and what it must never do.

`factories.check_rows` looks at all rows at the end of each of these tests.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
from sqlalchemy import select

from core import database, errors, lifecycle
from core.database import db_now
from core.events import NewEvent
from core.lifecycle import Claim, Fenced
from core.tables import Artifact, Checkpoint, JobStatus, Project
from tests.core.factories import (
    PROFILE,
    WEIGHTS,
    all_rows,
    at_once,
    attempts_of,
    cancel,
    claim,
    claimed,
    dataset_row,
    do,
    events_of,
    expire,
    job_row,
    make_dataset,
    make_job,
    make_project,
    run_row,
    running,
    set_run,
    succeed,
)

DIVERGED = errors.Diverged()
EPOCH = NewEvent("epoch", {"epoch": 1, "train_loss": 0.5})


def rescue() -> list[str]:
    return do(lifecycle.rescue_dead)


def artifacts_of(job_id: str) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Artifact.name).where(Artifact.job_id == job_id)))


def checkpoints_of(run_id: str) -> list[tuple[int, int]]:
    """Number and epoch of each."""
    with database.reading() as session:
        rows = session.scalars(select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(Checkpoint.number))
        return [(row.number, row.epoch) for row in rows]


# --- the states ---------------------------------------------------------------------------------------------------


def test_every_state_has_its_transitions_and_three_have_none() -> None:
    states = set(get_args(JobStatus))

    assert set(lifecycle.TRANSITIONS) == states
    assert set().union(*lifecycle.TRANSITIONS.values()) == states
    assert {"succeeded", "failed", "cancelled"} == lifecycle.TERMINAL


def test_cancelling_leads_to_cancelled_only() -> None:
    assert lifecycle.TRANSITIONS["cancelling"] == {"cancelled"}


# --- submitting ---------------------------------------------------------------------------------------------------


def test_a_submitted_job_is_queued_and_says_so_in_its_first_event(project: str) -> None:
    job_id = make_job(project)

    job, run = job_row(job_id), run_row(job_id)
    assert (job.status, job.phase, run.status, run.attempt) == ("queued", None, "queued", 0)
    assert job.resolved_spec is not None
    assert job.resolved_spec.training.loss.name == "binary_cross_entropy"
    two = {"classes": ["a", "b"], "thresholds": [0.5]}
    assert job.outputs == {"task": "classification", "names": ["species"], **two}
    assert [(event.seq, event.type, event.attempt) for event in events_of(run.id)] == [(1, "status", 0)]


def test_a_spec_that_does_not_fit_its_dataset_leaves_no_job(project: str) -> None:
    dataset = make_dataset(project)
    before = all_rows()

    with pytest.raises(errors.TargetNotFound):
        make_job(project, dataset, target="sepcies")

    assert all_rows() == before


def test_a_job_on_an_invalid_dataset_is_refused(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    do(lifecycle.dataset_invalid, claimed(), errors.CsvMalformed())

    with pytest.raises(errors.DatasetInvalid) as refused:
        make_job(project, dataset)

    assert refused.value.facts["error"]["code"] == "csv_malformed"


def test_a_job_that_no_living_worker_could_hold_is_refused(project: str) -> None:
    from core.tables import Worker

    with database.writing() as session:
        at = database.now(session)
        facts: dict[str, Any] = {"host": "h", "pid": 1, "slots": 1, "memory": 1, "capabilities": {}}
        session.add(Worker(id="wrk_small", started_at=at, last_beat=at, **facts))
        session.commit()

    with pytest.raises(errors.ResourcesExceeded) as refused:
        make_job(project)

    assert refused.value.facts["needed_bytes"] > refused.value.facts["limit_bytes"] == 1


# --- one job, one straight line -----------------------------------------------------------------------------------


def test_a_claim_makes_the_job_run(project: str) -> None:
    job_id = make_job(project)

    held = claimed("wrk_7")

    job, run = job_row(job_id), run_row(job_id)
    assert (held.subject_id, held.kind, held.attempt, held.order) == (job_id, "training", 1, None)
    assert (job.status, job.phase, run.status, run.worker_id) == ("running", "loading_data", "running", "wrk_7")
    assert job.started_at is not None
    assert run.lease_until is not None
    assert 25 < (run.lease_until - job.started_at).total_seconds() < 35


def test_a_job_that_succeeds_has_its_artifacts_and_ends_its_log(project: str) -> None:
    held = running(project)
    do(lifecycle.record, held, [EPOCH], phase="training")

    status = do(lifecycle.succeed, held, "early_stopping", [WEIGHTS], best={"metric": "valid_loss"})

    job = job_row(held.subject_id)
    assert (status, job.status, job.stop_reason, job.phase) == ("succeeded", "succeeded", "early_stopping", None)
    assert job.best == {"metric": "valid_loss"}
    assert artifacts_of(job.id) == ["weights.safetensors"]
    types = [event.type for event in events_of(held.run_id)]
    assert types == ["status", "status", "epoch", "artifact", "status", "end"]
    assert [attempt.outcome for attempt in attempts_of(held.run_id)] == ["succeeded"]


def test_a_job_that_fails_says_why(project: str) -> None:
    held = running(project)

    do(lifecycle.fail, held, DIVERGED)

    job = job_row(held.subject_id)
    assert (job.status, job.stop_reason) == ("failed", None)
    assert job.error is not None
    assert job.error["code"] == "diverged"
    assert [(attempt.outcome, attempt.cause) for attempt in attempts_of(held.run_id)] == [("failed", "diverged")]


def test_what_is_recorded_is_what_users_read(project: str) -> None:
    held = running(project)

    order = do(lifecycle.record, held, [EPOCH, NewEvent("warning")], phase="training", latest_metrics={"epoch": 1})

    assert order is None
    assert [event.type for event in events_of(held.run_id)][-2:] == ["epoch", "warning"]
    assert (job_row(held.subject_id).phase, job_row(held.subject_id).latest_metrics) == ("training", {"epoch": 1})


def test_the_two_newest_checkpoints_are_kept_and_an_ended_run_keeps_none(project: str) -> None:
    held = running(project)

    for epoch in (10, 20, 30):
        do(lifecycle.save_checkpoint, held, epoch, {"state": {"sha256": "0" * 64, "bytes": 1}})

    assert checkpoints_of(held.run_id) == [(2, 20), (3, 30)]
    assert [event.data for event in events_of(held.run_id)][-3:] == [{"epoch": 10}, {"epoch": 20}, {"epoch": 30}]
    succeed(held)
    assert checkpoints_of(held.run_id) == []


def test_a_renewed_lease_is_a_whole_one_again(project: str) -> None:
    held = running(project)
    set_run(held.subject_id, lease_until=db_now() + 1.0)

    do(lifecycle.renew, held)

    with database.reading() as session:
        left = run_row(held.subject_id).lease_until - database.now(session)  # type: ignore[operator]
    assert 25 < left.total_seconds() <= 30


def test_notes_stand_in_the_line_of_the_attempt(project: str) -> None:
    held = running(project)

    do(lifecycle.record, held, [], attempt={"resumed_from_epoch": 7, "fingerprint": {"torch": "2"}})

    attempt = attempts_of(held.run_id)[0]
    assert (attempt.resumed_from_epoch, attempt.fingerprint) == (7, {"torch": "2"})


# --- the fence ----------------------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[Claim], Any]] = {
    "renew": lambda held: do(lifecycle.renew, held),
    "orders": lambda held: do(lifecycle.orders, held),
    "record": lambda held: do(lifecycle.record, held, [EPOCH], phase="training"),
    "record nothing": lambda held: do(lifecycle.record, held, []),
    "save_checkpoint": lambda held: do(lifecycle.save_checkpoint, held, 1, {}),
    "succeed": succeed,
    "fail": lambda held: do(lifecycle.fail, held, DIVERGED),
    "crash": lambda held: do(lifecycle.crash, held, "SIGSEGV"),
    "release": lambda held: do(lifecycle.release, held, "worker_stopped"),
}


def assert_writes_nothing(stale: Claim) -> None:
    before = all_rows()
    for name, write in WRITES.items():
        with pytest.raises(Fenced):
            write(stale)
        assert all_rows() == before, f"{name} of a stale claim changed a row"


def test_a_worker_whose_run_another_has_writes_nothing(project: str) -> None:
    stale = running(project)
    expire(stale)
    rescue()
    current = claimed("wrk_2")

    assert current.attempt == stale.attempt + 1
    assert_writes_nothing(stale)


def test_a_worker_whose_run_went_back_to_the_queue_writes_nothing(project: str) -> None:
    stale = running(project)
    expire(stale)
    rescue()

    assert run_row(stale.subject_id).attempt == stale.attempt
    assert_writes_nothing(stale)


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_rows_of_a_job_that_has_ended_never_change(project: str, end: str) -> None:
    held = running(project)
    WRITES[end](held)
    before = all_rows()

    for write in WRITES.values():
        with pytest.raises(Fenced):
            write(held)
    with pytest.raises(errors.JobAlreadyTerminal):
        cancel(project, held.subject_id)
    assert rescue() == []
    assert claim() is None

    assert all_rows() == before


def test_a_stale_ingest_writes_nothing(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    stale = claimed()
    expire(stale)
    rescue()
    claimed("wrk_2")
    before = all_rows()

    with pytest.raises(Fenced):
        do(lifecycle.dataset_ready, stale, **PROFILE)
    with pytest.raises(Fenced):
        do(lifecycle.dataset_invalid, stale, errors.CsvMalformed())
    for act in (lifecycle.crash, lifecycle.release):
        with pytest.raises(Fenced):
            do(act, stale, "SIGSEGV")

    assert all_rows() == before
    assert dataset_row(dataset).status == "processing"


def test_a_renewed_lease_outlives_its_old_one(project: str) -> None:
    held = running(project)
    expire(held)

    do(lifecycle.renew, held)

    assert rescue() == []
    assert succeed(held) == "succeeded"


# --- events -------------------------------------------------------------------------------------------------------


def test_eight_threads_number_their_events_without_a_gap(project: str) -> None:
    held = running(project)

    def write(thread: int) -> None:
        for turn in range(15):
            facts = [NewEvent("step", {"thread": thread, "turn": turn, "part": part}) for part in range(1 + turn % 3)]
            do(lifecycle.record, held, facts)

    assert at_once([partial(write, thread) for thread in range(8)]) == [None] * 8

    log = events_of(held.run_id)
    assert [event.seq for event in log] == list(range(1, 2 + 8 * 30 + 1))
    for thread in range(8):
        mine = [(event.data["turn"], event.data["part"]) for event in log if event.data.get("thread") == thread]
        assert mine == [(turn, part) for turn in range(15) for part in range(1 + turn % 3)]


def test_events_of_a_transaction_that_fails_leave_no_gap(project: str) -> None:
    held = running(project)

    with database.writing() as session:
        lifecycle.moves.append(session, held, [EPOCH])  # and no commit
    do(lifecycle.record, held, [EPOCH])

    assert [event.seq for event in events_of(held.run_id)] == [1, 2, 3]


# --- cancelling ---------------------------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(project: str) -> None:
    job_id = make_job(project)

    job = cancel(project, job_id)

    assert (job.status, job.stop_reason) == ("cancelled", "user_cancel")
    assert claim() is None


def test_a_running_job_is_cancelling_until_its_worker_ends_it(project: str) -> None:
    held = running(project)

    job = cancel(project, held.subject_id)

    assert job.status == "cancelling"
    assert do(lifecycle.renew, held) == "cancel"
    assert do(lifecycle.record, held, [EPOCH]) == "cancel"
    assert do(lifecycle.orders, held)[0] == "cancel"
    assert succeed(held) == "cancelled"
    assert job_row(held.subject_id).stop_reason == "user_cancel"


def test_a_cancelled_job_keeps_its_best_weights(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)

    succeed(held)

    assert artifacts_of(held.subject_id) == ["weights.safetensors"]


def test_a_job_cancelled_with_nothing_to_keep_leaves_no_artifact(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id, keep="none")

    succeed(held)

    assert artifacts_of(held.subject_id) == []
    assert job_row(held.subject_id).status == "cancelled"


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_job_whose_cancel_was_accepted_ends_cancelled_whatever_happens(project: str, end: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)

    WRITES[end](held)

    job = job_row(held.subject_id)
    assert (job.status, job.stop_reason, job.error) == ("cancelled", "user_cancel", None)


def test_a_cancelled_job_that_crashes_too_often_is_cancelled_and_not_failed(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)
    set_run(held.subject_id, failures=3)

    do(lifecycle.crash, held, "SIGSEGV")

    assert job_row(held.subject_id).status == "cancelled"


@pytest.mark.parametrize("force", [False, True])
def test_asking_twice_is_asking_once(project: str, force: bool) -> None:
    queued = make_job(project)
    first = cancel(project, queued)
    before = all_rows()

    second = cancel(project, queued, force=force)

    assert (second.id, second.status, second.finished_at) == (first.id, "cancelled", first.finished_at)
    assert all_rows() == before


def test_a_second_cancel_of_a_running_job_moves_no_deadline(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)
    before = all_rows()

    job = cancel(project, held.subject_id)

    assert job.status == "cancelling"
    assert all_rows() == before


def test_force_leaves_no_time(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)

    cancel(project, held.subject_id, force=True)

    _, deadline = do(lifecycle.orders, held)
    with database.reading() as session:
        assert deadline is not None
        assert deadline <= database.now(session)


def test_another_projects_job_is_not_found(project: str) -> None:
    held = running(project)
    stranger = make_project()
    before = all_rows()

    for job_id in (held.subject_id, "job_none"):
        with pytest.raises(errors.NotFound):
            cancel(stranger, job_id)

    assert all_rows() == before


def test_a_job_cancelled_between_two_attempts_is_claimed_to_export_only(project: str) -> None:
    held = running(project)
    do(lifecycle.crash, held, "SIGSEGV")
    do(lifecycle.crash, claimed(), "SIGSEGV")
    assert claim() is None, "the second retry waits"

    job = cancel(project, held.subject_id)

    assert job.status == "cancelling"
    again = claimed()
    assert again.order == "cancel"
    assert job_row(held.subject_id).status == "cancelling"
    assert succeed(again) == "cancelled"


def test_a_dead_worker_does_not_undo_a_cancel(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)
    expire(held)

    assert rescue() == [held.subject_id]

    assert job_row(held.subject_id).status == "cancelling"
    assert claimed().order == "cancel"


def test_a_cancelled_job_that_no_worker_takes_in_time_is_cut_off(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id)
    expire(held)
    rescue()
    set_run(held.subject_id, stop_deadline=db_now() - 1.0)

    assert rescue() == [held.subject_id]

    assert job_row(held.subject_id).status == "cancelled"


def test_a_dead_worker_past_the_grace_time_cuts_the_cancelled_job_off(project: str) -> None:
    held = running(project)
    cancel(project, held.subject_id, force=True)
    expire(held)

    assert rescue() == [held.subject_id]

    assert job_row(held.subject_id).status == "cancelled"
    assert [(attempt.outcome, attempt.cause) for attempt in attempts_of(held.run_id)] == [("lost", "worker_lost")]


@pytest.mark.parametrize("times", [60, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_cancel_and_success_race_to_exactly_one_end(project: str, times: int) -> None:
    dataset = make_dataset(project)
    seen = set()

    for _ in range(times):
        held = running(project, dataset)
        ended, asked = at_once([partial(succeed, held), partial(cancel, project, held.subject_id)])

        status = job_row(held.subject_id).status
        assert ended == status
        if isinstance(asked, errors.JobAlreadyTerminal):
            assert status == "succeeded", "a refused cancel must not cancel"
        else:
            assert not isinstance(asked, Exception), asked
            assert status == "cancelled", "an accepted cancel must not end as a success"
        seen.add(status)

    assert seen <= {"succeeded", "cancelled"}


def test_cancel_and_claim_race_to_a_job_that_ends_cancelled(project: str) -> None:
    dataset = make_dataset(project)

    for _ in range(50):
        job_id = make_job(project, dataset)
        held, asked = at_once([claim, partial(cancel, project, job_id)])

        assert not isinstance(asked, Exception), asked
        if isinstance(held, Claim):
            assert succeed(held) == "cancelled"
        assert job_row(job_id).status == "cancelled"


# --- failures and interruptions -----------------------------------------------------------------------------------


def test_f23_three_crashes_are_retried_and_the_fourth_ends_the_job(project: str) -> None:
    held = running(project)
    delays = []

    for _ in range(3):
        do(lifecycle.crash, held, "SIGSEGV")
        run = run_row(held.subject_id)
        assert (job_row(held.subject_id).status, run.status) == ("queued", "queued")
        delays.append(events_of(held.run_id)[-1].data["retry_in_seconds"])
        set_run(held.subject_id, not_before=None)
        held = claimed()
    do(lifecycle.crash, held, "SIGSEGV")

    job = job_row(held.subject_id)
    assert delays == [0, 10, 40]
    assert (job.status, job.error and job.error["code"]) == ("failed", "worker_crashed")
    assert job.error is not None
    assert job.error["cause"] == "SIGSEGV"
    assert [attempt.outcome for attempt in attempts_of(held.run_id)] == ["crashed"] * 4
    assert run_row(job.id).failures == 3


def test_a_retry_waits_its_time_by_the_databases_clock(project: str) -> None:
    held = running(project)
    do(lifecycle.crash, held, "SIGSEGV")
    again = claimed()
    do(lifecycle.crash, again, "SIGSEGV")

    with database.reading() as session:
        wait = (run_row(held.subject_id).not_before - database.now(session)).total_seconds()  # type: ignore[operator]
        assert lifecycle.claimable(session) == 0

    assert 8 < wait <= 10
    assert claim() is None
    set_run(held.subject_id, not_before=db_now() - 0.001)
    assert claimed().attempt == 3


def test_a_stopping_worker_gives_its_run_back_with_its_checkpoint(project: str) -> None:
    held = running(project)
    do(lifecycle.save_checkpoint, held, 5, {})

    do(lifecycle.release, held, "worker_stopped")

    run = run_row(held.subject_id)
    assert (run.status, run.failures, run.interruptions, run.not_before) == ("queued", 0, 1, None)
    assert checkpoints_of(held.run_id) == [(1, 5)]
    assert [(one.outcome, one.cause) for one in attempts_of(held.run_id)] == [("interrupted", "worker_stopped")]


def test_failures_and_interruptions_are_counted_apart(project: str) -> None:
    held = running(project)
    set_run(held.subject_id, failures=3, interruptions=0)

    do(lifecycle.release, held, "worker_stopped")
    again = claimed()
    expire(again)
    rescue()

    run = run_row(held.subject_id)
    assert (run.status, run.failures, run.interruptions) == ("queued", 3, 2)


def test_the_twenty_first_interruption_ends_the_job(project: str) -> None:
    held = running(project)

    for _ in range(20):
        do(lifecycle.release, held, "worker_stopped")
        held = claimed()
    assert job_row(held.subject_id).status == "running"
    expire(held)
    rescue()

    job = job_row(held.subject_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    assert len(attempts_of(held.run_id)) == 21


def test_only_expired_leases_are_rescued(project: str) -> None:
    dataset = make_dataset(project)
    dead, alive = running(project, dataset), running(project, dataset)
    expire(dead)

    assert rescue() == [dead.subject_id]
    assert rescue() == []

    assert job_row(dead.subject_id).status == "queued"
    assert job_row(alive.subject_id).status == "running"
    assert [(one.outcome, one.cause) for one in attempts_of(dead.run_id)] == [("lost", "worker_lost")]


@pytest.mark.parametrize("cancelled", [False, True])
def test_f31_two_sweepers_rescue_a_run_once(project: str, cancelled: bool) -> None:
    dataset = make_dataset(project)

    for _ in range(20):
        held = running(project, dataset)
        if cancelled:
            cancel(project, held.subject_id)
        expire(held)

        found = at_once([rescue, rescue])

        assert sorted(found, key=len) == [[], [held.subject_id]]  # type: ignore[arg-type]
        assert run_row(held.subject_id).interruptions == 1
        with database.reading() as session:
            counted = session.execute(select(Project.queued, Project.running).where(Project.id == project)).one()
        assert tuple(counted) == (1, 0)
        succeed(claimed())


def test_a_beat_and_a_rescue_race_to_one_owner(project: str) -> None:
    dataset = make_dataset(project)

    for _ in range(30):
        held = running(project, dataset)
        expire(held)

        beat, found = at_once([partial(do, lifecycle.renew, held), rescue])

        assert isinstance(beat, Fenced) == (found == [held.subject_id])
        succeed(held if found == [] else claimed())


def test_the_leases_of_a_worker_known_to_be_dead_end_at_once(project: str) -> None:
    dataset = make_dataset(project)
    make_job(project, dataset)
    mine = claimed("wrk_dead")
    make_job(project, dataset)
    other = claimed("wrk_alive")

    assert do(lifecycle.expire_leases, "wrk_dead") == 1

    assert rescue() == [mine.subject_id]
    assert run_row(other.subject_id).status == "running"


# --- whose turn it is ---------------------------------------------------------------------------------------------


def order_of_claims(count: int) -> list[str]:
    """The jobs that one worker gets, one after the other."""
    return [claimed().subject_id for _ in range(count)]


def virtual_time(project_id: str) -> float:
    with database.reading() as session:
        return session.scalars(select(Project.virtual_time).where(Project.id == project_id)).one()


def test_the_older_job_goes_first(project: str) -> None:
    dataset = make_dataset(project)
    jobs = [make_job(project, dataset) for _ in range(4)]

    assert order_of_claims(4) == jobs


def test_a_higher_priority_goes_before_age(project: str) -> None:
    dataset = make_dataset(project)
    low, normal, high = (make_job(project, dataset, priority=priority) for priority in (-1, 0, 1))

    assert order_of_claims(3) == [high, normal, low]


def test_projects_take_turns_however_long_one_queue_is(project: str) -> None:
    other = make_project()
    mine = [make_job(project, make_dataset(project)) for _ in range(6)]
    others = [make_job(other, make_dataset(other), priority=-1) for _ in range(2)]

    order = order_of_claims(6)

    assert [job_id in others for job_id in order] == [False, True, False, True, False, False]
    assert order[0] == mine[0]


def test_a_project_of_weight_two_gets_two_claims_for_one(project: str) -> None:
    heavy = make_project(weight=2.0)
    for owner in (project, heavy):
        for _ in range(8):
            make_job(owner, make_dataset(owner))

    owners = [claimed().project_id for _ in range(9)]

    assert owners.count(heavy) == 6
    assert virtual_time(heavy) == virtual_time(project) == 3.0


def test_at_equal_virtual_time_the_project_that_runs_less_goes_first(project: str) -> None:
    other = make_project()
    for owner in (project, other):
        make_job(owner, make_dataset(owner))
        make_job(owner, make_dataset(owner))
    held = claimed()
    assert held.project_id == project, "the older job"
    with database.writing() as session:
        session.get_one(Project, other).virtual_time = 1.0
        session.commit()

    assert claimed().project_id == other


def test_a_project_that_comes_back_rejoins_at_the_smallest_virtual_time(project: str) -> None:
    idle = make_project(virtual_time=0.0)
    ahead = make_project(virtual_time=50.0)
    with database.writing() as session:
        session.get_one(Project, project).virtual_time = 10.0
        session.commit()
    make_job(project)
    make_job(ahead)

    make_job(idle)

    # `ahead` had no one to go back to but `project`; `idle` must not be served ten times in a row for its absence.
    assert virtual_time(project) == 10.0
    assert virtual_time(ahead) == 10.0
    assert virtual_time(idle) == 10.0


def test_a_project_with_work_keeps_its_virtual_time(project: str) -> None:
    busy = make_project(virtual_time=7.0)
    make_job(busy)
    assert virtual_time(busy) == 7.0, "nobody else has work"
    make_job(project)
    with database.writing() as session:
        session.get_one(Project, project).virtual_time = 2.0
        session.commit()

    make_job(busy)

    assert virtual_time(busy) == 7.0


def test_a_run_that_was_given_back_stands_behind_those_that_wait(project: str) -> None:
    dataset = make_dataset(project)
    held = running(project, dataset)
    waiting = make_job(project, dataset)

    do(lifecycle.release, held, "worker_stopped")

    assert order_of_claims(2) == [waiting, held.subject_id]


# --- what fits ----------------------------------------------------------------------------------------------------


def capacity(memory: int, total: int | None = None, *, training: int = 1, short: int = 1) -> lifecycle.Capacity:
    return lifecycle.Capacity(training, short, memory, total or memory)


def test_a_run_larger_than_the_free_memory_is_not_claimed(project: str) -> None:
    job_id = make_job(project)
    set_run(job_id, memory=1000)

    assert claim(capacity=capacity(999, 5000)) is None
    assert claim(capacity=capacity(1000, 5000)) is not None


def test_a_smaller_run_goes_first_where_the_larger_does_not_fit_yet(project: str) -> None:
    dataset = make_dataset(project)
    large, small = make_job(project, dataset), make_job(project, dataset)
    set_run(large, memory=1000)
    set_run(small, memory=10)

    assert claimed(capacity=capacity(500, 1000)).subject_id == small


def test_a_run_that_waits_for_a_minute_stops_smaller_ones_on_workers_that_could_hold_it(project: str) -> None:
    dataset = make_dataset(project)
    large, small = make_job(project, dataset), make_job(project, dataset)
    set_run(large, memory=1000, queued_at=db_now() - 61.0)
    set_run(small, memory=10)

    assert claim(capacity=capacity(500, 1000)) is None
    assert claimed(capacity=capacity(500, 900)).subject_id == small, "a worker that never could hold it goes on"
    assert claimed(capacity=capacity(1000, 1000)).subject_id == large


def test_slots_are_of_two_kinds(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    job_id = make_job(project)

    assert claim(capacity=capacity(10**12, training=0, short=0)) is None
    assert claimed(capacity=capacity(10**12, training=0, short=1)).subject_id == dataset
    assert claimed(capacity=capacity(10**12, training=1, short=0)).subject_id == job_id


def test_two_workers_never_get_the_same_run(project: str) -> None:
    dataset = make_dataset(project)
    jobs = [make_job(project, dataset) for _ in range(50)]

    def work(worker: str) -> list[str]:
        taken = []
        while (held := claim(worker)) is not None:
            taken.append(held.subject_id)
        return taken

    first, second = at_once([partial(work, "wrk_1"), partial(work, "wrk_2")])

    assert isinstance(first, list), first
    assert isinstance(second, list), second
    assert sorted(first + second) == sorted(jobs)


# --- jobs that wait for their dataset -----------------------------------------------------------------------------


def test_a_job_waits_for_its_dataset_and_is_queued_when_it_is_ready(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    waiting = [make_job(project, dataset) for _ in range(2)]
    assert job_row(waiting[0]).phase == "waiting_for_dataset"
    ingest = claimed()
    assert claim() is None

    assert do(lifecycle.dataset_ready, ingest, **PROFILE) == waiting

    assert dataset_row(dataset).status == "ready"
    job = job_row(waiting[0])
    assert (job.status, job.phase) == ("queued", None)
    assert job.resolved_spec is not None
    assert run_row(job.id).memory > 0
    assert order_of_claims(2) == waiting


def test_jobs_whose_dataset_is_invalid_fail_with_what_was_found(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    job_id = make_job(project, dataset)

    assert do(lifecycle.dataset_invalid, claimed(), errors.CsvMalformed()) == [job_id]

    job = job_row(job_id)
    assert dataset_row(dataset).status == "invalid"
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["reason"]) == ("data_invalid", "csv_malformed")


def test_a_waiting_job_that_does_not_fit_its_dataset_fails_alone(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    wrong, right = make_job(project, dataset, target="sepcies"), make_job(project, dataset)

    do(lifecycle.dataset_ready, claimed(), **PROFILE)

    assert (job_row(wrong).status, job_row(right).status) == ("failed", "queued")
    error = job_row(wrong).error
    assert error is not None
    assert (error["code"], error["reason"]) == ("data_invalid", "target_not_found")


def test_a_waiting_job_can_be_cancelled(project: str) -> None:
    dataset = make_dataset(project, ready=False)
    job_id = make_job(project, dataset)

    assert cancel(project, job_id).status == "cancelled"

    assert do(lifecycle.dataset_ready, claimed(), **PROFILE) == []


@pytest.mark.parametrize("end", ["crash", "release"])
def test_an_ingest_that_is_given_up_makes_its_dataset_invalid(project: str, end: str) -> None:
    dataset = make_dataset(project, ready=False)
    job_id = make_job(project, dataset)
    held = claimed()
    set_run(dataset, failures=1, interruptions=20)

    WRITES[end](held)

    row = dataset_row(dataset)
    assert row.status == "invalid"
    assert row.error is not None
    assert row.error["code"] == {"crash": "dataset_unparseable", "release": "worker_lost"}[end]
    assert job_row(job_id).status == "failed"


def test_a_table_that_crashed_its_reader_once_is_read_again(project: str) -> None:
    dataset = make_dataset(project, ready=False)

    do(lifecycle.crash, claimed(), "SIGSEGV")

    assert dataset_row(dataset).status == "processing"
    assert claimed().subject_id == dataset


def test_a_job_submitted_while_its_dataset_becomes_ready_is_never_forgotten(project: str) -> None:
    for _ in range(30):
        dataset = make_dataset(project, ready=False)
        ingest = claimed()

        submitted, settled = at_once(
            [partial(make_job, project, dataset), partial(do, lifecycle.dataset_ready, ingest, **PROFILE)]
        )

        assert isinstance(submitted, str), submitted
        assert isinstance(settled, list), settled
        assert run_row(submitted).status == "queued"
        succeed(claimed())


def test_cancelling_a_waiting_job_while_its_dataset_becomes_ready_blocks_neither(project: str) -> None:
    for _ in range(30):
        dataset = make_dataset(project, ready=False)
        jobs = [make_job(project, dataset) for _ in range(2)]
        ingest = claimed()

        cancelled, settled = at_once(
            [partial(cancel, project, jobs[1]), partial(do, lifecycle.dataset_ready, ingest, **PROFILE)]
        )

        assert not isinstance(cancelled, Exception), cancelled
        assert isinstance(settled, list), settled
        assert job_row(jobs[1]).status == "cancelled"
        succeed(claimed())
