"""From the training process to the event log, in small batches: at most 100 ms late, one transaction a batch.

Epochs that were logged before a rescue come again, identical: neither they nor what was found in them is written twice.
Should one differ (another CPU, another torch), a `rewound` event says so before the log goes on.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from core import database, lifecycle, queue
from core.events import NewEvent
from core.lifecycle import Claim
from core.logs import logger
from core.tables import Event
from worker.trainer.messages import Logged, Phase

BATCH_SECONDS = 0.1
MAX_WAITING = 5000  # events held while the database is away; beyond that the training process has to wait
ORDERS_SECONDS = 1.0  # how often to ask for orders where there is nothing to write
TIMING = {"seconds", "samples_per_second"}  # differ from one run to the next, and are no part of an epoch's identity


@dataclass
class Known:
    """What the log holds already, as far as it can come again."""

    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)  # by number, without timing
    diagnoses: set[tuple[int, str]] = field(default_factory=set)  # epoch and code
    warnings: set[tuple[str, str | None, str]] = field(default_factory=set)  # they are of the rows, of no epoch

    def forget_from(self, epoch: int) -> None:
        self.epochs = {one: facts for one, facts in self.epochs.items() if one < epoch}
        self.diagnoses = {one for one in self.diagnoses if one[0] < epoch}


class Relay:
    def __init__(
        self,
        claim: Claim,
        epochs: int,
        before: tuple[int, int] = (0, 0),
        fingerprint: Mapping[str, Any] | None = None,
    ) -> None:
        """`before` are the epochs and steps of networks that the job has trained already: its folds. `fingerprint` is
        that of the attempt before this one.
        """
        self._claim = claim
        self._fingerprint = fingerprint
        self._epochs = epochs
        self._epochs_before, self._steps_before = before
        self._waiting: list[NewEvent] = []
        self._job: dict[str, Any] = {}
        self._attempt: dict[str, Any] = {}
        self._last_flush = self._last_orders = 0.0
        self._logged: Known | None = Known() if claim.attempt == 1 else None
        self._flushed_epoch = False
        self.order: str | None = claim.order
        self.transcript = ""  # what the training process wrote, when it has ended

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def phase(self, message: Phase) -> None:
        facts = {"fingerprint": message.fingerprint, "resumed_from_epoch": message.resumed_from_epoch}
        self._attempt |= {name: value for name, value in facts.items() if value is not None}
        if self._fingerprint is not None and message.fingerprint is not None:
            self._waiting += _changed(self._claim.attempt, self._fingerprint, message.fingerprint)
        if message.phase == "loading_data":
            return  # the claim has said so
        self._job["phase"] = message.phase
        if not self._waiting:
            self._last_flush = time.monotonic()  # what follows a new phase comes at once: they go together
        status = {"cancel": "cancelling", "pause": "pausing"}.get(self.order or "", "running")
        self._waiting.append(NewEvent("status", {"status": status, "phase": message.phase}))

    def log(self, message: Logged) -> None:
        if message.type == "epoch" and not self._flushed_epoch:
            self._flushed_epoch, self._last_flush = True, 0.0  # the first loss is what everybody waits for
        self._waiting.append(NewEvent(message.type, message.data))
        if message.type in ("warning", "diagnosis"):
            return
        epoch = message.data["epoch"]
        done = epoch if message.type == "epoch" else epoch - 1
        whole, reached = self._epochs_before + self._epochs, self._epochs_before + done
        fraction = min(1.0, reached / whole)  # a refit comes after the last epoch that was asked for
        seconds = message.data.get("seconds")
        eta = round(seconds / done * max(0, self._epochs - done), 3) if seconds is not None and done else None
        self._job["progress"] = {
            "epoch": reached,
            "epochs": whole,
            "step": self._steps_before + message.data["step"],
            "fraction": round(fraction, 6),
            "eta_seconds": eta,
        }
        if message.type == "epoch":
            self._job["latest_metrics"] = {key: value for key, value in message.data.items() if key != "step"}
            self._job["best"] = message.best

    def seconds_until_due(self) -> float:
        if not self._waiting:
            return ORDERS_SECONDS
        return max(0.0, self._last_flush + BATCH_SECONDS - time.monotonic())

    def flush(self) -> None:
        """Writes what is due, and learns what is asked. Raises `Fenced`. Keeps all of it while the database is away."""
        moment = time.monotonic()
        try:
            if self._waiting and moment >= self._last_flush + BATCH_SECONDS:
                self._last_orders = moment
                self.write_out()
            elif moment >= self._last_orders + ORDERS_SECONDS:
                self._last_orders = moment
                with database.reading() as session:
                    self.order, _ = lifecycle.orders(session, self._claim)
        except database.AWAY as error:
            self._last_flush = moment + 1.0  # a pause before the next try
            logger().warning("events_held_back", error=type(error).__name__, waiting=len(self._waiting))

    def write_out(self) -> None:
        """Writes all that waits, now. Raises `Fenced`, or what the database raises; nothing is dropped by that."""
        if not self._waiting:
            return
        self._last_flush = time.monotonic()
        logged = self._read_logged() if self._logged is None else self._logged
        # A commit whose answer is lost may have happened: until it is known, the log itself has to be asked.
        self._logged = None
        new = [event for one in self._waiting for event in _not_yet_logged(one, logged)]
        with database.writing() as session:
            self.order = lifecycle.record(session, self._claim, new, attempt=self._attempt, **self._job)
        self._logged = logged
        self._waiting, self._job, self._attempt = [], {}, {}
        queue.wake(self._claim.concerns)

    def _read_logged(self) -> Known:
        with database.reading() as session:
            found = session.execute(
                select(Event.type, Event.data)
                .where(Event.run_id == self._claim.log_id, Event.type.in_(("epoch", "diagnosis", "warning", "rewound")))
                .order_by(Event.seq)
            )
            known = Known()
            for kind, data in found:
                if data.get("fold") != self._claim.fold:
                    continue  # the log of a job is also that of its folds
                match kind:
                    case "rewound":
                        known.forget_from(data["to_epoch"] + 1)
                    case "diagnosis":
                        known.diagnoses.add((data["epoch"], data["code"]))
                    case "warning":
                        known.warnings.add(_warned_of(data))
                    case _:
                        known.epochs[data["epoch"]] = _identity(data)
            return known


def _not_yet_logged(event: NewEvent, known: Known) -> list[NewEvent]:
    """What of an event is news; `known` learns it."""
    match event.type:
        case "step":  # they come before their epoch
            return [] if event.data["epoch"] in known.epochs else [event]
        case "diagnosis":  # and these after it
            found = (event.data["epoch"], event.data["code"])
            if found in known.diagnoses:
                return []
            known.diagnoses.add(found)
            return [event]
        case "warning":  # of the rows, which are those of every attempt
            if (warned := _warned_of(event.data)) in known.warnings:
                return []
            known.warnings.add(warned)
            return [event]
        case "epoch":
            epoch, identity = event.data["epoch"], _identity(event.data)
            before = known.epochs.get(epoch)
            if before == identity:
                return []
            known.forget_from(epoch)
            known.epochs[epoch] = identity
            return [event] if before is None else [NewEvent("rewound", {"to_epoch": epoch - 1}), event]
        case _:
            return [event]


def _changed(attempt: int, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[NewEvent]:
    """Where an attempt goes on with another torch, CPU or number of threads, that its bits are those of neither."""
    changed = {name: [before.get(name), now[name]] for name in now if now[name] != before.get(name)}
    if not changed:
        return []
    said = ", ".join(f"{name} {new} instead of {old}" for name, (old, new) in changed.items())
    message = (
        f"Attempt {attempt} goes on with {said}: from here on its numbers may differ from an undisturbed training's."
    )
    return [NewEvent("warning", {"code": "fingerprint_changed", "message": message, "evidence": changed})]


def _warned_of(data: dict[str, Any]) -> tuple[str, str | None, str]:
    return data["code"], data.get("column"), data["message"]


def _identity(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in TIMING and key != "fold"}
