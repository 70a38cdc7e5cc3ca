"""Tables, orders and states of training for tests; each goes the way that a job's own would go."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.dialect import Reading
from core.profile import Column
from core.resolve import resolve
from core.resolve.held_out import HeldOut
from core.spec import TrainingSpec
from core.spec.data import HeldOutPart
from worker.ingest.main import IngestOrder, ingest
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, fit
from worker.trainer.messages import DATASET, FromChild, Ingested, Logged, StopOrder
from worker.trainer.network import build
from worker.trainer.optimizers import updater
from worker.trainer.order import TableColumn, TableOrder, TrainingOrder
from worker.trainer.state import TrainingState


@dataclass
class Listener:
    """The other end of a channel: keeps what is said, and gives one order after so many epochs."""

    order: StopOrder | None = None
    after_epochs: int = 0
    said: list[FromChild] = field(default_factory=list)

    def say(self, message: FromChild) -> None:
        self.said.append(message)

    def is_told(self) -> bool:
        return self.stop_order() is not None

    def stop_order(self) -> StopOrder | None:
        return self.order if len(self.epochs) >= self.after_epochs else None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return [one.data for one in self.said if isinstance(one, Logged) and one.type == "epoch"]

    @property
    def last(self) -> Any:
        return self.said[-1]


@dataclass
class Read:
    """What ingest made of a file."""

    said: Ingested
    folder: Path

    @property
    def rows(self) -> int:
        return self.said.rows

    @property
    def columns(self) -> list[Column]:
        return [Column.model_validate(column) for column in self.said.columns]

    @property
    def types(self) -> dict[str, str]:
        return {column.name: column.type for column in self.columns}

    @property
    def warnings(self) -> set[tuple[str, str]]:
        return {(warning["code"], warning["column"]) for warning in self.said.warnings}

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def numbers(self, name: str) -> Any:
        return np.load(self.folder / "numbers.npy")[self.column(name).number_row]

    def codes(self, name: str) -> Any:
        return np.load(self.folder / "codes.npy")[self.column(name).code_row]

    def values(self, name: str) -> list[Any]:
        """What the codes stand for."""
        known = self.column(name).values or []
        return [None if code < 0 else known[code] for code in self.codes(name)]


def read(
    folder: Path,
    data: str | bytes,
    kind: str = "csv",
    memory_bytes: int = 1 << 30,
    *,
    columns: Mapping[str, str] | None = None,
    expanded_bytes: int = 1 << 30,
    **dialect: Any,
) -> Read:
    """Ingests bytes in this process, in the dialect and with the types of columns that are given."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "upload"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    private = folder / "private"
    private.mkdir()
    listener = Listener()

    types = {name: {"type": chosen} for name, chosen in (columns or {}).items()}
    order = IngestOrder(
        file=str(file),
        format=kind,
        reading=Reading.model_validate({"dialect": dialect, "columns": types}),
        folder=str(private),
        memory_bytes=memory_bytes,
        expanded_bytes=expanded_bytes,
        seconds=600,
    )
    ingest(order, listener)

    assert isinstance(listener.last, Ingested)
    return Read(listener.last, private / DATASET)


def order_for(
    folder: Path,
    table: Read,
    spec: Mapping[str, Any],
    held_out: Mapping[HeldOutPart, Read] = MappingProxyType({}),
    **changes: Any,
) -> TrainingOrder:
    """The order that a supervisor would give for this spec; `folder` is made."""
    folder.mkdir(parents=True)
    profiles = {part: HeldOut(other.columns, other.rows) for part, other in held_out.items()}
    resolved = resolve(TrainingSpec.model_validate(spec), table.columns, table.rows, held_out=profiles).spec
    own = {"spec": resolved, "folder": str(folder)}
    order = TrainingOrder(
        **_arrays(table),
        **own,
        held_out={part: TableOrder(**_arrays(other), **own) for part, other in held_out.items()},
        checkpoint=None,
        checkpoint_seconds=3600.0,
    )
    return order.model_copy(update=changes)


def _arrays(table: Read) -> dict[str, Any]:
    """The part of an order that says where a table lies."""
    arrays = {
        name: str(path) for name in ("numbers", "codes", "moments") if (path := table.folder / f"{name}.npy").exists()
    }
    return {
        "rows": table.rows,
        "columns": [TableColumn.model_validate(column) for column in table.said.columns],
        "numbers": arrays.get("numbers"),
        "codes": arrays.get("codes"),
        "moments": arrays.get("moments"),
        "parquet": str(table.folder / "table.parquet"),
    }


def table_text(rows: int, seed: int = 0, classes: Sequence[str] = ("ash", "birch", "cedar")) -> str:
    """A CSV of classes that can be learned: numbers, a category with missing values, a boolean, and `kind`."""
    generator = np.random.default_rng(seed)
    lines = ["height,width,soil,wet,kind"]
    for _ in range(rows):
        kind = int(generator.integers(len(classes)))
        height, width = generator.normal(kind, 0.6), generator.normal(-2 * kind, 0.8)
        soil = ("sand", "clay", "", "loam")[int(generator.integers(4))]
        cells = [f"{height:.4f}", "" if generator.random() < 0.1 else f"{width:.4f}", soil]
        lines.append(",".join([*cells, "true" if generator.random() < 0.5 else "false", classes[kind]]))
    return "\n".join(lines) + "\n"


def examples(rows: int, inputs: int = 4, classes: int = 3, seed: int = 0) -> Examples:
    """Rows of classes that overlap a little."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (rows,), generator=generator)
    features = torch.randn(rows, inputs, generator=generator) + target.unsqueeze(1)
    return Examples(features, target)


def epochs_of(
    spec: TrainingSpec,
    state: TrainingState | None = None,
    train: Examples | None = None,
    validation: Examples | None = None,
) -> list[dict[str, Any]]:
    """The facts of each epoch of a training, of 100 rows and without validation unless other rows are given."""
    rows = examples(100) if train is None else train
    going = fit(spec, rows, NOTHING if validation is None else validation, state or state_for(spec))
    return [done.facts for done in going if isinstance(done, EpochDone)]


NOTHING = Examples(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))


def spec_for(
    layers: Iterable[Mapping[str, Any]] = (),
    *,
    units: int = 3,
    activation: str = "softmax",
    task: str = "classification",
    **training: Any,
) -> TrainingSpec:
    """A resolved spec: cross-entropy, train_loss and no metrics where nothing else is said."""
    stop = {"monitor": "train_loss", **training.pop("stop", {})}
    chosen = {"loss": "cross_entropy", "epochs": 3, "metrics": [], **training, "stop": stop}
    network = {"layers": list(layers), "output": {"units": units, "activation": activation}}
    return TrainingSpec.model_validate({"target": "kind", "task": task, "network": network, "training": chosen})


def state_for(
    spec: TrainingSpec,
    inputs: int = 4,
    embeddings: Sequence[tuple[int, int]] = (),
    dtype: torch.dtype = torch.float32,
) -> TrainingState:
    """A state of training before its first step."""
    assert spec.network.output is not None
    training = spec.training
    network = build(spec.network.layers or [], spec.network.output, inputs, training.seed, embeddings).to(dtype)
    parameters: list[Tensor] = list(network.parameters())
    average = [parameter.detach().clone() for parameter in parameters] if training.ema_decay else None
    return TrainingState(network, updater(training.optimizer, parameters), average)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """One SHA-256 over all bits."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def without_timing(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What I10 means by identical."""
    return {name: value for name, value in facts.items() if name not in ("seconds", "samples_per_second")}
