"""The network as its exporters see it: one step a module, by the key that its tensors have in `weights.safetensors`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from core.spec.activations import AnyActivation, Plain, Softmax
from core.spec.network import (
    ActivationLayer,
    AlphaDropout,
    AnyLayer,
    BatchNorm,
    Dense,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Output,
    Residual,
    RmsNorm,
)

AnyNoise = Dropout | AlphaDropout | GaussianNoise | GaussianDropout


@dataclass(frozen=True)
class Linear:
    key: str
    inputs: int
    units: int
    bias: bool


@dataclass(frozen=True)
class Activation:
    key: str
    chosen: AnyActivation


@dataclass(frozen=True)
class Noise:
    """Nothing in predictions; it takes a number, so that the keys after it are right."""

    key: str
    chosen: AnyNoise


@dataclass(frozen=True)
class Norm:
    key: str
    width: int
    chosen: BatchNorm | LayerNorm | RmsNorm


@dataclass(frozen=True)
class Block:
    """What comes in, through `projection` where there is one, added to what comes out of `steps`."""

    key: str
    steps: "list[Step]"
    projection: Linear | None


Step = Linear | Activation | Noise | Norm | Block


def steps_of(layers: Sequence[AnyLayer], output: Output, width: int) -> list[Step]:
    """All steps from the input, of this width, to the logits: numbered as `worker.trainer.network` numbers them."""
    found = list(_steps(layers, width, ""))
    after = _width_after(found, width)
    return [*found, Linear(str(len(found)), after, output.units, output.bias)]


def _steps(layers: Sequence[AnyLayer], width: int, prefix: str) -> Iterator[Step]:
    number = 0
    for layer in layers:
        key = f"{prefix}{number}"
        match layer:
            case Dense(type="dense"):
                yield Linear(key, width, layer.units, layer.bias)
                width = layer.units
                if not isinstance(layer.activation, Softmax) and layer.activation != Plain(name="linear"):
                    number += 1
                    yield Activation(f"{prefix}{number}", layer.activation)
            case ActivationLayer(type="activation"):
                yield Activation(key, layer.activation)
            case Dropout() | AlphaDropout() | GaussianNoise() | GaussianDropout():
                yield Noise(key, layer)
            case BatchNorm() | LayerNorm() | RmsNorm():
                yield Norm(key, width, layer)
            case Residual(type="residual"):
                inner = list(_steps(layer.layers, width, f"{key}.block."))
                after = _width_after(inner, width)
                projection = Linear(f"{key}.projection", width, after, bias=False) if after != width else None
                yield Block(key, inner, projection)
                width = after
            case _:
                assert_never(layer)
        number += 1


def _width_after(steps: Sequence[Step], width: int) -> int:
    for step in steps:
        if isinstance(step, Linear):
            width = step.units
        elif isinstance(step, Block):
            width = _width_after(step.steps, width)
    return width
