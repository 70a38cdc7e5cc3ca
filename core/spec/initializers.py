"""What weights and biases begin as, by Keras's names (https://keras.io/api/layers/initializers/)."""

from typing import Annotated, Literal

from pydantic import Field, model_serializer, model_validator

from core.spec.values import Part, Value, by_name

Fan = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["truncated_normal", "untruncated_normal", "uniform"]


class PlainInitializer(Part):
    """An initialiser without parameters; written as its bare name.

    `lecun`, `glorot` and `he` scale by fan_in, by the mean of fan_in and fan_out, and by fan_in / 2
    (LeCun et al. 1998, Glorot and Bengio 2010, He et al. 2015); `_normal` draws from a normal distribution that is cut
    off at two deviations.
    """

    name: Literal[
        "zeros",
        "ones",
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_uniform",
        "lecun_normal",
    ]

    @model_serializer
    def as_name(self) -> str:
        return self.name


class Constant(Part):
    name: Literal["constant"]
    value: Value = Field(default=0.0, description="Of every element.")


class Identity(Part):
    name: Literal["identity"]
    gain: Value = Field(default=1.0, description="On the diagonal; 0 elsewhere.")


class Orthogonal(Part):
    """Saxe et al. 2013."""

    name: Literal["orthogonal"]
    gain: Value = Field(default=1.0, description="Factor on the orthogonal matrix.")


class Normal(Part):
    name: Literal["random_normal", "truncated_normal"]
    mean: Value = Field(default=0.0, description="Of the distribution.")
    stddev: Annotated[Value, Field(gt=0)] = Field(
        default=0.05, description="Of the distribution; `truncated_normal` cuts off at two."
    )


class Uniform(Part):
    name: Literal["random_uniform"]
    minval: Value = Field(default=-0.05, description="Lower bound.")
    maxval: Value = Field(default=0.05, description="Upper bound.")

    @model_validator(mode="after")
    def in_order(self) -> "Uniform":
        if self.minval > self.maxval:
            raise ValueError("`minval` is above `maxval`")
        return self


class VarianceScaling(Part):
    name: Literal["variance_scaling"]
    scale: Annotated[Value, Field(gt=0)] = Field(default=1.0, description="The variance is this, divided by the fan.")
    mode: Fan = Field(default="fan_in", description="Which fan.")
    distribution: Distribution = Field(default="truncated_normal", description="What is drawn from.")


AnyInitializer = PlainInitializer | Constant | Identity | Orthogonal | Normal | Uniform | VarianceScaling
INITIALIZER_SYNONYMS = {
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
    "eye": "identity",
    "normal": "random_normal",
    "uniform": "random_uniform",
    "trunc_normal": "truncated_normal",
    "GlorotUniform": "glorot_uniform",
    "GlorotNormal": "glorot_normal",
    "HeUniform": "he_uniform",
    "HeNormal": "he_normal",
    "LecunUniform": "lecun_uniform",
    "LecunNormal": "lecun_normal",
    "Zeros": "zeros",
    "Ones": "ones",
    "Constant": "constant",
    "Identity": "identity",
    "Orthogonal": "orthogonal",
    "RandomNormal": "random_normal",
    "RandomUniform": "random_uniform",
    "TruncatedNormal": "truncated_normal",
    "VarianceScaling": "variance_scaling",
}
Initializer = Annotated[AnyInitializer, Field(discriminator="name"), by_name(AnyInitializer, INITIALIZER_SYNONYMS)]


class PlainBias(Part):
    """The same for every unit; written as its bare name."""

    name: Literal["zeros", "ones"]

    @model_serializer
    def as_name(self) -> str:
        return self.name


AnyBiasInitializer = PlainBias | Constant | Normal | Uniform
BiasInitializer = Annotated[
    AnyBiasInitializer, Field(discriminator="name"), by_name(AnyBiasInitializer, INITIALIZER_SYNONYMS)
]
GLOROT_UNIFORM = PlainInitializer(name="glorot_uniform")
ZEROS = PlainBias(name="zeros")
