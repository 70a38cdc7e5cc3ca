"""What a network loses with a column."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance

from tests.worker.factories import spec_for
from worker.trainer.examples import Examples
from worker.trainer.network import build
from worker.trainer.preprocessing import Affine, CategoryInput, EmbeddingInput, NumberInput, Preprocessing, Target
from worker.trainer.report import importance
from worker.trainer.report.importance import importance_of, rows_of

ROWS = 2_000


def _number(name: str) -> NumberInput:
    return NumberInput(name=name, imputed=0.0, scaling=Affine(center=0.0, scale=1.0))


def _fitted(*inputs: Any) -> Preprocessing:
    features = [name for one in inputs for name in one.features]
    return Preprocessing(
        inputs=inputs, features=features, target=Target(names=["kind"], task="regression", classes=None)
    )


def _linear(weights: list[float]) -> Any:
    """A spec of a regression, and a network that is a weighted sum."""
    spec = spec_for(task="regression", units=1, activation="linear", loss="mse")
    assert spec.network.output is not None
    network = build([], spec.network.output, len(weights), 0)
    with torch.no_grad():
        network.get_parameter("0.weight").copy_(torch.tensor([weights]))
        network.get_parameter("0.bias").zero_()
    return spec, network.eval()


def _rows(width: int, rows: int = ROWS) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


class _Predicts(BaseEstimator):
    def __init__(self, weights: Any = None) -> None:
        self.weights = weights

    def fit(self, *_: Any) -> "_Predicts":
        return self

    def predict(self, values: Any) -> Any:
        return values @ self.weights


def test_a_column_counts_as_scikit_learn_counts_it() -> None:
    weights = [2.0, 0.0, -1.0, 0.5]
    spec, network = _linear(weights)
    features = _rows(4)
    target = features @ torch.tensor(weights).unsqueeze(1) + _rows(1) * 0.1

    found = importance_of(spec, network, _fitted(*map(_number, "abcd")), Examples(features, target), 5, 100)

    theirs = permutation_importance(
        _Predicts(np.array(weights)),
        features.numpy(),
        target[:, 0].numpy(),
        scoring="neg_mean_squared_error",
        n_repeats=5,
    )
    assert found is not None
    mine = {one["column"]: one for one in found["columns"]}
    assert [one["column"] for one in found["columns"]] == ["a", "c", "d", "b"]
    for place, name in enumerate("abcd"):
        assert mine[name]["loss_increase"] == pytest.approx(theirs.importances_mean[place], rel=0.1, abs=1e-9)
        assert mine[name]["loss_increase"] == pytest.approx(2 * weights[place] ** 2, rel=0.1, abs=1e-9)  # two variances
    assert (found["rows"], found["repeats"], found["others"]) == (ROWS, 5, 0)


def test_intervals_hold_what_endless_rows_would_give() -> None:
    """Whose value was dealt to whom moves the loss of two rows: both are in the spread."""
    spec, network = _linear([2.0])
    generator, held = torch.Generator().manual_seed(0), 0

    for _ in range(200):
        features = torch.randn(300, 1, generator=generator)
        examples = Examples(features, 2 * features + torch.randn(300, 1, generator=generator))
        found = importance_of(spec, network, _fitted(_number("a")), examples, 3, 100)
        assert found is not None
        held += found["columns"][0]["low"] <= 8 <= found["columns"][0]["high"]

    assert 0.91 * 200 <= held <= 0.99 * 200


def test_all_features_of_a_column_are_dealt_out_together() -> None:
    """One-hot features that are dealt out one by one would be of no category at all, or of two."""
    soil = CategoryInput(name="soil", categories=["a", "b"])
    spec, network = _linear([1.0, -1.0, 0.0])
    is_a = (torch.arange(ROWS) % 2 == 0).float()
    features = torch.stack([is_a, 1 - is_a, _rows(1)[:, 0]], 1)
    target = (2 * is_a - 1).unsqueeze(1)

    found = importance_of(spec, network, _fitted(soil, _number("x")), Examples(features, target), 5, 100)

    assert found is not None
    by_column = {one["column"]: one["loss_increase"] for one in found["columns"]}
    assert by_column == {"soil": pytest.approx(2.0, rel=0.05), "x": 0.0}  # half of the rows are off by 2
    assert found["loss"] == 0


def test_an_embedded_column_is_one_of_them() -> None:
    soil = EmbeddingInput(name="soil", categories=["a", "b", "c"], dimension=2)
    spec = spec_for(task="regression", units=1, activation="linear", loss="mse")
    assert spec.network.output is not None
    network = build([], spec.network.output, 1, 0, [(3, 2)]).eval()
    with torch.no_grad():
        network.get_parameter("embeddings.0.weight").copy_(torch.tensor([[0.0, 0], [1, 0], [2, 0], [3, 0]]))
        network.get_parameter("0.weight").copy_(torch.tensor([[0.0, 1.0, 0.0]]))
        network.get_parameter("0.bias").zero_()
    codes = torch.randint(1, 4, (ROWS, 1), generator=torch.Generator().manual_seed(0), dtype=torch.int32)

    examples = Examples(_rows(1), codes.float(), codes)
    found = importance_of(spec, network, _fitted(_number("x"), soil), examples, 5, 100)

    assert found is not None
    assert [one["column"] for one in found["columns"]] == ["soil", "x"]
    assert found["columns"][0]["loss_increase"] == pytest.approx(4 / 3, rel=0.05)  # two variances of 1, 2, 3
    assert found["columns"][1]["loss_increase"] == 0


def test_of_many_columns_those_are_measured_that_matter_most_at_first_order() -> None:
    weights = [0.1] * 20
    weights[3], weights[17] = 3.0, -2.0
    spec, network = _linear(weights)
    features = _rows(20)
    target = features @ torch.tensor(weights).unsqueeze(1) + _rows(1)

    fitted = _fitted(*(_number(f"x{place}") for place in range(20)))
    found = importance_of(spec, network, fitted, Examples(features, target), 2, 2)

    assert found is not None
    assert [one["column"] for one in found["columns"]] == ["x3", "x17"]
    assert found["others"] == 18


def test_the_same_rows_give_the_same_numbers_and_a_single_one_none() -> None:
    spec, network = _linear([1.0, 2.0])
    examples = Examples(_rows(2), _rows(1))
    fitted = _fitted(*map(_number, "ab"))

    first, second = (importance_of(spec, network, fitted, examples, 3, 100) for _ in range(2))

    assert first == second
    assert importance_of(spec, network, fitted, examples.slice(0, 1), 3, 100) is None


@pytest.mark.parametrize(
    ("hidden", "inputs", "columns", "rows"),
    [(64, 4, 4, 30), (64, 100, 100, 1_000), (64, 100, 100, 1_000_000), (1024, 784, 1, 10_000), (64, 3_000, 3_000, 500)],
)
def test_what_is_measured_is_bounded(hidden: int, inputs: int, columns: int, rows: int) -> None:
    spec = spec_for([{"type": "dense", "units": hidden}] * 2)
    assert spec.network.output is not None
    network = build(spec.network.layers or [], spec.network.output, inputs, 0)
    again = sum(one.numel() for one in network.parameters() if one.ndim == 2) - hidden * inputs

    some, each, repeats = rows_of(network, inputs, columns, rows)

    assert 1 <= some <= min(columns, importance.MOST_COLUMNS)
    assert min(rows, importance.FEWEST_ROWS) <= each <= min(rows, importance.MOST_ROWS)
    assert 1 <= repeats <= importance.MOST_REPEATS
    assert some * each * repeats * again <= importance.MOST_MULTIPLICATIONS
    assert each * repeats * hidden <= importance.MOST_NUMBERS
