"""One training, from order to artifacts."""

import math
import shutil
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from core import errors
from core.spec import TrainingSpec
from core.spec.schedules import PlateauRate
from core.spec.training import BestThreshold, Stop
from worker.trainer import artifacts, state
from worker.trainer.device import device_of
from worker.trainer.diagnosis import diagnose
from worker.trainer.examples import Examples
from worker.trainer.exports import export, named
from worker.trainer.exports.code_file import Run, code_of
from worker.trainer.fit import EpochDone, StepDone, fit, output_of
from worker.trainer.losses import criterion_of
from worker.trainer.messages import (
    ARTIFACTS,
    BUNDLE,
    Channel,
    CheckpointWritten,
    Drained,
    Failed,
    FoldTrained,
    Logged,
    NothingToKeep,
    Phase,
    Trained,
)
from worker.trainer.metrics import measure
from worker.trainer.network import Network, as_function, build
from worker.trainer.optimizers import updater
from worker.trainer.order import TableOrder, TrainingOrder
from worker.trainer.predictions import logits_of
from worker.trainer.preparation import Prepared, prepare
from worker.trainer.preprocessing import Preprocessing
from worker.trainer.scaling import TargetScaling
from worker.trainer.start import begin_with
from worker.trainer.state import TrainingState
from worker.trainer.thresholds import Thresholds, find_thresholds
from worker.trainer.trace import lay_open

# A checkpoint costs at most a fiftieth of the time between two: large networks are saved less often.
CHECKPOINT_COST = 50
TRAIN_ROWS_MEASURED = 10_000  # at the end, the first ones: all rows of a large table would cost a third of an epoch


def train(order: TrainingOrder, channel: Channel) -> None:
    """Trains as ordered, saying what happens; ends with `Trained`, `FoldTrained`, `Drained` or `NothingToKeep`.

    Raises a `DataInvalid` when the rows cannot be trained on, `Diverged` when the loss stops being a number before
    there is an epoch to keep, or in a fold.
    """
    spec = order.spec
    torch.set_num_threads(spec.resources.threads)
    device = device_of(spec.resources)
    channel.say(Phase("loading_data", fingerprint=fingerprint(spec.resources.threads, device)))

    saved = Path(order.checkpoint) if order.checkpoint else None
    refits = saved is not None and state.stage_of(saved) == "refit"
    prepared = prepare(order, device, refit=refits, fold=order.fold)
    for warning in prepared.unseen:
        channel.say(Logged("warning", warning))
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
        _save_checkpoint(order, channel, now)
        channel.say(Drained())
    elif now.offence is not None and (now.best is None or order.fold is not None):
        raise diverged(now, prepared)
    elif order.fold is not None:
        channel.say(_fold_trained(spec, now, prepared))
    elif now.at.step == 0 and now.best is None and not now.at.stop_reason:
        channel.say(NothingToKeep())
    else:
        channel.say(Phase("exporting"))
        keep_last = now.best is None or told_to == "cancel_keep_last" or _is_refitted(now)
        problem = None if now.offence is None else diverged(now, prepared)
        if now.at.stage == "refit" and not keep_last:
            # That of the weights that the search has found; its rows may have had fewer categories.
            prepared = prepare(order, device, refit=False)
            now = replace(now, network=before_the_first_step(order, prepared, device).network, average=None)
        folds = order.cross_validation
        channel.say(write_artifacts(order, now, prepared, problem, keep_last=keep_last, cross_validation=folds))


