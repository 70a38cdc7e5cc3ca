"""How the weights are found, and when that ends."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, model_validator

from core.spec.losses import Auto, Loss
from core.spec.metrics import METRIC_SYNONYMS, Metric, Monitor
from core.spec.optimizers import Adam, Optimizer
from core.spec.schedules import ConstantRate, Schedule
from core.spec.values import (
    INTEGRAL,
    NUMBER,
    NUMBER_OR_OBJECT,
    OBJECT,
    TEXT,
    TEXT_OR_NUMBER,
    TEXT_OR_OBJECT,
    Flag,
    Label,
    NotNegative,
    Number,
    Part,
    Positive,
    Seed,
    Value,
    distinct,
    one_of,
)

LOSS_MONITOR_SYNONYMS = {"val_loss": "valid_loss", "loss": "train_loss"}
PRECISION_SYNONYMS = {"fp32": "float32", "bf16": "bfloat16", "mixed_bfloat16": "bfloat16"}
LossName = Literal["train_loss", "valid_loss"]
LossMonitor = Annotated[LossName, one_of(LossName, LOSS_MONITOR_SYNONYMS)]
Bits = Literal["float32", "bfloat16"]
Precision = Annotated[Bits, one_of(Bits, PRECISION_SYNONYMS)]
Epoch = Annotated[int, Strict(), Field(ge=0, le=100_000), INTEGRAL]
TracedRows = Annotated[int, Strict(), Field(ge=1, le=32), INTEGRAL]
Weights = dict[Label, Positive]
ClassWeights = Annotated[Annotated[Literal["balanced"], TEXT] | Annotated[Weights, OBJECT], TEXT_OR_OBJECT]
ShareOfLargest = Annotated[Number, Field(gt=0, le=1)]
Oversample = Annotated[Annotated[Literal["balanced"], TEXT] | Annotated[ShareOfLargest, NUMBER], TEXT_OR_NUMBER]
ThresholdMetric = Literal["accuracy", "balanced_accuracy", "f1", "matthews_corrcoef", "cohen_kappa"]


class BestThreshold(Part):
    """The threshold with the best value of a metric on the validation rows, with the weights that are kept."""

    metric: Annotated[ThresholdMetric, one_of(ThresholdMetric, METRIC_SYNONYMS)] = Field(
        description="What it is chosen for."
    )


Probability = Annotated[Number, Field(gt=0, lt=1)]
Threshold = Annotated[Annotated[Probability, NUMBER] | Annotated[BestThreshold, OBJECT], NUMBER_OR_OBJECT]


class Stop(Part):
    target_loss: NotNegative | None = Field(
        default=None, description="Training ends when the error is at or below this."
    )
    target_monitor: LossMonitor = Field(default="train_loss", description="Which loss `target_loss` is compared with.")
    patience: Annotated[int, Strict(), Field(ge=1, le=100_000), INTEGRAL] | None = Field(
        default=None,
        description="Training ends after this many epochs without a better `monitor`. 15 where there are validation "
        "rows and nothing else says when to end: `epochs`, `steps`, `schedule`, `target_loss` or `max_seconds`.",
    )
    min_delta: NotNegative = Field(
        default=0.0, description="How much better than the best so far counts as better, for `patience`."
    )
    start_from_epoch: Epoch = Field(default=0, description="Epochs before `patience` begins to count.")
    monitor: Monitor = Field(
        default="valid_loss",
        description="What decides the best weights and `patience`: `train_` or `valid_` and `loss` or a metric. Falls "
        "back to the training rows where there are no validation rows.",
    )
    max_seconds: Annotated[Positive, Field(le=30 * 86_400)] | None = Field(
        default=None, description="Time budget of the training, in seconds; the best weights so far are kept."
    )


class Training(Part):
    loss: Loss = Field(default=Auto(name="auto"), description="What is minimised; `auto` follows from the task.")
    optimizer: Optimizer = Field(default=Adam(name="adam"), description="How the weights are updated.")
    schedule: Schedule = Field(default=ConstantRate(name="constant"), description="How the learning rate moves.")
    batch_size: Annotated[int, Strict(), Field(ge=1, le=1_000_000), INTEGRAL] = Field(
        default=32, description="Rows a forward pass; all rows where there are fewer."
    )
    accumulate: Annotated[int, Strict(), Field(ge=1, le=10_000), INTEGRAL] = Field(
        default=1, description="Batches a weight update: their gradient is that of one batch of all their rows."
    )
    epochs: Epoch = Field(default=100, description="Passes over the training rows at most; 0 only with `start_from`.")
    steps: Annotated[int, Strict(), Field(ge=1, le=2**53 - 1), INTEGRAL] | None = Field(
        default=None, description="Weight updates at most; training ends with the epoch's part that they fill."
    )
    class_weights: ClassWeights | None = Field(
        default=None,
        description="What a row of each class counts in the loss, by class; `balanced` makes all classes count the "
        "same. A class that is not named counts 1.",
    )
    oversample: Oversample | None = Field(
        default=None,
        description="Draws rows of small classes again in each epoch, until every class has this share of the rows of "
        "the largest one; `balanced` is 1. Training rows only.",
    )
    threshold: Threshold | None = Field(
        default=None,
        description="Of two classes, or of labels: the second class, or the label, is said where its probability is "
        "above this; or the metric that the threshold is chosen for on the validation rows. 0.5 unless said "
        "otherwise.",
    )
    clip_norm: Annotated[Value, Field(gt=0)] | None = Field(
        default=None, description="The gradient of all weights together is scaled down to this length."
    )
    clip_value: Annotated[Value, Field(gt=0)] | None = Field(
        default=None, description="Each element of the gradient is kept within plus and minus this."
    )
    ema_decay: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Measures and keeps a running average of the weights: after each step, this much of the average "
        "and the rest of the new weights.",
    )
    precision: Precision = Field(
        default="float32", description="`bfloat16` multiplies matrices in 16 bits; weights stay 32. For wide networks."
    )
    metrics: Annotated[list[Metric], AfterValidator(distinct)] | None = Field(
        default=None,
        max_length=20,
        description="What is measured after each epoch on the validation rows, and during it on the training rows; by "
        "default a few of the task, on the validation rows.",
    )
    seed: Seed = Field(default=0, description="Of initial weights, order of the rows, and noise.")
    stop: Stop = Field(default=Stop(), description="When to end before the last epoch.")
    refit: Flag = Field(
        default=False,
        description="After the training, train again from the start on training and validation rows together, for as "
        "many epochs as the best weights had.",
    )
    log_every: Annotated[int, Strict(), Field(ge=1, le=1000), INTEGRAL] | None = Field(
        default=None, description="Epochs an epoch event; 1 up to 10,000 epochs, so that a log stays readable."
    )
    log_layers: Flag = Field(default=False, description="Whether events show gradient and weights of each layer.")

    @property
    def says_when_to_end(self) -> bool:
        """So that nothing is cut short that was asked for: epochs, an error to reach, a rate that falls to the end."""
        said = self.model_fields_set & {"epochs", "steps", "schedule"}
        return bool(said or self.stop.model_fields_set & {"patience", "target_loss", "max_seconds"})

    @model_validator(mode="after")
    def one_way_to_clip(self) -> "Training":
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("give either `clip_norm` or `clip_value`, not both")
        return self


class Trace(Part):
    """The five steps of backpropagation laid open for a few rows."""

    epochs: Annotated[list[Annotated[int, Strict(), Field(ge=1, le=100_000), INTEGRAL]], AfterValidator(distinct)] = (
        Field(default=[1], min_length=1, max_length=20, description="At the first step of these epochs.")
    )
    rows: TracedRows = Field(
        default=4, description="Rows of the batch that are traced: the first ones of the training rows."
    )
