"""What a network predicts, in the words that every artifact and the API use."""

from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from core.spec import TrainingSpec
from core.spec.losses import Quantile
from core.spec.network import OutputActivation
from worker.trainer.predictions import activated
from worker.trainer.preprocessing import Affine, Preprocessing, Target
from worker.trainer.scaling import TargetScaling

Form = Literal["classes", "labels", "values", "quantiles"]


@dataclass(frozen=True)
class Outcome:
    """`classes`: one of `classes` each row, (rows, classes). `labels`: any of `names`, (rows, names).
    `values`: numbers, (rows, names). `quantiles`: (rows, names, quantiles).

    Classes and labels have probabilities, those of hinge scores: above its threshold a label is said, and the second of
    two classes; of more classes, the one that has most.
    """

    form: Form
    activation: OutputActivation
    units: int  # of the output layer
    names: list[str]
    classes: list[Any]
    quantiles: list[float]
    scaling: list[Affine] | None  # of each name
    thresholds: list[float]  # one, or one of each label; as float32 has them, for so they are compared

    @property
    def scores(self) -> str:
        """What the numbers are called."""
        match self.form:
            case "classes" | "labels":
                return "scores" if self.activation == "linear" else "probabilities"
            case "values" | "quantiles":
                return self.form
            case _:
                assert_never(self.form)


def outcome_of(spec: TrainingSpec, target: Target) -> Outcome:
    output, loss = spec.network.output, spec.training.loss
    assert output is not None, "a resolved spec has its output"
    forms: dict[str, Form] = {"classification": "classes", "multilabel": "labels", "regression": "values"}
    form, quantiles = forms[target.task], list[float]()
    if isinstance(loss, Quantile):
        form, quantiles = "quantiles", loss.quantiles
    middle = 0.0 if output.activation == "linear" else 0.5
    thresholds = target.thresholds or [middle] * (len(target.names) if form == "labels" else 1)
    return Outcome(
        form=form,
        activation=output.activation,
        units=output.units,
        names=target.names,
        classes=target.classes or [],
        quantiles=quantiles,
        scaling=target.scaling,
        thresholds=torch.tensor(thresholds, dtype=torch.float32).tolist(),
    )


def predicted(logits: Tensor, outcome: Outcome) -> Tensor:
    """The scores of each row, in the shape of their form."""
    found = activated(logits, outcome.activation)
    if outcome.form == "classes" and outcome.units == 1:
        other = -found if outcome.activation == "linear" else 1 - found
        return torch.cat([other, found], 1)
    if outcome.scaling is not None:
        found = TargetScaling(outcome.scaling, logits.device).undone(found)
    return found.reshape(len(found), len(outcome.names), -1) if outcome.form == "quantiles" else found


def said_of(preprocessing: Preprocessing, outcome: Outcome) -> dict[str, object]:
    """What `numpy_functions.answers` needs to know."""
    return {
        "task": preprocessing.target.task,
        "targets": outcome.names,
        "classes": outcome.classes,
        "quantiles": outcome.quantiles,
        "thresholds": outcome.thresholds,
        "scores": outcome.scores,
    }
