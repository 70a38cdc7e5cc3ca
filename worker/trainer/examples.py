"""Rows ready for the network, whole in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import NamedTuple

import torch
from torch import Tensor

# Batches are gathered so many bytes of features at once, small enough to be in the cache still when their turn comes.
GATHERED_BYTES = 512 * 1024


class Batch(NamedTuple):
    """The rows of one weight update, or of a part of it."""

    features: Tensor
    target: Tensor
    codes: Tensor | None
    weight: Tensor | None

    @property
    def weight_sum(self) -> float:
        """What these rows count together."""
        return len(self.target) if self.weight is None else float(self.weight.sum())

    def split(self, rows: int) -> Iterator["Batch"]:
        return map(Batch, *(repeat(None) if one is None else torch.split(one, rows) for one in self))


@dataclass(frozen=True)
class Examples:
    """Inputs and target of each row."""

    features: Tensor  # (rows, features) float32
    target: Tensor  # (rows,) int64 classes or (rows, outputs) float32
    codes: Tensor | None = None  # (rows, embedded categories) int32: the place of its vector, 0 is unknown
    weight: Tensor | None = None  # (rows,) float32, above 0: what a row counts in the loss
    sample_weight: Tensor | None = None  # (rows,) float32, above 0: what it counts in metrics
    unscaled_target: Tensor | None = None  # (rows, outputs) float32: in its own units, where `target` is scaled

    def __len__(self) -> int:
        return len(self.target)

    def batches(self, updates: tuple[Tensor, ...], start: int = 0) -> Iterator[Batch]:
        """The rows of each update from `start` on: all but the last have equally many.

        Small ones are gathered many at a time, which a small network feels. Which ones lie together depends on nothing
        but their sizes: a matrix product may round otherwise at another place in memory, and a training that goes on
        in mid epoch must see the same bits.
        """
        rows = len(updates[0])
        together = max(1, GATHERED_BYTES // max(1, rows * self.features[:1].nbytes))
        for first in range(start - start % together, len(updates), together):
            gathered = self._gather(torch.cat(updates[first : first + together]) if together > 1 else updates[first])
            batches = gathered.split(rows) if together > 1 else iter((gathered,))
            yield from islice(batches, max(0, start - first), None)

    def _gather(self, rows: Tensor) -> Batch:
        return Batch(
            *(
                None if one is None else one.index_select(0, rows)
                for one in (self.features, self.target, self.codes, self.weight)
            )  # type: ignore[arg-type]
        )

    def parts(self, rows: int) -> Iterator["Examples"]:
        """All of it in order, at most so many rows at once."""
        for start in range(0, len(self), rows):
            yield self.slice(start, start + rows)

    def slice(self, start: int, end: int) -> "Examples":
        return Examples(*(None if one is None else one[start:end] for one in self._tensors()))  # type: ignore[arg-type]

    def of(self, rows: Tensor) -> "Examples":
        return Examples(*(None if one is None else one[rows] for one in self._tensors()))  # type: ignore[arg-type]

    def without_inputs(self, rows: Tensor) -> "Examples":
        """These rows' target and what they count: all that metrics need of them, without a copy of the features."""
        sample_weight = None if self.sample_weight is None else self.sample_weight[rows]
        return Examples(self.features[:0], self.measured_target[rows], sample_weight=sample_weight)

    def without_features(self) -> "Examples":
        """The same rows, whose inputs nobody needs any more: nothing of it holds their memory."""
        return replace(self, features=self.features.new_empty(0, self.features.shape[1]), codes=None)

    @property
    def measured_target(self) -> Tensor:
        """What metrics compare predictions with."""
        return self.target if self.unscaled_target is None else self.unscaled_target

    def to(self, device: torch.device) -> "Examples":
        return Examples(*(None if one is None else one.to(device) for one in self._tensors()))  # type: ignore[arg-type]

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.features, self.target, self.codes, self.weight, self.sample_weight, self.unscaled_target
