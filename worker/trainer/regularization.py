"""What the spec says of matrices of weights besides their size: penalties in the loss, and bounds after the update."""

from collections.abc import Callable

import torch
from torch import Tensor

from worker.trainer.layers import Linear
from worker.trainer.network import Network


def penalty_of(network: Network) -> Callable[[], Tensor] | None:
    """l1 x the sum of sizes + l2 x the sum of squares, over all matrices; None where there is no penalty."""
    penalised = [
        (module.weight, module.chosen)
        for module in network.modules()
        if isinstance(module, Linear) and (module.chosen.l1 or module.chosen.l2)
    ]
    if not penalised:
        return None

    def penalty() -> Tensor:
        total = torch.zeros((), device=penalised[0][0].device)
        for weight, chosen in penalised:
            if chosen.l1:
                total = total + chosen.l1 * weight.abs().sum()
            if chosen.l2:
                total = total + chosen.l2 * weight.square().sum()
        return total

    return penalty


def norm_limits(network: Network) -> list[tuple[Tensor, float]]:
    """The matrices whose rows, the weights into one unit, have a longest length."""
    return [
        (module.weight.detach(), module.chosen.max_norm)
        for module in network.modules()
        if isinstance(module, Linear) and module.chosen.max_norm is not None
    ]


def limit_norms(limits: list[tuple[Tensor, float]]) -> None:
    for weight, longest in limits:
        torch.renorm(weight, 2, 0, longest, out=weight)
