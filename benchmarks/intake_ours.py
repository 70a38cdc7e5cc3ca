"""Our ingest of a file: CPU seconds of its phases, taken from outside, and of what a training does first with it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.profile import Column
from core.resolve import resolve
from core.spec import TrainingSpec
from core.spec.features import Features
from worker.ingest import main as ingesting
from worker.trainer.messages import DATASET, FromChild, Ingested
from worker.trainer.order import TableColumn, TrainingOrder
from worker.trainer.preparation import prepare

MEMORY = 1024**3  # bytes: the default of BACKPROPD_INGEST_MEMORY_BYTES
EXPANDED, SECONDS = 4 * 1024**3, 3600  # neither is met
PHASES = {
    "describe": "columns",
    "associate": "associations",
    "write_numbers": "arrays",
    "write_codes": "arrays",
    "write_moments": "arrays",
    "_preview": "preview",
}


class Listener:
    """The other end of the channel."""

    ingested: Ingested

    def say(self, message: FromChild) -> None:
        if isinstance(message, Ingested):
            self.ingested = message

    def is_told(self) -> bool:
        return False

    def stop_order(self) -> None:
        return None


def convert(source: Path, folder: Path) -> dict[str, float]:
    seconds = dict.fromkeys(["all", *PHASES.values()], 0.0)
    for name, phase in PHASES.items():
        setattr(ingesting, name, _timed(getattr(ingesting, name), phase, seconds))
    listener = Listener()
    order = ingesting.IngestOrder(
        file=str(source),
        format="csv",
        folder=str(folder),
        memory_bytes=MEMORY,
        expanded_bytes=EXPANDED,
        seconds=SECONDS,
    )
    begun = time.perf_counter()
    _timed(ingesting.ingest, "all", seconds)(order, listener)
    seconds["wall"] = time.perf_counter() - begun
    seconds["convert"] = seconds["all"] - sum(seconds[phase] for phase in set(PHASES.values()))

    _timed(_map, "map", seconds)(folder / DATASET)
    _timed(prepare, "prepare", seconds)(_order(listener.ingested, folder), torch.device("cpu"), refit=False)
    return seconds


def _timed(function: Callable[..., Any], phase: str, seconds: dict[str, float]) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        begun = time.process_time()
        try:
            return function(*given, **named)
        finally:
            seconds[phase] = seconds.get(phase, 0.0) + time.process_time() - begun

    return call


def _map(dataset: Path) -> list[torch.Tensor]:
    """Copy on write, so that torch may have them."""
    return [torch.from_numpy(np.load(file, mmap_mode="c")) for file in sorted(dataset.glob("*.npy"))]


def _order(ingested: Ingested, folder: Path) -> TrainingOrder:
    """Of a job that predicts `kind` from all numbers."""
    columns = [Column.model_validate(column) for column in ingested.columns]
    numbers = [column.name for column in columns if column.number_row is not None]
    spec = TrainingSpec(target="kind", features=Features(include=numbers))
    return TrainingOrder(
        spec=resolve(spec, columns, ingested.rows).spec,
        rows=ingested.rows,
        columns=[TableColumn.model_validate(column) for column in ingested.columns],
        numbers=str(folder / DATASET / "numbers.npy"),
        codes=str(folder / DATASET / "codes.npy"),
        checkpoint=None,
        folder=str(folder),
        checkpoint_seconds=3600.0,
    )
