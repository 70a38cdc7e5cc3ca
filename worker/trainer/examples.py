"""Rows ready for the network, whole in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Features, codes, target and weight of a batch."""
        return (
            self.features.index_select(0, rows),
            None if self.codes is None else self.codes.index_select(0, rows),
            self.target.index_select(0, rows),
            None if self.weight is None else self.weight.index_select(0, rows),
        )

    def count(self, rows: Tensor) -> float:
        """What these rows count together."""
        return len(rows) if self.weight is None else float(self.weight.index_select(0, rows).sum())

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

    @property
    def measured_target(self) -> Tensor:
        """What metrics compare predictions with."""
        return self.target if self.unscaled_target is None else self.unscaled_target

    def to(self, device: torch.device) -> "Examples":
        return Examples(*(None if one is None else one.to(device) for one in self._tensors()))  # type: ignore[arg-type]

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.features, self.target, self.codes, self.weight, self.sample_weight, self.unscaled_target
