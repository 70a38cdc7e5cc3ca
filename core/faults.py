"""Fault points: named places where a process can be made to die, to fail, to sleep or to stand still.

They are for whoever wants to see that nothing is lost by it, the tests of this repository first. A process that is
started with `FAULT=succeed.before_commit:1:kill` dies the first time it comes there, and hands the same to the training
processes that it starts; each counts for itself. Without that variable a point is one comparison with None.
`backpropd faults` lists them.
"""

import errno
import os
import re
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, get_args

VARIABLE = "FAULT"

Action = Literal["kill", "raise", "sleep", "stop"]
Process = Literal["api", "worker", "training", "sweeper", "any"]

SLEEP_SECONDS = 5.0
EVERY = "*"  # in the place of a number: each time

# Each has two points: `NAME.before_commit`, and `NAME.after_commit` before anybody knows of it.
COMMITS: dict[str, tuple[Process, str]] = {
    "submit": ("api", "a job, its run and its first event, with the datasets that it brings"),
    "upload": ("api", "a dataset whose bytes are in storage"),
    "read_again": ("api", "another reading of the same bytes"),
    "ask": ("api", "an inquiry: a trace, a measured plan, predictions"),
    "cancel": ("api", "what becomes of a job that shall be cancelled"),
    "pause": ("api", "what becomes of a job that shall pause"),
    "resume": ("api", "a paused job back in the queue"),
    "delete_job": ("api", "a job with all that belongs to it"),
    "delete_dataset": ("api", "a dataset"),
    "point": ("api", "where a predictor points"),
    "claim": ("worker", "a run taken by a worker"),
    "renew": ("worker", "a lease renewed"),
    "record": ("worker", "a batch of events"),
    "touch_blobs": ("worker", "bytes that are about to be stored"),
    "save_checkpoint": ("worker", "the pointer to a checkpoint whose bytes are in storage"),
    "keep_transcript": ("worker", "what a training process wrote before it ended"),
    "succeed": ("worker", "artifacts, last events and final state of a job that ends well, or was cancelled"),
    "fail": ("worker", "the same of a job that ends badly"),
    "crash": ("worker", "a training process that died by itself"),
    "release": ("worker", "a run given back by a worker that stops, or paused"),
    "fold_trained": ("worker", "what a fold has come to, and after the last one the run of its job"),
    "dataset_ready": ("worker", "a dataset that was read, and the jobs that waited for it"),
    "dataset_invalid": ("worker", "a dataset that cannot be read, and the jobs that waited for it"),
    "answer": ("worker", "what became of an inquiry"),
    "enrol": ("worker", "the row of a worker that has started"),
    "attend": ("worker", "the beat of a worker"),
    "leave": ("worker", "the row of a worker that has stopped"),
    "expire_leases": ("worker", "the leases of a worker that is known to be dead"),
    "rescue": ("sweeper", "a run taken back from a worker that is gone"),
    "lead": ("sweeper", "who sweeps"),
    "forget": ("sweeper", "what is no record any more, deleted"),
    "collect_blob": ("sweeper", "bytes that nothing refers to, deleted before the commit"),
}

OTHERS: dict[str, tuple[Process, str]] = {
    "storage.before_put": ("any", "before each file is written under its final name"),
    "storage.before_sync": ("any", "all files have their names, and may be lost by a power cut"),
    "storage.after_put": ("any", "all files are lasting, and nothing points at them"),
    "storage.before_delete": ("any", "before bytes are deleted"),
    "ring.before_send": ("any", "before the Celery message that says that there may be work"),
    "ring.after_send": ("any", "after it"),
    "wake.before_send": ("any", "before those are woken who wait for a row"),
    "child.before_start": ("worker", "a run is claimed, and its process is not there yet"),
    "child.after_start": ("worker", "its process is there, and nothing was heard of it"),
    "pipe.before_tell": ("worker", "before a process is told to stop"),
    "pipe.heard": ("worker", "a message of a process is read, and nothing was done about it"),
    "checkpoint.before_store": ("worker", "a whole checkpoint lies in the private folder"),
    "artifacts.before_store": ("worker", "all artifacts lie in the private folder"),
    "pipe.before_say": ("training", "before each message to the supervisor"),
    "pipe.after_say": ("training", "after it"),
    "train.before_update": ("training", "before each weight update"),
    "checkpoint.before_write": ("training", "before a checkpoint is written into the private folder"),
    "checkpoint.between_files": ("training", "its tensors are written, and its counters are not"),
    "checkpoint.after_write": ("training", "it is whole, and its supervisor does not know"),
    "artifacts.before_write": ("training", "before each group of artifacts is written"),
}

POINTS: dict[str, tuple[Process, str]] = {
    **{
        f"{name}.{when}_commit": (process, f"{when} the commit of {what}")
        for name, (process, what) in COMMITS.items()
        for when in ("before", "after")
    },
    **OTHERS,
}


@dataclass
class Fault:
    """What happens at the `number`-th pass of a point in this process; 0 is each."""

    text: str
    name: str
    number: int
    action: Action
    seconds: float
    passes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self) -> None:
        with self.lock:
            self.passes += 1
            if self.number not in (0, self.passes):
                return
        match self.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                time.sleep(self.seconds)
            case "raise":
                raise OSError(errno.EIO, f"fault at {self.name}")


def read(text: str) -> Fault:
    """`name:n:action`, or `name:n:sleep:seconds`. Raises `ValueError`."""
    found = re.fullmatch(r"([a-z_.]+):(\d{1,9}|\*):([a-z]+)(?::(\d+(?:\.\d+)?))?", text)
    if found is None or found[3] not in get_args(Action) or found[2] == "0" or (found[4] and found[3] != "sleep"):
        raise ValueError(
            f"{VARIABLE} is `name:n:action`, with n from 1 or `*`, and one of {', '.join(get_args(Action))}"
        )
    if found[1] not in POINTS:
        raise ValueError(f"{VARIABLE} names no fault point; `backpropd faults` lists them")
    number = 0 if found[2] == EVERY else int(found[2])
    return Fault(text, found[1], number, found[3], float(found[4] or SLEEP_SECONDS))  # type: ignore[arg-type]


def arm(text: str | None) -> None:
    """From here on this process has that fault, counted anew; with None it has none."""
    global _fault
    _fault = None if text is None else read(text)


def armed() -> str | None:
    """The fault of this process, to be handed to one that it starts."""
    return None if _fault is None else _fault.text


def point(name: str) -> None:
    """A place of this name. `name` stands in `POINTS`."""
    if _fault is not None and _fault.name == name:
        _fault.meet()


_fault: Fault | None = None
arm(os.environ.get(VARIABLE) or None)
