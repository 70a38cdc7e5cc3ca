"""Losses, by the names of `torch.nn.functional`. All are means over the rows, weighted where rows have weights."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.spec.values import NotNegative, Number, Part, Positive, Share, by_name, rises


class Auto(Part):
    name: Literal["auto"]


class CrossEntropy(Part):
    name: Literal["cross_entropy"]
    label_smoothing: Share = Field(default=0.0, description="Share of the target spread over all classes.")


class BinaryCrossEntropy(Part):
    name: Literal["binary_cross_entropy"]
    label_smoothing: Share = Field(default=0.0, description="Share of the target spread over both classes.")


class Focal(Part):
    """Cross-entropy with less weight on what is known well (Lin et al. 2017)."""

    name: Literal["focal"]
    gamma: Annotated[NotNegative, Field(le=10)] = Field(
        default=2.0, description="0 is cross-entropy; more looks less at rows that are predicted well."
    )


class Hinge(Part):
    """Margin of 1, without probabilities (Crammer and Singer 2001 for more than two classes)."""

    name: Literal["hinge"]


class Mse(Part):
    name: Literal["mse"]


class Mae(Part):
    name: Literal["mae"]


class Huber(Part):
    name: Literal["huber"]
    delta: Positive = Field(default=1.0, description="Errors beyond this count by their size, not their square.")


class LogCosh(Part):
    name: Literal["log_cosh"]


class Quantile(Part):
    """Koenker and Bassett 1978."""

    name: Literal["quantile"]
    quantiles: list[Annotated[Number, Field(gt=0, lt=1)]] = Field(
        default=[0.5], min_length=1, max_length=99, description="What is predicted of each target, from low to high."
    )

    @model_validator(mode="after")
    def rising(self) -> "Quantile":
        rises(self.quantiles, "quantiles")
        return self


class Poisson(Part):
    """Negative log likelihood of counts; the network predicts the logarithm of the mean."""

    name: Literal["poisson"]


class Gamma(Part):
    """Half the deviance of positive numbers, up to a constant; the network predicts the logarithm of the mean."""

    name: Literal["gamma"]


AnyLoss = (
    Auto | CrossEntropy | BinaryCrossEntropy | Focal | Hinge | Mse | Mae | Huber | LogCosh | Quantile | Poisson | Gamma
)
LOSS_SYNONYMS = {
    "categorical_crossentropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "CrossEntropyLoss": "cross_entropy",
    "binary_crossentropy": "binary_cross_entropy",
    "bce": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy",
    "log_loss": "cross_entropy",
    "categorical_focal_crossentropy": "focal",
    "binary_focal_crossentropy": "focal",
    "categorical_hinge": "hinge",
    "MultiMarginLoss": "hinge",
    "mean_squared_error": "mse",
    "squared_error": "mse",
    "MSELoss": "mse",
    "mean_absolute_error": "mae",
    "absolute_error": "mae",
    "l1": "mae",
    "L1Loss": "mae",
    "HuberLoss": "huber",
    "logcosh": "log_cosh",
    "pinball": "quantile",
    "PoissonNLLLoss": "poisson",
}
Loss = Annotated[AnyLoss, Field(discriminator="name"), by_name(AnyLoss, LOSS_SYNONYMS)]
