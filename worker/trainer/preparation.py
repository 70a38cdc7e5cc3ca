"""From the table's arrays to rows ready for the network: split, preprocessing fitted on training rows, tensors."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from core import errors
from core.spec.network import BatchNorm, flat
from worker.trainer import preprocessing, split
from worker.trainer.examples import Examples
from worker.trainer.order import TableOrder
from worker.trainer.preprocessing import Preprocessing, Rows
from worker.trainer.split import Parts


@dataclass(frozen=True)
class Prepared:
    """What is trained on, measured on, and looked at once."""

    preprocessing: Preprocessing
    parts: Parts
    train: Examples
    validation: Examples
    test: Examples
    unseen: dict[str, int] = field(default_factory=dict)  # rows of each column whose category kept preprocessing lacks


def prepare(order: TableOrder, device: torch.device, *, refit: bool, most: int | None = None) -> Prepared:
    """Raises a `DataInvalid` when the rows cannot be trained on. In a `refit` the validation rows train as well.

    A row that counts nothing is in no part, as one without a target. Of each part no more than the first `most` rows
    are made ready.
    """
    spec, table, kept = order.spec, preprocessing.Table(order), _kept(order)
    target, values, rows = preprocessing.read_target(order, table, None if kept is None else kept.target.classes)
    sample_weight = preprocessing.read_sample_weight(order, table, rows)
    if sample_weight is not None:
        rows = rows[sample_weight[rows] > 0]
    keys = split.read_keys(order, table, rows)
    parts = split.draw(spec.split, rows, values if values.ndim == 1 else values[:, 0], keys)
    if not len(parts.train) or (spec.split.validation and not len(parts.validation)):
        raise errors.DatasetTooSmall(rows=len(rows))
    if refit:
        together = np.sort(np.concatenate([parts.train, parts.validation]))
        parts = Parts(together, parts.validation[:0], parts.test)
    fitted = kept or preprocessing.fit(order, table, target, parts.train)
    weight = preprocessing.weigh(order, target, values, sample_weight, parts.train)
    _batch_norm_works(order, len(parts.train))

    def examples(rows: Rows) -> Examples:
        rows = rows[:most]
        features, codes = preprocessing.transform(fitted, order, table, rows)
        return Examples(
            features=torch.from_numpy(features),
            target=torch.from_numpy(values[rows]),
            codes=None if codes is None else torch.from_numpy(codes),
            weight=None if weight is None else torch.from_numpy(weight[rows]),
            sample_weight=None if sample_weight is None else torch.from_numpy(sample_weight[rows]),
        ).to(device)

    unseen = {} if kept is None else preprocessing.unseen_categories(fitted, order, table, rows)
    return Prepared(fitted, parts, examples(parts.train), examples(parts.validation), examples(parts.test), unseen)


def _kept(order: TableOrder) -> Preprocessing | None:
    """That of the job to start from, where it shall stay as it is."""
    if order.start is None or order.start.preprocessing is None:
        return None
    return Preprocessing.model_validate_json(Path(order.start.preprocessing).read_bytes())


def _batch_norm_works(order: TableOrder, rows: int) -> None:
    if any(isinstance(layer, BatchNorm) for layer in flat(order.spec.network.layers or [])):
        if rows < 2:
            raise errors.DatasetTooSmall("Batch norm needs at least 2 rows to train on.", rows=rows)
        if order.spec.training.batch_size < 2:
            raise errors.DataInvalid("Batch norm needs batches of at least 2 rows; a single row has no variance.")
