"""What the network loses with a column: the loss where the values of one column are dealt out anew among the rows.

Measured on validation rows: those of the training have been learned by heart in part, and whoever chooses columns by
test rows has none left to test with.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.spec import TrainingSpec
from worker.trainer.examples import Examples
from worker.trainer.fit import output_of
from worker.trainer.losses import RowLosses, row_losses
from worker.trainer.network import Network, as_function, embed
from worker.trainer.predictions import logits_of
from worker.trainer.preprocessing import Preprocessing
from worker.trainer.report.intervals import around

# Multiplications of a network's weights with rows, for all columns and repeats: 40 ms of one core.
MOST_MULTIPLICATIONS = 250_000_000
A_ROW = 2_000  # of them at least: what calling the layers costs
MOST_COLUMNS = 100
MOST_ROWS, FEWEST_ROWS, MOST_REPEATS = 2_000, 100, 5
MOST_NUMBERS = 1_000_000  # of inputs at once: 4 MB
MOST_DEALT = 250_000  # numbers that are dealt out at once, and of what follows from them: 1 MB


def rows_of(network: Network, inputs: int, columns: int, rows: int) -> tuple[int, int, int]:
    """Columns, rows and repeats that are affordable: rows go before repeats, and a hundred rows before columns."""
    weights = [one.weight.numel() for one in network.modules() if isinstance(one, nn.Linear)]
    first = _first_of(network)
    again = sum(weights) - (0 if first is None else first.weight.numel())
    passes = MOST_MULTIPLICATIONS // max(again, A_ROW)
    columns = min(columns, MOST_COLUMNS)
    rows = min(rows, MOST_ROWS, max(1, MOST_NUMBERS // max(1, inputs)))
    rows = min(rows, max(FEWEST_ROWS, passes // max(1, columns)))
    columns = min(columns, max(1, passes // rows)) if rows else columns
    width = inputs if first is None else first.out_features
    room = MOST_NUMBERS // max(1, width * rows)
    return columns, rows, max(1, min(MOST_REPEATS, passes // max(1, rows * columns), room))


def importance_of(
    spec: TrainingSpec,
    network: Network,
    fitted: Preprocessing,
    examples: Examples,
    repeats: int,
    columns: int,
    unit: float = 1.0,
) -> dict[str, Any] | None:
    """By columns of the dataset, the most important first: all features made of one are dealt out together. None of a
    single row. Losses are multiplied with `unit`.

    Of more than `columns`, those are measured by which the loss changes most at first order (Taylor), in one pass.
    """
    rows = len(examples)
    if rows < 2:
        return None
    generator = torch.Generator().manual_seed(spec.training.seed)
    dealt = torch.cat([torch.randperm(rows, generator=generator) for _ in range(repeats)])
    loss = row_losses(spec.training.loss, output_of(spec).activation)
    with torch.no_grad():
        embedded = embed(network.embeddings, examples.features, examples.codes)
    blocks = dict(_blocks(fitted))
    chosen = list(blocks)
    if len(blocks) > columns:
        chosen = _at_first_order(network, embedded, examples.target, loss, blocks, dealt[:rows])[:columns]
    given = examples.weight
    weight = torch.ones(rows, dtype=torch.float64) if given is None else given.cpu().double()
    whole, means, effects = _increases(
        network, embedded, examples.target, loss, [blocks[name] for name in chosen], weight, dealt
    )
    found = []
    for name, mean, effect in zip(chosen, means.tolist(), effects, strict=True):
        interval = around(mean * unit, effect * unit, weight, "any")
        found.append({"column": name, "loss_increase": interval.value, "low": interval.low, "high": interval.high})
    found.sort(key=lambda one: -_number(one["loss_increase"]))
    return {
        "rows": rows,
        "repeats": repeats,
        "loss": whole * unit,
        "columns": found,
        "others": len(blocks) - len(found),
    }


@torch.no_grad()
def _increases(
    network: Network,
    inputs: Tensor,
    target: Tensor,
    loss: RowLosses,
    blocks: Sequence[slice],
    weight: Tensor,
    dealt: Tensor,
) -> tuple[float, Tensor, Tensor]:
    """The mean loss; (blocks,) by how much more it is without each; and (blocks, rows), what each row adds to that: by
    its own loss, and by that of the rows which its value was dealt to.

    Where the first layer is a matrix, only the block's part of it is computed again.
    """
    rows, repeats = len(inputs), len(dealt) // len(inputs)
    first = _first_of(network)
    rest = network if first is None else Network([], network.steps[1:])
    forward = as_function(rest.eval())
    begun = inputs if first is None else first(inputs)
    places = dealt.to(inputs.device)

    def losses(values: Tensor) -> Tensor:
        truth = target.repeat(len(values) // rows, *[1] * (target.ndim - 1))
        return loss(logits_of(forward, Examples(values, truth)), truth).cpu().double()

    def losses_without(block: slice, dealt: Tensor) -> Tensor:
        """`dealt` are places of a few repeats."""
        times = len(dealt) // rows
        if first is None:
            values = begun.repeat(times, 1)
            values[:, block] = inputs[:, block][dealt]
        else:
            change = inputs[:, block][dealt].sub_(inputs[:, block].repeat(times, 1))
            values = torch.addmm(begun.repeat(times, 1), change, first.weight[:, block].T)
        return losses(values)

    whole = losses(begun)
    more, given = (torch.empty(len(blocks), rows, dtype=torch.float64) for _ in range(2))
    came_to = torch.empty_like(dealt)  # of each row's value in each repeat, the place where it is
    for start in range(0, len(dealt), rows):
        came_to[start : start + rows] = start + dealt[start : start + rows].argsort()
    for place, block in enumerate(blocks):
        width = max(begun.shape[1], block.stop - block.start)
        at_once = max(1, MOST_DEALT // (rows * width)) * rows
        without = torch.cat([losses_without(block, some) for some in torch.split(places, at_once)])
        more[place] = without.reshape(repeats, rows).mean(0) - whole
        given[place] = (without * weight.repeat(repeats))[came_to].reshape(repeats, rows).mean(0)
    means = (more * weight).sum(1, keepdim=True) / weight.sum()
    effects = (weight * (more - means) + given - given.mean(1, keepdim=True)) / weight.sum()
    return float((whole * weight).sum() / weight.sum()), means.squeeze(1), effects


def _first_of(network: Network) -> nn.Linear | None:
    first = network.steps[0]
    return first if isinstance(first, nn.Linear) else None


def _blocks(fitted: Preprocessing) -> Iterator[tuple[str, slice]]:
    """The inputs of the first layer that each column of the dataset is made into."""
    place = 0
    for one in fitted.inputs:
        if one.features:
            yield one.name, slice(place, place + len(one.features))
            place += len(one.features)
    for one in fitted.embeddings:
        yield one.name, slice(place, place + one.dimension)
        place += one.dimension


def _at_first_order(
    network: Network, inputs: Tensor, target: Tensor, loss: RowLosses, blocks: Mapping[str, slice], dealt: Tensor
) -> list[str]:
    """The columns by the mean of |slope x change|, over the rows; the largest first."""
    with torch.enable_grad():
        values = inputs.detach().clone().requires_grad_()
        slope = torch.autograd.grad(loss(as_function(network)(values, None), target).sum(), values)[0]
    change = slope * (inputs[dealt.to(inputs.device)] - inputs)
    size = {name: float(change[:, block].sum(1).abs().mean()) for name, block in blocks.items()}
    return sorted(size, key=lambda name: -_number(size[name]))


def _number(value: Any) -> float:
    """For sorting: what is none is beyond all."""
    return float("inf") if value != value else float(value)
