"""One training, from order to artifacts."""

import math
import shutil
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from core import errors
from core.spec import TrainingSpec
from core.spec.schedules import PlateauRate
from core.spec.training import Stop
from worker.trainer import artifacts, state
from worker.trainer.device import device_of
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, StepDone, fit, output_of
from worker.trainer.losses import criterion_of
from worker.trainer.messages import (
    ARTIFACTS,
    Channel,
    CheckpointWritten,
    Drained,
    Failed,
    Logged,
    NothingToKeep,
    Phase,
    Trained,
)
from worker.trainer.metrics import measure
from worker.trainer.network import Network, as_function, build
from worker.trainer.optimizers import updater
from worker.trainer.order import TrainingOrder
from worker.trainer.predictions import logits_of
from worker.trainer.preparation import Prepared, prepare
from worker.trainer.scaling import TargetScaling
from worker.trainer.start import begin_with
from worker.trainer.state import TrainingState

# A checkpoint costs at most a fiftieth of the time between two: large networks are saved less often.
CHECKPOINT_COST = 50
TRAIN_ROWS_MEASURED = 10_000  # at the end, the first ones: all rows of a large table would cost a third of an epoch


def train(order: TrainingOrder, channel: Channel) -> None:
    """Trains as ordered, saying what happens; ends with `Trained`, `Drained` or `NothingToKeep`.

    Raises a `DataInvalid` when the rows cannot be trained on, `Diverged` when the loss stops being a number before
    there is an epoch to keep.
    """
    spec = order.spec
    torch.set_num_threads(spec.resources.threads)
    device = device_of(spec.resources)
    channel.say(Phase("loading_data", fingerprint=fingerprint(spec.resources.threads, device)))

    saved = Path(order.checkpoint) if order.checkpoint else None
    refits = saved is not None and state.stage_of(saved) == "refit"
    prepared = prepare(order, device, refit=refits)
    for column, rows in prepared.unseen.items() if saved is None else ():
        message = "These rows have categories that the job to start from has never seen; they are taken as unknown."
        channel.say(
            Logged("warning", {"code": "unseen_categories", "message": message, "column": column, "rows": rows})
        )
    now = _before_the_first_step(order, prepared, device)
    if spec.training.epochs == 0:
        now.at.stop_reason = "completed"
    if saved is not None:
        state.restore(now, saved)
    channel.say(Phase("training", resumed_from_epoch=now.at.searched_epochs + now.at.epoch if saved else None))

    told_to = order.stop or _follow(order, channel, now, prepared)
    if told_to is None and spec.training.refit and now.at.stage == "search" and now.best and not now.offence:
        found = now
        prepared = prepare(order, device, refit=True)
        now = _before_the_first_step(order, prepared, device)
        now.at.stage, now.at.searched_epochs = "refit", found.at.epoch
        now.at.last_epoch, now.at.searched_best = found.best.epoch if found.best else None, _best(spec, found)
        channel.say(Phase("refitting"))
        told_to = _follow(order, channel, now, prepared)

    if told_to == "drain":
        _save_checkpoint(order, channel, now)
        channel.say(Drained())
    elif now.at.step == 0 and not now.at.stop_reason:
        channel.say(NothingToKeep())
    elif now.offence is not None and now.best is None:
        raise _diverged(now, prepared)
    else:
        channel.say(Phase("exporting"))
        channel.say(_export(order, now, prepared, keep_last=told_to == "cancel_keep_last"))


def _before_the_first_step(order: TrainingOrder, prepared: Prepared, device: torch.device) -> TrainingState:
    spec, fitted = order.spec, prepared.preprocessing
    embeddings = [(len(one.categories), one.dimension) for one in fitted.embeddings]
    network = build(
        spec.network.layers or [], output_of(spec), len(fitted.features), spec.training.seed, embeddings
    ).to(device)
    if order.start is not None:
        begin_with(network, Path(order.start.weights))
    average = [parameter.detach().clone() for parameter in network.parameters()] if spec.training.ema_decay else None
    return TrainingState(network, updater(spec.training.optimizer, list(network.parameters())), average)


def _follow(order: TrainingOrder, channel: Channel, now: TrainingState, prepared: Prepared) -> str | None:
    """Runs the loop to its end, or to what the supervisor asks; returns that."""
    last_save, wait = time.monotonic(), order.checkpoint_seconds
    if now.at.stop_reason:
        return None  # the checkpoint was taken after the last epoch
    spec = _refit_spec(order.spec) if now.at.stage == "refit" else order.spec
    log_every = order.spec.training.log_every or 1
    for done in fit(spec, prepared.train, prepared.validation, now, prepared.target_scaling):
        match done:
            case EpochDone(facts) if now.at.epoch % log_every == 0 or now.at.stop_reason:
                channel.say(Logged("epoch", _as_logged(facts, now), best=_best(order.spec, now)))
            case StepDone(facts):
                channel.say(Logged("step", _as_logged(facts, now)))
            case _:
                pass
        if (told_to := channel.stop_order()) is not None and not now.at.stop_reason:
            return told_to
        if (began := time.monotonic()) - last_save >= wait and not now.at.stop_reason:
            _save_checkpoint(order, channel, now)
            last_save = time.monotonic()
            wait = max(order.checkpoint_seconds, CHECKPOINT_COST * (last_save - began))
    return None


