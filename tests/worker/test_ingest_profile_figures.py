"""The figures of each type of column against numpy's."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.profile import QUANTILES, ColumnType
from tests.worker.factories import Read, read
from worker.ingest.arrays import MISSING_MOMENT
from worker.ingest.numbers import profile_numbers, sort
from worker.ingest.words import profile_text

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def numbers(folder: Path, values: "NDArray[Any]") -> Read:
    return read(folder, "x,y\n" + "".join(f"{value!r},{row % 2}\n" for row, value in enumerate(values.tolist())))


def parquet(folder: Path, query: str) -> Read:
    folder.mkdir()
    duckdb.connect().execute(f"COPY ({query}) TO '{folder / 'sent'}' (FORMAT parquet)")
    return read(folder, (folder / "sent").read_bytes(), "parquet")


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 100, 999])
def test_quantiles_are_those_of_numpy(tmp_path: Path, rows: int) -> None:
    values = np.random.default_rng(rows).normal(3, 2, rows)

    column = numbers(tmp_path / "data", values).column("x")

    assert column.quantiles == pytest.approx(np.quantile(values, QUANTILES).tolist(), rel=1e-12)


@given(st.lists(FINITE, min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_every_value_is_in_one_bin_or_outside(values: list[float]) -> None:
    found = profile_numbers(np.array(values), whole=False)

    histogram = found["histogram"]
    assert sum(histogram.counts) + histogram.below + histogram.above == len(values)
    assert len(histogram.edges) == len(histogram.counts) + 1
    assert histogram.edges == sorted(histogram.edges)
    assert np.all(np.isfinite(found["quantiles"]))


def test_a_histogram_without_outliers_is_that_of_numpy(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, 5000)

    histogram = numbers(tmp_path / "data", values).column("x").histogram

    counts, edges = np.histogram(values, bins=20)
    assert histogram is not None
    assert (histogram.counts, histogram.below, histogram.above) == (counts.tolist(), 0, 0)
    assert histogram.edges == pytest.approx(edges.tolist())


def test_an_outlier_does_not_put_all_others_into_one_bin(tmp_path: Path) -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 5000), [1e9, -1e9, 2e9])

    histogram = numbers(tmp_path / "data", values).column("x").histogram

    assert histogram is not None
    assert (histogram.below, histogram.above) == (1, 2)
    assert histogram.edges[-1] - histogram.edges[0] < 15
    assert max(histogram.counts) < 2000


def test_integers_in_a_row_have_a_bin_each(tmp_path: Path) -> None:
    histogram = numbers(tmp_path / "data", np.array([3, 5, 5, 7, 3, 3])).column("x").histogram

    assert histogram is not None
    assert (histogram.edges, histogram.counts) == ([2.5, 3.5, 4.5, 5.5, 6.5, 7.5], [3, 0, 2, 0, 1])


def test_zeros_and_negatives_are_counted(tmp_path: Path) -> None:
    column = read(tmp_path / "data", "x,y\n0,a\n-0.0,b\n-2.5,a\n,b\n3,a\n-inf,b\n").column("x")

    assert (column.zeros, column.negatives) == (2, 1)


@given(st.lists(st.integers(-120, 120), min_size=1, max_size=300))
@settings(max_examples=100, deadline=None)
def test_integers_are_sorted_by_counting_as_by_comparing(values: list[int]) -> None:
    for kind in (np.int8, np.int64, np.float64):
        found = np.array(values, dtype=kind)

        sort(found)

        assert found.tolist() == sorted(values)
        assert found.dtype == kind


# --- text ---------------------------------------------------------------------------------------------------------


def test_text_has_its_most_frequent_values_and_lengths(tmp_path: Path) -> None:
    words = [f"w{place:04}" for place in range(1200)] + ["often"] * 5 + ["twice", "twice", "long" * 100] * 2

    column = read(tmp_path / "data", "t,y\n" + "".join(f"{word},1\n" for word in words)).column("t")

    assert (column.type, column.distinct, column.values) == ("text", 1203, None)
    assert column.common is not None
    assert column.common[:3] == [("often", 5), ("twice", 4), ("w0000", 1)]  # what is too long to show is not shown
    assert (column.shortest, column.longest) == (5, 400)


def test_text_of_different_values_in_every_row_has_no_frequent_ones(tmp_path: Path) -> None:
    column = read(tmp_path / "data", "t,y\n" + "".join(f"word {place},1\n" for place in range(80))).column("t")

    assert (column.type, column.common) == ("text", None)


# --- dates --------------------------------------------------------------------------------------------------------


def test_dates_say_when_they_begin_and_end(tmp_path: Path) -> None:
    table = read(tmp_path / "data", "d,t,y\n2020-02-29,2020-01-01 10:30:00,1\n,1969-12-31 23:59:59,2\n1960-01-01,,3\n")

    day, moment = table.column("d"), table.column("t")

    assert (day.type, day.missing, day.distinct, day.dates_only) == ("datetime", 1, 2, True)
    assert (day.earliest, day.latest) == ("1960-01-01", "2020-02-29")
    assert (moment.earliest, moment.latest) == ("1969-12-31T23:59:59", "2020-01-01T10:30:00")
    assert moment.dates_only is False


def test_timestamps_that_are_all_at_midnight_are_dates_only(tmp_path: Path) -> None:
    table = parquet(
        tmp_path / "data", "SELECT TIMESTAMP '2020-01-01' + to_days(i::INT) AS t, i AS y FROM range(9) r(i)"
    )

    assert table.column("t").dates_only is True


def test_moments_are_seconds_that_lose_nothing(tmp_path: Path) -> None:
    query = """SELECT * FROM (VALUES
        (DATE '2026-11-26', TIMESTAMP '2026-11-26 21:02:55.75', TIMESTAMPTZ '2026-11-26 21:02:55Z', TIME '00:01:02', 1),
        (NULL, TIMESTAMP '1969-12-31 23:59:59.5', NULL, NULL, 2),
        ('infinity'::DATE, 'infinity'::TIMESTAMP, TIMESTAMPTZ '1970-01-01 00:00:01+00', TIME '23:59:59', 3)
        ) AS t(d, t, z, c, y)"""

    table = parquet(tmp_path / "data", query)

    moments = np.load(table.folder / "moments.npy")
    assert (moments.dtype, moments.shape) == (np.int64, (4, 3))
    day, moment, zoned, clock = (moments[table.column(name).moment_row].tolist() for name in "dtzc")
    assert day == [1795651200, MISSING_MOMENT, MISSING_MOMENT]
    assert moment == [1795651200 + 75775, -1, MISSING_MOMENT]
    assert zoned == [1795651200 + 75775, MISSING_MOMENT, 1]
    assert clock == [62, MISSING_MOMENT, 86399]
    assert table.column("d").missing == 2
    assert table.column("t").latest == "2026-11-26T21:02:55.75"
    assert (table.column("c").earliest, table.column("c").latest) == ("00:01:02", "23:59:59")


@pytest.mark.parametrize(("chosen", "kept"), [(None, "text"), ("category", "category"), ("text", "text")])
def test_a_user_may_choose_between_text_and_category(chosen: ColumnType | None, kept: str) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TEMP TABLE stretch AS SELECT 'word ' || i AS c0 FROM range(80) AS r(i)")

    facts, _ = profile_text(connection, "t", "c0", 80, nested=False, chosen=chosen)

    assert (facts["type"], facts.get("values") is not None) == (kept, kept == "category")
