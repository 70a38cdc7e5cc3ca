"""The state of a training before its first step: new weights, or those of an earlier job."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from core import errors
from worker.trainer.fit import output_of
from worker.trainer.network import Network, build
from worker.trainer.optimizers import updater
from worker.trainer.order import TableOrder
from worker.trainer.preparation import Prepared
from worker.trainer.state import TrainingState


def before_the_first_step(order: TableOrder, prepared: Prepared, device: torch.device) -> TrainingState:
    spec, fitted = order.spec, prepared.preprocessing
    embeddings = [(len(one.categories), one.dimension) for one in fitted.embeddings]
    network = build(
        spec.network.layers or [], output_of(spec), len(fitted.features), spec.training.seed, embeddings
    ).to(device)
    if order.start is not None:
        _begin_with(network, Path(order.start.weights))
    average = [parameter.detach().clone() for parameter in network.parameters()] if spec.training.ema_decay else None
    return TrainingState(network, updater(spec.training.optimizer, list(network.parameters())), average)


@torch.no_grad()
def _begin_with(network: Network, weights: Path) -> None:
    """Copies weights and buffers into a new network, layer by layer in their order.

    By order and not by name: layers without weights (activations, dropout) may have come or gone, and are counted in
    the names. Raises `StartMismatch` at the first that has another shape.
    """
    given, own = load_file(weights), network.state_dict()
    theirs, ours = sorted(given, key=_in_order), sorted(own, key=_in_order)
    if len(theirs) != len(ours):
        raise errors.StartMismatch(f"It has {len(theirs)} weights and buffers, and this network {len(ours)}.")
    for their_name, name in zip(theirs, ours, strict=True):
        there, here = given[their_name], own[name]
        if there.shape != here.shape or _last(their_name) != _last(name):
            raise errors.StartMismatch(
                f"Its {their_name} of shape {list(there.shape)} has no place in {name} of shape {list(here.shape)}.",
                layer=name.rpartition(".")[0],
            )
        here.copy_(there)


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """`10.weight` after `9.weight`."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _last(name: str) -> str:
    return name.rpartition(".")[2]
