"""What becomes of each column where a spec says little, much, or what cannot be."""

from typing import Any

import pytest
from pydantic import ValidationError

from core import errors
from core.profile import Column
from core.resolve import Resolved, resolve
from core.resolve.choices import default_dimension
from core.resolve.widths import input_width
from core.spec import TrainingSpec
from core.spec.features import ColumnChoice

ROWS = 1000


def column(name: str, kind: str, **facts: Any) -> Column:
    return Column(**{"name": name, "type": kind, "missing": 0, "distinct": 100} | facts)


def number(name: str = "x", **facts: Any) -> Column:
    return column(name, **{"kind": "number", "number_row": 0} | facts)


def category(name: str = "c", counts: list[int] | None = None, **facts: Any) -> Column:
    counts = counts or [ROWS // 2, ROWS // 2]
    values = [f"v{place:03}" for place in range(len(counts))]
    own = {"kind": "category", "values": values, "counts": counts, "distinct": len(counts), "code_row": 0}
    return column(name, **own | facts)


def date(name: str = "when", first: str = "2020-01-01", last: str = "2023-12-31", **facts: Any) -> Column:
    own = {"kind": "datetime", "earliest": first, "latest": last, "dates_only": True, "moment_row": 0}
    return column(name, **own | facts)


def vector(size: int = 12, **facts: Any) -> Column:
    return column("v", **{"kind": "vector", "size": size, "number_row": 3} | facts)


TEXT = column("notes", "text", distinct=9000)
TARGET = category("y", code_row=9)


def resolved(*columns: Column, rows: int = ROWS, **parts: Any) -> Resolved:
    return resolve(TrainingSpec.model_validate({"target": "y"} | parts), [*columns, TARGET], rows)


def choice(asked: Column, said: dict[str, Any] | None = None, **features: Any) -> dict[str, Any]:
    """All that is written out of one column."""
    spec = {"features": {**features, **({"columns": {asked.name: said}} if said is not None else {})}}
    return resolved(asked, **spec).spec.features.columns[asked.name].said


def warned(found: Resolved) -> list[tuple[str, str | None]]:
    return [(warning.code, warning.column) for warning in found.warnings]


# --- defaults -----------------------------------------------------------------------------------------------------


def test_every_default_of_each_type_is_written_out() -> None:
    numeric = {"impute": "median", "missing_indicator": False, "scale": "standard"}

    assert choice(number()) == {"type": "number", **numeric}
    assert choice(vector()) == {"type": "vector", **numeric}
    assert choice(category()) == {"type": "category", "encode": "one_hot", "impute": "none", "min_frequency": 10.0}
    assert choice(date()) == {
        "type": "datetime",
        **numeric,
        "parts": ["elapsed", "month", "weekday"],
        "cyclic": ["month", "weekday"],
    }
    assert choice(category(), {"encode": "ordinal"}) == {
        "type": "category",
        "encode": "ordinal",
        **numeric,
        "impute": "mode",
    }


@pytest.mark.parametrize("asked", [number(missing=80), category(), category(counts=[5] * 60), date(), vector()])
def test_a_resolved_choice_resolves_to_itself(asked: Column) -> None:
    once = resolved(asked).spec

    again = resolve(once, [asked, TARGET], ROWS).spec

    assert again == once


def test_few_integers_are_numbers_unless_they_are_said_to_be_categories() -> None:
    stars = column("stars", "integer", number_row=0, code_row=0, values=[1, 2, 3], counts=[400, 300, 300], distinct=3)

    assert choice(stars)["type"] == "number"
    assert choice(stars, {"type": "category"})["encode"] == "one_hot"
    assert choice(stars, {"encode": "ordinal"})["type"] == "category"


@pytest.mark.parametrize(("categories", "encode"), [(2, "one_hot"), (32, "one_hot"), (33, "embedding")])
def test_many_categories_become_a_learned_vector(categories: int, encode: str) -> None:
    found = choice(category(counts=[20] * categories))

    assert found["encode"] == encode
    assert found.get("dimension") == (default_dimension(categories) if encode == "embedding" else None)


@pytest.mark.parametrize(("categories", "dimension"), [(2, 2), (10, 6), (100, 21), (1000, 77), (10**6, 600)])
def test_the_width_of_a_vector_is_that_of_fastai(categories: int, dimension: int) -> None:
    assert default_dimension(categories) == dimension


@pytest.mark.parametrize(("rows", "least"), [(10, 1.0), (199, 1.0), (200, 2.0), (1000, 10.0), (10**6, 10.0)])
def test_categories_below_a_hundredth_of_the_rows_are_rare_but_ten_rows_always_do(rows: int, least: float) -> None:
    found = resolved(category(), rows=rows).spec.features.columns["c"]

    assert found.min_frequency == least


@pytest.mark.parametrize(
    ("missing", "distinct", "indicated"), [(0, 100, False), (49, 100, False), (50, 100, True), (1, 1, True)]
)
def test_that_a_number_was_missing_is_an_input_where_many_are_or_nothing_else_differs(
    missing: int, distinct: int, indicated: bool
) -> None:
    assert choice(number(missing=missing, distinct=distinct))["missing_indicator"] is indicated


@pytest.mark.parametrize(
    ("first", "last", "facts", "parts"),
    [
        ("2020-01-01", "2023-12-31", {}, ["elapsed", "month", "weekday"]),
        ("2020-01-01", "2020-01-20", {}, ["elapsed", "weekday"]),
        ("2020-01-01", "2020-01-01", {}, ["elapsed"]),
        ("2020-01-01T00:00:00", "2023-01-01T12:00:00", {"dates_only": False}, ["elapsed", "month", "weekday", "hour"]),
        ("2020-01-01T08:00:00", "2020-01-01T09:30:00", {"dates_only": False}, ["elapsed", "hour"]),
        ("08:00:00", "17:30:00", {"dates_only": None}, ["elapsed", "hour"]),
        ("-0044-03-15", "12000-01-01", {}, ["elapsed", "month", "weekday"]),
    ],
)
def test_dates_become_the_cycles_that_they_go_through(
    first: str, last: str, facts: dict[str, Any], parts: list[str]
) -> None:
    assert choice(date(first=first, last=last, **facts))["parts"] == parts


# --- left out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("useless", "code"),
    [
        (number("x", distinct=0, missing=ROWS), "column_all_missing"),
        (number("x", distinct=1), "constant_feature"),
        (number("x", id_like="counts_rows"), "id_like_feature"),
        (TEXT, "column_not_used"),
        (date(moment_row=None), "column_not_used"),
    ],
)
def test_what_nothing_can_be_learned_from_is_left_out_with_a_warning(useless: Column, code: str) -> None:
    found = resolved(number("z", number_row=1), useless)

    assert found.spec.features.include == ["z"]
    assert warned(found) == [(code, useless.name)]


