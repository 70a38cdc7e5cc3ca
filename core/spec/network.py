"""The network: its layers in order, the output apart."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Literal, assert_never

from pydantic import Field, model_validator

from core.spec.activations import Activation, LayerActivation, Plain, Prelu, Softmax
from core.spec.initializers import GLOROT_UNIFORM, ZEROS, BiasInitializer, Initializer
from core.spec.values import Flag, Number, Part, Share, Units, Value

MAX_PARAMETERS = 100_000_000
MAX_LAYERS = 64

OutputActivation = Literal["linear", "sigmoid", "softmax", "exp"]
Epsilon = Annotated[Number, Field(gt=0, le=1)]


class Weighted(Part):
    """What every matrix of weights has."""

    bias: Flag = Field(default=True, description="Whether a learned constant is added to each weighted sum.")
    weight_initializer: Initializer = Field(default=GLOROT_UNIFORM, description="What the weights begin as.")
    bias_initializer: BiasInitializer = Field(default=ZEROS, description="What the constants begin as.")
    l1: Annotated[Value, Field(ge=0)] = Field(
        default=0.0, description="Added to the loss: this times the sum of the weights' sizes."
    )
    l2: Annotated[Value, Field(ge=0)] = Field(
        default=0.0, description="Added to the loss: this times the sum of the weights' squares."
    )
    max_norm: Annotated[Value, Field(gt=0)] | None = Field(
        default=None, description="After each step the weights into a unit are scaled down to this length."
    )


class Dense(Weighted):
    type: Literal["dense"]
    units: Units = Field(description="Width of the layer.")
    activation: LayerActivation = Field(
        default=Plain(name="linear"), description="What is applied to the weighted sums."
    )


class ActivationLayer(Part):
    type: Literal["activation"]
    activation: Activation = Field(description="What is applied to each value.")


class Dropout(Part):
    """Srivastava et al. 2014."""

    type: Literal["dropout"]
    rate: Share = Field(description="Share of the inputs set to 0 while training.")


class AlphaDropout(Part):
    """Keeps mean and variance, for `selu` (Klambauer et al. 2017)."""

    type: Literal["alpha_dropout"]
    rate: Share = Field(description="Share of the inputs set to the least value of selu while training.")


class GaussianNoise(Part):
    type: Literal["gaussian_noise"]
    stddev: Annotated[Value, Field(ge=0)] = Field(description="Deviation of the noise that is added while training.")


class GaussianDropout(Part):
    type: Literal["gaussian_dropout"]
    rate: Share = Field(description="Inputs are multiplied by noise of mean 1 and variance rate / (1 - rate).")


class BatchNorm(Part):
    """Ioffe and Szegedy 2015."""

    type: Literal["batch_norm"]
    momentum: Annotated[Number, Field(gt=0, le=1)] = Field(
        default=0.1, description="Weight of the newest batch in the running mean and variance (torch's convention)."
    )
    eps: Epsilon = Field(default=1e-5, description="Added to the variance.")


class LayerNorm(Part):
    """Ba et al. 2016."""

    type: Literal["layer_norm"]
    eps: Epsilon = Field(default=1e-5, description="Added to the variance.")


class RmsNorm(Part):
    """Zhang and Sennrich 2019."""

    type: Literal["rms_norm"]
    eps: Epsilon = Field(default=1e-6, description="Added to the mean square.")


AnyInnerLayer = (
    Dense | ActivationLayer | Dropout | AlphaDropout | GaussianNoise | GaussianDropout | BatchNorm | LayerNorm | RmsNorm
)


class Residual(Part):
    """He et al. 2016: what comes in is added to what comes out."""

    type: Literal["residual"]
    layers: list[Annotated[AnyInnerLayer, Field(discriminator="type")]] = Field(
        min_length=1,
        max_length=MAX_LAYERS,
        description="The block. Where it changes the width, a learned matrix without bias takes the input to it.",
    )


AnyLayer = AnyInnerLayer | Residual
Layer = Annotated[AnyLayer, Field(discriminator="type")]


class Output(Weighted):
    units: Units = Field(description="One a class or number to predict, or one for a binary task.")
    activation: OutputActivation = Field(description="Applied to the logits in predictions; the loss sees the logits.")


class Network(Part):
    layers: list[Layer] | None = Field(
        default=None,
        max_length=MAX_LAYERS,
        description="The layers in order. A last dense layer with softmax (or sigmoid, on a binary task) is the "
        "output; otherwise one that fits the target is appended.",
    )
    hidden: list[Units] | None = Field(
        default=None, max_length=MAX_LAYERS, description="Short form: the widths of dense layers of one activation."
    )
    activation: Activation | None = Field(
        default=None, description="Activation of the layers that `hidden` gives; `relu` unless said otherwise."
    )
    output: Output | None = Field(default=None, description="The output layer; written by the server.")

    @model_validator(mode="after")
    def one_form_only(self) -> "Network":
        if self.layers is not None and self.hidden is not None:
            raise ValueError("give either `layers` or `hidden`, not both")
        if self.layers is not None and self.activation is not None:
            raise ValueError("`activation` belongs to the short form `hidden`; here each layer has its own")
        for position, layer in enumerate(self.layers or []):
            last = position == len(self.layers or []) - 1 and self.output is None
            if any(isinstance(one, Dense) and isinstance(one.activation, Softmax) for one in flat([layer])) and not (
                last and isinstance(layer, Dense)
            ):
                raise ValueError("softmax belongs to the output layer only: the last of `layers`")
        return self


def flat(layers: Sequence[AnyLayer]) -> Iterator[AnyInnerLayer]:
    """All layers in order, those of residual blocks among them."""
    return chain.from_iterable(layer.layers if isinstance(layer, Residual) else [layer] for layer in layers)


def parameter_count(layers: Sequence[AnyLayer], output: Output, inputs: int) -> int:
    """Trainable numbers of the network, by arithmetic: equals the sum of `numel()` over `network.parameters()`."""
    hidden, width = _count(layers, inputs)
    return hidden + width * output.units + output.units * output.bias


def parameter_count_of(layers: Sequence[AnyLayer], width: int) -> int:
    """Trainable numbers of these layers alone, behind an input of this width."""
    return _count(layers, width)[0]


def _count(layers: Sequence[AnyLayer], width: int) -> tuple[int, int]:
    """The parameters of these layers, and the width after them."""
    total = 0
    for layer in layers:
        match layer:
            case Dense(units=units, bias=bias, activation=activation):
                total += width * units + units * bias + isinstance(activation, Prelu)
                width = units
            case ActivationLayer(activation=activation):
                total += isinstance(activation, Prelu)
            case BatchNorm() | LayerNorm():
                total += 2 * width
            case RmsNorm():
                total += width
            case Residual(layers=inner):
                block, after = _count(inner, width)
                total += block + (width * after if after != width else 0)
                width = after
            case Dropout() | AlphaDropout() | GaussianNoise() | GaussianDropout():
                pass
            case _:
                assert_never(layer)
    return total, width


def widths(layers: Sequence[AnyLayer], output: Output, inputs: int) -> list[int]:
    """The width after the input and after each layer: what one row of activations takes."""
    found = [inputs]
    for layer in flat(layers):
        found.append(layer.units if isinstance(layer, Dense) else found[-1])
    return [*found, output.units]
