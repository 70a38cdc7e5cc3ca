"""Any order of what users, workers, sweepers and zombies do: the rows never contradict each other."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update

from core import database, errors, lifecycle
from core.events import NewEvent
from core.lifecycle import Claim, Fenced
from core.tables import Row, Run
from tests.core.factories import (
    all_rows,
    cancel,
    check_rows,
    claim,
    do,
    events_of,
    expire,
    job_row,
    make_dataset,
    make_inquiry,
    make_job,
    make_project,
    pause,
    resume,
    run_row,
    succeed,
)

PICK = st.integers(0, 10**6)  # of what there is at that moment
MAX_JOBS = 5


class Lifecycle(RuleBasedStateMachine):
    """Knows only who holds what; all else is read from the rows."""

    @initialize()
    def start(self) -> None:
        with database.writing() as session:
            for table in reversed(Row.metadata.sorted_tables):
                session.execute(table.delete())
            session.commit()
        self.projects = [make_project(), make_project(weight=2.0)]
        self.datasets = {project: make_dataset(project) for project in self.projects}
        self.jobs: list[str] = []
        self.inquiries: list[str] = []
        self.claims: list[Claim] = []  # every one that was ever given out
        self.holders: dict[str, Claim] = {}  # run -> the claim that counts
        self.silent: set[str] = set()  # runs whose lease is over
        self.accepted: set[str] = set()  # jobs whose cancel was accepted
        self.ended: dict[str, str] = {}  # job -> its whole row when it was first seen terminal
        self.logs: dict[str, list[str]] = {}  # run -> its events when they were last seen

    # --- users ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.jobs) < MAX_JOBS)
    @rule(pick=PICK, priority=st.integers(-1, 1), folds=st.sampled_from([None, None, 2, 3]))
    def submit(self, pick: int, priority: int, folds: int | None) -> None:
        project = self.projects[pick % 2]
        webhook = {"url": "https://example.org/", "events": ["job.succeeded", "job.cancelled"]} if pick % 3 else None
        self.jobs.append(make_job(project, self.datasets[project], priority=priority, folds=folds, webhook=webhook))

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, force=st.booleans())
    def ask_to_cancel(self, pick: int, force: bool) -> None:
        job = job_row(self.jobs[pick % len(self.jobs)])
        try:
            cancel(job.project_id, job.id, force=force)
            self.accepted.add(job.id)
            self.let_go()
        except errors.JobAlreadyTerminal:
            assert job.status in ("succeeded", "failed")

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, force=st.booleans())
    def ask_to_pause(self, pick: int, force: bool) -> None:
        job = job_row(self.jobs[pick % len(self.jobs)])
        held = job.id in {one.concerns for one in self.holders.values()}
        try:
            found = pause(job.project_id, job.id, force=force)
            assert found.status == ("pausing" if held else "paused")
        except (errors.JobAlreadyTerminal, errors.JobCancelling):
            assert job.status in lifecycle.TERMINAL | {"cancelling"}

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def ask_to_resume(self, pick: int) -> None:
        job = job_row(self.jobs[pick % len(self.jobs)])
        try:
            found = resume(job.project_id, job.id)
            assert found.status == {"pausing": "running", "paused": "queued"}.get(job.status, job.status)
        except (errors.JobAlreadyTerminal, errors.JobCancelling):
            assert job.status in lifecycle.TERMINAL | {"cancelling"}

    @precondition(lambda self: self.jobs and len(self.inquiries) < MAX_JOBS)
    @rule(pick=PICK)
    def ask(self, pick: int) -> None:
        job = job_row(self.jobs[pick % len(self.jobs)])
        self.inquiries.append(make_inquiry(job.project_id, job.id))

    # --- workers ----------------------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(["wrk_1", "wrk_2"]))
    def claim(self, worker: str) -> None:
        held = claim(worker)
        if held is not None:
            assert held.run_id not in self.holders, "two workers hold one run"
            assert held.order == ("cancel" if held.concerns in self.accepted else None)
            if held.kind in ("training", "fold"):
                assert job_row(held.concerns).status in ("running", "cancelling"), "a paused job was claimed"
            self.holders[held.run_id] = held
            self.claims.append(held)

    def write(self, pick: int, act: Callable[[Claim], Any], *, ends: bool) -> None:
        """A worker writes under any claim it ever had; only one that counts may change anything."""
        held = self.claims[pick % len(self.claims)]
        if self.holders.get(held.run_id) != held:
            before = all_rows()
            with pytest.raises(Fenced):
                act(held)
            assert all_rows() == before, "a zombie wrote"
            return
        act(held)
        if ends:
            del self.holders[held.run_id]
            self.silent.discard(held.run_id)
            self.let_go()

    def let_go(self) -> None:
        """The end of a job is that of its folds, whoever holds them."""
        for run_id, held in list(self.holders.items()):
            if held.fold is not None and job_row(held.concerns).status in lifecycle.TERMINAL:
                del self.holders[run_id]
                self.silent.discard(run_id)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        held = self.claims[pick % len(self.claims)]
        self.write(pick, lambda held: do(lifecycle.renew, held), ends=False)
        if self.holders.get(held.run_id) == held:
            self.silent.discard(held.run_id)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, count=st.integers(0, 3))
    def record(self, pick: int, count: int) -> None:
        new = [NewEvent("epoch", {"epoch": number}) for number in range(count)]
        self.write(pick, lambda held: do(lifecycle.record, held, new, phase="training"), ends=False)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def checkpoint(self, pick: int) -> None:
        self.write(pick, lambda held: do(lifecycle.save_checkpoint, held, 1, {}), ends=False)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def succeed(self, pick: int) -> None:
        self.write(pick, _succeed, ends=True)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def fail(self, pick: int) -> None:
        self.write(pick, _fail, ends=True)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def crash(self, pick: int) -> None:
        self.write(pick, lambda held: do(lifecycle.crash, held, "SIGSEGV"), ends=True)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def release(self, pick: int) -> None:
        self.write(pick, lambda held: do(lifecycle.release, held, "worker_stopped"), ends=True)

    # --- time and the sweeper ---------------------------------------------------------------------------------

    @precondition(lambda self: self.holders)
    @rule(pick=PICK)
    def lease_runs_out(self, pick: int) -> None:
        held = list(self.holders.values())[pick % len(self.holders)]
        expire(held)
        self.silent.add(held.run_id)

    @precondition(lambda self: self.holders)
    @rule(pick=PICK)
    def another_worker_takes_over(self, pick: int) -> None:
        self.lease_runs_out(pick)
        self.sweep()
        self.claim("wrk_3")

    @rule()
    def retries_fall_due(self) -> None:
        with database.writing() as session:
            session.execute(update(Run).values(not_before=None))
            session.commit()

    @rule()
    def sweep(self) -> None:
        rescued = set(do(lifecycle.rescue_dead))

        expected = {self.holders[run_id].concerns for run_id in self.silent}
        assert expected <= rescued
        assert rescued - expected <= self.accepted, "only cancels past their grace are cut off besides"
        for run_id in self.silent:
            del self.holders[run_id]
        self.silent.clear()
        self.let_go()

    # --- what is true after each step -------------------------------------------------------------------------

    @invariant()
    def the_rows_agree(self) -> None:
        check_rows()

    @invariant()
    def ended_jobs_never_change(self) -> None:
        for job_id in self.jobs:
            row = job_row(job_id)
            if row.status in lifecycle.TERMINAL:
                whole = repr([getattr(row, column.key) for column in type(row).__mapper__.column_attrs])
                assert self.ended.setdefault(job_id, whole) == whole
            else:
                assert job_id not in self.ended

    @invariant()
    def an_accepted_cancel_never_ends_otherwise(self) -> None:
        for job_id in self.accepted:
            assert job_row(job_id).status in ("cancelling", "cancelled")

    @invariant()
    def events_are_only_added(self) -> None:
        for job_id in self.jobs:
            run = run_row(job_id)
            log = [repr((event.seq, event.type, event.at, event.attempt, event.data)) for event in events_of(run.id)]
            seen = self.logs.get(run.id, [])
            assert log[: len(seen)] == seen
            self.logs[run.id] = log


def _succeed(held: Claim) -> None:
    if held.kind == "trace":
        do(lifecycle.inquiry_answered, held, {"trace.json": {"sha256": "0" * 64, "bytes": 2}})
    elif held.fold is not None:
        do(lifecycle.fold_trained, held, {"rows": 1, "epoch": 1, "stop_reason": "completed", "loss": 0.5})
    else:
        succeed(held)


def _fail(held: Claim) -> None:
    do(lifecycle.inquiry_failed if held.kind == "trace" else lifecycle.fail, held, errors.Diverged())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("database_url", "examples"),
    [("sqlite", 30), *(pytest.param(one, 60, marks=pytest.mark.long) for one in ("sqlite", "postgresql"))],
    indirect=["database_url"],
)
def test_no_order_of_acts_breaks_an_invariant(database_url: str, examples: int) -> None:
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(
                Phase.reuse,
                Phase.generate,
            ),  # to shrink a failure takes minutes here: add it when one is looked at
        ),
    )
