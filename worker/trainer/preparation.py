"""From the table's arrays to rows ready for the network: split, preprocessing fitted on training rows, tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import errors
from core.spec.network import BatchNorm, flat
from worker.trainer import preprocessing, split
from worker.trainer.examples import Examples
from worker.trainer.order import TableColumn, TableOrder
from worker.trainer.preprocessing import Floats, Preprocessing, Rows, Table, Target
from worker.trainer.ranks import codes_among
from worker.trainer.scaling import TargetScaling
from worker.trainer.split import Parts


@dataclass
class Prepared:
    """What is trained on, measured on, and looked at once."""

    preprocessing: Preprocessing
    parts: Parts  # of a part with a table of its own, the rows of that
    train: Examples
    validation: Examples
    test: Examples
    unseen: list[dict[str, Any]] = field(default_factory=list)  # warnings: rows whose category the fitted values lack

    def release_features(self) -> None:
        """When all is trained and measured: they are most of what a training process holds."""
        self.train, self.validation, self.test = (
            part.without_features() for part in (self.train, self.validation, self.test)
        )

    @property
    def target_scaling(self) -> TargetScaling | None:
        fitted = self.preprocessing.target
        return None if fitted.scaling is None else TargetScaling(fitted.scaling, self.train.target.device)


@dataclass(frozen=True)
class _Source:
    """A table, as far as the spec reads it."""

    order: TableOrder
    table: Table
    target: Target
    values: NDArray[Any]  # the target of each row
    sample_weight: Floats | None  # of each row
    rows: Rows  # those that have a target, and count


class _Measuring(Table):
    """A table of rows that only measure: a column that is empty in it may be of any type, and one that is a category
    here may have too many different texts there."""

    def number(self, column: TableColumn, component: int = 0) -> Floats:
        if column.number_row is None:
            return np.full(self._order.rows, np.nan, np.float32)
        return super().number(column, component)

    def code(self, column: TableColumn) -> NDArray[np.int32]:
        if column.code_row is None:
            known = (column.values or [])[:-1]  # without the last: see `_in_our_words`
            return codes_among(self._order, column, known) if known else np.full(self._order.rows, -1, np.int32)
        return super().code(column)


def prepare(
    order: TableOrder, device: torch.device, *, refit: bool, most: int | None = None, fold: int | None = None
) -> Prepared:
    """Raises a `DataInvalid` when the rows cannot be trained on. In a `refit` the validation rows train as well; in a
    `fold` its own rows validate, and what is fitted is fitted on those of the others.

    A row that counts nothing is in no part, as one without a target. Of each part no more than the first `most` rows
    are made ready. What is fitted is fitted on training rows: rows of other tables meet it as it is.
    """
    spec, kept = order.spec, _kept(order)
    own = _read(order, preprocessing.Table(order), None if kept is None else kept.target.classes)
    others = {part: _in_our_words(other, order) for part, other in order.held_out.items()}
    held_out = {part: _read(other, _Measuring(other), own.target.classes) for part, other in others.items()}
    keys = split.read_keys(order, own.table, own.rows)
    parts = split.draw(spec.split, own.rows, own.values if own.values.ndim == 1 else own.values[:, 0], keys)
    for part, source in held_out.items():
        parts = parts.with_rows(part, source.rows)
    validates = spec.split.validation or "validation" in held_out
    if not len(parts.train) or (validates and not len(parts.validation)):
        raise errors.DatasetTooSmall(rows=len(own.rows))
    if fold is not None:
        parts = parts.of_fold(fold)
    elif refit:
        together = np.sort(np.concatenate([parts.train, parts.validation]))
        parts = Parts(together, parts.validation[:0], parts.test, parts.folds)
    fitted = kept or preprocessing.fit(order, own.table, own.target, parts.train)
    weights = _weigh(own, list(held_out.values()), parts.train)
    _batch_norm_works(order, len(parts.train))

    def examples(rows: Rows, source: _Source, weight: Floats | None) -> Examples:
        rows = rows[:most]
        features, codes = preprocessing.transform(fitted, source.order, source.table, rows)
        here, sample_weight, is_scaled = source.values[rows], source.sample_weight, fitted.target.scaling is not None
        return Examples(
            features=torch.from_numpy(features),
            target=torch.from_numpy(preprocessing.scaled_target(fitted.target, here) if is_scaled else here),
            codes=None if codes is None else torch.from_numpy(codes),
            weight=None if weight is None else torch.from_numpy(weight[rows]),
            sample_weight=None if sample_weight is None else torch.from_numpy(sample_weight[rows]),
            unscaled_target=torch.from_numpy(here) if is_scaled else None,
        ).to(device)

    weighted = dict(zip(held_out, zip(held_out.values(), weights[1:], strict=True), strict=True))
    own_weighted = (own, weights[0])
    train = examples(parts.train, *own_weighted)
    validation = examples(parts.validation, *weighted.get("validation", own_weighted))
    test = examples(parts.test, *weighted.get("test", own_weighted))
    unseen = [] if kept is None else _unseen(fitted, own, "that the job to start from has never seen")
    for part, source in held_out.items():
        unseen += _unseen(fitted, source, f"that no training row has, in the {part} dataset")
    return Prepared(fitted, parts, train, validation, test, unseen)


def _read(order: TableOrder, table: Table, known: list[Any] | None) -> _Source:
    target, values, rows = preprocessing.read_target(order, table, known)
    sample_weight = preprocessing.read_sample_weight(order, table, rows)
    if sample_weight is not None:
        rows = rows[sample_weight[rows] > 0]
    return _Source(order, table, target, values, sample_weight, rows)


def _in_our_words(other: TableOrder, order: TableOrder) -> TableOrder:
    """The other table, where its columns of text that are categories here have our values, and one more for the rest.

    That one is null, which no category is looked up by.
    """
    ours = {column.name: column for column in order.columns if column.type == "category"}
    columns = [
        column.model_copy(update={"values": [*(ours[column.name].values or []), None]})
        if column.type == "text" and column.name in ours
        else column
        for column in other.columns
    ]
    return TableOrder(**{name: getattr(other, name) for name in TableOrder.model_fields} | {"columns": columns})


def _weigh(own: _Source, others: Sequence[_Source], train: Rows) -> list[Floats | None]:
    """What each row of each table counts in the loss, by the training rows: as if all were one table, its own first."""
    tables = [own, *others]
    weights = [one.sample_weight for one in tables if one.sample_weight is not None]
    values = np.concatenate([one.values for one in tables])
    together = np.concatenate(weights) if weights else None
    found = preprocessing.weigh(own.order, own.target, values, together, train)
    if found is None:
        return [None] * len(tables)
    return list(np.split(found, np.cumsum([len(one.values) for one in tables])[:-1]))


def _unseen(fitted: Preprocessing, source: _Source, which: str) -> list[dict[str, Any]]:
    found = preprocessing.unseen_categories(fitted, source.order, source.table, source.rows)
    message = f"These rows have categories {which}; they are taken as unknown."
    return [
        {"code": "unseen_categories", "message": message, "column": column, "rows": rows}
        for column, rows in found.items()
    ]


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
