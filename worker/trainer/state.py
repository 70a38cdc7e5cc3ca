"""All that a training depends on between two steps, and its checkpoint: safetensors and JSON, never a pickle.

A checkpoint taken anywhere, also in mid epoch, continues to the same bits as if nothing had happened: the order of the
rows is a function of (seed, epoch), and the random generator of dropout is part of the state.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core import faults
from worker.trainer.course import Course, course_of
from worker.trainer.device import noise_state
from worker.trainer.network import Network
from worker.trainer.optimizers import Updater
from worker.trainer.schedules import Plateau

TENSORS, BEST, FACTS = "state.safetensors", "best.safetensors", "state.json"


@dataclass
class Best:
    """The weights with the best monitored value so far."""

    epoch: int
    value: float
    weights: dict[str, Tensor]


@dataclass
class Counters:
    """The plain numbers of the state."""

    epoch: int = 0  # whole epochs done
    update: int = 0  # weight updates of the epoch after those
    step: int = 0  # weight updates
    epochs_since_best: int = 0  # without an improvement by `min_delta`
    patience_value: float | None = None  # what the next improvement is measured from
    seconds: float = 0.0  # spent training, all attempts together
    loss_sum: float = 0.0  # of the epoch under way: loss x what the rows count
    weight_sum: float = 0.0  # what its rows count
    stop_reason: str | None = None
    stage: Literal["search", "refit"] = "search"  # a refit trains again, on all rows
    searched_epochs: int = 0  # before the refit
    searched_reason: str | None = None  # why the search ended
    last_epoch: int | None = None  # of the refit
    last_step: int | None = None  # of the refit, where steps end the training


@dataclass
class TrainingState:
    network: Network
    updater: Updater
    average: list[Tensor] | None = None  # running average of the parameters, where one is asked for
    at: Counters = field(default_factory=Counters)
    plateau: Plateau = field(default_factory=Plateau)
    noise: Tensor | None = None  # the generator of dropout, where a checkpoint was taken in mid epoch
    seen: list[Tensor] = field(default_factory=list)  # logits of the epoch under way, for metrics of the training rows
    room: Tensor | None = None  # for more of them
    best: Best | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # of the last whole epoch
    offence: dict[str, Any] | None = None  # where the loss stopped being a number
    course: Course = field(default_factory=Course)
    traces: list[dict[str, Any]] = field(default_factory=list)  # updates laid open so far

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with the average in the place of the weights, where there is one."""
        if self.average is None:
            yield
            return
        parameters: list[Tensor] = list(self.network.parameters())
        with torch.no_grad():
            live = [parameter.clone() for parameter in parameters]
            torch._foreach_copy_(parameters, self.average)
            yield
            torch._foreach_copy_(parameters, live)

    def see(self, logits: Tensor, rows_left: int) -> None:
        """Remembers them for the metrics of the epoch, of which so many rows are left with these.

        In one block for all: small ones between the large would keep those from being used again.
        """
        if self.room is None or len(self.room) < len(logits):
            self.room = logits.new_empty(rows_left, logits.shape[1])
        self.seen.append(self.room[: len(logits)].copy_(logits))
        self.room = self.room[len(logits) :]

    def keep_as_best(self, value: float) -> None:
        self.best = Best(self.at.epoch, value, self.weights())

    def weights(self) -> dict[str, Tensor]:
        """What measures and predicts: a copy that further steps do not move."""
        with self.averaged():
            return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}


def save(state: TrainingState, folder: Path, header: dict[str, str] | None = None) -> None:
    """Writes a checkpoint into a new folder, and makes it lasting.

    The best weights are a file of their own, as that of the artifacts with its `header`: they are asked for while the
    job runs.
    """
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"updater.{name}": tensor for name, tensor in state.updater.state().items()}
    tensors |= {f"average.{place}": tensor for place, tensor in enumerate(state.average or ())}
    tensors |= {f"seen.{place}": tensor for place, tensor in enumerate(state.seen if state.at.update else ())}
    tensors |= {"noise": noise_state(next(state.network.parameters()).device)}
    best = {"epoch": state.best.epoch, "value": state.best.value} if state.best else None
    facts = {
        "at": asdict(state.at),
        "plateau": asdict(state.plateau),
        "best": best,
        "metrics": state.metrics,
        "course": asdict(state.course),
        "traces": state.traces,
    }

    faults.point("checkpoint.before_write")
    folder.mkdir()
    save_file({name: tensor.detach().contiguous() for name, tensor in _apart(tensors).items()}, folder / TENSORS)
    faults.point("checkpoint.between_files")
    if state.best is not None:
        whole = {name: tensor.detach().contiguous() for name, tensor in state.best.weights.items()}
        save_file(whole, folder / BEST, metadata=header)
    (folder / FACTS).write_text(json.dumps(facts))
    for written in folder.iterdir():
        with written.open("rb") as file:
            os.fsync(file.fileno())
    faults.point("checkpoint.after_write")


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """L-BFGS keeps the same tensor twice, and safetensors refuses to write shared memory. A copy of every other tensor
    would double what a large network takes.
    """
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def stage_of(folder: Path) -> str:
    """Whether a checkpoint was taken in the search or in the refit: their rows differ."""
    return str(json.loads((folder / FACTS).read_text())["at"]["stage"])


def restore(state: TrainingState, folder: Path) -> None:
    """Puts a new state where the checkpoint was."""
    tensors, facts = load_file(folder / TENSORS), json.loads((folder / FACTS).read_text())

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.network.load_state_dict(part("network."))
    state.updater.restore(part("updater."))
    for place, tensor in enumerate(state.average or ()):
        tensor.copy_(tensors[f"average.{place}"])
    if facts["best"] is not None:
        state.best = Best(**facts["best"], weights=load_file(folder / BEST))
    state.noise = tensors["noise"]
    state.seen = [tensors[f"seen.{place}"] for place in range(sum(name.startswith("seen.") for name in tensors))]
    state.at = Counters(**facts["at"])
    state.plateau = Plateau(**facts["plateau"])
    state.metrics, state.traces = facts["metrics"], facts["traces"]
    state.course = course_of(facts["course"])
