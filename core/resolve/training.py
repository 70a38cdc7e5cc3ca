"""How it is trained and measured, written out."""

import math

from core import errors
from core.profile import Warning
from core.resolve.target import Target
from core.spec.losses import AnyLoss, Hinge
from core.spec.metrics import DEFAULT_METRICS, OF_LABELS, PROBABILITY_METRICS, MetricName, metrics_of
from core.spec.optimizers import Lbfgs
from core.spec.schedules import PlateauRate
from core.spec.training import BestThreshold, Threshold, Training

EVENTS = 10_000  # epoch events of a job, about
PATIENCE = 15  # epochs, where nobody has said when to end (`docs/quality.md`)


def resolve_training(
    asked: Training, loss: AnyLoss, target: Target, validates: bool, rows: int, warnings: list[Warning]
) -> Training:
    if asked.batch_size > rows:
        warnings.append(
            Warning(code="batch_larger_than_rows", message="The batch is larger than the dataset: all rows are used.")
        )
    if isinstance(asked.optimizer, Lbfgs) and asked.accumulate > 1:
        raise _at("/spec/training/accumulate", "L-BFGS takes all rows in each step: there is nothing to accumulate.")
    if isinstance(asked.optimizer, Lbfgs) and (asked.clip_norm is not None or asked.clip_value is not None):
        clip = "clip_norm" if asked.clip_norm is not None else "clip_value"
        raise _at(f"/spec/training/{clip}", "L-BFGS searches along the gradient as it is: it cannot be clipped.")
    if asked.class_weights is not None:
        _class_weights_fit(asked, target)
    if asked.oversample is not None:
        _oversample_fits(asked, target)
    legal = [
        name
        for name in metrics_of(target.task, len(target.classes or []))
        if not (isinstance(loss, Hinge) and name in PROBABILITY_METRICS)
    ]
    metrics = _metrics(asked, target, legal)
    monitor = _held_back(asked.stop.monitor, validates)
    schedule = asked.schedule
    if isinstance(schedule, PlateauRate):
        schedule = schedule.model_copy(
            update={"monitor": _held_back(schedule.monitor or asked.stop.monitor, validates)}
        )
        metrics = _with_metric_of(schedule.monitor or "", metrics, legal, "/spec/training/schedule/monitor")
    patience = asked.stop.patience if asked.says_when_to_end or not validates else PATIENCE
    return asked.model_copy(
        update={
            "loss": loss,
            "schedule": schedule,
            "threshold": _threshold(asked, loss, target, validates, warnings),
            "metrics": _with_metric_of(monitor, metrics, legal, "/spec/training/stop/monitor"),
            "refit": asked.refit and validates,
            "log_every": asked.log_every or max(1, math.ceil(asked.epochs / EVENTS)),
            "stop": asked.stop.model_copy(
                update={
                    "patience": patience,
                    "monitor": monitor,
                    "target_monitor": _held_back(asked.stop.target_monitor, validates),
                }
            ),
        }
    )


def _held_back(monitor: str, validates: bool) -> str:
    return monitor if validates else monitor.replace("valid_", "train_")


def _metrics(asked: Training, target: Target, legal: list[MetricName]) -> list[MetricName]:
    if asked.metrics is None:
        return list(DEFAULT_METRICS[target.task])
    for position, name in enumerate(asked.metrics):
        _metric_fits(name, legal, f"/spec/training/metrics/{position}")
    return list(asked.metrics)


def _with_metric_of(monitor: str, metrics: list[MetricName], legal: list[MetricName], pointer: str) -> list[MetricName]:
    """What is monitored is measured."""
    name = monitor.partition("_")[2]
    if name == "loss" or name in metrics:
        return metrics
    _metric_fits(name, legal, pointer)
    return [*metrics, *(one for one in legal if one == name)]


def _metric_fits(name: str, legal: list[MetricName], pointer: str) -> None:
    if name not in legal:
        raise errors.IncompatibleMetric(
            f"The metric {name} does not fit this task. The legal ones are: {', '.join(legal)}.",
            errors=[
                {
                    "pointer": pointer,
                    "code": errors.IncompatibleMetric.code,
                    "message": errors.IncompatibleMetric.title(),
                }
            ],
        )


def _class_weights_fit(asked: Training, target: Target) -> None:
    if target.classes is None or target.is_spread:
        raise _at("/spec/training/class_weights", "Class weights need a target of classes in one column.")
    if isinstance(asked.class_weights, dict):
        known = {label(value) for value in target.classes}
        for name in asked.class_weights:
            if name not in known:
                raise errors.ClassNotFound(
                    errors=[
                        {
                            "pointer": errors.pointer("spec", "training", "class_weights", name),
                            "code": errors.ClassNotFound.code,
                            "message": errors.ClassNotFound.title(),
                        }
                    ]
                )


def _oversample_fits(asked: Training, target: Target) -> None:
    pointer = "/spec/training/oversample"
    if target.task != "classification" or target.is_spread:
        raise _at(pointer, "Rows are drawn again by their class: that needs a target of classes in one column.")
    if asked.class_weights == "balanced":
        raise _at(
            pointer,
            "The rows of small classes would count twice for being few: give `oversample` or balanced `class_weights`.",
        )
    if isinstance(asked.optimizer, Lbfgs):
        raise _at(
            pointer, "L-BFGS takes all rows in each step: give `class_weights`, which do the same without drawing."
        )


def _threshold(
    asked: Training, loss: AnyLoss, target: Target, validates: bool, warnings: list[Warning]
) -> Threshold | None:
    """0.5, or as asked, where something is said by one probability."""
    two = target.task == "classification" and len(target.classes or []) == 2 and not target.is_spread
    if isinstance(loss, Hinge) or not (two or target.task == "multilabel"):
        if asked.threshold is None:
            return None
        lacks = "The loss hinge has no probabilities" if isinstance(loss, Hinge) else "This target has none"
        raise _at(
            "/spec/training/threshold",
            f"A threshold is of the probability of the second of two classes, or of each label. {lacks}: leave it out.",
        )
    if asked.threshold is None:
        return 0.5
    if isinstance(asked.threshold, BestThreshold):
        if target.task == "multilabel" and asked.threshold.metric not in OF_LABELS:
            raise _at("/spec/training/threshold/metric", "Of labels, a threshold is chosen for `f1` or for `accuracy`.")
        if not validates:
            warnings.append(
                Warning(
                    code="threshold_on_training_rows",
                    message="No row validates, so the threshold is chosen on the rows that were trained on: it will "
                    "look better than it is.",
                )
            )
    return asked.threshold


def _at(pointer: str, sentence: str) -> errors.DataInvalid:
    found = {"pointer": pointer, "code": errors.DataInvalid.code, "message": sentence}
    return errors.DataInvalid(sentence, errors=[found])


def drawn_rows(training: Training, target: Target, rows: int) -> int:
    """Of an epoch, where the classes are among the training rows as they are among all."""
    counts = [count for count in target.columns[0].counts or [] if count]
    if training.oversample is None or not counts:
        return rows
    share = 1.0 if training.oversample == "balanced" else training.oversample
    here = [max(1, round(count * rows / sum(counts))) for count in counts]
    wanted = math.ceil(share * max(here))
    return sum(max(count, wanted) for count in here)


def label(value: object) -> str:
    """A class as the key of a JSON object."""
    return str(value).lower() if isinstance(value, bool) else str(value)
