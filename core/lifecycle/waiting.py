"""Why a queued job is not running: what `claim_next` would say of it at this moment, and changes nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from core import database
from core.database import db_now
from core.lifecycle.claiming import TURN
from core.settings import settings
from core.tables import Project, Run, Worker

QueueReason = Literal[
    "dataset", "retry", "no_worker", "no_worker_large_enough", "no_free_slot", "no_free_memory", "its_turn_comes"
]


@dataclass(frozen=True)
class Waiting:
    reason: QueueReason
    ahead: int  # trainings that would be taken before this one, by all that is known now
    until: datetime | None = None  # when a job that is tried again may be taken
    memory_bytes: int = 0  # that it needs


@dataclass(frozen=True)
class _Room:
    """What a living worker has, and what of it is free."""

    memory: int
    free_slots: int
    free_memory: int


def why_queued(session: Session, job_ids: Iterable[str]) -> dict[str, Waiting]:
    """Of each of these jobs that is in the queue."""
    mine = (Run.kind == "training", Run.subject_id.in_(list(job_ids)), Run.status.in_(("queued", "waiting")))
    runs = session.scalars(select(Run).where(*mine)).all()
    if not runs:
        return {}
    moment, rooms, ahead = database.now(session), _rooms(session), _ahead(session, [run.id for run in runs])
    return {run.subject_id: _why(run, moment, rooms, ahead.get(run.id, 0)) for run in runs}


def _why(run: Run, moment: datetime, rooms: Sequence[_Room], ahead: int) -> Waiting:
    if run.status == "waiting":
        return Waiting("dataset", ahead, memory_bytes=run.memory)
    if run.not_before is not None and run.not_before > moment:
        return Waiting("retry", ahead, run.not_before, run.memory)
    large_enough = [room for room in rooms if room.memory >= run.memory]
    with_slot = [room for room in large_enough if room.free_slots > 0]
    reason: QueueReason = "its_turn_comes"
    if not rooms:
        reason = "no_worker"
    elif not large_enough:
        reason = "no_worker_large_enough"
    elif not with_slot:
        reason = "no_free_slot"
    elif not any(room.free_memory >= run.memory for room in with_slot):
        reason = "no_free_memory"
    return Waiting(reason, ahead, memory_bytes=run.memory)


def _rooms(session: Session) -> list[_Room]:
    trainings = func.coalesce(func.sum(case((Run.slot == "training", 1), else_=0)), 0)
    held = func.coalesce(func.sum(Run.memory), 0)
    rows = session.execute(
        select(Worker.memory, Worker.slots - 1 - trainings, Worker.memory - held)  # one of its slots is the short one
        .outerjoin(Run, (Run.worker_id == Worker.id) & (Run.status == "running"))
        .where(Worker.last_beat > db_now() - settings.lease_seconds)
        .group_by(Worker.id, Worker.memory, Worker.slots)
    )
    return [_Room(int(memory), int(slots), int(free)) for memory, slots, free in rows]


def _ahead(session: Session, run_ids: Sequence[str]) -> dict[str, int]:
    """How many come before each of these, in the order of claims."""
    due = (Run.slot == "training", Run.status == "queued")
    place = func.row_number().over(order_by=TURN).label("place")
    line = select(Run.id, place).join(Project, Project.id == Run.project_id).where(*due).subquery()
    rows = session.execute(select(line.c.id, line.c.place - 1).where(line.c.id.in_(run_ids)))
    return {run_id: int(before) for run_id, before in rows}
