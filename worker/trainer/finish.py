"""The end of a training: the weights it keeps, measured, and written as its artifacts."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from core import errors
from core.spec import TrainingSpec
from core.spec.training import BestThreshold
from worker.trainer import artifacts, processor
from worker.trainer.examples import Examples
from worker.trainer.exports import export, named
from worker.trainer.exports.code_file import Run, code_of
from worker.trainer.fit import output_of
from worker.trainer.losses import criterion_of
from worker.trainer.messages import ARTIFACTS, BUNDLE, Failed, FoldTrained, Trained
from worker.trainer.metrics import measure
from worker.trainer.network import as_function
from worker.trainer.order import TableOrder
from worker.trainer.predictions import logits_of
from worker.trainer.preparation import Prepared, prepare
from worker.trainer.preprocessing import Preprocessing
from worker.trainer.report import report_of
from worker.trainer.scaling import TargetScaling
from worker.trainer.start import before_the_first_step
from worker.trainer.state import TrainingState
from worker.trainer.thresholds import Thresholds, find_thresholds

TRAIN_ROWS_MEASURED = 10_000  # at the end, the first ones: all rows of a large table would cost a third of an epoch


def write_artifacts(
    order: TableOrder,
    now: TrainingState,
    prepared: Prepared,
    problem: errors.Problem | None,
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
    best = best_of(spec, now)
    now.best = now.average = None
    del weights, now.updater  # their memory is for the files that are made now
    processor.give_back()
    stop_reason = (now.at.searched_reason if is_refitted(now) else now.at.stop_reason) or "user_cancel"
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
    logits = {name: logits_of(as_function(network), part) for name, part in parts.items() if len(part)}
    scaling = prepared.target_scaling
    report |= {name: _measured(spec, found, parts[name], scaling, values) for name, found in logits.items()}
    report |= report_of(spec, network, prepared, logits, values)
    del logits
    parts.clear()
    prepared.release_features()
    folder, fitted = Path(order.folder) / ARTIFACTS, prepared.preprocessing.saying(values)
    artifacts.write(folder, order, fitted, {"weights": network.state_dict(), **others})
    others.clear()
    processor.give_back()
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
    if is_refitted(now) and isinstance(order.spec.training.threshold, BestThreshold):
        assert now.best is not None, "a refit follows a search that has found weights"
        device = prepared.train.target.device
        prepared, weights = prepare(order, device, refit=False), now.best.weights
        network = before_the_first_step(order, prepared, device).network  # its rows may have had fewer categories
        network.eval()
    network.load_state_dict(weights)
    return find_thresholds(order.spec, network, prepared.validation if len(prepared.validation) else prepared.train)


def _measured(
    spec: TrainingSpec,
    logits: Tensor,
    part: Examples,
    scaling: TargetScaling | None,
    thresholds: list[float] | None,
) -> dict[str, Any]:
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


def best_of(spec: TrainingSpec, now: TrainingState) -> dict[str, Any] | None:
    if now.best is None or not math.isfinite(now.best.value):
        return None
    return {"metric": spec.training.stop.monitor, "value": now.best.value, "epoch": now.best.epoch}


def fold_trained(spec: TrainingSpec, now: TrainingState, prepared: Prepared) -> FoldTrained:
    """Measures the rows of the fold with its best weights, or with the last where none are the best."""
    weights, epoch = (now.weights(), now.at.epoch) if now.best is None else (now.best.weights, now.best.epoch)
    now.network.load_state_dict(weights)
    now.network.eval()
    thresholds = find_thresholds(spec, now.network, prepared.validation)
    values = None if thresholds is None else thresholds.values
    logits = logits_of(as_function(now.network), prepared.validation)
    measured = _measured(spec, logits, prepared.validation, prepared.target_scaling, values)
    return FoldTrained({"epoch": epoch, "stop_reason": now.at.stop_reason, **measured})


def is_refitted(now: TrainingState) -> bool:
    """Whether the refit has come to its end, and not to that of the time or of the numbers."""
    return now.at.stage == "refit" and now.at.stop_reason == "completed"
