"""The spec: what a client asks for. The single source of truth of request body, database column, builder and docs.

`version: 1` fixes every default for ever once it is released; they stand in `docs/defaults.md`.
A resolved spec is the same class with every default written out, and is accepted as a spec again.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, assert_never

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    model_validator,
)

MAX_PARAMETERS = 100_000_000
MAX_LAYERS = 64
MAX_NAMED_COLUMNS = 10_000


def _integral(value: Any) -> Any:
    """`50.0` is an integer: many languages have only one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _no_flag(value: Any) -> Any:
    """In Python `true` equals 1."""
    if isinstance(value, bool):
        raise ValueError("must be 1")
    return value


def _one_of_these(synonyms: dict[str, str]) -> Callable[[Any], Any]:
    return lambda value: synonyms.get(value, value) if isinstance(value, str) else value


def _bare_name(synonyms: dict[str, str]) -> Callable[[Any], Any]:
    """`"adam"` is short for `{"name": "adam"}`; other libraries' names become ours."""

    def as_object(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return {**value, "name": synonyms.get(value["name"], value["name"])}
        return value

    return as_object


INTEGRAL = BeforeValidator(_integral)  # last in an `Annotated`: bounds after it would be lost to the JSON Schema
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Seed = Annotated[int, Strict(), Field(ge=0, le=2**53 - 1), INTEGRAL]
Units = Annotated[int, Strict(), Field(ge=1, le=65_536), INTEGRAL]

ACTIVATION_SYNONYMS = {"swish": "silu", "logistic": "sigmoid", "identity": "linear"}
LOSS_SYNONYMS = {
    "categorical_crossentropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "binary_crossentropy": "binary_cross_entropy",
    "bce": "binary_cross_entropy",
    "mean_squared_error": "mse",
    "squared_error": "mse",
}
MONITOR_SYNONYMS = {"val_loss": "valid_loss", "loss": "train_loss"}

HiddenActivation = Literal["linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid", "softplus"]
OutputActivation = Literal["linear", "sigmoid", "softmax"]
ActivationSynonym = Literal["swish", "logistic", "identity"]
ShortActivation = Annotated[
    HiddenActivation,
    BeforeValidator(
        _one_of_these(ACTIVATION_SYNONYMS), json_schema_input_type=Literal[HiddenActivation, ActivationSynonym]
    ),
]
Activation = Annotated[
    Literal[HiddenActivation, "softmax"],
    BeforeValidator(
        _one_of_these(ACTIVATION_SYNONYMS),
        json_schema_input_type=Literal[HiddenActivation, "softmax", ActivationSynonym],
    ),
]
Monitor = Annotated[Literal["train_loss", "valid_loss"], BeforeValidator(_one_of_these(MONITOR_SYNONYMS))]


class Part(BaseModel):
    """Any part of a spec: immutable, and refusing what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- network ----------------------------------------------------------------------------------------------------


class Dense(Part):
    type: Literal["dense"]
    units: Units = Field(description="Width of the layer.")
    activation: Activation = Field(default="linear", description="What is applied to the weighted sums.")
    bias: Flag = Field(default=True, description="Whether a learned constant is added to each weighted sum.")


class Dropout(Part):
    type: Literal["dropout"]
    rate: Annotated[Number, Field(ge=0, lt=1)] = Field(description="Share of the inputs set to 0 while training.")


class BatchNorm(Part):
    type: Literal["batch_norm"]
    momentum: Annotated[Number, Field(gt=0, le=1)] = Field(
        default=0.1, description="Weight of the newest batch in the running mean and variance (torch's convention)."
    )
    eps: Annotated[Number, Field(gt=0, le=1)] = Field(default=1e-5, description="Added to the variance.")


Layer = Annotated[Dense | Dropout | BatchNorm, Field(discriminator="type")]


class Output(Part):
    units: Units = Field(description="One a class, or one for a binary task or a regression.")
    activation: OutputActivation = Field(description="Applied to the logits in predictions; the loss sees the logits.")
    bias: Flag = Field(default=True, description="Whether the output layer has a bias.")


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
    activation: ShortActivation | None = Field(
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
            if isinstance(layer, Dense) and layer.activation == "softmax" and not last:
                raise ValueError("softmax belongs to the output layer only: the last of `layers`")
        return self


# --- training ---------------------------------------------------------------------------------------------------

LearningRate = Annotated[Number, Field(gt=0, le=10)]
WeightDecay = Annotated[Number, Field(ge=0, le=1)]
Beta = Annotated[Number, Field(ge=0, lt=1)]


class Sgd(Part):
    name: Literal["sgd"]
    learning_rate: LearningRate = Field(default=0.01, description="Size of a step along the gradient.")
    momentum: Beta = Field(default=0.0, description="Share of the last step that is kept.")
    nesterov: Flag = Field(default=False, description="Look ahead along the momentum (needs momentum).")
    weight_decay: WeightDecay = Field(default=0.0, description="L2 penalty added to the gradient.")

    @model_validator(mode="after")
    def nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` needs a `momentum` above 0")
        return self


class Adam(Part):
    name: Literal["adam"]
    learning_rate: LearningRate = Field(default=0.001, description="Size of a step.")
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.999), description="Decay of the two running averages.")
    eps: Annotated[Number, Field(gt=0, le=1)] = Field(default=1e-8, description="Added to the denominator.")
    weight_decay: WeightDecay = Field(default=0.0, description="L2 penalty added to the gradient.")


class AdamW(Part):
    name: Literal["adamw"]
    learning_rate: LearningRate = Field(default=0.001, description="Size of a step.")
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.999), description="Decay of the two running averages.")
    eps: Annotated[Number, Field(gt=0, le=1)] = Field(default=1e-8, description="Added to the denominator.")
    weight_decay: WeightDecay = Field(default=0.01, description="Decay of the weights, apart from the gradient.")


AnyOptimizer = Annotated[Sgd | Adam | AdamW, Field(discriminator="name")]
Optimizer = Annotated[
    AnyOptimizer,
    BeforeValidator(_bare_name({}), json_schema_input_type=AnyOptimizer | Literal["sgd", "adam", "adamw"]),
]


class Auto(Part):
    name: Literal["auto"] = "auto"


class CrossEntropy(Part):
    name: Literal["cross_entropy"]


class BinaryCrossEntropy(Part):
    name: Literal["binary_cross_entropy"]


class Mse(Part):
    name: Literal["mse"]


LossName = Literal["auto", "cross_entropy", "binary_cross_entropy", "mse"]
LossSynonym = Literal[
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "binary_crossentropy",
    "bce",
    "mean_squared_error",
    "squared_error",
]
AnyLoss = Annotated[Auto | CrossEntropy | BinaryCrossEntropy | Mse, Field(discriminator="name")]
Loss = Annotated[
    AnyLoss,
    BeforeValidator(_bare_name(LOSS_SYNONYMS), json_schema_input_type=AnyLoss | LossName | LossSynonym),
]


class Stop(Part):
    target_loss: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="Training ends when the error is at or below this."
    )
    target_monitor: Monitor = Field(default="train_loss", description="Which loss `target_loss` is compared with.")
    patience: Annotated[int, Strict(), Field(ge=1, le=100_000), INTEGRAL] | None = Field(
        default=None, description="Training ends after this many epochs without a better `monitor`."
    )
    min_delta: Annotated[Number, Field(ge=0)] = Field(
        default=0.0, description="How much lower than the best so far counts as better, for `patience`."
    )
    monitor: Monitor = Field(
        default="valid_loss",
        description="What decides the best weights and `patience`; `train_loss` where there are no validation rows.",
    )
    max_seconds: Annotated[Number, Field(gt=0, le=30 * 86_400)] | None = Field(
        default=None, description="Time budget of the training, in seconds; the best weights so far are kept."
    )


class Training(Part):
    loss: Loss = Field(default=Auto(), description="What is minimised; `auto` follows from the task.")
    optimizer: Optimizer = Field(default=Adam(name="adam"), description="How the weights are updated.")
    batch_size: Annotated[int, Strict(), Field(ge=1, le=1_000_000), INTEGRAL] = Field(
        default=32, description="Rows a weight update; all rows where there are fewer."
    )
    epochs: Annotated[int, Strict(), Field(ge=1, le=100_000), INTEGRAL] = Field(
        default=50, description="Passes over the training rows at most."
    )
    seed: Seed = Field(default=0, description="Of initial weights, order of the rows, and dropout.")
    stop: Stop = Field(default=Stop(), description="When to end before the last epoch.")
    log_every: Annotated[int, Strict(), Field(ge=1, le=1000), INTEGRAL] | None = Field(
        default=None, description="Epochs an epoch event; 1 up to 10,000 epochs, so that a log stays readable."
    )


# --- data -------------------------------------------------------------------------------------------------------


class ColumnChoice(Part):
    type: Literal["number", "category"] | None = Field(default=None, description="Takes the column as this type.")
    impute: Literal["median", "mean"] | None = Field(default=None, description="What a missing number becomes.")
    scale: Literal["standard", "none"] | None = Field(
        default=None, description="`standard`: minus the mean, divided by the standard deviation."
    )
    encode: Literal["one_hot"] | None = Field(default=None, description="How a category becomes numbers.")


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise ValueError("a column is named twice")
    return names


class Features(Part):
    include: Annotated[list[ColumnName], AfterValidator(_distinct)] | None = Field(
        default=None,
        max_length=MAX_NAMED_COLUMNS,
        description="The columns to learn from; by default all but the target that can be used.",
    )
    exclude: Annotated[list[ColumnName], AfterValidator(_distinct)] = Field(
        default=[], max_length=MAX_NAMED_COLUMNS, description="Columns to leave out."
    )
    columns: dict[ColumnName, ColumnChoice] = Field(
        default={}, max_length=MAX_NAMED_COLUMNS, description="Choices for single columns."
    )


class Split(Part):
    method: Literal["auto", "random", "stratified"] = Field(
        default="auto", description="`auto` is stratified for classes of two rows and more, else random."
    )
    validation: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.2, description="Share of the rows that measures, and is never trained on."
    )
    test: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Share of the rows that is looked at once, with the kept weights."
    )
    seed: Seed = Field(default=0, description="Of the draw of rows.")

    @model_validator(mode="after")
    def rows_are_left_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("`validation` and `test` together leave no rows to train on")
        return self


class Resources(Part):
    threads: Annotated[int, Strict(), Field(ge=1, le=64), INTEGRAL] = Field(
        default=1, description="CPU threads of the training process. More than 1 helps wide networks only."
    )


# --- the whole --------------------------------------------------------------------------------------------------


class TrainingSpec(Part):
    """One training of a multi-layer perceptron: the smallest that works is `{"target": "species"}`."""

    version: Annotated[Literal[1], BeforeValidator(_no_flag)] = Field(
        default=1, description="Fixes the meaning and the default of every field."
    )
    task: Literal["auto", "classification", "regression"] = Field(
        default="auto",
        description="`auto`: text, categories and booleans are classes; so are integers of 2 different values, or of "
        "at most 20 and no more than 5 % of the rows; other numbers are a regression.",
    )
    target: ColumnName = Field(description="The column to predict.")
    features: Features = Field(default=Features(), description="What to learn from.")
    split: Split = Field(default=Split(), description="Which rows train, which validate, which test.")
    network: Network = Field(default=Network(), description="The layers.")
    training: Training = Field(default=Training(), description="How the weights are found.")
    resources: Resources = Field(default=Resources(), description="What the training may use.")


def parameter_count(layers: Sequence[Layer], output: Output, inputs: int) -> int:
    """Trainable numbers of the network, by arithmetic: equals the sum of `numel()` over `network.parameters()`."""
    total, width = 0, inputs
    for layer in layers:
        match layer:
            case Dense(units=units, bias=bias):
                total += width * units + units * bias
                width = units
            case BatchNorm():
                total += 2 * width
            case Dropout():
                pass
            case _:
                assert_never(layer)
    return total + width * output.units + output.units * output.bias


def widths(layers: Sequence[Layer], output: Output, inputs: int) -> list[int]:
    """The width after the input and after each dense layer: what one row of activations takes."""
    return [inputs, *(layer.units for layer in layers if isinstance(layer, Dense)), output.units]
