"""Fitted values and features against scikit-learn's transformers, on the same training rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from tests.worker.stored import fitted_of

ROWS = 400
TRAIN = np.arange(0, ROWS, 2)


def holed_numbers(seed: int = 0) -> NDArray[np.float64]:
    """Skewed, rounded so that a most frequent value exists, a tenth of it missing."""
    generator = np.random.default_rng(seed)
    values = np.round(generator.lognormal(3, 1, ROWS), 0).astype(np.float32).astype(np.float64)
    values[generator.random(ROWS) < 0.1] = np.nan
    return values


@pytest.mark.parametrize(
    ("impute", "theirs"),
    [
        ({"impute": "median"}, {"strategy": "median"}),
        ({"impute": "mean"}, {"strategy": "mean"}),
        ({"impute": "mode"}, {"strategy": "most_frequent"}),
        ({"impute": "constant", "fill_value": -7.5}, {"strategy": "constant", "fill_value": -7.5}),
    ],
)
def test_missing_numbers_become_what_simple_imputer_makes_them(
    tmp_path: Path, impute: dict[str, Any], theirs: dict[str, Any]
) -> None:
    values = holed_numbers()
    choice = {**impute, "scale": "none", "missing_indicator": True}

    _, features = fitted_of(tmp_path / "job", {"x": values}, {"columns": {"x": choice}}, TRAIN)

    expected = SimpleImputer(**theirs, add_indicator=True).fit(values[TRAIN, None]).transform(values[:, None])
    np.testing.assert_allclose(features, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "theirs"),
    [
        ("standard", StandardScaler()),
        ("robust", RobustScaler()),
        ("min_max", MinMaxScaler()),
        ("none", FunctionTransformer()),
    ],
)
def test_numbers_are_scaled_as_by_sklearn_after_imputation(tmp_path: Path, scale: str, theirs: Any) -> None:
    values = holed_numbers()

    _, features = fitted_of(tmp_path / "job", {"x": values}, {"numbers": {"scale": scale}}, TRAIN)

    expected = make_pipeline(SimpleImputer(strategy="median"), theirs).fit(values[TRAIN, None])
    np.testing.assert_allclose(features[:, :1], expected.transform(values[:, None]), rtol=1e-5, atol=1e-6)


def test_quantiles_become_normal_deviates_as_by_sklearn(tmp_path: Path) -> None:
    values = np.random.default_rng(1).lognormal(3, 2, 3000).astype(np.float32).astype(np.float64)
    train = np.arange(2000)

    _, features = fitted_of(tmp_path / "job", {"x": values}, {"numbers": {"scale": "quantile"}}, train)

    theirs = QuantileTransformer(n_quantiles=2000, output_distribution="normal").fit(values[train, None])
    expected = theirs.transform(values[:, None])[:, 0]
    usual = np.abs(expected) < 2  # their outermost values are at 5.2 whatever the number of rows
    assert np.abs(features[usual, 0] - expected[usual]).max() < 0.05
    assert np.abs(features[usual, 0] - expected[usual]).mean() < 0.01


def test_a_value_that_many_rows_share_is_in_the_middle_of_its_share_as_by_sklearn(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    values = np.where(generator.random(ROWS) < 0.3, 5.0, generator.normal(5, 2, ROWS))

    _, features = fitted_of(tmp_path / "job", {"x": values}, {"numbers": {"scale": "quantile"}})

    theirs = QuantileTransformer(n_quantiles=ROWS, output_distribution="normal").fit(values[:, None])
    at_five = np.flatnonzero(values == 5.0)[0]
    assert features[at_five, 0] == pytest.approx(theirs.transform([[5.0]])[0, 0], abs=0.02)


CATEGORIES = ["ash", "birch", "cedar", "elm", "fir"]


def skewed_categories(*, missing: bool) -> list[str | None]:
    """Of a few the training rows have very few."""
    generator = np.random.default_rng(3)
    found: list[str | None] = list(generator.choice(CATEGORIES, ROWS, p=[0.6, 0.3, 0.06, 0.03, 0.01]))
    if missing:
        for row in np.flatnonzero(generator.random(ROWS) < 0.08):
            found[row] = None
    return found


@pytest.mark.parametrize("min_frequency", [1, 9, 60, 0.05, 0.5])
@pytest.mark.parametrize("missing", [False, True])
def test_places_and_the_rare_one_are_those_of_one_hot_encoder(
    tmp_path: Path, min_frequency: float, missing: bool
) -> None:
    values = skewed_categories(missing=missing)
    values[1] = "unknown"  # in no training row
    choice = {"encode": "one_hot", "min_frequency": min_frequency}

    _, features = fitted_of(tmp_path / "job", {"c": values}, {"columns": {"c": choice}}, TRAIN)

    table = np.array(values, object)[:, None]
    theirs = OneHotEncoder(min_frequency=min_frequency, handle_unknown="infrequent_if_exist", sparse_output=False)
    with_warning = theirs.fit(table[TRAIN])
    expected = with_warning.transform(np.delete(table, 1, 0))
    assert np.array_equal(np.delete(features, 1, 0), expected)
    has_rare = with_warning.infrequent_categories_[0] is not None
    assert features[1].tolist() == [0.0] * (features.shape[1] - 1) + [1.0 if has_rare else 0.0]


def test_places_in_an_order_are_those_of_ordinal_encoder(tmp_path: Path) -> None:
    order = ["fir", "elm", "cedar", "birch", "ash"]
    values = skewed_categories(missing=False)
    choice = {"encode": "ordinal", "order": order, "scale": "none"}

    _, features = fitted_of(tmp_path / "job", {"c": values}, {"columns": {"c": choice}}, TRAIN)

    table = np.array(values, object)[:, None]
    expected = OrdinalEncoder(categories=[np.array(order, object)]).fit(table[TRAIN]).transform(table)
    assert np.array_equal(features, expected)


def test_a_missing_place_becomes_the_most_frequent_and_is_scaled_as_by_sklearn(tmp_path: Path) -> None:
    values = skewed_categories(missing=True)

    _, features = fitted_of(tmp_path / "job", {"c": values}, {"columns": {"c": {"encode": "ordinal"}}}, TRAIN)

    places = [np.nan if value is None else CATEGORIES.index(value) for value in values]
    theirs = make_pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True), StandardScaler())
    expected = theirs.fit(np.array(places)[TRAIN, None]).transform(np.array(places)[:, None])
    np.testing.assert_allclose(features[:, 0], expected[:, 0], rtol=1e-5, atol=1e-6)


def test_each_component_of_a_vector_is_a_column_of_standard_scaler(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    vectors = generator.normal([5, -1, 0], [10, 0.1, 0], (ROWS, 3)).astype(np.float32)

    fitted, features = fitted_of(tmp_path / "job", {"v": vectors}, {}, TRAIN)

    expected = StandardScaler().fit(vectors[TRAIN].astype(np.float64)).transform(vectors.astype(np.float64))
    assert fitted.features == ["v[0]", "v[1]", "v[2]"]
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
