"""Where a training stopped being numbers: the first offending layer, batch and column."""

from typing import Any

import torch
from torch import Tensor

from worker.trainer.examples import Examples
from worker.trainer.network import Network, embed
from worker.trainer.predictions import EVALUATION_ROWS


@torch.no_grad()
def offence(network: Network, examples: Examples, rows: Tensor | None) -> dict[str, Any]:
    """What is known of the rows (None: of all) after which the loss was no number.

    Where weights are no numbers, the step before has overflowed, and the first such layer is named; otherwise the first
    layer whose output is none, or the last one where the loss alone has overflowed. `feature` is the input that is
    largest where that happened: `column` of the error.
    """
    batch = examples.slice(0, EVALUATION_ROWS) if rows is None else examples.of(rows)
    of_network = batch.features
    values = embed(network.embeddings, of_network, batch.codes)
    rows = torch.arange(len(batch), device=of_network.device)
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            return {"layer": name.rpartition(".")[0], "what": "weights", "feature": _largest(of_network, rows)}
    for place, step in enumerate(network.steps):
        values = step(values)
        if not bool(values.isfinite().all()):
            rows = (~values.isfinite()).any(1).nonzero().flatten()
            return {"layer": str(place), "what": "activations", "feature": _largest(of_network, rows)}
    furthest = values.float().abs().amax(1).argmax().unsqueeze(0)  # finite, but too large for the loss
    return {"layer": str(len(network.steps) - 1), "what": "loss", "feature": _largest(of_network, furthest)}


def _largest(features: Tensor, rows: Tensor) -> int | None:
    """The place of the input that is furthest from 0 in these rows."""
    return int(features[rows].abs().amax(0).argmax()) if features.shape[1] else None
