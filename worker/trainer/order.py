"""What a training process is told: the resolved spec, and where its files lie. Pydantic only, no torch."""

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from core.spec import TrainingSpec
from core.spec.data import HeldOutPart


class TableColumn(BaseModel):
    """A column of the table, as ingest has stored it."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    values: list[Any] | None = None  # all different values; a value's position is its code
    number_row: int | None = None  # row of `numbers`, float32, missing is NaN
    code_row: int | None = None  # row of `codes`, int32, missing is -1
    moment_row: int | None = None  # row of `moments`, int64 seconds, missing is the least int64
    size: int | None = None  # of a vector: it is that many rows of `numbers` from `number_row` on


class Beginning(BaseModel):
    """Files of a job that has ended, to begin with in the place of new weights."""

    model_config = ConfigDict(frozen=True)

    weights: str  # safetensors
    preprocessing: str | None  # its preprocessing.json; None where that is fitted anew


class TableOrder(BaseModel):
    """A spec, and the arrays of the table that it is about."""

    model_config = ConfigDict(frozen=True)

    spec: TrainingSpec  # resolved
    rows: int
    columns: list[TableColumn]
    numbers: str | None  # path of a .npy of shape (columns, rows)
    codes: str | None  # path of a .npy of shape (columns, rows)
    moments: str | None = None  # path of a .npy of shape (columns, rows), int64 seconds
    parquet: str | None = None  # path of the whole table, where the split is by a column that has no codes
    folder: str  # private, for what is made
    start: Beginning | None = None
    held_out: dict[HeldOutPart, "TableOrder"] = {}  # tables of their own for rows that only measure

    @cached_property
    def _by_name(self) -> dict[str, TableColumn]:
        return {column.name: column for column in self.columns}

    def column(self, name: str) -> TableColumn:
        return self._by_name[name]


class TrainingOrder(TableOrder):
    kind: Literal["training"] = "training"
    checkpoint: str | None  # folder of the checkpoint to go on from
    checkpoint_seconds: float
    stop: Literal["cancel", "cancel_keep_last"] | None = None  # cancelled before this attempt began: only export
    fold: int | None = None  # the rows of this one measure, and those of the others train
    cross_validation: dict[str, Any] | None = None  # what all folds have come to, and how many `epochs` to train now


class PlanOrder(TableOrder):
    """A few batches of a training, to be timed."""

    kind: Literal["plan"] = "plan"
    claimed: float  # by the monotonic clock of this machine: what came before this process is part of a job's time


class PredictionsOrder(TableOrder):
    """All rows of a table, to be predicted by a network of which there is `network.onnx`."""

    kind: Literal["predictions"] = "predictions"
    network: str  # path of that file
    preprocessing: str  # path of its preprocessing.json
    format: Literal["parquet", "csv"]


class TraceOrder(TableOrder):
    """One update, by the `trace` of the spec."""

    kind: Literal["trace"] = "trace"