def _refit_spec(spec: TrainingSpec) -> TrainingSpec:
    """The same training without validation rows: nothing but the number of epochs ends it."""
    changed: dict[str, Any] = {"stop": Stop(monitor="train_loss"), "steps": None}
    if isinstance(spec.training.schedule, PlateauRate):
        changed["schedule"] = spec.training.schedule.model_copy(update={"monitor": "train_loss"})
    return spec.model_copy(update={"training": spec.training.model_copy(update=changed)})


def _save_checkpoint(order: TrainingOrder, channel: Channel, now: TrainingState) -> None:
    """One that cannot be written now (the disk is full) is one less, and no failure."""
    folder = Path(order.folder) / f"checkpoint-{now.at.step}-{time.monotonic_ns()}"
    try:
        state.save(now, folder)
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


# --- the end ------------------------------------------------------------------------------------------------------


def _export(order: TrainingOrder, now: TrainingState, prepared: Prepared, *, keep_last: bool) -> Trained:
    """Writes the artifacts of the best epoch, or of the last where that is asked for or the network was refitted."""
    spec, network = order.spec, now.network
    weights, kept_epoch, others = now.weights(), now.at.epoch, dict[str, dict[str, Tensor]]()
    if now.best is not None and not keep_last and now.at.stage == "search":
        if now.best.epoch != now.at.epoch and now.offence is None:
            others["last"] = weights
        weights, kept_epoch = now.best.weights, now.best.epoch
    network.load_state_dict(weights)
    network.eval()
    stop_reason = now.at.stop_reason or "user_cancel"
    report: dict[str, Any] = {
        "kept_epoch": kept_epoch,
        "epochs": now.at.searched_epochs + now.at.epoch,
        "refitted": now.at.stage == "refit",
        "stop_reason": stop_reason,
    }
    parts = {
        "train": prepared.train.slice(0, TRAIN_ROWS_MEASURED),
        "validation": prepared.validation,
        "test": prepared.test,
    }
    report |= {
        name: _measured(spec, network, part, prepared.target_scaling) for name, part in parts.items() if len(part)
    }
    artifacts.write(
        Path(order.folder) / ARTIFACTS,
        order,
        prepared.preprocessing,
        {"weights": network.state_dict(), **others},
        prepared.parts,
        report,
    )
    failed = None
    if now.offence is not None:
        problem = _diverged(now, prepared)
        failed = asdict(Failed(type(problem).__name__, problem.detail, facts=problem.facts))
    return Trained(stop_reason=stop_reason, best=_best(spec, now), failed=failed)


def _measured(spec: TrainingSpec, network: Network, part: Examples, scaling: TargetScaling | None) -> dict[str, Any]:
    logits = logits_of(as_function(network), part)
    loss = float(criterion_of(spec.training.loss, output_of(spec).activation)(logits, part.target, part.weight))
    unit = 1.0 if scaling is None else scaling.loss_unit(spec.training.loss)
    found = {"loss": loss * unit, **measure(spec.training.metrics or [], spec, logits, part, scaling)}
    return {"rows": len(part), **{name: value if math.isfinite(value) else None for name, value in found.items()}}


def _diverged(now: TrainingState, prepared: Prepared) -> errors.Diverged:
    """Where it began, by names: the layer as in the weights file, the column as in the dataset."""
    facts = dict(now.offence or {})
    feature = facts.pop("feature", None)
    if feature is not None:
        facts["column"] = prepared.preprocessing.features[feature]
    epoch = now.at.searched_epochs + now.at.epoch
    where = f"the {facts.get('what')} of layer {facts.get('layer')}" if facts.get("what") != "loss" else "the loss"
    return errors.Diverged(
        f"The loss became infinite or not a number in epoch {epoch}, first in {where}; try a smaller learning rate.",
        epoch=epoch,
        step=now.at.step,
        **facts,
    )


def _best(spec: TrainingSpec, now: TrainingState) -> dict[str, Any] | None:
    if now.at.searched_best is not None:
        return now.at.searched_best
    if now.best is None or not math.isfinite(now.best.value):
        return None
    return {"metric": spec.training.stop.monitor, "value": now.best.value, "epoch": now.best.epoch}


def _as_logged(facts: dict[str, Any], now: TrainingState) -> dict[str, Any]:
    """JSON has no NaN: a number that is none becomes null, and is named. The epochs of a refit go on counting."""
    broken = {
        name: str(value) for name, value in facts.items() if isinstance(value, float) and not math.isfinite(value)
    }
    clean = {name: None if name in broken else value for name, value in facts.items()}
    if now.at.stage == "refit":
        clean |= {"epoch": now.at.searched_epochs + facts["epoch"], "refit": True}
    return {**clean, "nonfinite": broken} if broken else clean
