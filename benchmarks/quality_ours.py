"""Our side of `quality.py`: two CSV files read, the spec resolved, the network trained and measured as a job would."""

import contextlib
import json
from pathlib import Path
from typing import Any

from core.dialect import Reading
from core.profile import Column
from core.resolve import resolve
from core.resolve.held_out import HeldOut
from core.spec import TrainingSpec
from worker.ingest.main import IngestOrder, ingest
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, DATASET, FromChild, Ingested
from worker.trainer.order import TableColumn, TableOrder, TrainingOrder

MEMORY = 1024**3  # bytes: the default of BACKPROPD_INGEST_MEMORY_BYTES


class Listener:
    """The other end of the channel."""

    last: FromChild

    def say(self, message: FromChild) -> None:
        self.last = message

    def is_told(self) -> bool:
        return False

    def stop_order(self) -> None:
        return None


def loss_of(learned: Path, held_out: Path, spec: dict[str, Any], folder: Path) -> tuple[float, dict[str, Any]]:
    """Log loss or RMSE on the rows that are held out, as the job itself says it, and the job's report.

    Both files are uploaded as they are, and the second is the job's `test_dataset_id`.
    """
    files = {"learned": learned, "test": held_out}
    tables = {name: _read(file, folder / name) for name, file in files.items()}
    columns = {
        name: [Column.model_validate(column) for column in ingested.columns] for name, ingested in tables.items()
    }
    resolved = resolve(
        TrainingSpec.model_validate(spec),
        columns["learned"],
        tables["learned"].rows,
        held_out={"test": HeldOut(columns["test"], tables["test"].rows)},
    ).spec
    own: dict[str, Any] = {"spec": resolved, "folder": str(folder)}
    order = TrainingOrder(
        **_arrays(tables["learned"], folder / "learned"),
        **own,
        held_out={"test": TableOrder(**_arrays(tables["test"], folder / "test"), **own)},
        checkpoint=None,
        checkpoint_seconds=3600.0,
    )
    train(order, Listener())
    report = json.loads((folder / ARTIFACTS / "report.json").read_text())
    return report["test"]["loss" if resolved.task == "classification" else "rmse"], report


def _read(file: Path, folder: Path) -> Ingested:
    folder.mkdir()
    listener = Listener()
    order = IngestOrder(
        file=str(file),
        format="csv",
        reading=Reading(),
        folder=str(folder),
        memory_bytes=MEMORY,
        expanded_bytes=MEMORY,
        seconds=600,
    )
    ingest(order, listener)
    assert isinstance(listener.last, Ingested)
    return listener.last


def _arrays(ingested: Ingested, folder: Path) -> dict[str, Any]:
    """The part of an order that says where a table lies."""
    found: dict[str, str | None] = dict.fromkeys(("numbers", "codes", "moments"))
    for name in found:
        with contextlib.suppress(FileNotFoundError):
            found[name] = str((folder / DATASET / f"{name}.npy").resolve(strict=True))
    return {
        "rows": ingested.rows,
        "columns": [TableColumn.model_validate(column) for column in ingested.columns],
        "parquet": str(folder / DATASET / "table.parquet"),
        **found,
    }
