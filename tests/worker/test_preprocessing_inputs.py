"""What each kind of column becomes: from `preprocessing.json` alone, and where the training rows lack something."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core import errors
from tests.worker.stored import MISSING_MOMENT, fitted_of, order_of
from worker.trainer.order import Beginning, TableColumn, TrainingOrder
from worker.trainer.preparation import prepare
from worker.trainer.preprocessing import (
    Affine,
    CategoryInput,
    DatetimeInput,
    EmbeddingInput,
    NumberInput,
    Preprocessing,
    Quantiles,
    Table,
    VectorInput,
    fit,
    read_target,
    transform,
    unseen_categories,
)
from worker.trainer.preprocessing.numbers import imputed_of

ROWS = 300
TRAIN = np.arange(200)


def everything(seed: int = 0) -> dict[str, Any]:
    """A column of each kind, with missing values."""
    generator = np.random.default_rng(seed)

    def holed(values: Any, gap: Any) -> Any:
        found = values.copy()
        for row in np.flatnonzero(generator.random(ROWS) < 0.1):
            found[row] = gap
        return found

    moments = np.datetime64("2020-01-01", "s") + generator.integers(-(10**9), 10**8, ROWS)
    return {
        "plain": holed(generator.normal(20, 3, ROWS), np.nan),
        "skewed": holed(generator.lognormal(3, 2, ROWS), np.inf),
        "kind": holed(list(generator.choice(["a", "b", "c", "d"], ROWS, p=[0.6, 0.3, 0.08, 0.02])), None),
        "size": holed(list(generator.choice(["S", "M", "L"], ROWS)), None),
        "code": holed(list(generator.choice([f"k{n}" for n in range(40)], ROWS)), None),
        "when": holed(moments, np.datetime64("NaT")),
        "image": holed(generator.normal(size=(ROWS, 3)).astype(np.float32), np.nan),
    }


FEATURES: dict[str, Any] = {
    "columns": {
        "plain": {"missing_indicator": True},
        "skewed": {"scale": "quantile", "impute": "mean"},
        "kind": {"min_frequency": 20},
        "size": {"encode": "ordinal", "order": ["S", "M", "L"]},
        "code": {"encode": "embedding", "min_frequency": 3},
        "when": {"parts": ["elapsed", "year", "month", "day", "weekday", "hour", "minute"]},
        "image": {"scale": "min_max", "missing_indicator": True},
    }
}


# --- ten lines of a user's own ------------------------------------------------------------------------------------


def by_hand(described: dict[str, Any], cells: dict[str, Any]) -> NDArray[np.float32]:
    """What the descriptions in `preprocessing.json` say, word for word."""
    columns: list[NDArray[Any]] = []
    for one in described["inputs"]:
        cell = cells[one["name"]]
        match one["type"]:
            case "number":
                raw = cell.astype(np.float32)
                missing = ~np.isfinite(raw)
                columns.append(scaled_by_hand(np.where(missing, np.float32(one["imputed"]), raw), one["scaling"]))
            case "category":
                known = [one["imputed"] if value is None else value for value in cell]
                columns += [[value == category for value in known] for category in one["categories"]]
                if one["rare"]:
                    columns.append([value not in one["categories"] for value in known])
            case "ordinal":
                missing = np.array([value not in one["categories"] for value in cell])
                places = [
                    one["imputed"] if value not in one["categories"] else one["categories"].index(value)
                    for value in cell
                ]
                columns.append(scaled_by_hand(np.array(places, np.float32), one["scaling"]))
            case "datetime":
                missing = np.isnat(cell)
                columns += dates_by_hand(one, cell)
            case "vector":
                missing = ~np.isfinite(cell).all(1)
                filled = np.where(np.isfinite(cell), cell, np.array(one["imputed"], np.float32))
                columns += list(((filled - np.array(one["center"], np.float32)) / np.array(one["scale"], np.float32)).T)
        if one.get("missing_indicator"):
            columns.append(missing)
    return np.stack([np.asarray(column, np.float32) for column in columns], 1)


def scaled_by_hand(values: NDArray[np.float32], scaling: dict[str, Any]) -> NDArray[Any]:
    if scaling["type"] == "affine":
        return (values - np.float32(scaling["center"])) / np.float32(scaling["scale"])
    return np.interp(values, scaling["knots"], scaling["deviates"])


def dates_by_hand(one: dict[str, Any], moments: NDArray[Any]) -> list[NDArray[Any]]:
    columns: list[NDArray[Any]] = []
    start = datetime(1970, 1, 1, tzinfo=UTC)
    seconds = [one["imputed"] if np.isnat(moment) else int(moment.astype(np.int64)) for moment in moments]
    for part in one["parts"]:
        values = [part_by_hand(start + timedelta(seconds=second), part["part"], second) for second in seconds]
        if part["type"] == "plain":
            differences = np.array([value - part["origin"] for value in values], np.float32)
            columns.append(scaled_by_hand(differences, part["scaling"]))
        else:
            angles = [2 * math.pi * (value - part["first"]) / part["period"] for value in values]
            columns += [np.sin(angles), np.cos(angles)]
    return columns


def part_by_hand(moment: datetime, part: str, second: int) -> int:
    if part in ("elapsed", "weekday"):
        return second if part == "elapsed" else moment.weekday()
    return int(getattr(moment, part))


def test_what_preprocessing_json_says_is_what_the_network_gets(tmp_path: Path) -> None:
    cells = everything()

    fitted, features = fitted_of(tmp_path / "job", cells, FEATURES, TRAIN)

    described = json.loads(fitted.model_dump_json())
    assert features.dtype == np.float32
    assert features.shape[1] == len(fitted.features) == len(set(fitted.features))
    np.testing.assert_allclose(features, by_hand(described, cells), rtol=1e-5, atol=1e-5)


def test_preprocessing_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    fitted, _ = fitted_of(tmp_path / "job", everything(), FEATURES, TRAIN)

    assert Preprocessing.model_validate_json(fitted.model_dump_json()) == fitted


# --- training rows only -------------------------------------------------------------------------------------------


def test_an_outlier_outside_the_training_rows_reaches_no_fitted_value(tmp_path: Path) -> None:
    tame, wild = everything(), everything()
    wild["plain"][250] = 1e30
    wild["skewed"][251] = -1e30
    wild["kind"][252] = "never seen"
    wild["size"][253] = "S"
    wild["code"][254] = "k999"
    wild["when"][255] = np.datetime64("1800-01-01", "s")
    wild["image"][256] = 1e30

    fitted = [fitted_of(tmp_path / name, cells, FEATURES, TRAIN)[0] for name, cells in (("tame", tame), ("wild", wild))]

    assert fitted[0] == fitted[1]


@pytest.mark.parametrize("impute", ["median", "mean", "mode"])
@pytest.mark.parametrize("scale", ["standard", "robust", "min_max", "quantile", "none"])
def test_columns_without_a_value_in_the_training_rows_are_harmless(tmp_path: Path, impute: str, scale: str) -> None:
    cells = everything()
    for name, gap in (("plain", np.nan), ("when", np.datetime64("NaT")), ("image", np.nan)):
        cells[name][:200] = gap
    cells["kind"][:200] = cells["size"][:200] = cells["code"][:200] = [None] * 200
    features = {
        "numbers": {"impute": impute, "scale": scale},
        "datetimes": {"impute": impute, "scale": scale},
        "columns": {
            "size": {"encode": "ordinal", "scale": scale},
            "image": {"scale": "standard" if scale == "quantile" else scale},
            "kind": {"impute": "mode"},
        },
    }

    _, found = fitted_of(tmp_path / "job", cells, features, TRAIN)

    assert np.isfinite(found).all()
    assert (found[:200, 0] == 0).all()


@pytest.mark.parametrize("scale", ["standard", "robust", "min_max", "quantile"])
@pytest.mark.parametrize("value", [5.0, 0.1, 123456789.123, 1e-30])
def test_a_constant_number_becomes_zero(tmp_path: Path, scale: str, value: float) -> None:
    cells = {"x": np.full(ROWS, value)}

    _, features = fitted_of(tmp_path / "job", cells, {"columns": {"x": {"scale": scale}}}, TRAIN)

    assert (features == 0).all()


def test_a_constant_component_has_the_scale_one(tmp_path: Path) -> None:
    cells = {"v": np.stack([np.full(ROWS, 7.0), np.arange(ROWS)], 1).astype(np.float32)}

    fitted, features = fitted_of(tmp_path / "job", cells, {}, TRAIN)

    assert isinstance(fitted.inputs[0], VectorInput)
    assert fitted.inputs[0].scale[0] == 1.0
    assert (features[:, 0] == 0).all()


def test_infinity_is_missing_and_indicated(tmp_path: Path) -> None:
    cells = {"x": np.array([1.0, np.inf, 3.0, -np.inf, 8.0, np.nan])}
    choice = {"x": {"scale": "none", "missing_indicator": True}}

    _, features = fitted_of(tmp_path / "job", cells, {"columns": choice})

    assert features[:, 0].tolist() == [1, 3, 3, 3, 8, 3]
    assert features[:, 1].tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("rows", [1, 2, 15, 1023, 1024, 4001, 60_000])
@pytest.mark.parametrize("different", [1, 2, 3, 40, 5000])
@pytest.mark.parametrize("equal", [0.0, 0.45, 0.499, 0.5, 0.7])
def test_the_median_is_numpys_also_where_many_values_are_equal(rows: int, different: int, equal: float) -> None:
    generator = np.random.default_rng([rows, different, int(1000 * equal)])
    drawn = generator.integers(0, different, rows) + (generator.random(rows) if different == 5000 else 0)
    values = np.where(np.arange(rows) < equal * rows, 0, drawn).astype(np.float32)

    for column in (values, generator.permutation(values), -values):
        assert imputed_of(column, "median", None) == np.median(column.astype(np.float64))


def test_of_two_most_frequent_numbers_the_least_is_imputed(tmp_path: Path) -> None:
    cells = {"x": np.array([9.0, 9.0, 2.0, 2.0, 5.0, np.nan])}

    fitted, _ = fitted_of(tmp_path / "job", cells, {"numbers": {"impute": "mode"}})

    assert isinstance(fitted.inputs[0], NumberInput)
    assert fitted.inputs[0].imputed == 2.0


# --- kept for another job -----------------------------------------------------------------------------------------


def test_kept_preprocessing_of_every_kind_is_applied_as_it_was_fitted(tmp_path: Path) -> None:
    spec = {"target": "y", "split": {"validation": 0}, "features": FEATURES, "task": "regression"}
    numbers = np.arange(float(ROWS))
    earlier = order_of(tmp_path / "earlier", {**everything(), "y": 1000 + numbers}, spec)
    kept = prepare(earlier, torch.device("cpu"), refit=False).preprocessing
    (tmp_path / "preprocessing.json").write_text(kept.model_dump_json())
    cells = everything(seed=1)
    cells["kind"][7] = "never seen"
    later = order_of(tmp_path / "later", {**cells, "y": 7 * numbers}, spec)
    start = Beginning(weights="", preprocessing=str(tmp_path / "preprocessing.json"))

    found = prepare(later.model_copy(update={"start": start}), torch.device("cpu"), refit=False)

    assert found.preprocessing == kept
    assert [(one["column"], one["rows"]) for one in found.unseen] == [("kind", 1)]
    expected = by_hand(json.loads(kept.model_dump_json()), {**cells, "y": numbers})
    np.testing.assert_allclose(found.train.features.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert kept.target.scaling is not None
    scaling = kept.target.scaling[0]
    np.testing.assert_allclose(
        found.train.target[:, 0].numpy(), (7 * numbers - scaling.center) / scaling.scale, rtol=1e-4, atol=1e-5
    )
    assert found.train.measured_target[:, 0].tolist() == (7 * numbers).tolist()


# --- categories ---------------------------------------------------------------------------------------------------


def test_an_unknown_category_is_rare_where_some_are_and_else_no_place_at_all(tmp_path: Path) -> None:
    values = ["a"] * 50 + ["b"] * 30 + ["c"] * 2 + ["new"]
    train = np.arange(82)

    with_rare = fitted_of(tmp_path / "one", {"c": values}, {"columns": {"c": {"min_frequency": 5}}}, train)
    without = fitted_of(tmp_path / "two", {"c": values}, {"columns": {"c": {"min_frequency": 1}}}, train)

    assert with_rare[0].features == ["c=a", "c=b", "c=<rare>"]
    assert with_rare[1][-2:].tolist() == [[0, 0, 1], [0, 0, 1]]
    assert without[0].features == ["c=a", "c=b", "c=c"]
    assert without[1][-1].tolist() == [0, 0, 0]


def test_a_fill_value_that_no_row_has_is_a_category_of_its_own(tmp_path: Path) -> None:
    values = ["a", "b", None, "a", None, "b"]
    choice = {"impute": "constant", "fill_value": "none given"}

    fitted, features = fitted_of(tmp_path / "job", {"c": values}, {"columns": {"c": {**choice, "type": "category"}}})

    assert isinstance(fitted.inputs[0], CategoryInput)
    assert fitted.inputs[0].categories == ["a", "b", "none given"]
    assert features[2].tolist() == features[4].tolist() == [0, 0, 1]


def test_a_missing_category_becomes_the_most_frequent_where_asked(tmp_path: Path) -> None:
    values = ["a", "b", None, "b", None, "b"]

    fitted, features = fitted_of(tmp_path / "job", {"c": values}, {"categories": {"impute": "mode"}})

    assert fitted.features == ["c=a", "c=b"]
    assert features[2].tolist() == [0, 1]


def test_a_rare_or_unknown_category_is_the_unknown_vector(tmp_path: Path) -> None:
    values = ["a"] * 50 + ["b"] * 30 + ["c"] * 2 + [None] * 9 + ["new"] + ["a"] * 8
    choice = {"encode": "embedding", "min_frequency": 5, "dimension": 3}
    order = embedding_order(tmp_path / "job", values, choice)
    table = Table(order)
    target, _, _ = read_target(order, table, None)

    fitted = fit(order, table, target, np.arange(91))
    features, codes = transform(fitted, order, table, np.arange(100))

    assert fitted.inputs == [EmbeddingInput(name="c", categories=["a", "b", None], rare=["c"], dimension=3)]
    assert features.shape == (100, 0)
    assert codes is not None
    assert codes[[0, 50, 80, 82, 91], 0].tolist() == [1, 2, 0, 3, 0]


def test_rare_categories_are_not_unseen(tmp_path: Path) -> None:
    values = ["a"] * 50 + ["b"] * 30 + ["c"] * 2 + [None] * 9 + ["new"] + ["a"] * 8
    order = embedding_order(tmp_path / "job", values, {"encode": "one_hot", "min_frequency": 5})
    table = Table(order)
    target, _, _ = read_target(order, table, None)

    fitted = fit(order, table, target, np.arange(91))

    assert unseen_categories(fitted, order, table, np.arange(100)) == {"c": 1}


def embedding_order(folder: Path, values: list[str | None], choice: dict[str, Any]) -> Any:
    cells = {"c": values, "y": ["no", "yes"] * (len(values) // 2)}
    return order_of(folder, cells, {"target": "y", "split": {"validation": 0}, "features": {"columns": {"c": choice}}})


def test_a_fill_value_that_no_training_row_has_is_refused_where_places_are_those_of_the_training_rows(
    tmp_path: Path,
) -> None:
    choice = {"encode": "ordinal", "impute": "constant", "fill_value": "XL"}
    values = ["S", "M", None, "S", "XL", "M"]

    with pytest.raises(errors.FeatureNotSupported, match="none of its categories"):
        fitted_of(tmp_path / "job", {"c": values}, {"columns": {"c": choice}}, np.arange(4))


# --- dates --------------------------------------------------------------------------------------------------------

MOMENTS = {  # moment: year, month, day, weekday, hour, minute
    "2024-02-29T23:59:59": (2024, 2, 29, 3, 23, 59),
    "1970-01-01T00:00:00": (1970, 1, 1, 3, 0, 0),
    "1969-12-31T23:59:59": (1969, 12, 31, 2, 23, 59),
    "1900-03-01T12:30:00": (1900, 3, 1, 3, 12, 30),
    "2000-12-31T00:01:00": (2000, 12, 31, 6, 0, 1),
    "0001-01-01T01:00:00": (1, 1, 1, 0, 1, 0),
}


def test_parts_of_dates_are_those_of_the_calendar(tmp_path: Path) -> None:
    parts = ["year", "month", "day", "weekday", "hour", "minute"]
    cells = {"when": np.array(list(MOMENTS), "datetime64[s]")}
    choice = {"parts": parts, "cyclic": [], "scale": "none"}

    fitted, features = fitted_of(tmp_path / "job", cells, {"datetimes": choice})

    assert fitted.features == [f"when.{part}" for part in parts]
    assert [tuple(row) for row in features.tolist()] == list(MOMENTS.values())


def test_december_is_next_to_january(tmp_path: Path) -> None:
    cells = {"when": np.array([f"2023-{month:02}-15" for month in range(1, 13)], "datetime64[s]")}

    fitted, features = fitted_of(tmp_path / "job", cells, {"datetimes": {"parts": ["month"]}})

    assert fitted.features == ["when.month.sin", "when.month.cos"]
    neighbours = np.linalg.norm(np.roll(features, -1, 0) - features, axis=1)
    assert neighbours == pytest.approx([2 * math.sin(math.pi / 12)] * 12, abs=1e-6)
    assert features[0].tolist() == [0, 1]


def test_seconds_apart_stay_apart_though_float32_knows_every_128th_second_of_today(tmp_path: Path) -> None:
    start = np.datetime64("2026-11-26T12:00:00", "s")
    cells = {"when": start + np.arange(100)}

    fitted, features = fitted_of(tmp_path / "job", cells, {"datetimes": {"parts": ["elapsed"], "scale": "none"}})

    assert isinstance(fitted.inputs[0], DatetimeInput)
    assert features[:, 0].tolist() == [float(second) for second in range(-49, 51)]


def test_a_missing_moment_is_imputed_before_it_is_parted(tmp_path: Path) -> None:
    given = ["2020-03-01", "NaT", "2020-05-01", "2020-07-01"]
    choice = {"parts": ["month"], "cyclic": [], "scale": "none", "missing_indicator": True}

    median = fitted_of(tmp_path / "a", {"when": np.array(given, "datetime64[s]")}, {"datetimes": choice})
    constant = {**choice, "impute": "constant", "fill_value": "2019-12-31T23:00:00-02:00"}
    filled = fitted_of(tmp_path / "b", {"when": np.array(given, "datetime64[s]")}, {"datetimes": constant})

    assert median[1].tolist() == [[3, 0], [5, 1], [5, 0], [7, 0]]
    assert filled[1].tolist() == [[3, 0], [1, 1], [5, 0], [7, 0]]


def test_the_least_int64_is_the_mark_of_a_missing_moment() -> None:
    assert np.datetime64("NaT", "s").astype(np.int64) == MISSING_MOMENT


# --- quantiles ----------------------------------------------------------------------------------------------------


def test_values_beyond_the_training_rows_are_held_at_the_outermost_knots(tmp_path: Path) -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=200), [1e30, -1e30]])

    fitted, features = fitted_of(tmp_path / "job", {"x": values}, {"numbers": {"scale": "quantile"}}, TRAIN)

    assert isinstance(fitted.inputs[0], NumberInput)
    scaling = fitted.inputs[0].scaling
    assert isinstance(scaling, Quantiles)
    assert len(scaling.knots) <= 64
    assert features[-2:, 0].tolist() == [scaling.deviates[-1], scaling.deviates[0]]
    assert features[:200, 0].max() == scaling.deviates[-1] == pytest.approx(2.807, abs=1e-3)  # of 1 - 0.5 / 200


def test_the_order_of_values_is_kept(tmp_path: Path) -> None:
    values = np.sort(np.random.default_rng(0).standard_cauchy(1000))

    _, features = fitted_of(tmp_path / "job", {"x": values}, {"numbers": {"scale": "quantile"}})

    assert (np.diff(features[:, 0]) >= 0).all()


# --- vectors ------------------------------------------------------------------------------------------------------


def test_kept_vectors_of_another_length_do_not_fit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    spec = {"target": "y", "split": {"validation": 0}}
    orders = [
        order_of(tmp_path / str(size), {"v": generator.normal(size=(20, size)), "y": ["a", "b"] * 10}, spec)
        for size in (4, 5)
    ]
    table = Table(orders[0])
    fitted = fit(orders[0], table, read_target(orders[0], table, None)[0], np.arange(20))

    with pytest.raises(errors.StartMismatch) as refused:
        transform(fitted, orders[1], Table(orders[1]), np.arange(20))

    assert refused.value.facts == {"column": "v"}


def test_more_columns_than_are_written_at_once_keep_their_places(tmp_path: Path) -> None:
    vectors = np.tile(np.arange(150, dtype=np.float32), (5000, 1))
    choice = {"v": {"scale": "none"}}

    fitted, features = fitted_of(tmp_path / "job", {"v": vectors}, {"columns": choice})

    assert isinstance(fitted.inputs[0], VectorInput)
    assert fitted.inputs[0].size == 150
    assert np.array_equal(features, vectors)


def test_a_number_without_scaling_is_left_as_it_is(tmp_path: Path) -> None:
    fitted, _ = fitted_of(tmp_path / "job", {"x": np.arange(10.0)}, {"numbers": {"scale": "none"}})

    assert isinstance(fitted.inputs[0], NumberInput)
    assert fitted.inputs[0].scaling == Affine(center=0.0, scale=1.0)


# --- the arrays that are read -----------------------------------------------------------------------------------------


def _stored_by(order: TrainingOrder, values: NDArray[np.float32]) -> tuple[Table, TableColumn]:
    """A table whose numbers are these, (columns, rows), and its first column."""
    column = order.column("x").model_copy(update={"number_row": 0})
    numbers = str(Path(order.folder) / "other.npy")
    np.save(numbers, values)
    return Table(order.model_copy(update={"numbers": numbers})), column


def test_a_column_that_is_cut_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    order = order_of(tmp_path / "job", {"x": [1.0, 2.0, 3.0] * 20, "y": ["a", "b", "b"] * 20}, {"target": "y"})
    table, column = _stored_by(order, np.arange(60, dtype=np.float32)[None])
    with (Path(order.folder) / "other.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 4)

    with pytest.raises(EOFError, match="row 0"):
        table.number(column)


@pytest.mark.long
def test_a_column_of_more_than_two_gibibytes_is_read_to_its_end(tmp_path: Path) -> None:
    order = order_of(tmp_path / "job", {"x": [1.0, 2.0, 3.0] * 20, "y": ["a", "b", "b"] * 20}, {"target": "y"})
    _, column = _stored_by(order, np.zeros((1, 1), np.float32))
    rows = 2**29 + 1000  # 4 bytes each; a sparse file
    numbers = tmp_path / "large.npy"
    stored = np.lib.format.open_memmap(numbers, "w+", np.float32, (1, rows))
    stored[0, -1] = 7
    stored.flush()
    del stored

    values = Table(order.model_copy(update={"numbers": str(numbers)})).number(column)

    assert len(values) == rows
    assert values[-1] == 7
    assert values[:1000].max() == 0
