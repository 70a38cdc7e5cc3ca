"""A process with a forkserver that forks workers, sweepers and APIs of one act each, any of them with a fault.

Reads one JSON command a line, answers with one JSON line. What it forks are the shipped functions, in a process of
their own that may die: a worker for each attempt costs ten milliseconds so, and not the three seconds of a real one.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any

from sqlalchemy import update

from core import database, faults, lifecycle, logs
from core.database import db_now
from core.ids import new_id
from core.settings import settings
from core.tables import Job, Run
from worker import child, supervisor
from worker.layout import remove_left_folders
from worker.slots import slots

WEBHOOK = {"url": "https://example.org/", "events": ["job.succeeded", "job.failed"]}


def work_once() -> None:
    """Boots as a worker does, and works on one run."""
    remove_left_folders()
    slots.worker_id = new_id("wrk")
    claim = slots.claim()
    if claim is not None:
        try:
            supervisor.supervise(claim)
        finally:
            slots.give_back(claim)


def sweep() -> None:
    """What time and the sweeper would do: leases of the dead run out, and are taken back; retries fall due."""
    with database.writing() as session:
        session.execute(update(Run).where(Run.status == "running").values(lease_until=db_now() - 1.0))
        session.commit()
    with database.writing() as session:
        lifecycle.rescue_dead(session)
    with database.writing() as session:
        session.execute(update(Run).values(not_before=None))
        session.commit()


def submit(project_id: str, dataset_id: str, spec: dict[str, Any], key: str) -> None:
    from api import submissions

    job = Job(
        id=new_id("job"),
        project_id=project_id,
        dataset_id=dataset_id,
        spec=spec,
        annotations={},
        webhook=WEBHOOK,
        priority=0,
        warnings=[],
    )
    submissions.submit(job, key, "0" * 64, None)


def ask(what: str, project_id: str, job_id: str) -> None:
    """What a user asks of a job, as a route does it."""
    with database.writing() as session:
        match what:
            case "cancel":
                lifecycle.request_cancel(session, project_id, job_id, "best", force=False)
            case "pause":
                lifecycle.request_pause(session, project_id, job_id, force=False)
            case "resume":
                lifecycle.resume(session, project_id, job_id)


ACTS: dict[str, Callable[..., None]] = {"work": work_once, "sweep": sweep, "submit": submit, "ask": ask}


def _fork(act: str, own: dict[str, Any], fault: str | None, arguments: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # The library would wait for a process that is its parent's child; that one lives as long as this test.
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
        settings.__dict__.update(own)
        faults.arm(fault)
        ACTS[act](**arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must never come back into the loop of its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _answer(command: dict[str, Any], own: dict[str, Any]) -> Any:
    match command:
        case {"do": "settle_down", "settings": chosen}:
            own.clear()
            own.update(chosen)
            return None
        case {"do": "start", "act": act, "fault": fault, "arguments": arguments}:
            return _fork(act, own, fault, arguments)
        case {"do": "wait", "pid": pid}:
            _, status = os.waitpid(pid, 0)
            return os.waitstatus_to_exitcode(status)
        case {"do": "forkserver"}:
            return forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    raise ValueError(command)


def _lasting(modules: list[str]) -> None:
    PRELOAD([*modules, "tests.faults.lasting_forkserver"])


PRELOAD = child._context.set_forkserver_preload


if __name__ == "__main__":
    logs.configure()
    child._context.set_forkserver_preload = _lasting  # type: ignore[method-assign]
    child.start_forkserver()
    from api import submissions  # noqa: F401 - after the forkserver, which has no use for it

    chosen_settings: dict[str, Any] = {}
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), chosen_settings)), flush=True)
