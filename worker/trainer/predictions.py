"""From logits to what a user reads: classes, probabilities, numbers."""

from typing import assert_never

import torch
from torch import Tensor

from core.spec.network import OutputActivation
from worker.trainer.examples import Examples
from worker.trainer.network import Forward

EVALUATION_ROWS = 1024  # rows a forward pass without gradients takes at once: more are no faster, and take memory


@torch.no_grad()
def logits_of(forward: Forward, examples: Examples) -> Tensor:
    """Logits of all rows, (rows, units); the network must be in `eval()`.

    Each part's go to their place at once: kept one by one they would lie between the large blocks that every part
    takes, and the allocator could not use those again.
    """
    found: Tensor | None = None
    done = 0
    for part in examples.parts(EVALUATION_ROWS):
        logits = forward(part.features, part.codes)
        if found is None:
            found = logits.new_empty(len(examples), logits.shape[1])
        found[done : done + len(part)] = logits
        done += len(part)
    if found is None:
        raise ValueError("there are no rows")
    return found


def activated(logits: Tensor, output: OutputActivation) -> Tensor:
    """The predictions: probabilities, or numbers."""
    match output:
        case "softmax":
            return logits.softmax(1)
        case "sigmoid":
            return logits.sigmoid()
        case "exp":
            return logits.exp()
        case "linear":
            return logits
        case _:
            assert_never(output)
