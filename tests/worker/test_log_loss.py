"""The log loss of labels, which is computed without scikit-learn."""

import pytest
import torch
from torch.nn import functional

from tests.worker.factories import spec_for
from worker.trainer.examples import Examples
from worker.trainer.metrics import measure

SPEC = spec_for(units=2, activation="sigmoid", task="multilabel", loss="binary_cross_entropy")
TARGET = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
EXAMPLES = Examples(torch.empty(3, 0), TARGET)


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_it_is_that_of_torch(size: float) -> None:
    logits = size * torch.randn(3, 2, generator=torch.Generator().manual_seed(0))

    found = measure(["log_loss"], SPEC, logits, EXAMPLES)

    assert found["log_loss"] == pytest.approx(float(functional.binary_cross_entropy(logits.sigmoid(), TARGET)))


def test_it_is_left_out_where_the_logits_are_no_numbers() -> None:
    assert measure(["log_loss"], SPEC, torch.full((3, 2), torch.nan), EXAMPLES) == {}
