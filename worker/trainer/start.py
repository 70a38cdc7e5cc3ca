"""Begins with the weights of an earlier job instead of new ones."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from core import errors
from worker.trainer.network import Network


@torch.no_grad()
def begin_with(network: Network, weights: Path) -> None:
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
