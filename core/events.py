"""The event log of a run: numbered 1, 2, 3, ... without a gap, immutable, the same from every process.

The number comes from the run's own counter in the same transaction as the insert. (A database sequence leaves gaps
at a rollback, and readers skip numbers that commit late.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from core.database import db_now
from core.tables import Event

EventType = Literal[
    "status", "epoch", "step", "checkpoint", "warning", "diagnosis", "fold", "artifact", "rewound", "end"
]


@dataclass(frozen=True)
class NewEvent:
    type: EventType
    data: dict[str, Any] = field(default_factory=dict)


def write(session: Session, run_id: str, attempt: int, first_seq: int, new: Sequence[NewEvent]) -> None:
    """Inserts events under numbers that the caller has just taken from the run's counter, in the same transaction."""
    rows = [
        {"run_id": run_id, "seq": seq, "type": one.type, "attempt": attempt, "data": one.data}
        for seq, one in enumerate(new, first_seq)
    ]
    if rows:
        session.execute(insert(Event).values(at=db_now()), rows)


def after(session: Session, run_id: str, seq: int, limit: int) -> Sequence[Event]:
    """Up to `limit` events that follow number `seq`, in order."""
    return session.scalars(
        select(Event).where(Event.run_id == run_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    ).all()


def as_json(event: Event) -> dict[str, Any]:
    """The one form of an event, on every transport."""
    return {
        "seq": event.seq,
        "type": event.type,
        "at": event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "attempt": event.attempt,
        "data": event.data,
    }
