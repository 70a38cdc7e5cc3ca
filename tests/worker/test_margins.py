"""The hinge loss has margins: what is on the right side of 0 is right, and no probabilities."""

import pytest
import torch

from core.spec.metrics import MetricName
from tests.worker.factories import spec_for
from worker.trainer.examples import Examples
from worker.trainer.metrics import measure

LOGITS = torch.tensor([[0.2], [0.4], [-0.3], [3.0]])
TARGET = torch.tensor([[1.0], [0.0], [0.0], [1.0]])  # the second is on the wrong side


@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize(("metric", "value"), [("accuracy", 3 / 4), ("precision", 2 / 3), ("recall", 1.0)])
def test_a_margin_above_0_is_the_class(task: str, metric: MetricName, value: float) -> None:
    spec = spec_for(units=1, activation="linear", task=task, loss="hinge")

    found = measure([metric], spec, LOGITS, Examples(torch.empty(4, 0), TARGET))

    assert found == {metric: pytest.approx(value)}


def test_the_largest_of_several_margins_is_the_class() -> None:
    spec = spec_for(units=3, activation="linear", loss="hinge")
    logits = torch.tensor([[-3.0, -1.0, -2.0], [0.1, 0.4, 0.3]])

    found = measure(["accuracy"], spec, logits, Examples(torch.empty(2, 0), torch.tensor([1, 2])))

    assert found == {"accuracy": 0.5}
