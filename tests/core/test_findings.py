"""What a job is told of its data before it trains."""

from typing import Any

import pytest

from core.profile import Association, Column, Warning
from core.resolve import resolve
from core.spec import TrainingSpec

ROWS = 200


def number(name: str, **facts: Any) -> Column:
    return Column(**{"name": name, "type": "number", "missing": 0, "distinct": 100, "number_row": 0} | facts)


def classes(name: str, counts: dict[Any, int], **facts: Any) -> Column:
    own = {"type": "category", "missing": 0, "distinct": len(counts), "code_row": 0}
    return Column(**{"name": name, "values": list(counts), "counts": list(counts.values())} | own | facts)


def by(column: str, predicts: float) -> Association:
    return Association(column=column, strength=0.5, predicts=predicts)


def found(columns: list[Column], target: str | list[str] = "y", **parts: Any) -> list[Warning]:
    return resolve(TrainingSpec.model_validate({"target": target} | parts), columns, ROWS).warnings


def codes(warnings: list[Warning]) -> set[tuple[str, str | None]]:
    return {(warning.code, warning.column) for warning in warnings}


X, EVEN = number("x"), {"no": 100, "yes": 100}


# --- leaks --------------------------------------------------------------------------------------------------------


def test_a_column_that_tells_the_target_is_a_leak() -> None:
    target = classes("y", EVEN, associations=[by("z", 0.991), by("x", 0.6)])

    warnings = found([X, number("z"), target])

    assert codes(warnings) == {("target_leak", "z")}
    assert warnings[0].evidence == {"target": "y", "predicts": 0.991, "strength": 0.5, "at_least": 0.97}
    assert "`features.exclude`" in warnings[0].message


def test_a_leak_of_a_number_is_said_by_its_share_of_variance() -> None:
    target = number("y", associations=[by("z", 0.999)])

    warnings = found([X, number("z"), target], task="regression")

    assert codes(warnings) == {("target_leak", "z")}
    assert "R2 0.999" in warnings[0].message


def test_a_strong_honest_column_is_no_leak() -> None:
    assert found([X, number("z"), classes("y", EVEN, associations=[by("z", 0.96)])]) == []


def test_what_is_no_feature_is_no_finding() -> None:
    target = classes("y", EVEN, associations=[by("z", 1.0)])
    columns = [X, number("z", distinct=1), number("n", id_like="name"), target]

    assert found(columns, features={"exclude": ["z", "n"]}) == []
    assert found(columns, features={"include": ["x"]}) == []


def test_the_other_targets_are_no_leak() -> None:
    one, two = number("a", associations=[by("b", 1.0)]), number("b", associations=[by("a", 1.0)])

    assert found([X, one, two], ["a", "b"], task="regression") == []


def test_a_leak_of_any_target_is_found_once() -> None:
    one, two = (number(name, associations=[by("x", 1.0)]) for name in "ab")

    assert [warning.code for warning in found([X, one, two], ["a", "b"], task="regression")] == ["target_leak"]


def test_an_id_of_sorted_rows_is_an_id_and_no_leak() -> None:
    target = classes("y", EVEN, associations=[by("n", 1.0)])

    assert codes(found([X, number("n", id_like="counts_rows"), target])) == {("id_like_feature", "n")}


# --- features -----------------------------------------------------------------------------------------------------


def test_an_id_and_a_constant_among_the_features_are_said() -> None:
    columns = [X, number("n", id_like="name", distinct=ROWS), number("one", distinct=1), classes("y", EVEN)]

    warnings = found(columns)

    assert codes(warnings) == {("constant_feature", "one"), ("id_like_feature", "n")}
    assert [warning.evidence for warning in warnings if warning.column == "n"] == [
        {"mark": "name", "distinct": ROWS, "rows": ROWS}
    ]


def test_an_only_feature_that_counts_the_rows_is_what_was_sent_to_be_learned() -> None:
    assert found([number("x", id_like="counts_rows"), number("y")], task="regression") == []


@pytest.mark.parametrize(
    ("column", "code", "taken"),
    [
        (Column(name="d", type="text", missing=0, distinct=150, date_format="dd.mm.yyyy"), "date_as_text", "left out"),
        (classes("d", {"01.02.2020": 100, "02.02.2020": 100}, date_format="dd.mm.yyyy"), "date_as_text", "a category"),
        (number("d", type="integer", date_format="yyyymmdd"), "date_as_number", "a number"),
    ],
)
def test_dates_of_another_type_say_what_they_are_taken_as(column: Column, code: str, taken: str) -> None:
    columns = [X, column, classes("y", EVEN)]

    warnings = [warning for warning in found(columns) if warning.code.startswith("date")]

    assert codes(warnings) == {(code, "d")}
    assert taken in warnings[0].message
    assert found(columns, features={"exclude": ["d"]}) == []


# --- classes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "uneven"),
    [
        ({"no": 180, "yes": 20}, True),
        ({"no": 179, "yes": 21}, False),
        ({"a": 96, "b": 98, "c": 6}, True),
        ({"a": 96, "b": 97, "c": 7}, False),
        (EVEN, False),
    ],
)
def test_classes_are_uneven_where_one_is_nearly_all_or_nearly_none(counts: dict[str, int], uneven: bool) -> None:
    warnings = found([X, classes("y", counts)])

    assert codes(warnings) == ({("class_imbalance", "y")} if uneven else set())
    if uneven:
        shares = warnings[0].evidence["shares"]
        assert shares == {name: count / 200 for name, count in counts.items()}
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_weighted_classes_are_even() -> None:
    assert found([X, classes("y", {"no": 190, "yes": 10})], training={"class_weights": "balanced"}) == []


def test_a_rare_label_among_several_is_said() -> None:
    flags = [
        classes(name, counts, type="boolean")
        for name, counts in (("a", {False: 100, True: 100}), ("b", {False: 195, True: 5}))
    ]

    assert codes(found([X, *flags], ["a", "b"])) == {("class_imbalance", "b")}


def test_the_numbers_of_a_regression_have_no_classes() -> None:
    target = classes("y", {0: 195, 1: 5}, type="integer", number_row=0)

    assert found([X, target], task="regression") == []


def test_classes_of_few_rows_are_counted() -> None:
    counts = {"a": 94, "b": 95, "c": 4, "d": 5, "e": 2}

    warnings = [warning for warning in found([X, classes("y", counts)]) if warning.code == "too_few_rows_of_a_class"]

    assert [warning.evidence for warning in warnings] == [{"rows": {"e": 2, "c": 4}, "classes": 2}]


def test_of_very_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    counts = {f"c{place:02}": 6 + place for place in range(40)} | {"all": 2000}

    evidence = found([X, classes("y", counts)])[0].evidence

    assert list(evidence["shares"]) == ["all", "c39", "c38", "c37", "c36", "c04", "c03", "c02", "c01", "c00"]
