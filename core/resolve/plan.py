"""What a training will be, by arithmetic: its layers as the weights file names them, its steps, and its folds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.spec import TrainingSpec
from core.spec.activations import AnyActivation, Plain, Prelu, Softmax
from core.spec.network import ActivationLayer, AnyLayer, BatchNorm, Dense, Output, Residual, flat, parameter_count_of
from core.spec.optimizers import Lbfgs


@dataclass(frozen=True)
class PlannedLayer:
    """One module of the network."""

    name: str  # its tensors in the weights file are `<name>.weight`, ...
    type: str
    activation: str | None
    output_shape: list[int]  # of one row
    parameters: int


@dataclass(frozen=True)
class PlannedFold:
    """One network of a cross-validation."""

    fold: int
    train: int  # rows; about so many where groups stay together
    validation: int  # rows
    steps: int  # weight updates, at most


def layer_table(
    layers: Sequence[AnyLayer], output: Output, inputs: int, embeddings: Sequence[tuple[int, int]]
) -> list[PlannedLayer]:
    """Every module in order; their parameters are together those of the network."""
    found = [
        PlannedLayer(f"embeddings.{place}", "embedding", None, [width], categories * width)
        for place, (categories, width) in enumerate(embeddings)
    ]
    found += _modules(layers, inputs, "")
    width = next((one.output_shape[0] for one in reversed(found) if one.type != "embedding"), inputs)
    count = sum("." not in one.name for one in found)
    parameters = width * output.units + output.units * output.bias
    return [*found, PlannedLayer(str(count), "output", output.activation, [output.units], parameters)]


def _modules(layers: Sequence[AnyLayer], width: int, before: str) -> Iterator[PlannedLayer]:
    place = 0
    for layer in layers:
        name = f"{before}{place}"
        match layer:
            case Dense(units=units, bias=bias, activation=activation):
                yield PlannedLayer(name, layer.type, None, [units], width * units + units * bias)
                width = units
                if not isinstance(activation, Softmax) and activation != Plain(name="linear"):
                    place += 1
                    yield _applied(f"{before}{place}", activation, width)
            case ActivationLayer(activation=activation):
                yield _applied(name, activation, width)
            case Residual(layers=inner):
                block = list(_modules(inner, width, f"{name}.block."))
                yield from block
                after = block[-1].output_shape[0]
                if after != width:
                    yield PlannedLayer(f"{name}.projection", "projection", None, [after], width * after)
                width = after
                yield PlannedLayer(name, layer.type, None, [width], 0)
            case _:
                yield PlannedLayer(name, layer.type, None, [width], parameter_count_of([layer], width))
        place += 1


def _applied(name: str, activation: AnyActivation, width: int) -> PlannedLayer:
    return PlannedLayer(name, "activation", activation.name, [width], int(isinstance(activation, Prelu)))


def planned_folds(spec: TrainingSpec, rows: int) -> list[PlannedFold]:
    """The folds of `rows` that do not test, with the sizes that scikit-learn gives them; `spec` is resolved."""
    folds = spec.split.folds or 0
    sizes = [rows // folds + (number < rows % folds) for number in range(folds)]
    return [
        PlannedFold(number, rows - size, size, steps_of(spec, rows - size)[1]) for number, size in enumerate(sizes, 1)
    ]


def steps_of(spec: TrainingSpec, rows: int) -> tuple[int, int]:
    """Weight updates an epoch and at most in all of one network, without those of a refit.

    `spec` is resolved, `rows` train.
    """
    training = spec.training
    if isinstance(training.optimizer, Lbfgs):
        an_epoch = 1
    else:
        has_batch_norm = any(isinstance(layer, BatchNorm) for layer in flat(spec.network.layers or []))
        left_out = has_batch_norm and rows > 1 and rows % training.batch_size == 1
        an_epoch = math.ceil((rows - left_out) / (training.batch_size * training.accumulate))
    whole = an_epoch * training.epochs
    return an_epoch, whole if training.steps is None else min(whole, training.steps)
