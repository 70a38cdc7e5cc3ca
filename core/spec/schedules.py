"""How the learning rate moves, by the names of `torch.optim.lr_scheduler`.

Lengths are in epochs; a schedule without a length runs over all of the training. Where a rate moves smoothly, it
moves at every step. The optimizer's `learning_rate` is the rate that everything here multiplies.
"""

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from core.spec.metrics import Monitor
from core.spec.values import INTEGRAL, NotNegative, Number, Part, Positive, by_name, rises

Epochs = Annotated[int, Strict(), Field(ge=1, le=100_000), INTEGRAL]
Factor = Annotated[Number, Field(gt=0, le=1)]
Patience = Annotated[int, Strict(), Field(ge=0, le=100_000), INTEGRAL]


class WarmUp(Part):
    warmup_epochs: Annotated[NotNegative, Field(le=100_000)] = Field(
        default=0.0, description="Epochs, or parts of one, in which the rate rises in a line; the schedule comes after."
    )
    warmup_factor: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the rate that the rise begins with."
    )


class ConstantRate(WarmUp):
    name: Literal["constant"]


class StepRate(WarmUp):
    name: Literal["step"]
    step_size: Epochs = Field(default=30, description="Epochs between two reductions.")
    gamma: Factor = Field(default=0.1, description="Factor of each reduction.")


class MultiStepRate(WarmUp):
    name: Literal["multi_step"]
    milestones: list[Epochs] = Field(min_length=1, max_length=1000, description="Epochs after which the rate falls.")
    gamma: Factor = Field(default=0.1, description="Factor of each reduction.")

    @model_validator(mode="after")
    def rising(self) -> "MultiStepRate":
        rises(self.milestones, "milestones")
        return self


class ExponentialRate(WarmUp):
    name: Literal["exponential"]
    gamma: Factor = Field(default=0.95, description="Factor of each epoch.")


class PolynomialRate(WarmUp):
    name: Literal["polynomial"]
    power: Positive = Field(default=1.0, description="1 is a line.")
    final_factor: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the rate that is left at the end."
    )


class InverseSqrtRate(WarmUp):
    """Vaswani et al. 2017: the rate falls with the root of the steps."""

    name: Literal["inverse_sqrt"]
    timescale: Positive = Field(default=1.0, description="Epochs after which the rate has fallen to 1 / sqrt(2).")


class CosineRate(WarmUp):
    """Loshchilov and Hutter 2017."""

    name: Literal["cosine"]
    final_factor: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the rate that is left at the end."
    )


class CosineRestartsRate(WarmUp):
    """Loshchilov and Hutter 2017, with warm restarts."""

    name: Literal["cosine_restarts"]
    t_0: Epochs = Field(default=10, description="Epochs until the first restart.")
    t_mult: Annotated[int, Strict(), Field(ge=1, le=10), INTEGRAL] = Field(
        default=1, description="Factor on the epochs from one restart to the next."
    )
    final_factor: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the rate just before a restart."
    )


class OneCycleRate(WarmUp):
    """Smith and Topin 2018; the optimizer's rate is the highest."""

    name: Literal["one_cycle"]
    pct_start: Annotated[Number, Field(gt=0, lt=1)] = Field(default=0.3, description="Share of the steps that rise.")
    div_factor: Annotated[Number, Field(ge=1)] = Field(default=25.0, description="The first rate is 1 / this.")
    final_div_factor: Annotated[Number, Field(ge=1)] = Field(
        default=1e4, description="The last rate is the first one / this."
    )
    anneal_strategy: Literal["cos", "linear"] = Field(default="cos", description="The form of both parts.")


class PlateauRate(WarmUp):
    name: Literal["reduce_on_plateau"]
    monitor: Monitor | None = Field(default=None, description="What must get better; that of `stop` by default.")
    factor: Annotated[Number, Field(gt=0, lt=1)] = Field(default=0.1, description="Factor of each reduction.")
    patience: Patience = Field(default=10, description="Epochs without anything better before a reduction.")
    min_delta: NotNegative = Field(default=1e-4, description="How much better counts.")
    cooldown: Patience = Field(default=0, description="Epochs after a reduction that do not count.")
    min_factor: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the rate that is never gone below."
    )


AnySchedule = (
    ConstantRate
    | StepRate
    | MultiStepRate
    | ExponentialRate
    | PolynomialRate
    | InverseSqrtRate
    | CosineRate
    | CosineRestartsRate
    | OneCycleRate
    | PlateauRate
)
SCHEDULE_SYNONYMS = {
    "StepLR": "step",
    "MultiStepLR": "multi_step",
    "piecewise_constant": "multi_step",
    "ExponentialLR": "exponential",
    "PolynomialLR": "polynomial",
    "linear": "polynomial",
    "CosineAnnealingLR": "cosine",
    "cosine_decay": "cosine",
    "CosineDecay": "cosine",
    "CosineAnnealingWarmRestarts": "cosine_restarts",
    "cosine_decay_restarts": "cosine_restarts",
    "OneCycleLR": "one_cycle",
    "ReduceLROnPlateau": "reduce_on_plateau",
}
Schedule = Annotated[AnySchedule, Field(discriminator="name"), by_name(AnySchedule, SCHEDULE_SYNONYMS)]
