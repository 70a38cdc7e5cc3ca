"""The loop: gradient descent by backpropagation, in the order the mathematics happens.

It is a generator: it yields after each epoch, and about once a second in long ones. Whoever iterates may look at the
state, save it, or stop; the loop itself knows neither pipes nor files.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import faults
from core.spec import TrainingSpec
from core.spec.network import Output
from core.spec.optimizers import Lbfgs
from core.spec.schedules import PlateauRate
from core.spec.training import Training
from worker.trainer.backward import gradient_of
from worker.trainer.device import restore_noise, seed_noise
from worker.trainer.examples import Batch, Examples
from worker.trainer.guard import offence
from worker.trainer.losses import criterion_of
from worker.trainer.metrics import measure
from worker.trainer.network import Network, as_function
from worker.trainer.oversampling import rows_of_an_epoch
from worker.trainer.precision import autocast
from worker.trainer.predictions import logits_of
from worker.trainer.regularization import limit_norms, norm_limits, penalty_of
from worker.trainer.scaling import TargetScaling
from worker.trainer.schedules import Length, factor
from worker.trainer.state import TrainingState
from worker.trainer.stopping import is_over_time, keep_the_best, reason_to_stop
from worker.trainer.vitals import Probe, Vitals

STEP_SECONDS = 1.0  # between two signs of life in a long epoch
FIRST_STEP_SECONDS = 0.1  # before the very first one
LOOK_SECONDS = 0.05  # between two looks whether the listener wants a word

Gradients = list[Tensor]
Backpropagate = Callable[[Batch], tuple[Tensor, Tensor, Gradients]]


@dataclass(frozen=True)
class EpochDone:
    """A pass over the training rows; the facts of its `epoch` event."""

    facts: dict[str, Any]
    vitals: Vitals | None  # of its last step; None where the training ended before that


@dataclass(frozen=True)
class StepDone:
    """A sign of life in a long epoch; the facts of its `step` event."""

    facts: dict[str, Any]


def fit(
    spec: TrainingSpec,
    train: Examples,
    validation: Examples,
    state: TrainingState,
    scaling: TargetScaling | None = None,
    is_wanted: Callable[[], bool] = lambda: False,
) -> Iterator[EpochDone | StepDone]:
    """Trains from where `state` is to the end, and writes why it ended into `state.at.stop_reason`. Where `is_wanted`
    says so, it yields after the batch under way.

    `train_loss` is the mean loss of the rows as they were seen during the epoch, `valid_loss` that of the validation
    rows after it. Where the target is scaled, both are said in its own units, and sums and gradients are not. Where
    either loss is no number the training ends there, and `state.offence` says where that began.
    """
    training, network, updater, at = spec.training, state.network, state.updater, state.at
    parameters: list[Tensor] = list(network.parameters())
    weights = [parameter.detach() for parameter in parameters]
    forward, criterion = as_function(network), criterion_of(training.loss, output_of(spec).activation)
    gradient, penalty, limits = gradient_of(parameters), penalty_of(network), norm_limits(network)
    unit = 1.0 if scaling is None else scaling.loss_unit(training.loss)
    low_bits, probe = autocast(training.precision, train.features.device), Probe(network, train)

    def of_one_batch(batch: Batch) -> tuple[Tensor, Tensor, Gradients]:
        features, target, codes, weight = batch
        with low_bits:
            logits = forward(features, codes)  # 1 forward propagation
        if logits.dtype == torch.bfloat16:
            logits = logits.float()  # a loss in 8 bits would neither fall smoothly nor take weights
        loss = criterion(logits, target, weight)  # 2 the error
        objective = loss if penalty is None else loss + penalty()
        gradients = gradient(objective)  # 3 backward propagation: the chain rule, by autograd
        return logits, loss, gradients

    backpropagate = _in_parts(of_one_batch, training.batch_size) if training.accumulate > 1 else of_one_batch

    for epoch in range(at.epoch + 1, training.epochs + 1):
        updates = updates_of(spec, epoch, len(train), network, train.target)
        length = Length(len(updates), min(len(updates) * training.epochs, training.steps or 2**63))
        network.train()
        _begin(state, spec, epoch, train)
        started = spoke = looked = time.monotonic()
        started_at_step, vitals, rows_of_epoch = at.step, None, sum(map(len, updates))

        for batch in train.batches(updates, at.update):
            updater.learning_rate = rate(training, state, length)
            logits, loss, gradients = backpropagate(batch)
            value, count = loss.item(), batch.weight_sum
            at.loss_sum, at.weight_sum = at.loss_sum + value * count, at.weight_sum + count
            if not math.isfinite(value):
                state.offence = {"batch": at.update + 1, **offence(network, train, updates[at.update])}
                vitals = None  # those of an earlier step: when that was is a matter of time
                break
            if training.metrics:
                state.see(logits.detach(), rows_of_epoch - at.update * len(updates[0]))

            is_last = at.update + 1 == len(updates) or at.step + 1 == training.steps
            silence = FIRST_STEP_SECONDS if started_at_step == 0 and vitals is None else STEP_SECONDS
            speaks = not is_last and (moment := time.monotonic()) - spoke >= silence
            if not (is_last or speaks) and moment - looked >= LOOK_SECONDS:
                speaks, looked = is_wanted(), moment
            if probing := is_last or speaks or at.step == 0:  # the first step says what the network began as
                probe.before(gradients)
            faults.point("train.before_update")
            clip(gradients, training)
            updater.step(gradients, lambda: _evaluate(backpropagate, batch, spec, epoch))  # noqa: B023 # 4 weight update
            limit_norms(limits)
            if state.average is not None and training.ema_decay is not None:
                torch._foreach_lerp_(state.average, weights, 1 - training.ema_decay)
            at.update, at.step = at.update + 1, at.step + 1
            del logits, loss, gradients  # or those of two steps would be there together

            if probing:
                felt = probe.after()
                state.course.begin(value * unit, felt)
                vitals = felt if speaks or is_last else vitals
            if is_last:
                break
            if speaks:
                at.seconds += (now := time.monotonic()) - spoke
                if is_over_time(state, training.stop):
                    at.stop_reason = "time_budget"
                    return
                speed = (at.step - started_at_step) * len(batch.target) / (now - started)
                yield StepDone(_facts(spec, state, epoch, vitals, {"train_loss": value * unit}, speed))
                spoke = time.monotonic()  # what the listener did meanwhile was not training

        rows_seen = torch.cat(updates[: at.update]) if at.update else updates[0][:0]
        state.metrics = {"train_loss": at.loss_sum / (at.weight_sum or 1.0) * unit}
        if state.seen:
            logits = torch.cat(state.seen)
            state.seen.clear()
            state.metrics |= _measured("train", spec, logits, train.without_inputs(rows_seen), scaling)
        if penalty is not None:
            state.metrics["penalty"] = float(penalty().detach())
        if len(validation) and state.offence is None:
            with state.averaged():
                network.eval()
                logits = logits_of(forward, validation)
            valid_loss = float(criterion(logits, validation.target, validation.weight)) * unit
            state.metrics |= {"valid_loss": valid_loss} | _measured("valid", spec, logits, validation, scaling)
        at.epoch, at.update = epoch, 0
        at.seconds += (now := time.monotonic()) - spoke

        if _is_a_number(state.metrics, vitals):
            if at.stage == "search":
                keep_the_best(state, training.stop)
            if isinstance(training.schedule, PlateauRate):
                state.plateau.look(training.schedule, state.metrics)
            at.stop_reason = reason_to_stop(state, training)  # 5 repeat, until ...
        else:
            at.stop_reason = "diverged"
            state.offence = state.offence or offence(network, validation or train, None)
        speed = len(rows_seen) / (now - started)
        yield EpochDone(_facts(spec, state, epoch, vitals, state.metrics, speed), vitals)
        if at.stop_reason:
            return


def output_of(spec: TrainingSpec) -> Output:
    assert spec.network.output is not None, "a resolved spec has its output"
    return spec.network.output


# --- the rows of an epoch -----------------------------------------------------------------------------------------


def updates_of(
    spec: TrainingSpec, epoch: int, rows: int, network: Network, target: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The rows of each weight update: a permutation that depends on nothing but (seed, epoch), so that a resumed epoch
    sees the same batches. L-BFGS sees all rows at once. Of small classes, by `target`, rows come again where the spec
    says so.
    """
    training, device = spec.training, next(network.parameters()).device
    generator = torch.Generator().manual_seed(_mix(training.seed, epoch, 0))
    if training.oversample is None:
        order = torch.randperm(rows, generator=generator)
    else:
        assert target is not None
        share = 1.0 if training.oversample == "balanced" else training.oversample
        drawn = rows_of_an_epoch(target, share, torch.Generator().manual_seed(_mix(training.seed, epoch, 2)))
        order = drawn[torch.randperm(len(drawn), generator=generator)]
    if isinstance(training.optimizer, Lbfgs):
        return (order.to(device),)
    has_batch_norm = any(isinstance(module, nn.BatchNorm1d) for module in network.modules())
    if has_batch_norm and len(order) > 1 and len(order) % training.batch_size == 1:
        order = order[:-1]  # one row has no variance: batch norm would refuse it
    return torch.split(order.to(device), training.batch_size * training.accumulate)


