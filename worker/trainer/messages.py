"""All that is ever said between a supervisor and its child process, one JSON object a message.

The pipe carries bytes (`send_bytes`), never pickles: what comes out of the child is data that was not trusted.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, get_args

MAX_MESSAGE = 64 * 1024 * 1024  # bytes: the largest is the profile of a very wide table

# Folders in the private folder of a child: it names no path.
ARTIFACTS, BUNDLE, DATASET, ANSWER = "artifacts", "bundle", "dataset", "answer"

StopOrder = Literal["cancel", "cancel_keep_last", "deadline", "drain"]

# --- from the child -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phase:
    """What is being done now: `loading_data`, `training`, `exporting`. Also says "I live"."""

    phase: str
    fingerprint: dict[str, Any] | None = None  # torch, threads and CPU capability: what the bits depend on
    resumed_from_epoch: int | None = None


@dataclass(frozen=True)
class Logged:
    """A line for the event log."""

    type: Literal["epoch", "step", "diagnosis", "warning"]
    data: dict[str, Any]
    best: dict[str, Any] | None = None


@dataclass(frozen=True)
class CheckpointWritten:
    """A whole checkpoint lies in the folder of this name; the supervisor stores it and then deletes it."""

    epoch: int
    folder: str


@dataclass(frozen=True)
class Trained:
    """The training is over and its artifacts lie in the folder `ARTIFACTS`; what only `bundle.zip` has, in `BUNDLE`."""

    stop_reason: str
    best: dict[str, Any] | None
    test: dict[str, Any] | None = None  # rows, loss and metrics of the test rows, with the weights that are kept
    thresholds: list[float] | None = None  # those that the labels are said by
    failed: dict[str, Any] | None = None  # the fields of a `Failed`: it ended badly, and these are its best weights


@dataclass(frozen=True)
class FoldTrained:
    """A fold is over. There are no artifacts: its network only measures."""

    result: dict[str, Any]  # rows, loss and metrics of its own rows, epoch of the weights that measured, stop_reason


@dataclass(frozen=True)
class NothingToKeep:
    """Told to stop before a single step: there are no weights."""


@dataclass(frozen=True)
class Drained:
    """Told to make room: the last checkpoint is written, and another attempt will go on from it, at once or later."""


@dataclass(frozen=True)
class Ingested:
    """A table was read; its files lie in the folder `DATASET`."""

    rows: int
    columns: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    dialect: dict[str, Any] | None


@dataclass(frozen=True)
class Answered:
    """The files that answer an inquiry lie in the folder `ANSWER`."""


@dataclass(frozen=True)
class Failed:
    """It cannot be done, and trying again would not help: the name of a class of `core.errors` and its facts."""

    problem: str
    detail: str
    errors: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


FromChild = (
    Phase | Logged | CheckpointWritten | Trained | FoldTrained | NothingToKeep | Drained | Ingested | Answered | Failed
)

# --- to the child -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """End after this batch: `cancel` keeps the best weights so far, `cancel_keep_last` the last ones, `deadline` fails
    with the best ones, `drain` writes a checkpoint to go on from."""

    order: StopOrder


_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (*get_args(FromChild), Stop)}


def encode(message: FromChild | Stop) -> bytes:
    return json.dumps({"kind": type(message).__name__, **asdict(message)}, allow_nan=False).encode()


def decode(data: bytes) -> Any:
    fields = json.loads(data)
    return _KINDS[fields.pop("kind")](**fields)


class Channel(Protocol):
    """The child's end of the pipe."""

    def say(self, message: FromChild) -> None: ...

    def is_told(self) -> bool:
        """Whether the supervisor has asked for something: `stop_order` will say what."""

    def stop_order(self) -> StopOrder | None:
        """What the supervisor has asked for, without waiting."""
