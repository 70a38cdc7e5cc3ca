"""What the network loses with a column: the loss where the values of one column are dealt out anew among the rows.

Measured on validation rows: those of the training have been learned by heart in part, and whoever chooses columns by
test rows has none left to test with.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from core.spec import TrainingSpec
from worker.trainer.examples import Examples
from worker.trainer.fit import output_of
from worker.trainer.losses import row_losses
from worker.trainer.network import Network, as_function, embed
from worker.trainer.predictions import logits_of
from worker.trainer.preprocessing import Preprocessing
from worker.trainer.report.intervals import around

# Multiplications of a network's weights with rows, for all columns and repeats: 60 ms of one core.
MOST_MULTIPLICATIONS = 1_500_000_000
A_ROW = 2_000  # of them at least: what calling the layers costs
MOST_COLUMNS = 100
MOST_ROWS, FEWEST_ROWS, MOST_REPEATS = 2_000, 100, 5
MOST_NUMBERS = 1_000_000  # of inputs at once: 4 MB


def rows_of(network: Network, inputs: int, columns: int, rows: int) -> tuple[int, int, int]:
    """Columns, rows and repeats that are affordable: rows go before repeats, and a hundred rows before columns."""
    weights = sum(one.weight.numel() for one in network.modules() if isinstance(one, nn.Linear))
    passes = MOST_MULTIPLICATIONS // max(weights, A_ROW)
    columns = min(columns, MOST_COLUMNS)
    rows = min(rows, MOST_ROWS, max(1, MOST_NUMBERS // max(1, inputs)))
    rows = min(rows, max(FEWEST_ROWS, passes // max(1, columns)))
    columns = min(columns, max(1, passes // rows)) if rows else columns
    room = MOST_NUMBERS // max(1, inputs * rows)
    return columns, rows, max(1, min(MOST_REPEATS, passes // max(1, rows * columns), room))


def importance_of(
    spec: TrainingSpec, network: Network, fitted: Preprocessing, examples: Examples, repeats: int, columns: int
) -> dict[str, Any] | None:
    """By columns of the dataset, the most important first: all features made of one are dealt out together. None of a
    single row.

    Of more than `columns`, those are measured by which the loss changes most at first order (Taylor), in one pass.
    """
    if len(examples) < 2:
        return None
    with torch.no_grad():
        inputs = (
            examples.features
            if examples.codes is None
            else embed(network.embeddings, examples.features, examples.codes)
        )
    blocks = dict(_blocks(fitted))
    each_loss = row_losses(spec.training.loss, output_of(spec).activation)
    weight = (
        torch.ones(len(examples), dtype=torch.float64) if examples.weight is None else examples.weight.cpu().double()
    )
    forward = as_function(network)
    generator = torch.Generator().manual_seed(spec.training.seed)
    dealt = torch.cat([torch.randperm(len(examples), generator=generator) for _ in range(repeats)]).to(inputs.device)

    repeated = examples.target.repeat(repeats, *[1] * (examples.target.ndim - 1))

    def losses(values: Tensor) -> Tensor:
        """(rows x repeats, inputs) -> (repeats, rows)."""
        target = repeated[: len(values)]
        logits = logits_of(forward, Examples(values, target))
        return each_loss(logits, target).detach().cpu().double().reshape(-1, len(examples))

    if len(blocks) > columns:
        order = _at_first_order(network, inputs, examples, each_loss, blocks, dealt[: len(examples)])[:columns]
        measured = {name: blocks[name] for name in blocks if name in set(order)}
    else:
        measured = blocks
    whole = losses(inputs)[0]
    values = inputs.repeat(repeats, 1)
    found = []
    for name, block in measured.items():
        values[:, block] = inputs[:, block][dealt]
        without = losses(values)
        values[:, block] = inputs[:, block].repeat(repeats, 1)
        mean, effects = _increase(whole, without, weight, dealt)
        interval = around(mean, effects, weight, "any")
        found.append({"column": name, "loss_increase": mean, "low": interval.low, "high": interval.high})
    found.sort(key=lambda one: -_number(one["loss_increase"]))
    return {
        "rows": len(examples),
        "repeats": repeats,
        "loss": float((whole * weight).sum() / weight.sum()),
        "columns": found,
        "others": len(blocks) - len(found),
    }


def _increase(whole: Tensor, without: Tensor, weight: Tensor, dealt: Tensor) -> tuple[float, Tensor]:
    """Of (rows,) losses and (repeats, rows) of them without the column: by how much their mean is more, and what each
    row adds to that: by its own loss, and by that of the rows which its value was dealt to."""
    repeats, rows = without.shape
    more = without.mean(0) - whole
    mean = float((more * weight).sum() / weight.sum())
    given = torch.zeros(rows, dtype=torch.float64)
    given.index_add_(0, dealt.cpu(), (without * weight).reshape(-1) / repeats)
    return mean, (weight * (more - mean) + given - given.mean()) / weight.sum()


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
    network: Network,
    inputs: Tensor,
    examples: Examples,
    each_loss: Any,
    blocks: dict[str, slice],
    dealt: Tensor,
) -> list[str]:
    """The columns by the mean of |slope x change|, over the rows; the largest first."""
    with torch.enable_grad():
        values = inputs.detach().clone().requires_grad_()
        loss = each_loss(as_function(network)(values, None), examples.target).sum()
        slope = torch.autograd.grad(loss, values)[0]
    change = slope * (inputs[dealt] - inputs)
    size = {name: float(change[:, block].sum(1).abs().mean()) for name, block in blocks.items()}
    return sorted(size, key=lambda name: -_number(size[name]))


def _number(value: Any) -> float:
    """For sorting: what is none is beyond all."""
    return float("inf") if value != value else float(value)
