"""What is predicted, as the loss sees it, and what each row counts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from core import errors
from core.spec.metrics import Task
from worker.trainer.order import TableOrder
from worker.trainer.preprocessing.categories import text
from worker.trainer.preprocessing.scaling import Affine, fit_scaling
from worker.trainer.preprocessing.table import Floats, Rows, Table

SHARES_TOLERANCE = 1e-3  # by which the shares of a row may miss 1


class Target(BaseModel):
    """What is predicted. Several names and classes: one column of shares each class.

    With `scaling`, one of each name: the network predicts (value - `center`) / `scale`, so the prediction is its output
    x `scale` + `center`.
    """

    model_config = ConfigDict(frozen=True)

    names: list[str]
    task: Task
    classes: list[Any] | None
    scaling: list[Affine] | None = None
    thresholds: list[float] | None = None  # what is above is said: the second of two classes, or each label


def read_target(order: TableOrder, table: Table, known: list[Any] | None = None) -> tuple[Target, NDArray[Any], Rows]:
    """The target of every row, (rows,) int64 codes of classes or (rows, columns) float32, and the rows that have one.

    The order of classes is that of the column's values, or of the classes that are `known` already.

    Raises `TargetHasInfinity` or `TargetNotShares`, with the first rows that are to blame.
    """
    spec, columns = order.spec, [order.column(name) for name in order.spec.targets]
    assert spec.task != "auto", "a resolved spec has its task"
    if spec.task == "classification" and len(columns) == 1:
        codes, classes = table.code(columns[0]).astype(np.int64), columns[0].values or []
        if known is not None:
            codes = np.array([*map(known.index, classes), -1])[codes]  # -1 is the last: missing
            classes = known
        target = Target(names=spec.targets, task=spec.task, classes=classes)
        if spec.network.output is not None and spec.network.output.units == 1:
            return target, codes.astype(np.float32)[:, None], np.flatnonzero(codes >= 0)
        return target, codes, np.flatnonzero(codes >= 0)
    matrix = np.stack([table.share(column) for column in columns], 1)
    rows = np.flatnonzero(~np.isnan(matrix).any(1))
    for place, column in enumerate(columns):
        infinite = np.flatnonzero(np.isinf(matrix[:, place]))
        if len(infinite):
            raise errors.TargetHasInfinity(column=column.name, rows=infinite[:10].tolist())
    if spec.task != "classification":
        return Target(names=spec.targets, task=spec.task, classes=None), matrix, rows
    off = rows[np.abs(matrix[rows].sum(1) - 1) > SHARES_TOLERANCE]
    if len(off):
        raise errors.TargetNotShares(columns=spec.targets, rows=off[:10].tolist())
    return Target(names=spec.targets, task=spec.task, classes=spec.targets), matrix, rows


def read_sample_weight(order: TableOrder, table: Table, rows: Rows) -> Floats | None:
    """What each row of the table counts, None where all count the same.

    Raises `SampleWeightInvalid` where that of one of these rows is no number from 0, or all are 0.
    """
    name = order.spec.sample_weight
    if name is None:
        return None
    weight = table.number(order.column(name))
    counts = weight[rows]
    if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
        raise errors.SampleWeightInvalid(column=name)
    return weight


def weigh(
    order: TableOrder, target: Target, values: NDArray[Any], sample_weight: Floats | None, train: Rows
) -> Floats | None:
    """What each row counts in the loss: its sample weight times the weight of its class, 1 on average over the training
    rows. None where all count the same.
    """
    chosen = order.spec.training.class_weights
    if chosen is None:
        if sample_weight is None:
            return None
        loss = sample_weight
    else:
        classes = target.classes or []
        codes = (values if values.ndim == 1 else values[:, 0]).astype(np.int64)
        if chosen == "balanced":
            each = np.ones(len(codes)) if sample_weight is None else sample_weight.astype(np.float64)
            counts = np.bincount(codes[train], each[train], len(classes))
            by_class = np.divide(counts.sum(), len(classes) * counts, out=np.ones(len(classes)), where=counts > 0)
        else:
            by_class = np.array([float(chosen.get(text(value), 1.0)) for value in classes])
        loss = by_class[np.maximum(codes, 0)].astype(np.float32) * (1 if sample_weight is None else sample_weight)
    return (loss / np.mean(loss[train], dtype=np.float64)).astype(np.float32)


def fit_target(order: TableOrder, table: Table, target: Target, rows: Rows) -> Target:
    """With the scaling of these rows, where the spec wants one."""
    if order.spec.target_scale != "standard":
        return target
    columns = [table.share(order.column(name))[rows] for name in target.names]
    found = [fit_scaling(values, "standard") for values in columns]
    return target.model_copy(update={"scaling": found})


def scaled_target(target: Target, values: Floats) -> Floats:
    """(rows, names) as the network predicts them, in float32."""
    fitted = np.array([[one.center, one.scale] for one in target.scaling or []], np.float32)
    found: Floats = (values - fitted[:, 0]) / fitted[:, 1]
    return found
