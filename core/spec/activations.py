"""Activations, by the names of `torch.nn.functional`."""

from typing import Annotated, Literal

from pydantic import Field, model_serializer, model_validator

from core.spec.values import Number, Part, Value, by_name

PlainName = Literal[
    "linear",
    "relu",
    "relu6",
    "selu",
    "silu",
    "mish",
    "hardswish",
    "tanh",
    "hardsigmoid",
    "sigmoid",
    "logsigmoid",
    "softsign",
    "tanhshrink",
]
Slope = Annotated[Number, Field(ge=0, le=10)]
Size = Annotated[Number, Field(ge=1e-6, le=1e6)]


class Plain(Part):
    """An activation without parameters; written as its bare name."""

    name: PlainName

    @model_serializer
    def as_name(self) -> str:
        return self.name


class LeakyRelu(Part):
    name: Literal["leaky_relu"]
    negative_slope: Slope = Field(default=0.01, description="What a negative value is multiplied with.")


class Prelu(Part):
    name: Literal["prelu"]
    init: Slope = Field(default=0.25, description="Where the learned slope of negative values begins.")


class Rrelu(Part):
    name: Literal["rrelu"]
    lower: Slope = Field(default=1 / 8, description="Least slope drawn for a negative value while training.")
    upper: Slope = Field(default=1 / 3, description="Largest slope drawn; predictions use the middle of both.")

    @model_validator(mode="after")
    def in_order(self) -> "Rrelu":
        if self.lower > self.upper:
            raise ValueError("`lower` is above `upper`")
        return self


class Elu(Part):
    name: Literal["elu"]
    alpha: Size = Field(default=1.0, description="Minus the limit of very negative values.")


class Celu(Part):
    name: Literal["celu"]
    alpha: Size = Field(default=1.0, description="Minus the limit of very negative values.")


class Gelu(Part):
    name: Literal["gelu"]
    approximate: Literal["none", "tanh"] = Field(default="none", description="`tanh` is the faster approximation.")


class Softplus(Part):
    name: Literal["softplus"]
    beta: Size = Field(default=1.0, description="Sharpness of the bend.")
    threshold: Size = Field(default=20.0, description="Above this times 1 / `beta` the function is a line.")


class Hardtanh(Part):
    name: Literal["hardtanh"]
    min_val: Value = Field(default=-1.0, description="Lower bound.")
    max_val: Value = Field(default=1.0, description="Upper bound.")

    @model_validator(mode="after")
    def in_order(self) -> "Hardtanh":
        if self.min_val >= self.max_val:
            raise ValueError("`min_val` must be below `max_val`")
        return self


class Shrink(Part):
    name: Literal["hardshrink", "softshrink"]
    lambd: Annotated[Value, Field(ge=0)] = Field(default=0.5, description="Values this close to 0 become 0.")


class Threshold(Part):
    name: Literal["threshold"]
    threshold: Value = Field(default=1.0, description="Values at or below this are replaced.")
    value: Value = Field(default=0.0, description="What replaces them.")


AnyActivation = Plain | LeakyRelu | Prelu | Rrelu | Elu | Celu | Gelu | Softplus | Hardtanh | Shrink | Threshold
ACTIVATION_SYNONYMS = {
    "swish": "silu",
    "logistic": "sigmoid",
    "identity": "linear",
    "hard_swish": "hardswish",
    "hard_silu": "hardswish",
    "hard_sigmoid": "hardsigmoid",
    "hard_tanh": "hardtanh",
    "hard_shrink": "hardshrink",
    "soft_shrink": "softshrink",
    "tanh_shrink": "tanhshrink",
    "log_sigmoid": "logsigmoid",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "RReLU": "rrelu",
    "ELU": "elu",
    "SELU": "selu",
    "CELU": "celu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "Hardtanh": "hardtanh",
    "Hardshrink": "hardshrink",
    "Softshrink": "softshrink",
    "Tanhshrink": "tanhshrink",
    "LogSigmoid": "logsigmoid",
    "Threshold": "threshold",
    "Identity": "linear",
}

Activation = Annotated[AnyActivation, Field(discriminator="name"), by_name(AnyActivation, ACTIVATION_SYNONYMS)]


class Softmax(Part):
    """Of the output layer only; written as its bare name."""

    name: Literal["softmax"]

    @model_serializer
    def as_name(self) -> str:
        return self.name


LayerActivation = Annotated[
    AnyActivation | Softmax,
    Field(discriminator="name"),
    by_name(AnyActivation | Softmax, ACTIVATION_SYNONYMS | {"Softmax": "softmax"}),
]
