"""Step 5 of backpropagation: repeat, until N epochs are done, or the error is at or below a threshold, or nothing gets
better, or time is up. And which epoch's weights are kept.
"""

import math
from typing import assert_never

from core.spec.metrics import lower_is_better
from core.spec.training import Stop, Training
from worker.trainer.state import TrainingState


def keep_the_best(state: TrainingState, stop: Stop) -> None:
    """Learns of an epoch's metrics. One that its rows do not define (no class but one) is no better than any."""
    value = state.metrics.get(stop.monitor, math.nan)
    sign = 1 if lower_is_better(stop.monitor) else -1
    at = state.at
    if state.best is None or sign * value < sign * state.best.value or state.best.value != state.best.value:
        state.keep_as_best(value)
    before = math.inf if at.patience_value is None else sign * at.patience_value
    if sign * value < before - stop.min_delta:
        at.patience_value, at.epochs_since_best = value, 0
    elif at.epoch > stop.start_from_epoch:
        at.epochs_since_best += 1


def reason_to_stop(state: TrainingState, training: Training) -> str | None:
    stop, at = training.stop, state.at
    if stop.target_loss is not None and _watched(state, stop) <= stop.target_loss:
        return "target_reached"
    if at.epoch >= (at.last_epoch or training.epochs) or at.step >= (training.steps or math.inf):
        return "completed"
    if stop.patience is not None and at.epochs_since_best >= stop.patience:
        return "early_stopping"
    return "time_budget" if is_over_time(state, stop) else None


def _watched(state: TrainingState, stop: Stop) -> float:
    match stop.target_monitor:
        case "train_loss":
            return state.metrics["train_loss"]
        case "valid_loss":
            return state.metrics.get("valid_loss", state.metrics["train_loss"])  # a refit has no validation rows
        case _:
            assert_never(stop.target_monitor)


def is_over_time(state: TrainingState, stop: Stop) -> bool:
    return stop.max_seconds is not None and state.at.seconds >= stop.max_seconds