def before_the_first_step(order: TableOrder, prepared: Prepared, device: torch.device) -> TrainingState:
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
    spec = _refit_spec(order.spec, now) if now.at.stage == "refit" else order.spec
    log_every = order.spec.training.log_every or 1
    _trace(spec, now, prepared)
    for done in fit(spec, prepared.train, prepared.validation, now, prepared.target_scaling):
        match done:
            case EpochDone(facts, felt):
                if now.at.epoch % log_every == 0 or now.at.stop_reason:
                    channel.say(Logged("epoch", _as_logged(facts, now), best=_best(order.spec, now)))
                if now.at.stage == "search":
                    for found in diagnose(now.course, spec, facts, felt):
                        channel.say(Logged("diagnosis", found))
            case StepDone(facts):
                channel.say(Logged("step", _as_logged(facts, now)))
        _trace(spec, now, prepared)
        if (told_to := channel.stop_order()) is not None and not now.at.stop_reason:
            return told_to
        if (began := time.monotonic()) - last_save >= wait and not now.at.stop_reason:
            _save_checkpoint(order, channel, now)
            last_save = time.monotonic()
            wait = max(order.checkpoint_seconds, CHECKPOINT_COST * (last_save - began))
    return None


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


def _is_refitted(now: TrainingState) -> bool:
    """Whether the refit has come to its end, and not to that of the time or of the numbers."""
    return now.at.stage == "refit" and now.at.stop_reason == "completed"


def _refit_spec(spec: TrainingSpec, now: TrainingState) -> TrainingSpec:
    """The same training without validation rows: it ends with the epoch that was the best, or when time is up."""
    stop = Stop(monitor="train_loss", max_seconds=spec.training.stop.max_seconds)
    changed: dict[str, Any] = {"stop": stop, "steps": now.at.last_step}
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


def _fold_trained(spec: TrainingSpec, now: TrainingState, prepared: Prepared) -> FoldTrained:
    """Measures the rows of the fold with its best weights, or with the last where none are the best."""
    weights, epoch = (now.weights(), now.at.epoch) if now.best is None else (now.best.weights, now.best.epoch)
    now.network.load_state_dict(weights)
    now.network.eval()
    thresholds = find_thresholds(spec, now.network, prepared.validation)
    values = None if thresholds is None else thresholds.values
    measured = _measured(spec, now.network, prepared.validation, prepared.target_scaling, values)
    return FoldTrained({"epoch": epoch, "stop_reason": now.at.stop_reason, **measured})


# --- the end ------------------------------------------------------------------------------------------------------


def write_artifacts(
    order: TableOrder,
    now: TrainingState,
    prepared: Prepared,
    problem: errors.Diverged | None,
    *,
    keep_last: bool,
    cross_validation: dict[str, Any] | None = None,
) -> Trained:
    """Writes the artifacts of the best epoch, or of the last."""
    spec, network = order.spec, now.network
    weights, kept_epoch, others = now.weights(), now.at.epoch, dict[str, dict[str, Tensor]]()
    if now.best is not None and not keep_last:
        if now.at.stage == "search" and now.best.epoch != now.at.epoch and problem is None:
            others["last"] = weights
        weights, kept_epoch = now.best.weights, now.best.epoch
    network.eval()
    thresholds = _thresholds(order, now, prepared, weights)
    network.load_state_dict(weights)
    best = _best(spec, now)
    now.best = now.average = None
    del weights, now.updater  # their memory is for the files that are made now
    stop_reason = (now.at.searched_reason if _is_refitted(now) else now.at.stop_reason) or "user_cancel"
    report: dict[str, Any] = {
        "kept_epoch": kept_epoch,
        "epochs": now.at.searched_epochs + now.at.epoch,
        "refitted": now.at.stage == "refit" and keep_last,
        "stop_reason": stop_reason,
        "diagnoses": now.course.diagnoses,
    }
    if cross_validation is not None:
        report["cross_validation"] = cross_validation
    parts = {
        "train": prepared.train.slice(0, TRAIN_ROWS_MEASURED),
        "validation": prepared.validation,
        "test": prepared.test,
    }
    values = None
    if thresholds is not None:
        values, report["threshold"] = thresholds.values, thresholds.as_json()
    report |= {
        name: _measured(spec, network, part, prepared.target_scaling, values)
        for name, part in parts.items()
        if len(part)
    }
    folder, fitted = Path(order.folder) / ARTIFACTS, prepared.preprocessing.saying(values)
    artifacts.write(folder, order, fitted, {"weights": network.state_dict(), **others})
    others.clear()
    exported = export(folder, Path(order.folder) / BUNDLE, order, fitted, network, prepared.train.measured_target)
    fault = exported.fault or _write_code(folder, order, fitted, prepared, kept_epoch)
    artifacts.write_report(folder, {**report, "parity": exported.parity}, prepared.parts)
    if spec.trace is not None:
        artifacts.write_trace(folder, now.traces)
    found = problem or fault
    failed = asdict(Failed(type(found).__name__, found.detail, facts=found.facts)) if found else None
    return Trained(stop_reason=stop_reason, best=best, test=report.get("test"), thresholds=values, failed=failed)