@pytest.mark.parametrize("asked", [{"include": ["z", "x"]}, {"columns": {"x": {}}}])
@pytest.mark.parametrize("odd", [number("x", distinct=1), number("x", id_like="counts_rows")])
def test_what_is_asked_for_by_name_is_used(odd: Column, asked: dict[str, Any]) -> None:
    assert resolved(number("z", number_row=1), odd, features=asked).spec.features.include == ["z", "x"]


def test_an_id_is_used_where_there_is_nothing_else() -> None:
    found = resolved(number("x", id_like="counts_rows"), TEXT)

    assert found.spec.features.include == ["x"]
    assert warned(found) == [("column_not_used", "notes")]


def test_a_constant_that_is_sometimes_missing_says_something() -> None:
    found = resolved(number(distinct=1, missing=3))

    assert found.spec.features.columns["x"].missing_indicator is True
    assert warned(found) == []


def test_text_is_refused_with_a_word_of_what_to_do() -> None:
    with pytest.raises(errors.FeatureNotSupported) as refused:
        resolved(number(), TEXT, features={"include": ["x", "notes"]})

    assert "9,000 different values" in refused.value.detail
    assert "vector column" in refused.value.detail
    assert refused.value.errors[0]["pointer"] == "/spec/features/include/1"


def test_dates_written_as_text_are_refused_with_the_form_to_send() -> None:
    written = column("day", "text", distinct=900, date_format="%d.%m.%Y")

    with pytest.raises(errors.FeatureNotSupported, match=r"ISO 8601, such as 2024-01-31"):
        resolved(number(), written, features={"columns": {"day": {"type": "datetime"}}})


