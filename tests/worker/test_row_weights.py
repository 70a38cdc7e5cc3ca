"""Rows may count nothing: by themselves, a whole batch of them, or all that would measure."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import SampleWeightInvalid
from core.spec.losses import CrossEntropy, Mse
from tests.worker.factories import Listener, Read, order_for, read
from worker.trainer.losses import criterion_of
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, Trained

SPEC = {"target": "y", "task": "regression", "sample_weight": "w", "features": {"include": ["x"]}}


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


def test_steps_that_end_before_a_row_counts_leave_a_network(tmp_path: Path) -> None:
    table, heard = _table(tmp_path / "table", [0] * 99 + [1]), Listener()
    training = {"batch_size": 1, "steps": 1, "epochs": 1}

    train(order_for(tmp_path / "job", table, {**SPEC, "split": {"validation": 0}, "training": training}), heard)

    assert isinstance(heard.last, Trained)
    assert heard.epochs[0]["train_loss"] == 0


@pytest.mark.parametrize("part", ["validation", "test"])
def test_rows_that_measure_must_count_something(tmp_path: Path, part: str) -> None:
    split = {"validation": 0, "test": 0, part: 0.1}
    table = _table(tmp_path / "table", [1] * 10)
    train(order_for(tmp_path / "job", table, {**SPEC, "split": split, "training": {"epochs": 1}}), Listener())
    (held_back,) = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())["rows"][part]

    nothing = _table(tmp_path / "other", [int(row != held_back) for row in range(10)])
    with pytest.raises(SampleWeightInvalid) as refused:
        train(order_for(tmp_path / "again", nothing, {**SPEC, "split": split}), Listener())

    assert part in refused.value.detail
