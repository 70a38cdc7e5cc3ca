"""The spec: what a client asks for. The single source of truth of request body, database column, builder and docs.

`version: 1` fixes every default for ever once it is released; they stand in `docs/defaults.md`.
A resolved spec is the same class with every default written out, and is accepted as a spec again.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from core.spec.data import Resources, Split
from core.spec.features import Features
from core.spec.network import Network
from core.spec.training import Trace, Training
from core.spec.values import LIST, TEXT, TEXT_OR_LIST, ColumnName, Part, distinct

MAX_TARGETS = 1000


def _no_flag(value: Any) -> Any:
    """In Python `true` equals 1."""
    if isinstance(value, bool):
        raise ValueError("must be 1")
    return value


KerasFile = Literal["network.keras", "network.weights.h5"]
Targets = Annotated[list[ColumnName], Field(min_length=1, max_length=MAX_TARGETS), AfterValidator(distinct)]


class TrainingSpec(Part):
    """One training of a multi-layer perceptron: the smallest that works is `{"target": "species"}`."""

    version: Annotated[Literal[1], BeforeValidator(_no_flag)] = Field(
        default=1, description="Fixes the meaning and the default of every field."
    )
    task: Literal["auto", "classification", "multilabel", "regression"] = Field(
        default="auto",
        description="`auto`: text, categories and booleans are classes; so are integers of 2 different values, or of "
        "at most 20 and no more than 5 % of the rows; other numbers are a regression. Several targets are one class "
        "each row where the loss is `cross_entropy` or the last layer has softmax, else labels where all are booleans "
        "or the loss is `binary_cross_entropy`, `focal` or `hinge`, else a regression.",
    )
    target: Annotated[Annotated[ColumnName, TEXT] | Annotated[Targets, LIST], TEXT_OR_LIST] = Field(
        description="The column to predict, or several."
    )
    target_scale: Literal["auto", "standard", "none"] = Field(
        default="auto",
        description="`standard`: the network learns each number to predict minus its mean, divided by its standard "
        "deviation; predictions, losses and metrics are in the target's own units. `auto` is `standard` for numbers, "
        "`none` for classes, labels and the losses `poisson` and `gamma`.",
    )
    sample_weight: ColumnName | None = Field(
        default=None, description="The column that says what each row counts, in loss and metrics: numbers from 0."
    )
    features: Features = Field(default=Features(), description="What to learn from.")
    split: Split = Field(default=Split(), description="Which rows train, which validate, which test.")
    network: Network = Field(default=Network(), description="The layers.")
    training: Training = Field(default=Training(), description="How the weights are found.")
    trace: Trace | None = Field(default=None, description="Lays the five steps open, as the artifact `trace.json`.")
    resources: Resources = Field(default=Resources(), description="What the training may use.")

    outputs: Annotated[list[KerasFile], AfterValidator(distinct)] = Field(
        default=[],
        max_length=2,
        description="Files beside those that every job leaves: what `load_model` and `load_weights` of Keras 3 open. "
        "Not of residual blocks, embedded categories, and some activations.",
    )

    @property
    def targets(self) -> list[str]:
        return [self.target] if isinstance(self.target, str) else self.target
