"""Rows of small classes come again in each epoch: which, how often, and what is then measured."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from core.resolve.plan import steps_of
from core.resolve.training import drawn_rows
from tests.worker.factories import Listener, examples, order_for, read, spec_for, state_for
from worker.trainer import fit as loop
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, fit
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS
from worker.trainer.oversampling import rows_of_an_epoch

COUNTS = (50, 20, 7)
TARGET = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))


def _drawn(target: torch.Tensor, share: float, seed: int = 0) -> list[int]:
    return rows_of_an_epoch(target, share, torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize(
    ("share", "expected"), [(1.0, (50, 50, 50)), (0.5, (50, 25, 25)), (0.3, (50, 20, 15)), (0.01, COUNTS)]
)
def test_every_class_gets_its_share_of_the_largest(share: float, expected: tuple[int, ...]) -> None:
    drawn = _drawn(TARGET, share)

    assert tuple(Counter(TARGET[drawn].tolist()).values()) == expected


def test_no_row_comes_twice_more_often_than_another_of_its_class() -> None:
    often = Counter(_drawn(TARGET, 1.0))

    assert set(often) == set(range(len(TARGET))), "no row is left out"
    for number in range(3):
        counts = {often[row] for row in torch.eq(TARGET, number).nonzero().flatten().tolist()}
        assert max(counts) - min(counts) <= 1


def test_the_classes_of_one_output_are_drawn_as_those_of_several() -> None:
    target = (TARGET > 0).long()

    assert _drawn(target.float().unsqueeze(1), 1.0) == _drawn(target, 1.0)


def test_a_class_without_rows_is_none() -> None:
    assert sorted(_drawn(torch.tensor([0, 2, 2]), 1.0)) == [0, 0, 1, 2]


def test_the_rows_are_a_function_of_seed_and_epoch() -> None:
    spec = spec_for(oversample="balanced", batch_size=16)
    network = state_for(spec).network

    def rows(epoch: int, seed: int = 0) -> list[int]:
        changed = spec.model_copy(update={"training": spec.training.model_copy(update={"seed": seed})})
        return torch.cat(loop.updates_of(changed, epoch, len(TARGET), network, TARGET)).tolist()

    assert rows(3) == rows(3)
    assert sorted(rows(3)) != sorted(rows(4)), "another seven of the rest"
    assert sorted(rows(3)) != sorted(rows(3, seed=1))
    assert len(rows(3)) == 150


def test_what_is_not_asked_for_changes_no_bit() -> None:
    plain = spec_for(batch_size=16)
    network = state_for(plain).network

    with_target, without = (loop.updates_of(plain, 2, len(TARGET), network, one) for one in (TARGET, None))

    assert all(torch.equal(one, other) for one, other in zip(with_target, without, strict=True))


def test_the_training_loss_and_metrics_are_of_the_rows_as_they_were_drawn() -> None:
    spec = spec_for(oversample="balanced", batch_size=1000, epochs=1, metrics=["accuracy"])
    rows = examples(len(TARGET), seed=5)
    rows = Examples(rows.features, TARGET)
    state = state_for(spec)
    drawn = torch.cat(loop.updates_of(spec, 1, len(rows), state.network, TARGET))
    logits = state.network(rows.features[drawn]).detach()

    (done,) = [one for one in fit(spec, rows, rows.slice(0, 0), state) if isinstance(one, EpochDone)]

    assert done.facts["train_loss"] == pytest.approx(float(functional.cross_entropy(logits, TARGET[drawn])), rel=1e-5)
    assert done.facts["train_accuracy"] == pytest.approx(float((logits.argmax(1) == TARGET[drawn]).float().mean()))


def _table(rows: int) -> str:
    lines = [f"{row / 10},{'rare' if row % 10 == 0 else 'usual'}" for row in range(rows)]
    return "\n".join(["x,y", *lines])


def test_only_rows_that_train_are_drawn_again(tmp_path: Path) -> None:
    table = read(tmp_path / "table", _table(200))
    spec: dict[str, Any] = {"target": "y", "split": {"test": 0.2}, "training": {"epochs": 2, "batch_size": 16}}
    heard, plain = Listener(), Listener()

    oversampled = {**spec, "training": {**spec["training"], "oversample": "balanced"}}
    order = order_for(tmp_path / "job", table, oversampled)
    train(order, heard)
    train(order_for(tmp_path / "plain", table, spec), plain)

    report, other = (json.loads((tmp_path / name / ARTIFACTS / "report.json").read_text()) for name in ("job", "plain"))
    assert report["rows"] == other["rows"]
    assert [report[part]["rows"] for part in ("train", "validation", "test")] == [120, 40, 40]
    drawn = drawn_rows(order.spec.training, _Target(table), 120)  # type: ignore[arg-type]
    assert drawn == 2 * 108
    assert heard.epochs[-1]["step"] == steps_of(order.spec, drawn)[1] == 2 * 14
    assert plain.epochs[-1]["step"] == 2 * 8


class _Target:
    def __init__(self, table: Any) -> None:
        self.columns = [table.column("y")]
