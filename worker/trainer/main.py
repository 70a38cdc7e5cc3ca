"""One training, from order to artifacts."""

import math
import shutil
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from core import errors
from core.spec import TrainingSpec
from core.spec.schedules import PlateauRate
from core.spec.training import Stop
from worker.trainer import processor, state
from worker.trainer.artifacts import header_of
from worker.trainer.device import device_of
from worker.trainer.diagnosis import diagnose
from worker.trainer.finish import best_of, diverged, fold_trained, is_refitted, write_artifacts
from worker.trainer.fit import EpochDone, StepDone, fit
from worker.trainer.messages import (
    Channel,
    CheckpointWritten,
    Drained,
    Logged,
    NothingToKeep,
    Phase,
)
from worker.trainer.order import TrainingOrder
from worker.trainer.preparation import Prepared, prepare
from worker.trainer.start import before_the_first_step
from worker.trainer.state import TrainingState
from worker.trainer.trace import lay_open

# A checkpoint costs at most a fiftieth of the time between two: large networks are saved less often.
CHECKPOINT_COST = 50


def train(order: TrainingOrder, channel: Channel) -> None:
    """Trains as ordered, saying what happens; ends with `Trained`, `FoldTrained`, `Drained` or `NothingToKeep`.

    Raises a `DataInvalid` when the rows cannot be trained on, `Diverged` when the loss stops being a number before
    there is an epoch to keep, or in a fold.
    """
    spec = order.spec
    processor.set_up(spec.resources.threads)
    device = device_of(spec.resources)
    channel.say(Phase("loading_data", fingerprint=fingerprint(spec.resources.threads, device)))

    saved = Path(order.checkpoint) if order.checkpoint else None
    refits = saved is not None and state.stage_of(saved) == "refit"
    prepared = prepare(order, device, refit=refits, fold=order.fold)
    for warning in prepared.unseen:
        channel.say(Logged("warning", warning))
    processor.give_back()
    now = before_the_first_step(order, prepared, device)
    if spec.training.epochs == 0:
        now.at.stop_reason = "completed"
    if order.cross_validation is not None:
        _begin_after_folds(now, spec, order.cross_validation["epochs"])
    if saved is not None:
        state.restore(now, saved)
    phase = "refitting" if order.cross_validation is not None else "training"
    channel.say(Phase(phase, resumed_from_epoch=now.at.searched_epochs + now.at.epoch if saved else None))

    told_to = order.stop or _follow(order, channel, now, prepared)
    if told_to is None and spec.training.refit and _may_refit(now):
        searched, searched_rows = now, len(prepared.train)
        prepared = prepare(order, device, refit=True)
        now = before_the_first_step(order, prepared, device)
        _begin_refit(now, searched, spec, len(prepared.train) / searched_rows)
        channel.say(Phase("refitting"))
        told_to = _follow(order, channel, now, prepared)

    if told_to == "drain":
        _save_checkpoint(order, channel, now, prepared)
        channel.say(Drained())
    elif now.offence is not None and (now.best is None or order.fold is not None):
        raise diverged(now, prepared)
    elif told_to == "deadline" and (order.fold is not None or _has_nothing(now)):
        raise errors.DeadlineExceeded()
    elif order.fold is not None:
        channel.say(fold_trained(spec, now, prepared))
    elif _has_nothing(now):
        channel.say(NothingToKeep())
    else:
        channel.say(Phase("exporting"))
        keep_last = now.best is None or told_to == "cancel_keep_last" or is_refitted(now)
        problem: errors.Problem | None = None
        if now.offence is not None:
            problem = diverged(now, prepared)
        elif told_to == "deadline":
            problem, now.at.stop_reason = errors.DeadlineExceeded(), "deadline_exceeded"
        if now.at.stage == "refit" and not keep_last:
            # That of the weights that the search has found; its rows may have had fewer categories.
            prepared = prepare(order, device, refit=False)
            now = replace(now, network=before_the_first_step(order, prepared, device).network, average=None)
        folds = order.cross_validation
        channel.say(write_artifacts(order, now, prepared, problem, keep_last=keep_last, cross_validation=folds))


def _follow(order: TrainingOrder, channel: Channel, now: TrainingState, prepared: Prepared) -> str | None:
    """Runs the loop to its end, or to what the supervisor asks; returns that."""
    last_save, wait = time.monotonic(), order.checkpoint_seconds
    if now.at.stop_reason:
        return None  # the checkpoint was taken after the last epoch
    spec = _refit_spec(order.spec, now) if now.at.stage == "refit" else order.spec
    log_every = order.spec.training.log_every or 1
    _trace(spec, now, prepared)
    for done in fit(spec, prepared.train, prepared.validation, now, prepared.target_scaling, channel.is_told):
        match done:
            case EpochDone(facts, felt):
                if now.at.epoch % log_every == 0 or now.at.stop_reason:
                    channel.say(Logged("epoch", _as_logged(facts, now), best=best_of(order.spec, now)))
                if now.at.stage == "search":
                    for found in diagnose(now.course, spec, facts, felt):
                        channel.say(Logged("diagnosis", found))
            case StepDone(facts):
                channel.say(Logged("step", _as_logged(facts, now)))
        _trace(spec, now, prepared)
        if (told_to := channel.stop_order()) is not None and not now.at.stop_reason:
            return told_to
        if (began := time.monotonic()) - last_save >= wait and not now.at.stop_reason:
            _save_checkpoint(order, channel, now, prepared)
            last_save = time.monotonic()
            if order.checkpoint_seconds:
                wait = max(order.checkpoint_seconds, CHECKPOINT_COST * (last_save - began))
    return None


