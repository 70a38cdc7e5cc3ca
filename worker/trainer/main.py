"""One training, from order to artifacts."""

import math
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from core import errors
from core.spec import Output
from worker.trainer import artifacts, preprocessing, split, state
from worker.trainer.fit import EpochDone, Examples, StepDone, fit
from worker.trainer.losses import metrics, predict, target_tensor
from worker.trainer.messages import (
    ARTIFACTS,
    Channel,
    CheckpointWritten,
    Drained,
    Logged,
    NothingToKeep,
    Phase,
    Trained,
)
from worker.trainer.network import as_function, build
from worker.trainer.optimizers import updater
from worker.trainer.order import TrainingOrder
from worker.trainer.state import TrainingState

# A checkpoint costs at most a fiftieth of the time between two: large networks are saved less often.
CHECKPOINT_COST = 50


def train(order: TrainingOrder, channel: Channel) -> None:
    """Trains as ordered, saying what happens; ends with `Trained`, `Drained` or `NothingToKeep`.

    Raises a `DataInvalid` when the rows cannot be trained on, `Diverged` when the loss stops being a number.
    """
    spec = order.spec
    torch.set_num_threads(spec.resources.threads)
    channel.say(Phase("loading_data", fingerprint=fingerprint(spec.resources.threads)))

    table = preprocessing.Table(order)
    target, raw_target, rows = preprocessing.read_target(order, table)
    parts = split.draw(spec.split, rows, raw_target)
    fitted = preprocessing.fit(order, table, target, parts.train)
    features = torch.from_numpy(preprocessing.transform(fitted, order, table))
    wanted = target_tensor(spec.training.loss, torch.from_numpy(raw_target))
    train_rows, validation_rows, test_rows = (
        Examples(features[torch.from_numpy(part)], wanted[torch.from_numpy(part)])
        for part in (parts.train, parts.validation, parts.test)
    )
    del features, wanted
    if any(layer.type == "batch_norm" for layer in spec.network.layers or []):
        if len(train_rows) < 2:
            raise errors.DatasetTooSmall("Batch norm needs at least 2 rows to train on.", rows=len(train_rows))
        if spec.training.batch_size < 2:
            raise errors.DataInvalid("Batch norm needs batches of at least 2 rows; a single row has no variance.")

    output = spec.network.output
    assert isinstance(output, Output), "a resolved spec has its output"
    network = build(spec.network.layers or [], output, len(fitted.features), spec.training.seed)
    now = TrainingState(network, updater(spec.training.optimizer, list(network.parameters())))
    if order.checkpoint:
        state.restore(now, Path(order.checkpoint))
    channel.say(Phase("training", resumed_from_epoch=now.at.epoch if order.checkpoint else None))

    told_to = order.stop or _train(order, channel, now, train_rows, validation_rows)
    if told_to == "drain":
        _save_checkpoint(order, channel, now)
        channel.say(Drained())
        return
    if now.at.step == 0:
        channel.say(NothingToKeep())
        return

    channel.say(Phase("exporting"))
    # `last` is what the network holds; everything else keeps the best epoch.
    kept_epoch = now.at.epoch
    if now.best is not None and told_to != "cancel_keep_last":
        network.load_state_dict(now.best.weights)
        kept_epoch = now.best.epoch
    network.eval()
    forward = as_function(network)
    stop_reason = now.at.stop_reason or "user_cancel"
    report: dict[str, Any] = {"kept_epoch": kept_epoch, "epochs": now.at.epoch, "stop_reason": stop_reason}
    for name, part in (("train", train_rows), ("validation", validation_rows), ("test", test_rows)):
        if len(part):
            found = metrics(spec.training.loss, predict(forward, part.features), part.target)
            report[name] = {"rows": len(part), **{key: _finite(value) for key, value in found.items()}}
    folder = Path(order.folder) / ARTIFACTS
    artifacts.write(folder, order, fitted, network.state_dict(), parts, report)
    channel.say(
        Trained(
            stop_reason=stop_reason,
            epochs=now.at.epoch,
            best=_best(order, now),
            metrics={name: part for name, part in report.items() if name in ("train", "validation", "test")},
        )
    )


def _train(
    order: TrainingOrder, channel: Channel, now: TrainingState, train_rows: Examples, validation_rows: Examples
) -> str | None:
    """Runs the loop to its end, or to what the supervisor asks; returns that."""
    last_save, wait = time.monotonic(), order.checkpoint_seconds
    if now.at.stop_reason:
        return None  # the checkpoint was taken after the last epoch
    log_every = order.spec.training.log_every or 1
    for done in fit(order.spec.training, train_rows, validation_rows, now):
        match done:
            case EpochDone(facts) if now.at.epoch % log_every == 0 or now.at.stop_reason or _is_broken(facts):
                channel.say(Logged("epoch", _finite_facts(facts), best=_best(order, now)))
            case StepDone(facts):
                channel.say(Logged("step", _finite_facts(facts)))
            case _:
                pass
        if (told_to := channel.stop_order()) is not None and not now.at.stop_reason:
            return told_to
        if (began := time.monotonic()) - last_save >= wait and not now.at.stop_reason:
            _save_checkpoint(order, channel, now)
            last_save = time.monotonic()
            wait = max(order.checkpoint_seconds, CHECKPOINT_COST * (last_save - began))
    return None


def _save_checkpoint(order: TrainingOrder, channel: Channel, now: TrainingState) -> None:
    """One that cannot be written now (the disk is full) is one less, and no failure."""
    folder = Path(order.folder) / f"checkpoint-{now.at.step}-{time.monotonic_ns()}"
    try:
        state.save(now, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.write(f"a checkpoint could not be written: {type(error).__name__}\n")
        return
    channel.say(CheckpointWritten(epoch=now.at.epoch, folder=folder.name))


def fingerprint(threads: int) -> dict[str, Any]:
    """What the bits of a training depend on besides spec, data and seed."""
    return {
        "code": version("backpropd"),
        "torch": torch.__version__,
        "threads": threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def _best(order: TrainingOrder, now: TrainingState) -> dict[str, Any] | None:
    if now.best is None:
        return None
    return {"metric": order.spec.training.stop.monitor, "value": now.best.value, "epoch": now.best.epoch}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_broken(facts: dict[str, Any]) -> bool:
    return not all(math.isfinite(value) for value in facts.values())


def _finite_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a number that is none becomes null, and is named."""
    broken = {name: str(value) for name, value in facts.items() if not math.isfinite(value)}
    clean = {name: None if name in broken else value for name, value in facts.items()}
    return {**clean, "nonfinite": broken} if broken else clean
