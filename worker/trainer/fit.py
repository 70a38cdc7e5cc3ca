"""The loop: gradient descent by backpropagation, in the order the mathematics happens.

It is a generator: it yields after each epoch, and about once a second in long ones. Whoever iterates may look at the
state, save it, or stop; the loop itself knows neither pipes nor files.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import Diverged
from core.spec import Stop, Training
from worker.trainer.losses import criterion_of, metrics, predict
from worker.trainer.network import as_function
from worker.trainer.state import TrainingState

STEP_SECONDS = 1.0  # between two signs of life in a long epoch


@dataclass(frozen=True)
class Examples:
    """Rows ready for the network."""

    features: Tensor  # (rows, inputs) float32
    target: Tensor  # (rows,) int64 classes or float32

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class EpochDone:
    """A pass over the training rows; the facts of its `epoch` event."""

    facts: dict[str, float | int]


@dataclass(frozen=True)
class StepDone:
    """A sign of life in a long epoch; the facts of its `step` event."""

    facts: dict[str, float | int]


def fit(
    training: Training, train: Examples, validation: Examples, state: TrainingState
) -> Iterator[EpochDone | StepDone]:
    """Trains from where `state` is to the end, which it writes into `state.at.stop_reason`.

    `train_loss` is the mean loss of the rows as they were seen during the epoch, `valid_loss` that of the validation
    rows after it. Raises `Diverged` after the epoch in which either stopped being a number.
    """
    network, updater, at = state.network, state.updater, state.at
    parameters = list(network.parameters())
    forward, criterion = as_function(network), criterion_of(training.loss)
    needs_two_rows = any(isinstance(module, nn.BatchNorm1d) for module in network)

    for epoch in range(at.epoch + 1, training.epochs + 1):
        network.train()
        started = spoke = time.monotonic()
        started_at_step = at.step
        order = _row_order(training.seed, epoch, len(train))
        batches = torch.split(order, training.batch_size)
        if needs_two_rows and len(batches[-1]) == 1 and len(batches) > 1:
            batches = batches[:-1]  # one row has no variance: batch norm would refuse it
        if at.batch == 0:
            state.loss_sum = torch.zeros((), dtype=torch.float64)
            torch.default_generator.manual_seed(_mix(training.seed, epoch, 1))  # torch.manual_seed: 0.1 ms more
        elif state.generator is not None:
            torch.set_rng_state(state.generator)

        for batch in batches[at.batch :]:
            features, target = train.features.index_select(0, batch), train.target.index_select(0, batch)

            logits = forward(features)  # 1 forward propagation
            loss = criterion(logits, target)  # 2 the error
            gradients = torch.autograd.grad(loss, parameters)  # 3 backward propagation: the chain rule
            updater.step(gradients)  # 4 weight update

            state.loss_sum.add_(loss.detach(), alpha=len(batch))  # read once an epoch: reading waits for the kernels
            at.batch += 1
            at.step += 1
            if (now := time.monotonic()) - spoke >= STEP_SECONDS:
                at.seconds += now - spoke
                if _over_time(training.stop, at.seconds):
                    at.stop_reason = "time_budget"
                    return
                speed = (at.step - started_at_step) * training.batch_size / (now - started)
                yield StepDone(_step_facts(epoch, at.step, loss, updater.learning_rate, speed))
                spoke = time.monotonic()  # what the listener did meanwhile was not training

        rows_seen = sum(len(batch) for batch in batches)
        state.metrics = {"train_loss": float(state.loss_sum) / rows_seen}
        if len(validation):
            network.eval()
            found = metrics(training.loss, predict(forward, validation.features), validation.target)
            state.metrics |= {f"valid_{name}": value for name, value in found.items()}
        at.epoch, at.batch = epoch, 0
        now = time.monotonic()
        at.seconds += now - spoke

        if _is_a_number(state.metrics):
            _keep_the_best(state, training.stop)
            at.stop_reason = _reason_to_stop(state, training)  # 5 repeat, until ...
        else:
            at.stop_reason = "diverged"
        yield EpochDone(
            {
                "epoch": epoch,
                "step": at.step,
                **state.metrics,
                "learning_rate": updater.learning_rate,
                "seconds": round(at.seconds, 6),
                "samples_per_second": round((at.step - started_at_step) * training.batch_size / (now - started), 1),
            }
        )
        if at.stop_reason == "diverged":
            raise Diverged(epoch=epoch)
        if at.stop_reason:
            return


def _is_a_number(found: dict[str, float]) -> bool:
    return all(math.isfinite(found[name]) for name in ("train_loss", "valid_loss") if name in found)


def _keep_the_best(state: TrainingState, stop: Stop) -> None:
    value = state.metrics[stop.monitor]
    if state.best is None or value < state.best.value:
        state.keep_as_best(value)
    if state.at.patience_value is None or value < state.at.patience_value - stop.min_delta:
        state.at.patience_value, state.at.epochs_since_best = value, 0
    else:
        state.at.epochs_since_best += 1


def _reason_to_stop(state: TrainingState, training: Training) -> str | None:
    """N epochs are done, or the error is at or below the threshold, or nothing gets better, or time is up."""
    stop, at = training.stop, state.at
    watched = state.metrics.get(stop.target_monitor, state.metrics["train_loss"])
    if stop.target_loss is not None and watched <= stop.target_loss:
        return "target_reached"
    if at.epoch >= training.epochs:
        return "completed"
    if stop.patience is not None and at.epochs_since_best >= stop.patience:
        return "early_stopping"
    return "time_budget" if _over_time(stop, at.seconds) else None


def _over_time(stop: Stop, seconds: float) -> bool:
    return stop.max_seconds is not None and seconds >= stop.max_seconds


def _row_order(seed: int, epoch: int, rows: int) -> Tensor:
    """A permutation that depends on nothing but (seed, epoch): a resumed epoch sees the same batches."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(_mix(seed, epoch, 0)))


def _mix(*numbers: int) -> int:
    """One 64-bit seed from several numbers; neighbours give unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _step_facts(epoch: int, step: int, loss: Tensor, learning_rate: float, speed: float) -> dict[str, float | int]:
    return {
        "epoch": epoch,
        "step": step,
        "train_loss": float(loss.detach()),
        "learning_rate": learning_rate,
        "samples_per_second": round(speed, 1),
    }
