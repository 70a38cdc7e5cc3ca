"""What a training will take, by doing a little of it: the real rows, the real loop, the real artifacts, few batches."""

import math
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from core.spec import TrainingSpec
from core.spec.training import Stop
from worker.trainer import processor
from worker.trainer.device import device_of
from worker.trainer.examples import Examples
from worker.trainer.finish import diverged, write_artifacts
from worker.trainer.fit import EpochDone, fit, output_of, updates_of
from worker.trainer.losses import criterion_of
from worker.trainer.metrics import measure
from worker.trainer.network import as_function
from worker.trainer.order import PlanOrder
from worker.trainer.predictions import logits_of
from worker.trainer.preparation import Prepared, prepare
from worker.trainer.start import before_the_first_step
from worker.trainer.state import TrainingState

TRIAL_SECONDS = 2.0  # of training, or all of it where that is less
SETTLING_SECONDS = 0.04  # the supervisor stores the artifacts, and ends the job: 6 files and 2 transactions
EVALUATED = 4096  # rows, where a whole evaluation would take longer than the trial


@dataclass(frozen=True)
class Measured:
    """Of a job on this worker, as busy as it was. `seconds` are those of a job that trains as long as it may."""

    steps: int  # that were timed
    step_seconds: float
    epoch_seconds: float  # with validation
    loading_seconds: float  # from the claim to the first step
    training_seconds: float  # all epochs
    export_seconds: float
    seconds: float
    memory_bytes: int  # of the training process alone, at its peak


@dataclass
class _Trial:
    """What was timed of the loop."""

    first_epoch: float | None = None
    epochs: list[float] = field(default_factory=list)
    step: float = 0.0
    steps: int = 0
    whole: float | None = None  # where the training came to its end


def time_training(order: PlanOrder, mapped: int) -> Measured:
    """`mapped` is what this process shared with its forkserver when it began, in bytes.

    Raises a `DataInvalid` when the rows cannot be trained on, `Diverged` when the loss stops being a number so soon.
    """
    spec = _to_the_end(order.spec)
    processor.set_up(spec.resources.threads)
    device = device_of(spec.resources)
    prepared = prepare(order, device, refit=False)
    now = before_the_first_step(order, prepared, device)
    loading = time.monotonic() - order.claimed

    steps_per_epoch = len(updates_of(spec, 1, len(prepared.train), now.network, prepared.train.target))
    steps = min(steps_per_epoch * spec.training.epochs, spec.training.steps or 2**63)
    trial = _try(spec, prepared, now)
    if now.offence is not None:
        raise diverged(now, prepared)
    if trial.first_epoch is None:
        ending = _end_of_epoch(spec, prepared, now)
        epoch = trial.step * steps_per_epoch + ending
        training = trial.step * steps + ending * math.ceil(steps / steps_per_epoch)
    else:
        epoch = statistics.median(trial.epochs or [trial.first_epoch])
        training = trial.first_epoch + epoch * (steps / steps_per_epoch - 1)
    training = trial.whole if trial.whole is not None else training

    began = time.monotonic()
    now.at.stop_reason = "completed"
    best_epoch = None if now.best is None else now.best.epoch  # before its weights make room for what is written
    write_artifacts(order, now, prepared, None, keep_last=now.best is None)
    exporting = time.monotonic() - began + SETTLING_SECONDS
    if spec.training.refit and len(prepared.validation):
        # As many epochs as the best weights had, where the search has come to its end; else as many as there may be.
        again = best_epoch / now.at.epoch if trial.whole is not None and best_epoch is not None else 1.0
        again *= 1 + len(prepared.validation) / len(prepared.train)
        training += training * again + loading
    if order.spec.training.stop.max_seconds is not None:
        training = min(training, order.spec.training.stop.max_seconds)
    return Measured(
        steps=trial.steps,
        step_seconds=trial.step,
        epoch_seconds=epoch,
        loading_seconds=loading,
        training_seconds=training,
        export_seconds=exporting,
        seconds=loading + training + exporting,
        memory_bytes=_memory(mapped),
    )


def as_json(measured: Measured) -> dict[str, float | int]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(measured).items()}


def _to_the_end(spec: TrainingSpec) -> TrainingSpec:
    """The spec without what may end it early: nobody knows when that would be."""
    training = spec.training.model_copy(update={"stop": Stop(monitor=spec.training.stop.monitor)})
    return spec.model_copy(update={"training": training, "trace": None})


def _try(spec: TrainingSpec, prepared: Prepared, now: TrainingState) -> _Trial:
    """Trains for a while; the first step and the first epoch also pay for what torch does once."""
    trial = _Trial()
    began = spoke = time.monotonic()
    counted_from: tuple[float, int] | None = None
    for done in fit(spec, prepared.train, prepared.validation, now, prepared.target_scaling):
        moment = time.monotonic()
        if isinstance(done, EpochDone):
            if trial.first_epoch is None:
                trial.first_epoch = moment - spoke
            else:
                trial.epochs.append(moment - spoke)
            spoke, counted_from = moment, None
        elif counted_from is None:
            counted_from = (moment, now.at.step)
        else:
            trial.step = (moment - counted_from[0]) / (now.at.step - counted_from[1])
        if now.at.stop_reason:
            trial.whole = moment - began
        elif moment - began >= TRIAL_SECONDS:
            break
    trial.steps = now.at.step
    if not trial.step and trial.steps:
        trial.step = (time.monotonic() - began) / trial.steps
    return trial


def _end_of_epoch(spec: TrainingSpec, prepared: Prepared, now: TrainingState) -> float:
    """Seconds that validation and metrics take, by some of the rows."""
    forward, names = as_function(now.network), spec.training.metrics or []
    criterion = criterion_of(spec.training.loss, output_of(spec).activation)

    def seconds(examples: Examples, *, is_seen: bool) -> float:
        part = examples.slice(0, EVALUATED)
        if not len(part):
            return 0.0
        began = time.monotonic()
        logits = logits_of(forward, part)
        if is_seen:  # they are at hand: only measuring them takes time
            began = time.monotonic()
        criterion(logits, part.target, part.weight)
        measure(names, spec, logits.float(), part, prepared.target_scaling)
        return (time.monotonic() - began) * len(examples) / len(part)

    now.network.eval()
    found = seconds(prepared.validation, is_seen=False) + seconds(prepared.train, is_seen=True)
    now.network.train()
    return found


def _memory(mapped: int) -> int:
    """Bytes at the peak: what was mapped on top of the forkserver's, and pages of that which became its own; of a small
    training, which finds room in what is mapped, all pages that are its own at the end.
    """
    peak = max(0, _bytes("status", "VmPeak") - mapped) + OWN_PAGES
    return max(peak, _bytes("smaps_rollup", "Private_Dirty"))


def _bytes(file: str, name: str) -> int:
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


OWN_PAGES = 8 * 1024 * 1024  # of the forkserver's, written to: reference counts, and the like
