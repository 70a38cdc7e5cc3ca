"""Rows may count nothing: by themselves, a whole batch of them, or all that would measure."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import DatasetTooSmall
from core.spec.losses import CrossEntropy, Mse
from tests.worker.factories import Listener, Read, order_for, read
from worker.trainer.losses import criterion_of
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, Trained

SPEC = {
    "target": "y",
    "task": "regression",
    "target_scale": "none",
    "sample_weight": "w",
    "features": {"include": ["x"]},
}


def _table(folder: Path, weights: list[int]) -> Read:
    return read(folder, "x,y,w\n" + "".join(f"{row / 10},{row % 3}.5,{w}\n" for row, w in enumerate(weights)))


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [
        (CrossEntropy(name="cross_entropy"), "softmax", torch.tensor([0, 1])),
        (Mse(name="mse"), "linear", torch.ones(2, 3)),
    ],
)
def test_a_batch_that_counts_nothing_has_no_loss_and_no_gradient(loss: Any, output: Any, target: Any) -> None:
    logits = torch.randn(2, 3, requires_grad=True)

    value = criterion_of(loss, output)(logits, target, torch.zeros(2))
    value.backward()

    assert value == 0
    assert logits.grad is not None
    assert logits.grad.count_nonzero() == 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_goes_on_where_a_batch_counts_nothing(tmp_path: Path, accumulate: int) -> None:
    table, heard = _table(tmp_path / "table", [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), Listener()
    training = {"batch_size": 1, "accumulate": accumulate, "epochs": 3}

    train(order_for(tmp_path / "job", table, {**SPEC, "split": {"validation": 0}, "training": training}), heard)

    assert isinstance(heard.last, Trained)
    assert heard.last.failed is None
    assert all(epoch["train_loss"] > 0 for epoch in heard.epochs)


def test_a_row_that_counts_nothing_is_in_no_part(tmp_path: Path) -> None:
    table, split = _table(tmp_path / "table", [1, 0] * 20), {"validation": 0.2, "test": 0.2}

    train(order_for(tmp_path / "job", table, {**SPEC, "split": split, "training": {"epochs": 1}}), Listener())

    rows = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())["rows"]
    assert (rows["train"], len(rows["validation"]), len(rows["test"])) == (12, 4, 4)
    assert all(row % 2 == 0 for row in rows["validation"] + rows["test"])


def test_too_few_rows_that_count_are_too_few(tmp_path: Path) -> None:
    nearly_nothing = _table(tmp_path / "table", [0] * 39 + [1])

    with pytest.raises(DatasetTooSmall):
        train(order_for(tmp_path / "job", nearly_nothing, SPEC), Listener())