def _has_nothing(now: TrainingState) -> bool:
    """No step was made: these are no weights of a training."""
    return now.at.step == 0 and now.best is None and not now.at.stop_reason


def _trace(spec: TrainingSpec, now: TrainingState, prepared: Prepared) -> None:
    """Between two epochs, lays the next update open where the spec asks for it."""
    if spec.trace is None or now.at.update or now.at.stop_reason:
        return
    epoch = now.at.searched_epochs + now.at.epoch + 1
    if epoch in spec.trace.epochs and epoch not in {one["epoch"] for one in now.traces}:
        now.traces.append(lay_open(spec, now, prepared))


def _may_refit(now: TrainingState) -> bool:
    """After a search that has found weights, and has time left."""
    found = now.best is not None and now.offence is None
    return found and now.at.stage == "search" and now.at.stop_reason != "time_budget"


def _begin_refit(now: TrainingState, searched: TrainingState, spec: TrainingSpec, growth: float) -> None:
    """`growth` is the number of rows now, of those of the search. What the search has found stays the best."""
    assert searched.best is not None
    now.best, now.course, now.traces = searched.best, searched.course, searched.traces
    now.at.stage, now.at.last_epoch = "refit", searched.best.epoch
    now.at.last_step = None if spec.training.steps is None else math.ceil(spec.training.steps * growth)
    now.at.searched_epochs, now.at.searched_reason = searched.at.epoch, searched.at.stop_reason
    now.at.seconds = searched.at.seconds


def _begin_after_folds(now: TrainingState, spec: TrainingSpec, epochs: int) -> None:
    """On all rows, for as many epochs as the best weights of the folds had; their steps grow with the rows."""
    now.at.stage, now.at.last_epoch, now.at.searched_reason = "refit", epochs, "completed"
    if spec.training.steps is not None:
        now.at.last_step = spec.split.steps_after_folds(spec.training.steps)


def _refit_spec(spec: TrainingSpec, now: TrainingState) -> TrainingSpec:
    """The same training without validation rows: it ends with the epoch that was the best, or when time is up."""
    stop = Stop(monitor="train_loss", max_seconds=spec.training.stop.max_seconds)
    changed: dict[str, Any] = {"stop": stop, "steps": now.at.last_step}
    if isinstance(spec.training.schedule, PlateauRate):
        changed["schedule"] = spec.training.schedule.model_copy(update={"monitor": "train_loss"})
    return spec.model_copy(update={"training": spec.training.model_copy(update=changed)})


def _save_checkpoint(order: TrainingOrder, channel: Channel, now: TrainingState, prepared: Prepared) -> None:
    """One that cannot be written now (the disk is full) is one less, and no failure."""
    folder = Path(order.folder) / f"checkpoint-{now.at.step}-{time.monotonic_ns()}"
    try:
        state.save(now, folder, header_of(prepared.preprocessing, order.spec.version))
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.write(f"a checkpoint could not be written: {type(error).__name__}\n")
        return
    channel.say(CheckpointWritten(epoch=now.at.searched_epochs + now.at.epoch, folder=folder.name))


def fingerprint(threads: int, device: torch.device) -> dict[str, Any]:
    """What the bits of a training depend on besides spec, data and seed."""
    return {
        "code": version("backpropd"),
        "torch": torch.__version__,
        "threads": threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _as_logged(facts: dict[str, Any], now: TrainingState) -> dict[str, Any]:
    """JSON has no NaN: a number that is none becomes null, and is named. The epochs of a refit go on counting."""
    broken = {
        name: str(value) for name, value in facts.items() if isinstance(value, float) and not math.isfinite(value)
    }
    clean = {name: None if name in broken else _without_nan(value) for name, value in facts.items()}
    if now.at.stage == "refit":
        clean |= {"epoch": now.at.searched_epochs + facts["epoch"], "refit": True}
    return {**clean, "nonfinite": broken} if broken else clean


def _without_nan(value: Any) -> Any:
    """Null for what is no number in the facts of layers."""
    match value:
        case list():
            return [_without_nan(one) for one in value]
        case dict():
            return {name: _without_nan(one) for name, one in value.items()}
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
