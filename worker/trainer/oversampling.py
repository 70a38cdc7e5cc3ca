"""Rows of small classes, drawn again in each epoch."""

import math

import torch
from torch import Tensor


def rows_of_an_epoch(target: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The places of all rows, and more of each class that has less than `share` of the rows of the largest one, until
    it has that many: each of its rows as often as the others, or once more.

    `target` is (rows,) int64 classes, or (rows, 1) of 0 and 1.
    """
    classes = target.reshape(-1).long().cpu()
    counts = torch.bincount(classes)
    wanted = math.ceil(share * int(counts.max()))
    drawn = [torch.arange(len(classes))]
    for number, count in enumerate(counts.tolist()):
        if 0 < count < wanted:
            rows = torch.nonzero(classes == number).squeeze(1)
            whole, rest = divmod(wanted - count, count)
            drawn += [rows] * whole + [rows[torch.randperm(count, generator=generator)[:rest]]]
    return torch.cat(drawn)
