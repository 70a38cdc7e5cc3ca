"""What is predicted: from the target columns to a task and its classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from core import errors
from core.profile import Column, Warning
from core.resolve.columns import named
from core.resolve.start import classes_known
from core.spec import TrainingSpec
from core.spec.activations import Softmax
from core.spec.losses import AnyLoss, BinaryCrossEntropy, CrossEntropy, Focal, Gamma, Hinge, Poisson
from core.spec.metrics import Task
from core.spec.network import Dense, Network
from core.start import Start

LARGE_TARGET = 100.0  # mean and deviation of numbers that an untrained network is far from


@dataclass(frozen=True)
class Target:
    """The columns to predict."""

    task: Task
    columns: list[Column]
    classes: list[Any] | None  # in the order of the logits; None where numbers or labels are predicted

    @property
    def is_spread(self) -> bool:
        """Whether each class has a column of its own: one-hot, or a share of each class."""
        return self.classes is not None and len(self.columns) > 1


def resolve_target(
    spec: TrainingSpec,
    by_name: Mapping[str, Column],
    rows: int,
    warnings: list[Warning],
    start: Start | None = None,
) -> Target:
    several = not isinstance(spec.target, str)
    columns = [
        named(name, by_name, f"/spec/target/{place}" if several else "/spec/target", errors.TargetNotFound)
        for place, name in enumerate(spec.targets)
    ]
    if len(columns) > 1:
        found = _several(spec, columns)
    else:
        task = _task(spec, columns[0], rows, warnings)
        found = Target(task, columns, _classes(columns[0], start) if task == "classification" else None)
    if found.task == "regression":
        _numbers_fit(found, spec, warnings)
    return found


def target_scale(
    asked: Literal["auto", "standard", "none"], target: Target, loss: AnyLoss
) -> Literal["standard", "none"]:
    """Numbers to predict are scaled, unless the network predicts their logarithm.

    Raises `TargetScaleNotSupported` where there is nothing to scale.
    """
    scales = target.task == "regression" and not isinstance(loss, Poisson | Gamma)
    match asked:
        case "auto":
            return "standard" if scales else "none"
        case "standard" if not scales:
            found = {"pointer": "/spec/target_scale", "code": errors.TargetScaleNotSupported.code}
            message = errors.TargetScaleNotSupported.title()
            raise errors.TargetScaleNotSupported(errors=[found | {"message": message}])
        case "standard" | "none":
            return asked
        case _:
            assert_never(asked)


def _task(spec: TrainingSpec, target: Column, rows: int, warnings: list[Warning]) -> Task:
    if spec.task == "regression":
        _is_numeric(target)
        return "regression"
    if spec.task == "multilabel":
        _are_labels([target])
        return "multilabel"
    if spec.task == "classification":
        return "classification"
    if target.type in ("text", "category", "boolean"):
        return "classification"
    if target.type == "integer" and (
        target.distinct == 2 or (target.distinct <= 20 and target.distinct <= 0.05 * rows)
    ):
        warnings.append(
            Warning(
                code="integers_taken_as_classes",
                message=f"The target has {target.distinct} different integers, taken as classes; "
                "say `task: regression` to predict the number.",
                column=target.name,
            )
        )
        return "classification"
    _is_numeric(target)
    return "regression"


def _several(spec: TrainingSpec, columns: list[Column]) -> Target:
    """Several columns are one class each row, labels, or numbers."""
    loss, booleans = spec.training.loss, all(column.type == "boolean" for column in columns)
    one_class = isinstance(loss, CrossEntropy) or _ends_in_softmax(spec.network)
    if spec.task == "classification" or (spec.task == "auto" and one_class):
        for column in columns:
            if column.type != "boolean" and not _within(column, 0, 1):
                raise errors.TargetNotShares(column=column.name)
        return Target("classification", columns, [column.name for column in columns])
    if spec.task == "multilabel" or (
        spec.task == "auto" and (booleans or isinstance(loss, BinaryCrossEntropy | Focal | Hinge))
    ):
        _are_labels(columns)
        return Target("multilabel", columns, None)
    for column in columns:
        _is_numeric(column)
    return Target("regression", columns, None)


def _ends_in_softmax(network: Network) -> bool:
    if network.output is not None:
        return network.output.activation == "softmax"
    last = network.layers[-1] if network.layers else None
    return isinstance(last, Dense) and isinstance(last.activation, Softmax)


def _within(column: Column, least: float, most: float) -> bool:
    if column.number_row is None or column.minimum is None or column.maximum is None:
        return False
    return least <= column.minimum and column.maximum <= most


def _is_numeric(column: Column) -> None:
    if column.type not in ("number", "integer"):
        raise errors.TargetNotNumeric(column=column.name, type=column.type)


def _are_labels(columns: Sequence[Column]) -> None:
    for column in columns:
        is_flag = column.type == "integer" and _within(column, 0, 1)
        if column.type != "boolean" and not is_flag:
            raise errors.TargetNotLabels(column=column.name, type=column.type)


def _classes(target: Column, start: Start | None) -> list[Any]:
    if target.values is None:
        raise errors.TooManyClasses(column=target.name, distinct=target.distinct)
    if start is not None and start.preprocessing == "keep":
        return classes_known(target.values, start)
    if len(target.values) < 2:
        raise errors.TargetSingleClass(column=target.name)
    return list(target.values)


def labels_fit(target: Target, columns: Sequence[Column]) -> None:
    """Whether columns of another dataset hold what this target does. Raises `TargetNotLabels` or `TargetNotShares`."""
    if target.task == "multilabel":
        _are_labels([column for column in columns if column.distinct])
    for column in columns if target.is_spread else ():
        if column.type != "boolean" and not _within(column, 0, 1):
            raise errors.TargetNotShares(column=column.name)


def _numbers_fit(target: Target, spec: TrainingSpec, warnings: list[Warning]) -> None:
    loss = spec.training.loss
    raw = spec.target_scale == "none" and not isinstance(loss, Poisson | Gamma)
    for column in target.columns:
        least = column.minimum if column.minimum is not None else 0.0
        if least < 0 if isinstance(loss, Poisson) else least <= 0 if isinstance(loss, Gamma) else False:
            raise errors.TargetNotPositive(column=column.name, loss=loss.name, minimum=least)
        if raw and abs(column.mean or 0.0) + (column.std or 0.0) > LARGE_TARGET:
            warnings.append(
                Warning(
                    code="target_not_scaled",
                    message="The target's numbers are large, and are learned as they are: the network takes many "
                    "epochs to reach them. Set `target_scale` to `standard`, or raise "
                    "`training.optimizer.learning_rate`.",
                    column=column.name,
                )
            )
