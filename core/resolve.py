"""From what was asked to what will be done: every default written out against the dataset's profile.

Arithmetic only, so that the API can refuse here what would otherwise fail in the worker minutes later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from core import errors
from core.profile import Column, Warning
from core.spec import (
    MAX_PARAMETERS,
    Auto,
    BinaryCrossEntropy,
    ColumnChoice,
    CrossEntropy,
    Dense,
    Features,
    Loss,
    Mse,
    Network,
    Output,
    TrainingSpec,
    parameter_count,
    widths,
)

MIB = 1024 * 1024
LARGE_TARGET = 100.0  # mean and deviation of numbers that an untrained network is far from
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Resolved:
    spec: TrainingSpec
    outputs: dict[str, Any]  # task, classes, names
    warnings: list[Warning]
    memory: int  # bytes the training process may take
    parameters: int


def resolve(spec: TrainingSpec, columns: Sequence[Column], rows: int) -> Resolved:
    """The spec with every default written out.

    Raises a `DataInvalid` that says what the dataset lacks.
    """
    by_name = {column.name: column for column in columns}
    warnings: list[Warning] = []
    target = _named(spec.target, by_name, "/spec/target", errors.TargetNotFound)
    task = _task(spec, target, rows, warnings)
    classes = _classes(target) if task == "classification" else None

    used = _features(spec.features, target, columns, by_name, warnings)
    if task == "regression" and abs(target.mean or 0.0) + (target.std or 0.0) > LARGE_TARGET:
        warnings.append(
            Warning(
                code="target_not_scaled",
                message="The target's numbers are large, and are predicted as they are: the network takes many epochs "
                "to reach them. Send the target divided by its standard deviation, minus its mean, or raise "
                "`training.optimizer.learning_rate`.",
                column=target.name,
            )
        )
    network, output = _network(spec.network, task, classes, spec.training.loss)
    loss = _loss(spec.training.loss, task, output)
    _rows_suffice(spec, rows - target.missing)

    training = spec.training
    if training.batch_size > rows - target.missing:
        warnings.append(
            Warning(code="batch_larger_than_rows", message="The batch is larger than the dataset: all rows are used.")
        )
    monitor = training.stop.monitor if spec.split.validation else "train_loss"
    log_every = training.log_every or max(1, math.ceil(training.epochs / 10_000))
    resolved = spec.model_copy(
        update={
            "task": task,
            "features": used,
            "split": spec.split.model_copy(update={"method": _split_method(spec, task, target, warnings)}),
            "network": network,
            "training": training.model_copy(
                update={
                    "loss": loss,
                    "log_every": log_every,
                    "stop": training.stop.model_copy(update={"monitor": monitor}),
                }
            ),
        }
    )

    inputs = sum(_width(by_name[name], used.columns[name]) for name in used.include or [])
    parameters = parameter_count(network.layers or [], output, inputs)
    if parameters > MAX_PARAMETERS:
        raise errors.ResourcesExceeded(
            f"The network has {parameters:,} parameters; at most {MAX_PARAMETERS:,} are accepted.",
            parameters=parameters,
            limit=MAX_PARAMETERS,
        )
    memory = memory_needed(parameters, widths(network.layers or [], output, inputs), training.batch_size, rows)
    outputs = {"task": task, "classes": classes, "names": [spec.target]}
    return Resolved(resolved, outputs, warnings, memory, parameters)


def memory_needed(parameters: int, layer_widths: list[int], batch_size: int, rows: int) -> int:
    """Bytes: weights, gradients and two Adam moments, kept best weights, activations of a batch, and the data.

    Measured against real processes (`docs/performance.md`): 1.25 x the sum + 128 MiB covered all of them; 256 MiB is
    torch itself.
    """
    batch = min(batch_size, rows)
    state = 20 * parameters + 16 * batch * sum(layer_widths) + 8 * rows * (layer_widths[0] + 2)
    return int(1.25 * state) + 384 * MIB


# --- target -----------------------------------------------------------------------------------------------------


def _named(
    name: str, by_name: dict[str, Column], pointer: str, problem: type[errors.DataInvalid] = errors.ColumnNotFound
) -> Column:
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name, by_name, n=1, cutoff=0.6)
    raise problem(
        errors=[
            {"pointer": pointer, "code": problem.code, "message": problem.title()}
            | ({"suggestion": near[0]} if near else {})
        ]
    )


def _task(spec: TrainingSpec, target: Column, rows: int, warnings: list[Warning]) -> Task:
    if spec.task == "regression":
        if target.type not in ("number", "integer"):
            raise errors.TargetNotNumeric(column=target.name, type=target.type)
        return "regression"
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
    if target.type in ("number", "integer"):
        return "regression"
    raise errors.TargetNotNumeric(column=target.name, type=target.type)


def _classes(target: Column) -> list[Any]:
    if target.values is None:
        raise errors.TooManyClasses(column=target.name, distinct=target.distinct)
    if len(target.values) < 2:
        raise errors.TargetSingleClass(column=target.name)
    return list(target.values)


# --- features ---------------------------------------------------------------------------------------------------


def _features(
    asked: Features, target: Column, columns: Sequence[Column], by_name: dict[str, Column], warnings: list[Warning]
) -> Features:
    for position, name in enumerate(asked.include or []):
        _named(name, by_name, f"/spec/features/include/{position}")
        if name == target.name:
            raise errors.ColumnNotFound("The target cannot be one of the features.", column=name)
    for position, name in enumerate(asked.exclude):
        _named(name, by_name, f"/spec/features/exclude/{position}")
    for name in asked.columns:
        _named(name, by_name, errors.pointer("spec", "features", "columns", name))

    candidates = [column for column in columns if column.name != target.name and column.name not in asked.exclude]
    if asked.include is not None:
        candidates = [column for column in candidates if column.name in asked.include]

    chosen: dict[str, ColumnChoice] = {}
    for column in candidates:
        choice = asked.columns.get(column.name, ColumnChoice())
        if column.distinct == 0:
            warnings.append(
                Warning(code="column_all_missing", message="The column is empty and is left out.", column=column.name)
            )
        elif (settled := _choice(column, choice)) is not None:
            chosen[column.name] = settled
            if column.distinct == 1 and not column.missing:
                warnings.append(
                    Warning(code="constant_column", message="The column has one single value.", column=column.name)
                )
        elif asked.include is not None or choice != ColumnChoice():
            raise errors.FeatureNotSupported(column=column.name, type=column.type)
        else:
            warnings.append(
                Warning(
                    code="column_not_used",
                    message=f"A column of type {column.type} cannot be a feature and is left out.",
                    column=column.name,
                )
            )
    if not chosen:
        raise errors.NoFeatures()
    return Features(include=list(chosen), exclude=[], columns=chosen)


def _choice(column: Column, asked: ColumnChoice) -> ColumnChoice | None:
    """The choice written out, or None where this column cannot be taken so."""
    is_number = column.number_row is not None
    wanted = asked.type or ("number" if is_number else "category")
    if wanted == "number":
        if not is_number or asked.encode:
            return None
        return ColumnChoice(type="number", impute=asked.impute or "median", scale=asked.scale or "standard")
    if column.code_row is None or asked.impute or asked.scale:
        return None
    return ColumnChoice(type="category", encode="one_hot")


def _width(column: Column, choice: ColumnChoice) -> int:
    """Inputs of the network that this column becomes, at most: one-hot has a place of its own for missing values."""
    return 1 if choice.type == "number" else len(column.values or []) + bool(column.missing)


# --- network and loss -------------------------------------------------------------------------------------------


def _network(asked: Network, task: Task, classes: list[Any] | None, loss: Loss) -> tuple[Network, Output]:
    """The layers with the output apart.

    A last dense layer with softmax (or sigmoid, on a binary task) is the output; otherwise one is made.
    """
    if asked.layers is not None:
        layers = list(asked.layers)
    else:
        activation = asked.activation or "relu"
        hidden = asked.hidden if asked.hidden is not None else [64, 64]
        layers = [Dense(type="dense", units=units, activation=activation) for units in hidden]

    output, last = asked.output, layers[-1] if layers else None
    if output is None and isinstance(last, Dense):
        is_binary = classes is not None and len(classes) == 2
        if last.activation == "softmax" or (last.activation == "sigmoid" and is_binary):
            output, layers = Output(units=last.units, activation=last.activation, bias=last.bias), layers[:-1]
    if output is None:
        output = _fitting_output(task, classes, loss)

    _output_fits(output, task, classes)
    return Network(layers=layers, output=output), output


def _fitting_output(task: Task, classes: list[Any] | None, loss: Loss) -> Output:
    if task == "regression" or classes is None:
        return Output(units=1, activation="linear")
    if len(classes) == 2 and not isinstance(loss, CrossEntropy):
        return Output(units=1, activation="sigmoid")
    return Output(units=len(classes), activation="softmax")


def _output_fits(output: Output, task: Task, classes: list[Any] | None) -> None:
    if classes is None:
        legal = {("linear", 1)}
    else:
        legal = {("softmax", len(classes))} | ({("sigmoid", 1)} if len(classes) == 2 else set())
    if (output.activation, output.units) not in legal:
        forms = " or ".join(f"{units} units with {activation}" for activation, units in sorted(legal))
        raise errors.IncompatibleOutput(
            f"The output layer of this {task} has {forms}; the spec says {output.units} with {output.activation}.",
            errors=[{"pointer": "/spec/network", "code": "incompatible_output", "message": f"Use {forms}."}],
        )


def _loss(asked: Loss, task: Task, output: Output) -> Loss:
    fitting: dict[str, Loss] = {
        "softmax": CrossEntropy(name="cross_entropy"),
        "sigmoid": BinaryCrossEntropy(name="binary_cross_entropy"),
        "linear": Mse(name="mse"),
    }
    legal = fitting[output.activation]
    if isinstance(asked, Auto) or asked == legal:
        return legal
    raise errors.IncompatibleLoss(
        f"The loss {asked.name} does not fit a {task} with a {output.activation} output. The legal pairs are: "
        + ", ".join(f"{loss.name} with {activation}" for activation, loss in fitting.items())
        + ".",
        errors=[{"pointer": "/spec/training/loss", "code": "incompatible_loss", "message": f"Use {legal.name}."}],
    )


# --- split ------------------------------------------------------------------------------------------------------


def _split_method(
    spec: TrainingSpec, task: Task, target: Column, warnings: list[Warning]
) -> Literal["random", "stratified"]:
    """A stratified split holds back rows of each class, so one row of a class is too few for it."""
    fewest = min(target.counts or [2])
    match spec.split.method:
        case "random":
            return "random"
        case "stratified" if task == "regression":
            raise errors.DataInvalid("A stratified split needs classes; use `split.method: random` for a regression.")
        case "stratified" if fewest < 2:
            found = {
                "pointer": "/spec/split/method",
                "code": "class_too_small",
                "message": errors.ClassTooSmall.title(),
            }
            raise errors.ClassTooSmall(column=target.name, rows=fewest, errors=[found])
        case "auto" if task == "regression":
            return "random"
        case "auto" if fewest < 2:
            warnings.append(
                Warning(
                    code="class_too_small",
                    message="A class has one single row, so the split is random and not stratified.",
                    column=target.name,
                )
            )
            return "random"
        case _:
            return "stratified"


def _rows_suffice(spec: TrainingSpec, rows: int) -> None:
    held_back = sum(round(rows * share) for share in (spec.split.validation, spec.split.test))
    asked = [share for share in (spec.split.validation, spec.split.test) if share]
    if rows - held_back < 1 or any(round(rows * share) < 1 for share in asked):
        raise errors.DatasetTooSmall(
            f"{rows} rows with a target are too few for a validation share of {spec.split.validation:g} and a test "
            f"share of {spec.split.test:g}; set them to 0 or send more rows.",
            rows=rows,
        )
