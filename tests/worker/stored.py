"""Tables as ingest leaves them, made from arrays: also of columns that a CSV has no words for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.profile import Column
from core.resolve import resolve
from core.spec import TrainingSpec
from worker.trainer.order import TableColumn, TrainingOrder
from worker.trainer.preprocessing import Preprocessing, Table, fit, read_target, transform

MISSING_MOMENT = np.iinfo(np.int64).min


def order_of(folder: Path, cells: Mapping[str, Any], spec: Mapping[str, Any]) -> TrainingOrder:
    """The order of a training on these columns.

    float is a number with NaN where it is missing, int an integer, datetime64 a date with NaT, two dimensions are
    vectors, and a list holds categories with None.
    """
    folder.mkdir(parents=True)
    numbers: list[NDArray[np.float32]] = []
    codes: list[NDArray[np.int32]] = []
    moments: list[NDArray[np.int64]] = []
    columns: list[Column] = []
    for name, values in cells.items():
        if isinstance(values, list):
            known = sorted({value for value in values if value is not None})
            columns.append(_column(name, "category", values, code_row=len(codes), values=known))
            codes.append(np.array([-1 if value is None else known.index(value) for value in values], np.int32))
        elif values.dtype.kind == "M":
            columns.append(_column(name, "datetime", values, moment_row=len(moments)))
            seconds = values.astype("datetime64[s]")
            moments.append(np.where(np.isnat(seconds), MISSING_MOMENT, seconds.astype(np.int64)))
        elif values.ndim == 2:
            columns.append(_column(name, "vector", values, number_row=len(numbers), size=values.shape[1]))
            numbers += list(values.T.astype(np.float32))
        else:
            facts: dict[str, Any] = {"number_row": len(numbers)}
            columns.append(_column(name, "integer" if values.dtype.kind == "i" else "number", values, **facts))
            numbers.append(values.astype(np.float32))
    files: dict[str, str | None] = {}
    for file, rows in (("numbers", numbers), ("codes", codes), ("moments", moments)):
        if rows:
            np.save(folder / f"{file}.npy", np.stack(rows))
        files[file] = str(folder / f"{file}.npy") if rows else None
    length = len(next(iter(cells.values())))
    return TrainingOrder(
        spec=resolve(TrainingSpec.model_validate(spec), columns, length).spec,
        rows=length,
        columns=[TableColumn.model_validate(column.model_dump()) for column in columns],
        numbers=files["numbers"],
        codes=files["codes"],
        moments=files["moments"],
        checkpoint=None,
        folder=str(folder),
        checkpoint_seconds=3600.0,
    )


def _column(name: str, kind: str, cells: Any, **facts: Any) -> Column:
    if isinstance(cells, list):
        missing = cells.count(None)
        facts["counts"] = [cells.count(value) for value in facts["values"]]
        distinct = len(facts["values"])
    else:
        gone = np.isnat(cells) if cells.dtype.kind == "M" else ~np.isfinite(cells)
        missing = int((gone if gone.ndim == 1 else gone.any(1)).sum())
        distinct = len(np.unique(cells[~gone]))
    return Column(name=name, type=kind, missing=missing, distinct=distinct, **facts)  # type: ignore[arg-type]


def fitted_of(
    folder: Path, cells: Mapping[str, Any], features: Mapping[str, Any], train: NDArray[np.int64] | None = None
) -> tuple[Preprocessing, NDArray[np.float32]]:
    """Fitted on the training rows (all, if not said), and the network's inputs of all rows."""
    rows = len(next(iter(cells.values())))
    target = [("a", "b")[row % 2] for row in range(rows)]
    order = order_of(folder, {**cells, "y": target}, {"target": "y", "split": {"validation": 0}, "features": features})
    table = Table(order)
    found, _, with_target = read_target(order, table, None)
    fitted = fit(order, table, found, with_target if train is None else train)
    return fitted, transform(fitted, order, table, np.arange(rows))[0]
