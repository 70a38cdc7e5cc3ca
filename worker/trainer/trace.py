"""The five steps of backpropagation laid open: every number of one weight update, for a few rows.

It is the update that the training would make next, had it these rows alone: the same weights, optimizer, learning rate
and noise. All of it happens on copies, so that not one bit of the training depends on whether somebody looked.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.spec import TrainingSpec
from core.spec.activations import Plain, Softmax
from core.spec.network import ActivationLayer, AnyLayer, Dense, Residual
from worker.trainer import layers
from worker.trainer.device import noise_state, restore_noise
from worker.trainer.examples import Examples
from worker.trainer.fit import begin_noise, clip, output_of, rate, updates_of
from worker.trainer.losses import criterion_of, row_losses
from worker.trainer.network import Network
from worker.trainer.optimizers import updater
from worker.trainer.precision import autocast
from worker.trainer.predictions import activated
from worker.trainer.preparation import Prepared
from worker.trainer.preprocessing import Preprocessing
from worker.trainer.regularization import limit_norms, norm_limits, penalty_of
from worker.trainer.schedules import Length
from worker.trainer.state import TrainingState


@dataclass(frozen=True)
class Passed:
    """What came out of one layer, (rows, width)."""

    layer: str  # as in the weights file
    type: str  # as in the spec
    values: Tensor  # activations: what goes on to the next layer
    sums: Tensor | None = None  # pre-activations: what the activation was applied to
    activation: str | None = None


@dataclass(frozen=True)
class Evaluated:
    """Steps 1 to 3, where the weights are at that moment."""

    passed: list[Passed]
    loss: Tensor
    penalty: Tensor | None
    objective: Tensor  # loss and penalty: what the gradients are of
    of_layers: list[Tensor]  # gradients, as `_tensors` of each layer
    gradients: list[Tensor]  # of each parameter, as autograd computed them


def lay_open(spec: TrainingSpec, state: TrainingState, prepared: Prepared) -> dict[str, Any]:
    """The next update, for the first training rows: nothing but JSON. `state` is at the start of an epoch."""
    assert spec.trace is not None
    batch = prepared.train.slice(0, spec.trace.rows)
    noise = noise_state(batch.target.device)
    try:
        steps = _five_steps(spec, state, batch, prepared.train)
    finally:
        restore_noise(noise, batch.target.device)
    return {
        "epoch": state.at.searched_epochs + state.at.epoch + 1,
        "step": state.at.step + 1,
        "rows": prepared.parts.train[: len(batch)].tolist(),
        "inputs": _named(batch, prepared.preprocessing),
        "target": _numbers(batch.target),
        **steps,
    }


def _five_steps(spec: TrainingSpec, state: TrainingState, batch: Examples, train: Examples) -> dict[str, Any]:
    """`train` are all rows that there are to train on: the schedule counts in epochs."""
    training, output, epoch = spec.training, output_of(spec), state.at.epoch + 1
    network = copy.deepcopy(state.network).train()
    names = [name for name, _ in network.named_parameters()]
    parameters: list[Tensor] = list(network.parameters())
    mover = updater(training.optimizer, parameters)
    mover.restore({name: tensor.clone() for name, tensor in state.updater.state().items()})
    mover.learning_rate = _learning_rate(spec, state, train)
    criterion, penalty = criterion_of(training.loss, output.activation), penalty_of(network)
    features = batch.features.clone().requires_grad_()  # or a dropout before the first weights would have no gradient

    def backpropagate() -> Evaluated:
        begin_noise(spec, epoch, features.device)
        with autocast(training.precision, features.device):
            passed = list(_forward(network, spec.network.layers or [], features, batch.codes))  # 1 forward
        loss = criterion(passed[-1].values.float(), batch.target, batch.weight)  # 2 the error
        added = None if penalty is None else penalty()
        objective = loss if added is None else loss + added
        asked = [*(tensor for one in passed for tensor in _tensors(one)), *parameters]
        found = list(torch.autograd.grad(objective, asked, allow_unused=True, materialize_grads=True))  # 3 back
        return Evaluated(passed, loss, added, objective, found[: -len(parameters)], found[-len(parameters) :])

    here = backpropagate()
    logits = here.passed[-1].values.detach().float()
    predictions = activated(logits, output.activation)
    losses = row_losses(training.loss, output.activation)(logits, batch.target)
    found = {
        "forward": _as_read(here.passed, predictions, output.activation),
        "logits": _numbers(logits),
        "predictions": _numbers(predictions),
        "loss": {
            "name": training.loss.name,
            "rows": _numbers(losses),
            **({} if batch.weight is None else {"weights": _numbers(batch.weight)}),
            "mean": _numbers(here.loss),
            "penalty": None if here.penalty is None else _numbers(here.penalty),
        },
        "backward": {
            "logits": _numbers(here.of_layers[-1]),
            "layers": _backward(here.passed, here.of_layers),
            "parameters": dict(zip(names, map(_numbers, here.gradients), strict=True)),
        },
    }

    before = [parameter.detach().clone() for parameter in parameters]
    clip(here.gradients, training)

    def again() -> tuple[Tensor, list[Tensor]]:
        there = backpropagate()
        return there.objective.detach(), there.gradients

    clips = training.clip_norm is not None or training.clip_value is not None
    update: dict[str, Any] = {"optimizer": training.optimizer.name, "learning_rate": mover.learning_rate}
    update |= {"clipped": dict(zip(names, map(_numbers, here.gradients), strict=True))} if clips else {}
    mover.step(here.gradients, again)  # 4 weight update
    limit_norms(norm_limits(network))
    moved = {
        name: {"before": _numbers(old), "after": _numbers(new), "difference": _numbers(new.detach() - old)}
        for name, old, new in zip(names, before, parameters, strict=True)
    }
    return {**found, "update": {**update, "parameters": moved}}


def _learning_rate(spec: TrainingSpec, state: TrainingState, train: Examples) -> float:
    training = spec.training
    updates = len(updates_of(spec, state.at.epoch + 1, len(train), state.network, train.target))
    length = Length(updates, min(updates * training.epochs, training.steps or 2**63))
    return rate(training, state, length)


# --- step 1, layer by layer ---------------------------------------------------------------------------------------


def _forward(network: Network, chosen: Sequence[AnyLayer], features: Tensor, codes: Tensor | None) -> Iterator[Passed]:
    """The forward pass of `Network`, that says what leaves each layer; the output last, with its logits as values."""
    values = features
    if codes is not None:
        for place, embedding in enumerate(network.embeddings):
            vectors = embedding(codes[:, place])
            yield Passed(f"embeddings.{place}", "embedding", vectors)
            values = torch.cat([values, vectors], 1)
    modules = iter([(name, module) for name, module in network.named_children() if name != "embeddings"])
    for passed in _through(chosen, modules, "", values):
        yield passed
        values = passed.values
    name, output = next(modules)
    yield Passed(name, "output", output(values))


def _through(
    chosen: Sequence[AnyLayer], modules: Iterator[tuple[str, nn.Module]], before: str, values: Tensor
) -> Iterator[Passed]:
    for layer in chosen:
        place, module = next(modules)
        name, sums, activation = before + place, None, None
        if isinstance(layer, Residual):
            assert isinstance(module, layers.Residual)
            shortcut = values
            if module.projection is not None:
                shortcut = module.projection(values)
                yield Passed(f"{name}.projection", "dense", shortcut, shortcut, "linear")
            for passed in _through(layer.layers, module.block.named_children(), f"{name}.block.", values):
                yield passed
                values = passed.values
            values = shortcut + values
        elif isinstance(layer, Dense):
            values = sums = module(values)
            activation = layer.activation.name
            if not isinstance(layer.activation, Softmax) and layer.activation != Plain(name="linear"):
                values = next(modules)[1](sums)
        else:
            values = module(values)
            activation = layer.activation.name if isinstance(layer, ActivationLayer) else None
        yield Passed(name, layer.type, values, sums, activation)


# --- as it is read ------------------------------------------------------------------------------------------------


def _tensors(passed: Passed) -> list[Tensor]:
    return [passed.values] if passed.sums is None else [passed.sums, passed.values]


def _as_read(passed: Sequence[Passed], predictions: Tensor, activation: str) -> list[dict[str, Any]]:
    *hidden, output = passed
    found = [
        {
            "layer": one.layer,
            "type": one.type,
            **({} if one.activation is None else {"activation": one.activation}),
            **({} if one.sums is None else {"pre_activations": _numbers(one.sums)}),
            "activations": _numbers(one.values),
        }
        for one in hidden
    ]
    last = {"layer": output.layer, "type": output.type, "activation": activation}
    return [*found, {**last, "pre_activations": _numbers(output.values), "activations": _numbers(predictions)}]


def _backward(passed: Sequence[Passed], gradients: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The gradient of the loss by what left each hidden layer, from the output to the input: as the chain rule goes."""
    left, found = iter(gradients), []
    for one in passed[:-1]:
        by_sums = {} if one.sums is None else {"pre_activations": _numbers(next(left))}
        found.append({"layer": one.layer, "activations": _numbers(next(left)), **by_sums})
    return found[::-1]


def _named(batch: Examples, fitted: Preprocessing) -> list[dict[str, Any]]:
    """The inputs of each row by name: numbers, and the codes of embedded categories."""
    names = [*fitted.features, *(one.name for one in fitted.embeddings)]
    codes: list[list[int]] = [[] for _ in range(len(batch))] if batch.codes is None else batch.codes.tolist()
    rows = zip(_numbers(batch.features), codes, strict=True)
    return [dict(zip(names, [*numbers, *of_row], strict=True)) for numbers, of_row in rows]


def _numbers(tensor: Tensor) -> Any:
    """Lists of the shortest decimals that are these float32 again: .1, not .10000000149. What is no number is null."""
    found = tensor.detach().cpu()
    if not found.is_floating_point():
        return found.tolist()
    exact = found.float().numpy().astype(str).astype(np.float64)
    if np.isfinite(exact).all():
        return exact.tolist()
    return np.where(np.isfinite(exact), exact.astype(object), np.array(None)).tolist()