def _in_parts(backpropagate: Backpropagate, batch_size: int) -> Backpropagate:
    """Several batches an update: loss and gradient are those of one batch of all their rows."""

    def accumulated(batch: Batch) -> tuple[Tensor, Tensor, Gradients]:
        total = batch.weight_sum or 1.0
        parts, losses = [], []
        sums: Gradients | None = None
        for part in batch.split(batch_size):
            share = part.weight_sum / total
            logits, loss, gradients = backpropagate(part)
            torch._foreach_mul_(gradients, share)
            if sums is None:
                sums = gradients
            else:
                torch._foreach_add_(sums, gradients)
            parts.append(logits.detach())
            losses.append(loss.detach() * share)
        assert sums is not None
        return torch.cat(parts), torch.stack(losses).sum(), sums

    return accumulated


def _begin(state: TrainingState, spec: TrainingSpec, epoch: int, train: Examples) -> None:
    """At the start of an epoch, or where a checkpoint in its midst was taken."""
    if state.at.update == 0:
        state.at.loss_sum = state.at.weight_sum = 0.0
        state.seen.clear()
        begin_noise(spec, epoch, train.target.device)
    elif state.noise is not None:
        restore_noise(state.noise, train.target.device)
        state.noise = None


def _evaluate(backpropagate: Backpropagate, batch: Batch, spec: TrainingSpec, epoch: int) -> tuple[Tensor, Gradients]:
    """Loss and gradients where a line search has gone, with the same noise at every point."""
    begin_noise(spec, epoch, batch.target.device)
    _, loss, gradients = backpropagate(batch)
    return loss.detach(), gradients


