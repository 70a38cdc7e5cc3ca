"""Optimizers, by the names and with the options of `torch.optim`."""

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from core.spec.values import INTEGRAL, Flag, NotNegative, Number, Part, Share, Value, by_name

LearningRate = Annotated[Number, Field(gt=0, le=10)]
WeightDecay = Annotated[Number, Field(ge=0, le=1)]
Eps = Annotated[Number, Field(gt=0, le=1)]
Betas = tuple[Share, Share]

RATE = "Size of a step."
BETAS = "Decay of the running averages of gradient and squared gradient."
EPS = "Added to the denominator."
L2 = "L2 penalty added to the gradient."
DECAY = "Decay of the weights, apart from the gradient."


class Sgd(Part):
    """Momentum as in Sutskever et al. 2013, in torch's form."""

    name: Literal["sgd"]
    learning_rate: LearningRate = Field(default=0.01, description=RATE)
    momentum: Share = Field(default=0.0, description="Share of the last step that is kept.")
    dampening: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the new gradient that momentum does not take."
    )
    nesterov: Flag = Field(default=False, description="Look ahead along the momentum (needs momentum).")
    weight_decay: WeightDecay = Field(default=0.0, description=L2)

    @model_validator(mode="after")
    def nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("`nesterov` needs a `momentum` above 0, and no `dampening`")
        return self


class Adam(Part):
    """Kingma and Ba 2015."""

    name: Literal["adam"]
    learning_rate: LearningRate = Field(default=0.001, description=RATE)
    betas: Betas = Field(default=(0.9, 0.999), description=BETAS)
    eps: Eps = Field(default=1e-8, description=EPS)
    weight_decay: WeightDecay = Field(default=0.0, description=L2)
    amsgrad: Flag = Field(default=False, description="Never lets the denominator shrink (Reddi et al. 2018).")


class AdamW(Part):
    """Loshchilov and Hutter 2019."""

    name: Literal["adamw"]
    learning_rate: LearningRate = Field(default=0.001, description=RATE)
    betas: Betas = Field(default=(0.9, 0.999), description=BETAS)
    eps: Eps = Field(default=1e-8, description=EPS)
    weight_decay: WeightDecay = Field(default=0.01, description=DECAY)
    amsgrad: Flag = Field(default=False, description="Never lets the denominator shrink (Reddi et al. 2018).")


class NAdam(Part):
    """Dozat 2016."""

    name: Literal["nadam"]
    learning_rate: LearningRate = Field(default=0.002, description=RATE)
    betas: Betas = Field(default=(0.9, 0.999), description=BETAS)
    eps: Eps = Field(default=1e-8, description=EPS)
    weight_decay: WeightDecay = Field(default=0.0, description=L2)
    momentum_decay: Annotated[Number, Field(ge=0, le=1)] = Field(default=0.004, description="Decay of the momentum.")


class RAdam(Part):
    """Liu et al. 2020."""

    name: Literal["radam"]
    learning_rate: LearningRate = Field(default=0.001, description=RATE)
    betas: Betas = Field(default=(0.9, 0.999), description=BETAS)
    eps: Eps = Field(default=1e-8, description=EPS)
    weight_decay: WeightDecay = Field(default=0.0, description=L2)


class Adamax(Part):
    """Kingma and Ba 2015, section 7."""

    name: Literal["adamax"]
    learning_rate: LearningRate = Field(default=0.002, description=RATE)
    betas: Betas = Field(default=(0.9, 0.999), description=BETAS)
    eps: Eps = Field(default=1e-8, description=EPS)
    weight_decay: WeightDecay = Field(default=0.0, description=L2)


class Adagrad(Part):
    """Duchi et al. 2011."""

    name: Literal["adagrad"]
    learning_rate: LearningRate = Field(default=0.01, description=RATE)
    lr_decay: NotNegative = Field(default=0.0, description="The rate is divided by 1 + this times the step.")
    initial_accumulator_value: Annotated[Value, Field(ge=0)] = Field(
        default=0.0, description="What the sum of squares begins at."
    )
    eps: Eps = Field(default=1e-10, description=EPS)
    weight_decay: WeightDecay = Field(default=0.0, description=L2)


class Adadelta(Part):
    """Zeiler 2012."""

    name: Literal["adadelta"]
    learning_rate: LearningRate = Field(default=1.0, description=RATE)
    rho: Share = Field(default=0.9, description="Decay of the running averages.")
    eps: Eps = Field(default=1e-6, description=EPS)
    weight_decay: WeightDecay = Field(default=0.0, description=L2)


class RMSprop(Part):
    """Tieleman and Hinton 2012."""

    name: Literal["rmsprop"]
    learning_rate: LearningRate = Field(default=0.01, description=RATE)
    alpha: Share = Field(default=0.99, description="Decay of the running average of squares.")
    eps: Eps = Field(default=1e-8, description=EPS)
    momentum: Share = Field(default=0.0, description="Share of the last step that is kept.")
    centered: Flag = Field(default=False, description="Divide by the deviation, not by the root of the square.")
    weight_decay: WeightDecay = Field(default=0.0, description=L2)


class Adafactor(Part):
    """Shazeer and Stern 2018: the squares of a matrix are kept as a row and a column."""

    name: Literal["adafactor"]
    learning_rate: LearningRate = Field(default=0.01, description="Largest relative size of a step.")
    beta2_decay: Annotated[Number, Field(ge=-1, lt=0)] = Field(
        default=-0.8, description="The decay of the squares is 1 - step to this power."
    )
    d: Annotated[Number, Field(ge=1)] = Field(default=1.0, description="Largest root mean square of an update.")
    weight_decay: WeightDecay = Field(default=0.0, description=DECAY)


class Lbfgs(Part):
    """Nocedal and Wright 2006, chapter 7; all rows in each step, so for small data."""

    name: Literal["lbfgs"]
    learning_rate: LearningRate = Field(default=1.0, description="First length that the line search tries.")
    max_iter: Annotated[int, Strict(), Field(ge=1, le=1000), INTEGRAL] = Field(
        default=20, description="Iterations of an epoch."
    )
    history_size: Annotated[int, Strict(), Field(ge=1, le=100), INTEGRAL] = Field(
        default=10, description="Steps that the curvature is estimated from."
    )
    tolerance_grad: NotNegative = Field(default=1e-7, description="Gradients this small end an epoch.")
    tolerance_change: NotNegative = Field(default=1e-9, description="Steps this small end an epoch.")
    line_search_fn: Literal["strong_wolfe"] | None = Field(
        default="strong_wolfe", description="null takes steps of the full length."
    )


AnyOptimizer = Sgd | Adam | AdamW | NAdam | RAdam | Adamax | Adagrad | Adadelta | RMSprop | Adafactor | Lbfgs
OPTIMIZER_SYNONYMS = {
    "SGD": "sgd",
    "Adam": "adam",
    "AdamW": "adamw",
    "NAdam": "nadam",
    "Nadam": "nadam",
    "RAdam": "radam",
    "Adamax": "adamax",
    "Adagrad": "adagrad",
    "Adadelta": "adadelta",
    "RMSprop": "rmsprop",
    "Adafactor": "adafactor",
    "LBFGS": "lbfgs",
}
Optimizer = Annotated[AnyOptimizer, Field(discriminator="name"), by_name(AnyOptimizer, OPTIMIZER_SYNONYMS)]
