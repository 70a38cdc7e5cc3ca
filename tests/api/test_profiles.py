"""The profile of a dataset over HTTP, and what a job says of it."""

from typing import Any

import numpy as np
import pytest

from tests.api.asking import post_job, post_table
from tests.running import Serve

CHANCE = np.random.default_rng(0)
HEIGHT = CHANCE.normal(10, 2, 200)


def line(row: int) -> str:
    kind = "ash" if row % 10 else "birch"
    day = f"{1 + row % 28:02}.{1 + row % 12:02}.{2000 + row % 7}"
    return f"{row},{HEIGHT[row]:.3f},{kind},{kind.upper()},2024-01-{1 + row % 31:02},{row % 2 == 0},pine,seen {day}"


TABLE = "tree_id,height,kind,copy,day,wet,wood,note\n" + "".join(f"{line(row)}\n" for row in range(200))


@pytest.fixture(scope="module")
def dataset(serve: Serve) -> dict[str, Any]:
    created = post_table(serve, TABLE.encode(), wait=60).json()
    return dict(serve.http.get(f"/v1/datasets/{created['id']}").raise_for_status().json())


@pytest.fixture(scope="module")
def columns(dataset: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in dataset["columns"]}


def test_a_number_has_figures_quantiles_and_a_histogram(columns: dict[str, dict[str, Any]]) -> None:
    height = columns["height"]

    assert height["mean"] == pytest.approx(HEIGHT.mean(), abs=1e-3)
    assert list(height["quantiles"]) == ["0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"]
    assert height["quantiles"]["0.5"] == pytest.approx(np.median(HEIGHT), abs=1e-3)
    assert len(height["histogram"]["edges"]) == len(height["histogram"]["counts"]) + 1 == 21
    assert sum(height["histogram"]["counts"]) == 200
    assert (height["zeros"], height["negatives"], height["top_values"]) == (0, 0, None)


def test_a_category_has_its_most_frequent_values(columns: dict[str, dict[str, Any]]) -> None:
    kind = columns["kind"]

    assert kind["top_values"] == [["ash", 180], ["birch", 20]]
    assert (kind["shortest"], kind["longest"], kind["mean"], kind["histogram"]) == (3, 5, None, None)


def test_a_date_has_its_first_and_last(columns: dict[str, dict[str, Any]]) -> None:
    day = columns["day"]

    assert (day["type"], day["earliest"], day["latest"], day["dates_only"]) == (
        "datetime",
        "2024-01-01",
        "2024-01-31",
        True,
    )


def test_columns_say_which_others_they_go_together_with(columns: dict[str, dict[str, Any]]) -> None:
    assert columns["kind"]["associations"][0] == {"column": "copy", "strength": 1.0, "predicts": 1.0}
    assert "height" not in [one["column"] for one in columns["kind"]["associations"]]


def test_warnings_rest_on_evidence(dataset: dict[str, Any]) -> None:
    found = {warning["code"]: warning for warning in dataset["warnings"]}

    assert set(found) == {"id_like", "constant_column"}
    assert (found["id_like"]["column"], found["id_like"]["evidence"]["mark"]) == ("tree_id", "name")
    assert found["constant_column"]["evidence"] == {"rows": 200}


def test_a_job_names_what_would_spoil_it(serve: Serve, dataset: dict[str, Any]) -> None:
    spec = {"target": "kind", "training": {"epochs": 1}}

    job = post_job(serve, {"dataset_id": dataset["id"], "spec": spec}).json()

    found = {(warning["code"], warning["column"]) for warning in job["warnings"]}
    assert {
        ("target_leak", "copy"),
        ("id_like_feature", "tree_id"),
        ("constant_feature", "wood"),
        ("class_imbalance", "kind"),
    } <= found
    leak = next(warning for warning in job["warnings"] if warning["code"] == "target_leak")
    assert leak["evidence"]["predicts"] == 1.0
    assert leak in [event["data"] for event in serve.events(job["id"]) if event["type"] == "warning"]


def test_a_job_that_leaves_them_out_is_told_nothing(serve: Serve, dataset: dict[str, Any]) -> None:
    left_out = {"exclude": ["copy", "tree_id", "wood", "day", "note"]}
    spec = {"target": "kind", "features": left_out, "training": {"epochs": 1, "class_weights": "balanced"}}

    job = post_job(serve, {"dataset_id": dataset["id"], "spec": spec}).json()

    assert [warning["code"] for warning in job["warnings"] if warning["code"] != "batch_larger_than_rows"] == []