def begin_noise(spec: TrainingSpec, epoch: int, device: torch.device) -> None:
    """What dropout draws depends on nothing but (seed, epoch)."""
    seed_noise(_mix(spec.training.seed, epoch, 1), device)


def _mix(*numbers: int) -> int:
    """One 64-bit seed from several numbers; neighbours give unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


# --- steps and facts ----------------------------------------------------------------------------------------------


def rate(training: Training, state: TrainingState, length: Length) -> float:
    return training.optimizer.learning_rate * factor(training.schedule, state.at.step, length, state.plateau)


def clip(gradients: Gradients, training: Training) -> None:
    """In place."""
    if training.clip_value is not None:
        torch._foreach_clamp_max_(gradients, training.clip_value)
        torch._foreach_clamp_min_(gradients, -training.clip_value)
    elif training.clip_norm is not None:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (training.clip_norm / (norm + 1e-6)).clamp(max=1.0))


def _measured(
    rows: str, spec: TrainingSpec, logits: Tensor, examples: Examples, scaling: TargetScaling | None
) -> dict[str, float]:
    """The metrics of the spec, each with the name of its rows before it."""
    found = measure(spec.training.metrics or [], spec, logits.float(), examples, scaling)
    return {f"{rows}_{name}": value for name, value in found.items()}


def _is_a_number(found: dict[str, float], vitals: Vitals | None) -> bool:
    losses = [found[name] for name in ("train_loss", "valid_loss") if name in found]
    return all(map(math.isfinite, losses)) and (
        vitals is None or math.isfinite(vitals.weight_norm + vitals.update_ratio)
    )


def _facts(
    spec: TrainingSpec, state: TrainingState, epoch: int, vitals: Vitals | None, found: dict[str, float], speed: float
) -> dict[str, Any]:
    felt = {} if vitals is None else vitals.facts(of_layers=spec.training.log_layers)
    return {
        "epoch": epoch,
        "step": state.at.step,
        **found,
        "learning_rate": state.updater.learning_rate,
        **felt,
        "seconds": round(state.at.seconds, 6),
        "samples_per_second": round(speed, 1),
    }