def _write_code(
    folder: Path, order: TableOrder, fitted: Preprocessing, prepared: Prepared, epochs: int
) -> errors.ExportFailed | None:
    """`train.py`, where it can do all that was done; what was wrong with it."""
    spec, scaling = order.spec, prepared.target_scaling
    unit = 1.0 if scaling is None else scaling.loss_unit(spec.training.loss)
    anew = order.start is None and not order.held_out
    run = Run(prepared.parts, epochs, started_anew=anew, unit=unit)
    try:
        with named("train.py"):
            source = code_of(spec, fitted, run)
    except errors.ExportFailed as fault:
        return fault
    if source is not None:
        (folder / "train.py").write_text(source)
    return None


def _thresholds(
    order: TableOrder, now: TrainingState, prepared: Prepared, weights: dict[str, Tensor]
) -> Thresholds | None:
    """By these weights; of a refit, whose rows have all been trained on, by those that its search has kept."""
    network = now.network
    if _is_refitted(now) and isinstance(order.spec.training.threshold, BestThreshold):
        assert now.best is not None, "a refit follows a search that has found weights"
        device = prepared.train.target.device
        prepared, weights = prepare(order, device, refit=False), now.best.weights
        network = before_the_first_step(order, prepared, device).network  # its rows may have had fewer categories
        network.eval()
    network.load_state_dict(weights)
    return find_thresholds(order.spec, network, prepared.validation if len(prepared.validation) else prepared.train)


def _measured(
    spec: TrainingSpec,
    network: Network,
    part: Examples,
    scaling: TargetScaling | None,
    thresholds: list[float] | None,
) -> dict[str, Any]:
    logits = logits_of(as_function(network), part)
    loss = float(criterion_of(spec.training.loss, output_of(spec).activation)(logits, part.target, part.weight))
    unit = 1.0 if scaling is None else scaling.loss_unit(spec.training.loss)
    found = {"loss": loss * unit, **measure(spec.training.metrics or [], spec, logits, part, scaling, thresholds)}
    return {"rows": len(part), **{name: value if math.isfinite(value) else None for name, value in found.items()}}


def diverged(now: TrainingState, prepared: Prepared) -> errors.Diverged:
    """Where it began, by names: the layer as in the weights file, the column as in the dataset."""
    facts = dict(now.offence or {})
    feature, target = facts.pop("feature", None), facts.pop("target", None)
    if feature is not None:
        facts["column"] = prepared.preprocessing.column_of(feature)
    elif target is not None:
        facts["column"] = prepared.preprocessing.target.names[target]
    epoch = now.at.searched_epochs + now.at.epoch
    where = f"the {facts.get('what')} of layer {facts.get('layer')}" if facts.get("what") != "loss" else "the loss"
    return errors.Diverged(
        f"The loss became infinite or not a number in epoch {epoch}, first in {where}; try a smaller learning rate.",
        epoch=epoch,
        step=now.at.step,
        **facts,
    )


def _best(spec: TrainingSpec, now: TrainingState) -> dict[str, Any] | None:
    if now.best is None or not math.isfinite(now.best.value):
        return None
    return {"metric": spec.training.stop.monitor, "value": now.best.value, "epoch": now.best.epoch}


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
