"""Rows for the tests of `core`, and what must be true of all rows at any time."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from sqlalchemy import func, select, update

from core import database, lifecycle
from core.cross_validation import summary
from core.database import db_now
from core.ids import new_id
from core.lifecycle import Capacity, Claim, MadeFile
from core.profile import Column
from core.storage import upload_key
from core.tables import Attempt, Dataset, Delivery, Event, Fold, Inquiry, Job, Project, Row, Run

Done = TypeVar("Done")

GIB = 1024**3
ROOMY = Capacity(training_slots=100, short_slots=100, free_memory=1000 * GIB, total_memory=1000 * GIB)
COLUMNS = [
    Column(name="length", type="number", missing=0, distinct=90, number_row=0),
    Column(name="species", type="category", missing=0, distinct=2, values=["a", "b"], counts=[50, 50], code_row=0),
]
PROFILE: dict[str, Any] = {"rows": 100, "columns": [column.model_dump(mode="json") for column in COLUMNS]}
WEIGHTS = MadeFile("weights.safetensors", "application/vnd.safetensors", "0" * 64, 1)


def make_project(weight: float = 1.0, virtual_time: float = 0.0) -> str:
    with database.writing() as session:
        project_id = new_id("prj")
        at = database.now(session)
        session.add(Project(id=project_id, name=project_id, weight=weight, virtual_time=virtual_time, created_at=at))
        session.commit()
    return project_id


def make_dataset(project_id: str, *, ready: bool = True, upload_of: str | None = None) -> str:
    """A dataset with rows, of the upload of another where that is given; when it is not ready, its ingest is queued."""
    dataset_id = new_id("ds")
    with database.writing() as session:
        dataset = Dataset(
            id=dataset_id,
            project_id=project_id,
            name="table",
            status="ready" if ready else "processing",
            format="csv",
            bytes=1,
            sha256="0" * 64,
            upload_key=upload_key(upload_of or dataset_id),
            derived_from=upload_of,
            created_at=database.now(session),
            **(PROFILE if ready else {}),
        )
        if ready:
            session.add(dataset)
        else:
            lifecycle.submit_dataset(session, dataset)
        session.commit()
        return dataset.id


def make_job(
    project_id: str,
    dataset_id: str | None = None,
    *,
    priority: int = 0,
    target: str = "species",
    folds: int | None = None,
    webhook: dict[str, Any] | None = None,
    **held_out: str,
) -> str:
    """A submitted job, cross-validated where it has folds."""
    dataset_id = dataset_id or make_dataset(project_id)
    with database.writing() as session:
        job = Job(
            id=new_id("job"),
            project_id=project_id,
            dataset_id=dataset_id,
            **held_out,
            spec={"target": target, "split": {"folds": folds}},
            priority=priority,
            webhook=webhook,
            created_at=database.now(session),
        )
        lifecycle.submit_job(session, job)
        session.commit()
        return job.id


def make_inquiry(project_id: str, job_id: str) -> str:
    """A question about a job, queued."""
    with database.writing() as session:
        inquiry = Inquiry(
            id=new_id("inq"),
            project_id=project_id,
            kind="trace",
            job_id=job_id,
            request={"rows": 4, "weights": "initial"},
            created_at=database.now(session),
        )
        lifecycle.submit_inquiry(session, inquiry, GIB)
        session.commit()
        return inquiry.id


def claim(worker: str = "wrk_1", capacity: Capacity = ROOMY) -> Claim | None:
    with database.writing() as session:
        return lifecycle.claim_next(session, worker, capacity)


def claimed(worker: str = "wrk_1", capacity: Capacity = ROOMY) -> Claim:
    found = claim(worker, capacity)
    assert found is not None
    return found


def running(project_id: str, dataset_id: str | None = None) -> Claim:
    """The claim on a new job that is the only one waiting."""
    job_id = make_job(project_id, dataset_id)
    found = claimed()
    assert found.subject_id == job_id
    return found


def do(act: Callable[..., Done], *arguments: Any, **named: Any) -> Done:
    """One act of `lifecycle` in a transaction of its own."""
    with database.writing() as session:
        return act(session, *arguments, **named)


def cancel(project_id: str, job_id: str, keep: lifecycle.Keep = "best", *, force: bool = False) -> Job:
    return do(lifecycle.request_cancel, project_id, job_id, keep, force=force)


def pause(project_id: str, job_id: str, *, force: bool = False) -> Job:
    return do(lifecycle.request_pause, project_id, job_id, force=force)


def resume(project_id: str, job_id: str) -> Job:
    return do(lifecycle.resume, project_id, job_id)


def succeed(held: Claim) -> str:
    return do(lifecycle.succeed, held, "completed", [WEIGHTS])


def job_row(job_id: str) -> Job:
    with database.reading() as session:
        return session.get_one(Job, job_id)


def dataset_row(dataset_id: str) -> Dataset:
    with database.reading() as session:
        return session.get_one(Dataset, dataset_id)


def inquiry_row(inquiry_id: str) -> Inquiry:
    with database.reading() as session:
        return session.get_one(Inquiry, inquiry_id)


def fold_rows(job_id: str) -> list[Fold]:
    with database.reading() as session:
        return list(session.scalars(select(Fold).where(Fold.job_id == job_id).order_by(Fold.number)))


def run_row(subject_id: str) -> Run:
    with database.reading() as session:
        return session.scalars(select(Run).where(Run.subject_id == subject_id)).one()


def attempts_of(run_id: str) -> list[Attempt]:
    with database.reading() as session:
        return list(session.scalars(select(Attempt).where(Attempt.run_id == run_id).order_by(Attempt.number)))


def events_of(run_id: str) -> list[Event]:
    with database.reading() as session:
        return list(session.scalars(select(Event).where(Event.run_id == run_id).order_by(Event.seq)))


def set_run(subject_id: str, **values: Any) -> None:
    """What only time could do, done at once."""
    with database.writing() as session:
        session.execute(update(Run).where(Run.subject_id == subject_id).values(**values))
        session.commit()


def expire(held: Claim) -> None:
    set_run(held.subject_id, lease_until=db_now() - 1.0)


def all_rows() -> dict[str, list[str]]:
    """Every row, as text: equal before and after when nothing was written."""
    with database.reading() as session:
        return {
            table.name: [repr(tuple(row)) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Row.metadata.sorted_tables
        }


def at_once(acts: Sequence[Callable[[], Done]]) -> list[Done | Exception]:
    """Runs all acts at the same moment, each in a thread; what each returned or raised, in order."""
    barrier = Barrier(len(acts))

    def start(act: Callable[[], Done]) -> Done | Exception:
        barrier.wait()
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - whatever it raised is what the test looks at
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(start, acts))


def check_rows() -> None:
    """Fails when rows contradict each other: counters, states, attempts, leases, or the numbers of events."""
    with database.reading() as session:
        runs = session.scalars(select(Run)).all()
        jobs = {job.id: job for job in session.scalars(select(Job))}
        inquiries = {inquiry.id: inquiry for inquiry in session.scalars(select(Inquiry))}
        folds = {fold.id: fold for fold in session.scalars(select(Fold).order_by(Fold.job_id, Fold.number))}
        projects = session.scalars(select(Project)).all()
        attempts = session.scalars(select(Attempt).order_by(Attempt.number)).all()
        events = session.scalars(select(Event).order_by(Event.run_id, Event.seq)).all()
        owed = Counter((one.job_id, one.event) for one in session.scalars(select(Delivery)))
        clock = session.scalar(select(func.max(db_now())))
    assert clock is not None

    for job in jobs.values():
        events_told = (job.webhook or {"events": []})["events"]
        expected = {(job.id, f"job.{job.status}"): 1} if f"job.{job.status}" in events_told else {}
        found = {key: number for key, number in owed.items() if key[0] == job.id}
        assert found == expected, "one call is due for the one end of a job"

    counted = Counter((run.project_id, run.status) for run in runs)
    for project in projects:
        assert project.queued == counted[project.id, "queued"], "the counter of queued runs is wrong"
        assert project.running == counted[project.id, "running"], "the counter of running runs is wrong"

    for run in sorted(runs, key=lambda one: one.kind == "fold"):
        mine = [attempt for attempt in attempts if attempt.run_id == run.id]
        assert [attempt.number for attempt in mine] == list(range(1, run.attempt + 1))
        open_attempts = [attempt.number for attempt in mine if attempt.outcome == "running"]
        assert open_attempts == ([run.attempt] if run.status == "running" else [])
        assert all((attempt.ended_at is None) == (attempt.outcome == "running") for attempt in mine)
        assert (run.lease_until is not None) == (run.worker_id is not None) == (run.status == "running")
        log = [event for event in events if event.run_id == run.id]
        assert [event.seq for event in log] == list(range(1, run.next_seq)), "the numbers of events have a gap"
        if run.kind == "training":
            own = [fold for fold in folds.values() if fold.job_id == run.subject_id]
            _check_job(jobs[run.subject_id], run, log, own)
        elif run.kind == "fold":
            job_run = next(one for one in runs if one.subject_id == folds[run.subject_id].job_id)
            assert not log, "a fold has no log of its own"
            assert run.status == "ended" or job_run.status == "waiting", "a fold is left behind"
            assert run.status == "ended" or run.stop_order == job_run.stop_order, "a fold does not know of the pause"
            resting = jobs[job_run.subject_id].status == "paused"
            assert not (resting and run.status in ("queued", "running")), "a fold of a paused job goes on"
            assert run.status != "waiting" or run.stop_order == "pause", "a fold that nobody will train"
            trained = bool(mine) and mine[-1].outcome == "succeeded"
            assert trained == (folds.pop(run.subject_id).result is not None)
        elif run.kind in lifecycle.INQUIRIES:
            _check_inquiry(inquiries.pop(run.subject_id), run)
    assert not inquiries, "a question that nobody will answer"
    assert not folds, "a fold that nobody will train"


def _check_job(job: Job, run: Run, log: list[Event], folds: list[Fold]) -> None:
    ended = job.status in lifecycle.TERMINAL
    assert ended == (run.status == "ended") == (job.finished_at is not None)
    assert [event.type for event in log].count("end") == (1 if ended else 0)
    terminal = [event for event in log if event.type == "status" and event.data["status"] in lifecycle.TERMINAL]
    assert len(terminal) == (1 if ended else 0)
    if ended:
        assert log[-1].type == "end"
        facts = {"status": job.status, "stop_reason": job.stop_reason, "error": job.error, "test": job.test}
        assert log[-1].data == {**facts, "cross_validation": summary(folds)}
        assert (job.status == "failed") == (job.error is not None)
    else:
        begun = {"running", "pausing"} if folds else set()  # by a fold, while the run of the job itself waits
        fitting = {
            "waiting": {"queued", "paused"} | begun,
            "queued": {"queued", "cancelling"},
            "running": {"running", "cancelling", "pausing"},
        }
        assert job.status in fitting[run.status]
        assert (job.status in ("pausing", "paused")) == (run.stop_order == "pause")
        waits = job.resolved_spec is None or any(fold.result is None for fold in folds)
        assert (run.status == "waiting") == (waits or job.status == "paused"), "a job that nobody will train"
    assert (job.cancel_requested_at is not None) <= (job.status in ("cancelling", "cancelled"))
    assert (job.cancel_requested_at is not None) == (run.stop_order == "cancel")


def _check_inquiry(inquiry: Inquiry, run: Run) -> None:
    ended = inquiry.status in ("succeeded", "failed")
    assert ended == (run.status == "ended") == (inquiry.finished_at is not None)
    assert ended or inquiry.status == run.status
    assert (inquiry.status == "failed") == (inquiry.error is not None)
    assert (inquiry.status == "succeeded") == bool(inquiry.files)
