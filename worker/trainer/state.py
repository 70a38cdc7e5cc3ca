"""All that a training depends on between two steps, and its checkpoint: safetensors and JSON, never a pickle.

A checkpoint taken anywhere, also in mid epoch, continues to the same bits as if nothing had happened: the order of the
rows is a function of (seed, epoch), and the random generator of dropout is part of the state.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worker.trainer.optimizers import Updater

TENSORS, FACTS = "state.safetensors", "state.json"


@dataclass
class Best:
    """The weights with the lowest monitored loss so far."""

    epoch: int
    value: float
    weights: dict[str, Tensor]


@dataclass
class Counters:
    """The plain numbers of the state."""

    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches of the epoch after those
    step: int = 0  # weight updates
    epochs_since_best: int = 0  # without an improvement by `min_delta`
    patience_value: float | None = None  # what the next improvement is measured from
    seconds: float = 0.0  # spent training, all attempts together
    stop_reason: str | None = None


@dataclass
class TrainingState:
    network: nn.Sequential
    updater: Updater
    at: Counters = field(default_factory=Counters)
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))  # of the epoch under way
    generator: Tensor | None = None  # of dropout, where a checkpoint was taken in mid epoch
    best: Best | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # of the last whole epoch

    def keep_as_best(self, value: float) -> None:
        weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.best = Best(self.at.epoch, value, weights)


def save(state: TrainingState, folder: Path) -> None:
    """Writes a checkpoint into a new folder, and makes it lasting."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"updater.{name}": tensor for name, tensor in state.updater.state().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best.weights if state.best else {}).items()}
    tensors |= {"loss_sum": state.loss_sum, "generator": torch.get_rng_state()}
    best = {"epoch": state.best.epoch, "value": state.best.value} if state.best else None
    facts = {"at": asdict(state.at), "best": best, "metrics": state.metrics}

    folder.mkdir()
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    (folder / FACTS).write_text(json.dumps(facts))
    for name in (TENSORS, FACTS):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def restore(state: TrainingState, folder: Path) -> None:
    """Puts a new state where the checkpoint was."""
    tensors, facts = load_file(folder / TENSORS), json.loads((folder / FACTS).read_text())

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.network.load_state_dict(part("network."))
    saved = part("updater.")
    for name, tensor in state.updater.state().items():
        tensor.copy_(saved[name])
    if facts["best"] is not None:
        state.best = Best(**facts["best"], weights=part("best."))
    state.loss_sum = tensors["loss_sum"]
    state.generator = tensors["generator"]
    state.at = Counters(**facts["at"])
    state.metrics = facts["metrics"]
