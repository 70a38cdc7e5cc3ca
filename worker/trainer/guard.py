"""Where a training stopped being numbers: the first offending layer, batch and column."""

from typing import Any

import torch
from torch import Tensor

from worker.trainer.examples import Examples
from worker.trainer.network import Network, embed
from worker.trainer.predictions import EVALUATION_ROWS


@torch.no_grad()
def offence(network: Network, examples: Examples, rows: Tensor | None) -> dict[str, Any]:
    """What is known of the rows (None: of all, as predictions see them) after which the loss was no number.

    Where weights are no numbers, the step before has overflowed, and the first such layer is named; otherwise the first
    layer whose output is none, or the last one where the loss alone has overflowed. `feature` is the place of the input
    that is largest where that happened, `target` that of the column to predict, where that is larger than the logits.
    """
    if rows is None:
        network.eval()
    parts = list(examples.parts(EVALUATION_ROWS)) if rows is None else [examples.of(rows)]
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            return {"layer": name.rpartition(".")[0], "what": "weights", **_largest(parts[0].features)}
    furthest: dict[str, Any] = {}
    distance = -1.0
    for part in parts:
        values = embed(network.embeddings, part.features, part.codes)
        for place, step in enumerate(network.steps):
            values = step(values)
            broken = ~values.isfinite()
            if bool(broken.any()):
                where = part.features[broken.any(1)]
                return {"layer": str(place), "what": "activations", **_largest(where)}
        sizes = values.abs().amax(1)
        of_logits = float(sizes.max())
        of_target = float(part.target.abs().max()) if part.target.is_floating_point() else 0.0
        if max(of_logits, of_target) > distance:
            distance = max(of_logits, of_target)
            furthest = _largest(part.features[sizes.argmax().unsqueeze(0)])
            if of_target > of_logits:
                furthest = {"target": int(part.target.abs().amax(0).argmax())}
    return {"layer": str(len(network.steps) - 1), "what": "loss", **furthest}


def _largest(features: Tensor) -> dict[str, int]:
    """The place of the input that is furthest from 0 in these rows; NaN is further than all numbers."""
    return {"feature": int(features.abs().amax(0).argmax())} if features.numel() else {}