# --- choices that cannot be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (number(), {"type": "category"}),
        (number(), {"encode": "one_hot"}),
        (number(), {"type": "datetime"}),
        (number(), {"parts": ["year"]}),
        (category(), {"type": "number"}),
        (category(), {"scale": "none"}),
        (category(), {"impute": "mean"}),
        (date(), {"type": "category"}),
        (date(), {"encode": "embedding"}),
        (vector(), {"type": "number"}),
        (vector(), {"scale": "quantile"}),
    ],
)
def test_a_choice_that_does_not_fit_its_column_is_refused_with_what_is_legal(
    asked: Column, said: dict[str, Any]
) -> None:
    with pytest.raises(errors.FeatureNotSupported) as refused:
        choice(asked, said)

    assert "Of " in refused.value.detail
    assert refused.value.errors[0]["pointer"] == f"/spec/features/columns/{asked.name}"


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"encode": "one_hot", "scale": "none"}, "one-hot categories"),
        ({"type": "number", "encode": "one_hot"}, "Of numbers"),
        ({"type": "vector", "scale": "quantile"}, "Of vectors"),
        ({"impute": "none", "scale": "standard"}, "do not go together"),
        ({"parts": ["month"], "min_frequency": 5}, "do not go together"),
        ({"dimension": 4}, "`encode: embedding`"),
        ({"encode": "one_hot", "order": ["a"]}, "`encode: ordinal`"),
        ({"impute": "constant"}, "`fill_value`"),
        ({"fill_value": 0}, "`impute: constant`"),
        ({"parts": ["year"], "cyclic": ["month"]}, "not among `parts`"),
        ({"cyclic": ["year"]}, "month"),
        ({"min_frequency": 1.5}, "whole number of rows"),
        ({"min_frequency": 0}, "greater than 0"),
        ({"impute": "constant", "fill_value": [1]}, "true, false"),
        ({"order": [], "encode": "ordinal"}, "at least 1"),
    ],
)
def test_choices_that_make_no_sense_together_are_refused(said: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingSpec.model_validate({"target": "y", "features": {"columns": {"x": said}}})

    assert any(word in error["msg"] for error in refused.value.errors())


@pytest.mark.parametrize(
    ("asked", "value", "wanted"),
    [
        (number(), "five", "a number"),
        (number(), True, "a number"),
        (vector(), "five", "a number"),
        (date(), 5, "a date as ISO 8601"),
        (date(), "31.12.2020", "a date as ISO 8601"),
    ],
)
def test_a_fill_value_is_one_of_the_column_s_type(asked: Column, value: Any, wanted: str) -> None:
    with pytest.raises(errors.FeatureNotSupported, match=wanted) as refused:
        choice(asked, {"impute": "constant", "fill_value": value})

    assert refused.value.errors[0]["pointer"] == f"/spec/features/columns/{asked.name}/fill_value"


def test_a_fill_value_of_an_order_is_one_of_its_places() -> None:
    constant = {"encode": "ordinal", "impute": "constant", "fill_value": "v001"}

    assert choice(category(), constant)["fill_value"] == "v001"
    with pytest.raises(errors.FeatureNotSupported, match="one of its categories"):
        choice(category(), {**constant, "order": ["v000"]})


def test_values_that_are_not_in_the_order_are_counted_in_a_warning() -> None:
    found = resolved(category(counts=[5, 5, 5]), features={"columns": {"c": {"encode": "ordinal", "order": ["v002"]}}})

    assert warned(found) == [("values_not_in_order", "c")]
    assert found.warnings[0].evidence == {"values": 2}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"impute": "most_frequent"}, {"impute": "mode"}),
        ({"scale": "zscore"}, {"scale": "standard"}),
        ({"scale": "minmax"}, {"scale": "min_max"}),
        ({"encode": "onehot"}, {"encode": "one_hot"}),
    ],
)
def test_other_libraries_words_are_written_in_ours(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert ColumnChoice.model_validate(theirs) == ColumnChoice.model_validate(ours)


# --- choices for all columns of a type ----------------------------------------------------------------------------


def test_a_choice_for_all_columns_of_a_type_holds_where_a_column_says_nothing() -> None:
    features = {
        "numbers": {"scale": "robust", "impute": "mean"},
        "categories": {"encode": "embedding", "min_frequency": 3},
        "datetimes": {"parts": ["year", "weekday"], "cyclic": []},
        "vectors": {"scale": "none"},
        "columns": {"x": {"impute": "mode"}, "c": {"dimension": 7, "encode": "embedding"}},
    }

    found = resolved(number(), number("z"), category(), date(), vector(), features=features).spec.features

    assert (found.columns["x"].scale, found.columns["x"].impute) == ("robust", "mode")
    assert (found.columns["z"].scale, found.columns["z"].impute) == ("robust", "mean")
    assert (found.columns["c"].dimension, found.columns["c"].min_frequency) == (7, 3)
    assert (found.columns["when"].parts, found.columns["when"].cyclic) == (["year", "weekday"], [])
    assert found.columns["v"].scale == "none"
    assert (found.numbers, found.categories, found.datetimes, found.vectors) == (None, None, None, None)


def test_a_column_s_own_encoding_takes_from_the_choice_for_all_only_what_fits_it() -> None:
    features = {
        "categories": {"encode": "ordinal", "impute": "median", "scale": "min_max"},
        "columns": {"c": {"encode": "one_hot"}},
    }

    found = choice(category(), **features)

    assert found == {"type": "category", "encode": "one_hot", "impute": "none", "min_frequency": 10.0}


def test_a_column_s_own_imputation_replaces_the_constant_of_all() -> None:
    found = choice(number(), {"impute": "mean"}, numbers={"impute": "constant", "fill_value": -1})

    assert (found["impute"], "fill_value" in found) == ("mean", False)


@pytest.mark.parametrize(
    "features", [{"numbers": {"encode": "one_hot"}}, {"vectors": {"scale": "quantile"}}, {"datetimes": {"order": [1]}}]
)
def test_a_choice_for_all_is_refused_where_it_fits_none(features: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingSpec.model_validate({"target": "y", "features": features})


# --- widths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said", "width"),
    [
        (number(), {"missing_indicator": True}, 2),
        (vector(12), {}, 12),
        (vector(12), {"missing_indicator": True}, 13),
        (category(counts=[500, 400, 60, 30, 10]), {"min_frequency": 1}, 5),
        (category(counts=[500, 400, 60, 30, 10]), {"min_frequency": 60}, 4),
        (category(counts=[500, 400, 60, 30, 10]), {"min_frequency": 5}, 5),
        (category(counts=[500, 400, 60, 30, 10], missing=20), {"min_frequency": 1}, 6),
        (category(counts=[500, 400, 60, 30, 10]), {"min_frequency": 0.5}, 5),
        (category(counts=[500, 400]), {"encode": "ordinal", "missing_indicator": True}, 2),
        (category(counts=[500, 400]), {"encode": "embedding", "dimension": 9}, 9),
        (date(), {"parts": ["elapsed", "year", "month"], "cyclic": ["month"]}, 4),
        (date(), {"parts": ["month"], "missing_indicator": True}, 3),
    ],
)
def test_the_width_of_an_input_is_bounded_at_submission(asked: Column, said: dict[str, Any], width: int) -> None:
    found = resolved(asked, features={"columns": {asked.name: said}}).spec.features.columns[asked.name]

    assert input_width(asked, found) == width


def test_parameters_count_what_the_columns_become() -> None:
    embedded = {"columns": {"c": {"encode": "embedding", "dimension": 4}}}

    found = resolved(vector(10), category(counts=[9, 9, 9]), features=embedded, network={"hidden": [5]})

    assert found.parameters == (10 + 4) * 5 + 5 + 5 + 1 + (3 + 1) * 4


# --- the scale of the target --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "scale"),
    [
        ({}, "standard"),
        ({"training": {"loss": "quantile"}}, "standard"),
        ({"training": {"loss": "poisson"}}, "none"),
        ({"training": {"loss": "gamma"}}, "none"),
        ({"target_scale": "none"}, "none"),
        ({"task": "classification"}, "none"),
    ],
)
def test_numbers_to_predict_are_scaled_unless_their_logarithm_is_predicted(parts: dict[str, Any], scale: str) -> None:
    counts = column("n", "integer", number_row=0, code_row=0, values=[1, 2, 3], counts=[9, 9, 9], minimum=1, maximum=3)
    spec = TrainingSpec.model_validate({"target": "n", "task": "regression"} | parts)

    assert resolve(spec, [number("x", number_row=1), counts], ROWS).spec.target_scale == scale


