"""Associations of pairs against scipy and plain loops; leaks that were planted, and luck that is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from core.profile import Association
from tests.worker.factories import Read, read
from worker.ingest import sample
from worker.ingest.associations import correlation_ratio, cramers_v, explained, skill, spearman

ROWS = 600


def table(folder: Path, **columns: Any) -> Read:
    lines = [
        ",".join("" if value != value or value is None else str(value) for value in row)
        for row in zip(*columns.values(), strict=True)
    ]
    return read(folder, "\n".join([",".join(columns), *lines]) + "\n")


def of(found: Read, target: str, other: str) -> Association | None:
    return next((one for one in found.column(target).associations if one.column == other), None)


def predicts(found: Read, target: str, other: str) -> float:
    one = of(found, target, other)
    return 0.0 if one is None else one.predicts


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(0)


# --- the measures -------------------------------------------------------------------------------------------------


def test_two_numbers_have_the_rank_correlation_of_scipy(tmp_path: Path, chance: np.random.Generator) -> None:
    a = chance.normal(0, 1, ROWS)
    b = np.round(np.exp(-a) + chance.normal(0, 0.5, ROWS), 1)  # with ties

    found = of(table(tmp_path / "data", a=a, b=b), "a", "b")

    assert found is not None
    assert found.strength == pytest.approx(-stats.spearmanr(a, b).statistic, abs=2e-4)


def test_rank_correlation_is_of_the_rows_that_know_both(chance: np.random.Generator) -> None:
    ranks = chance.normal(0, 1, (ROWS, 3))
    ranks[:, 1] += ranks[:, 0]
    known = chance.random((ROWS, 3)) > 0.3

    found = spearman(np.where(known, ranks, 0), known.astype(float))

    both = known[:, 0] & known[:, 1]
    assert found[0, 1] == pytest.approx(abs(np.corrcoef(ranks[both, 0], ranks[both, 1])[0, 1]))
    assert np.allclose(found, found.T)


def test_two_categories_have_cramers_v_corrected_for_chance(chance: np.random.Generator) -> None:
    counted = chance.integers(1, 30, (4, 3)) + np.diag([40, 40, 40, 0])[:, :3]

    found = cramers_v(counted)

    n, (r, k) = counted.sum(), counted.shape
    phi = stats.chi2_contingency(counted, correction=False).statistic / n
    phi = max(0, phi - (k - 1) * (r - 1) / (n - 1))
    least = min(k - (k - 1) ** 2 / (n - 1), r - (r - 1) ** 2 / (n - 1)) - 1
    assert found == pytest.approx(np.sqrt(phi / least))


def test_a_category_and_a_number_have_the_corrected_share_of_variance(chance: np.random.Generator) -> None:
    group, value = chance.integers(0, 5, ROWS), chance.normal(0, 1, ROWS)
    value += group
    parts = [value[group == one] for one in range(5)]

    sums, counts, squares = (
        np.array([[figure(part)] for part in parts]) for figure in (np.sum, len, lambda x: (x**2).sum())
    )
    found = correlation_ratio(sums, counts.astype(float), squares)

    within = sum(((part - part.mean()) ** 2).sum() for part in parts) / (ROWS - 5)
    assert found[0] == pytest.approx(np.sqrt(1 - within / value.var(ddof=1)))


def test_a_number_is_predicted_by_the_mean_of_the_other_rows_of_its_level(chance: np.random.Generator) -> None:
    level, value = chance.integers(0, 60, 200), chance.normal(0, 1, 200)
    level[:3] = [100, 101, 102]  # alone
    value += level / 20
    names = np.unique(level)

    sums, counts, squares = (
        np.array([[figure(value[level == one])] for one in names], dtype=float)
        for figure in (np.sum, len, lambda x: (x**2).sum())
    )
    found = explained(sums, counts, squares)

    def said(row: int) -> float:
        others = (level == level[row]) & (np.arange(200) != row)
        return float(value[others].mean() if others.any() else value.mean())

    error = sum((value[row] - said(row)) ** 2 for row in range(200))
    assert found[0] == pytest.approx(1 - error / ((value - value.mean()) ** 2).sum())


def test_a_class_is_predicted_by_the_most_of_the_other_rows_of_its_level() -> None:
    counted = np.array([[10, 0], [1, 30], [0, 2], [1, 0], [2, 2]])

    # Right: 10; 30; both of 2, for one is left to say so; the lone row, which is of the most common class or not; none.
    right = 10 + 30 + 2 / 2 * 1 + 0
    right += 1  # of the level with two rows, the other row agrees: 2 > 0 without the row itself as well
    base = counted.sum(axis=0).max()
    assert skill(counted) == pytest.approx((right - base) / (counted.sum() - base))


# --- leaks and luck -----------------------------------------------------------------------------------------------

LEAKS = {
    "a copy": lambda y, chance: y,
    "a line": lambda y, chance: 3 * y - 7,
    "a little noise": lambda y, chance: y + chance.normal(0, 0.05, len(y)),
    "a monotone curve": lambda y, chance: np.exp(y),
    "rounded": lambda y, chance: np.round(y, 1),
    "missing in places": lambda y, chance: np.where(chance.random(len(y)) < 0.2, np.nan, y),
}


@pytest.mark.parametrize("how", LEAKS)
@pytest.mark.parametrize("rows", [120, 5000])
def test_a_leak_of_a_number_is_seen(tmp_path: Path, how: str, rows: int, chance: np.random.Generator) -> None:
    y = chance.normal(0, 1, rows)

    found = table(tmp_path / "data", leak=LEAKS[how](y, chance), x=chance.normal(0, 1, rows) + y, y=y)

    assert predicts(found, "y", "leak") >= 0.98
    assert predicts(found, "y", "x") < 0.9


CLASS_LEAKS = {
    "its number": lambda y, chance: y,
    "its number and noise": lambda y, chance: y + chance.normal(0, 0.05, len(y)),
    "other words": lambda y, chance: np.array(["no", "maybe", "yes"])[y],
    "finer words": lambda y, chance: [f"{one}{chance.integers(0, 4)}" for one in np.array(["n", "m", "y"])[y]],
    "not in order": lambda y, chance: np.array([5.0, -1.0, 2.0])[y] + chance.uniform(0, 0.9, len(y)),
    "missing in places": lambda y, chance: np.where(chance.random(len(y)) < 0.2, np.nan, y),
}


@pytest.mark.parametrize("how", CLASS_LEAKS)
@pytest.mark.parametrize("rows", [150, 5000])
def test_a_leak_of_a_class_is_seen(tmp_path: Path, how: str, rows: int, chance: np.random.Generator) -> None:
    y = chance.choice([0, 1, 2], rows, p=[0.7, 0.2, 0.1])

    found = table(
        tmp_path / "data", leak=CLASS_LEAKS[how](y, chance), x=y + chance.normal(0, 1, rows), y=[f"c{one}" for one in y]
    )

    assert predicts(found, "y", "leak") >= 0.98
    assert predicts(found, "y", "x") < 0.9


def test_a_class_that_was_cut_from_a_number_is_seen(tmp_path: Path, chance: np.random.Generator) -> None:
    weight = chance.normal(3000, 500, 4000)

    found = table(tmp_path / "data", weight=weight, low=np.where(weight < 2400, "low", "normal"))

    assert predicts(found, "low", "weight") >= 0.98


def test_that_a_value_is_missing_may_be_the_leak(tmp_path: Path, chance: np.random.Generator) -> None:
    y = chance.integers(0, 2, ROWS)

    found = table(
        tmp_path / "data", ended=np.where(y == 1, chance.normal(0, 1, ROWS), np.nan), y=np.where(y, "yes", "no")
    )

    assert predicts(found, "y", "ended") == 1.0


def test_a_leak_that_is_no_function_upwards_is_seen_by_levels_alone(
    tmp_path: Path, chance: np.random.Generator
) -> None:
    x = chance.uniform(-1, 1, 5000)

    one = of(table(tmp_path / "data", x=x, y=x**2), "y", "x")

    assert one is not None
    assert one.strength < 0.1
    assert one.predicts > 0.99


@pytest.mark.parametrize("target", ["number", "class"])
def test_different_values_in_each_row_predict_nothing(tmp_path: Path, target: str, chance: np.random.Generator) -> None:
    y = chance.normal(0, 1, ROWS) if target == "number" else [f"c{one}" for one in chance.integers(0, 3, ROWS)]

    found = table(
        tmp_path / "data",
        number=chance.permutation(ROWS),
        measure=chance.normal(0, 1, ROWS),
        category=[f"v{one}" for one in chance.integers(0, ROWS // 3, ROWS)],
        y=y,
    )

    assert max((one.predicts for one in found.column("y").associations), default=0) < 0.2


# --- the sample ---------------------------------------------------------------------------------------------------


def test_the_sample_is_bounded_and_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "ROWS", 400)
    seen: list[NDArray[Any]] = []
    drawn = sample._renumbered
    monkeypatch.setattr(sample, "_renumbered", lambda levels: (seen.append(levels), drawn(levels))[1])
    a = np.random.default_rng(1).normal(0, 1, 3000)
    columns = {"a": a, "b": a + np.random.default_rng(2).normal(0, 1, 3000)}

    first, second = table(tmp_path / "one", **columns), table(tmp_path / "two", **columns)

    assert {len(levels) for levels in seen} == {400}
    assert first.column("a").associations == second.column("a").associations != []


def test_of_very_many_columns_the_first_and_the_last_are_compared(tmp_path: Path, chance: np.random.Generator) -> None:
    y = chance.normal(0, 1, 60)
    between = {f"c{place}": np.round(chance.normal(0, 1, 60), 2) for place in range(220)}

    found = table(tmp_path / "data", first=y, **between, y=y)

    assert predicts(found, "y", "first") == 1.0
    assert found.column("c110").associations == []


def test_only_the_strongest_are_kept(tmp_path: Path, chance: np.random.Generator) -> None:
    y = chance.normal(0, 1, ROWS)

    found = table(
        tmp_path / "data", **{f"c{place}": y + chance.normal(0, 1 + place / 5, ROWS) for place in range(15)}, y=y
    )

    kept = found.column("y").associations
    shown = [max(one.strength, one.predicts) for one in kept]
    assert len(kept) == 10
    assert kept[0].column == "c0"
    assert shown == sorted(shown, reverse=True)
    assert min(shown) >= 0.1


def test_of_few_rows_nothing_is_said(tmp_path: Path) -> None:
    found = table(tmp_path / "data", a=range(20), b=range(20))

    assert found.column("a").associations == []


def test_a_category_that_the_sample_does_not_know_goes_together_with_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: np.random.Generator
) -> None:
    monkeypatch.setattr(sample, "ROWS", 40)
    rare = ["a", "b"] + [None] * 2998

    found = table(tmp_path / "data", rare=rare, x=chance.normal(0, 1, 3000), y=chance.normal(0, 1, 3000))

    assert found.column("rare").associations == []
