"""From the table's arrays to rows ready for the network: split, preprocessing fitted on training rows, tensors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core import errors
from core.spec.network import BatchNorm, flat
from worker.trainer import preprocessing, split
from worker.trainer.examples import Examples
from worker.trainer.order import TrainingOrder
from worker.trainer.preprocessing import Preprocessing, Rows
from worker.trainer.scaling import TargetScaling
from worker.trainer.split import Parts


@dataclass(frozen=True)
class Prepared:
    """What is trained on, measured on, and looked at once."""

    preprocessing: Preprocessing
    parts: Parts
    train: Examples
    validation: Examples
    test: Examples
    unseen: dict[str, int]  # rows of each column with a category that kept preprocessing does not know

    @property
    def target_scaling(self) -> TargetScaling | None:
        fitted = self.preprocessing.target
        return None if fitted.scaling is None else TargetScaling(fitted.scaling, self.train.target.device)


def prepare(order: TrainingOrder, device: torch.device, *, refit: bool) -> Prepared:
    """Raises a `DataInvalid` when the rows cannot be trained on. In a `refit` the validation rows train as well."""
    spec, table, kept = order.spec, preprocessing.Table(order), _kept(order)
    target, values, rows = preprocessing.read_target(order, table, None if kept is None else kept.target.classes)
    parts = split.draw(spec.split, rows, values if values.ndim == 1 else values[:, 0])
    if refit:
        together = np.sort(np.concatenate([parts.train, parts.validation]))
        parts = Parts(together, parts.validation[:0], parts.test)
    fitted = kept or preprocessing.fit(order, table, target, parts.train)
    weight, sample_weight = preprocessing.read_weights(order, table, target, values, parts.train)
    _batch_norm_works(order, len(parts.train))

    def examples(rows: Rows) -> Examples:
        features, codes = preprocessing.transform(fitted, order, table, rows)
        here, is_scaled = values[rows], fitted.target.scaling is not None
        return Examples(
            features=torch.from_numpy(features),
            target=torch.from_numpy(preprocessing.scaled_target(fitted.target, here) if is_scaled else here),
            codes=None if codes is None else torch.from_numpy(codes),
            weight=None if weight is None else torch.from_numpy(weight[rows]),
            sample_weight=None if sample_weight is None else torch.from_numpy(sample_weight[rows]),
            unscaled_target=torch.from_numpy(here) if is_scaled else None,
        ).to(device)

    unseen = {} if kept is None else preprocessing.unseen_categories(fitted, order, table, rows)
    return Prepared(fitted, parts, examples(parts.train), examples(parts.validation), examples(parts.test), unseen)


def _kept(order: TrainingOrder) -> Preprocessing | None:
    """That of the job to start from, where it shall stay as it is."""
    if order.start is None or order.start.preprocessing is None:
        return None
    return Preprocessing.model_validate_json(Path(order.start.preprocessing).read_bytes())


def _batch_norm_works(order: TrainingOrder, rows: int) -> None:
    if any(isinstance(layer, BatchNorm) for layer in flat(order.spec.network.layers or [])):
        if rows < 2:
            raise errors.DatasetTooSmall("Batch norm needs at least 2 rows to train on.", rows=rows)
        if order.spec.training.batch_size < 2:
            raise errors.DataInvalid("Batch norm needs batches of at least 2 rows; a single row has no variance.")