@pytest.mark.parametrize("parts", [{"target": "y"}, {"target": "n", "training": {"loss": "poisson"}}])
def test_there_is_no_scale_of_classes_and_of_logarithms(parts: dict[str, Any]) -> None:
    spec = TrainingSpec.model_validate({"target_scale": "standard"} | parts)

    with pytest.raises(errors.TargetScaleNotSupported) as refused:
        resolve(spec, [number("x"), number("n", minimum=1.0), TARGET], ROWS)

    assert refused.value.errors[0]["pointer"] == "/spec/target_scale"


def test_large_numbers_that_are_not_scaled_are_said_in_a_warning() -> None:
    prices = number("price", mean=20_000.0, std=5000.0)

    codes = [
        warned(resolve(TrainingSpec(target="price", target_scale=scale), [number("x"), prices], ROWS))  # type: ignore[arg-type]
        for scale in ("auto", "none")
    ]

    assert codes == [[], [("target_not_scaled", "price")]]


def test_cyclic_said_alone_comes_beside_the_parts_that_are_found() -> None:
    found = choice(date("d"), {"cyclic": ["minute"]})

    assert found["cyclic"] == ["minute"]
    assert "minute" in found["parts"]
    assert set(choice(date("d"))["parts"]) <= set(found["parts"])


def test_cyclic_of_a_column_is_refused_where_the_parts_of_all_dates_lack_it() -> None:
    with pytest.raises(errors.FeatureNotSupported) as refused:
        choice(date("d"), {"cyclic": ["month"]}, datetimes={"parts": ["hour"]})

    (found,) = refused.value.errors
    assert found["pointer"] == "/spec/features/columns/d/cyclic"
