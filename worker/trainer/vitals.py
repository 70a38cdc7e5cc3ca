"""What the network feels at one step: gradients, weights, how far they moved, and units that have died."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worker.trainer.examples import Examples
from worker.trainer.network import Network, embed

PROBE_ROWS = 256


@dataclass(frozen=True)
class Layer:
    """One matrix of weights, by the name that it has in the weights file."""

    name: str
    gradient_norm: float
    weight_norm: float
    update_ratio: float  # length of the step / length of the weights
    dead_units: float | None  # share of the units after it that say the same of every probed row; None of the output


@dataclass(frozen=True)
class Vitals:
    gradient_norm: float  # of all parameters together, before clipping
    weight_norm: float
    update_ratio: float
    dead_units: float  # share of all hidden units
    layers: list[Layer]

    def facts(self, *, of_layers: bool) -> dict[str, Any]:
        """As events show them."""
        facts: dict[str, Any] = {
            "gradient_norm": self.gradient_norm,
            "weight_norm": self.weight_norm,
            "update_ratio": self.update_ratio,
            "dead_units": self.dead_units,
        }
        return facts | ({"layers": [asdict(layer) for layer in self.layers]} if of_layers else {})


class Probe:
    """Looks at single steps: `before` the update, and `after` it."""

    def __init__(self, network: Network, train: Examples) -> None:
        self._network = network
        self._rows = train.slice(0, PROBE_ROWS)
        self._parameters: list[Tensor] = list(network.parameters())
        self._matrices = [
            (place, name.removesuffix(".weight"))
            for place, (name, parameter) in enumerate(network.named_parameters())
            if parameter.dim() == 2 and not name.startswith("embeddings.")
        ]
        self._before: list[Tensor] = []
        self._gradients: list[float] = []

    @torch.no_grad()
    def before(self, gradients: Sequence[Tensor]) -> None:
        self._before = list(torch._foreach_clone(self._parameters))
        self._gradients = _norms(list(gradients))

    @torch.no_grad()
    def after(self) -> Vitals:
        weights = _norms(self._before)
        torch._foreach_sub_(self._before, self._parameters)
        updates = _norms(self._before)
        dead, total_dead = self._dead()
        self._before = []
        return Vitals(
            gradient_norm=_together(self._gradients),
            weight_norm=_together(weights),
            update_ratio=_ratio(_together(updates), _together(weights)),
            dead_units=total_dead,
            layers=[
                Layer(
                    name, self._gradients[place], weights[place], _ratio(updates[place], weights[place]), dead.get(name)
                )
                for place, name in self._matrices
            ],
        )

    def _dead(self) -> tuple[dict[str, float], float]:
        """The share of dead units after each top-level matrix but the last, and of all hidden units."""
        self._network.eval()
        values = embed(self._network.embeddings, self._rows.features, self._rows.codes)
        shares: dict[str, float] = {}
        name, dead, units = None, 0, 0
        steps = self._network.steps
        for place, step in enumerate(steps[:-1]):
            values = step(values)
            if isinstance(step, nn.Linear):
                name = str(place)
            if name is not None and (isinstance(steps[place + 1], nn.Linear) or place == len(steps) - 2):
                constant = int((values.amax(0) == values.amin(0)).sum()) if len(values) > 1 else 0
                shares[name] = constant / values.shape[1]
                dead, units = dead + constant, units + values.shape[1]
        self._network.train()
        return shares, dead / units if units else 0.0


def _norms(tensors: list[Tensor]) -> list[float]:
    found: list[float] = torch.stack(torch._foreach_norm(tensors)).tolist()
    return found


def _together(norms: list[float]) -> float:
    return math.sqrt(sum(norm * norm for norm in norms))


def _ratio(step: float, length: float) -> float:
    return step / length if length else step * 0.0  # what is no number stays none
