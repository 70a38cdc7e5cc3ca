"""What is said of the 30 tables of `benchmarks/quality.py`, with the target known: at most two findings may be false.

Whether a finding is true is asked of pandas, which knows nothing of our profile.
"""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.quality_tables import TABLES
from core.resolve import resolve
from core.spec import TrainingSpec
from tests.worker.factories import read

FALSE_AT_MOST = 2
Finding = tuple[str, str | None]


def findings_of(folder: Path, frame: pd.DataFrame, target: str) -> set[Finding]:
    """Of the dataset and of the job. That a column is left out because of a finding is none of its own."""
    found = read(folder, frame.to_csv(index=False))
    resolved = resolve(TrainingSpec.model_validate({"target": target}), found.columns, found.rows)
    of_job = {(one.code, one.column) for one in resolved.warnings if one.code != "column_not_used"}
    return found.warnings | of_job


def is_true(finding: Finding, frame: pd.DataFrame) -> bool:
    match finding:
        case ("duplicate_rows", None):
            return bool(frame.duplicated().any())
        case ("constant_column" | "constant_feature", str(column)):
            return frame[column].nunique(dropna=False) == 1
        case ("id_like" | "id_like_feature", str(column)):
            return sorted(frame[column]) == list(range(1, len(frame) + 1))  # a count of the rows
        case ("mostly_missing", str(column)):
            return bool(frame[column].isna().mean() > 0.9)
        case ("class_imbalance", str(column)):
            shares = frame[column].value_counts(normalize=True)
            return bool(shares.max() >= 0.9 or shares.min() < 0.1 / len(shares))
        case _:
            return False  # no date is a text in these tables, and no column tells the target


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {table.name: table.frame for table in TABLES}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, frames: dict[str, pd.DataFrame]) -> dict[str, set[Finding]]:
    folder = tmp_path_factory.mktemp("real")
    return {
        table.name: findings_of(folder / str(place), frames[table.name], table.target)
        for place, table in enumerate(TABLES)
    }


@pytest.mark.long
def test_of_thirty_real_tables_hardly_anything_is_said_that_is_not_so(
    frames: dict[str, pd.DataFrame], said: dict[str, set[Finding]]
) -> None:
    false = {
        (name, *finding) for name, found in said.items() for finding in found if not is_true(finding, frames[name])
    }

    assert len(TABLES) == 30
    assert len(false) <= FALSE_AT_MOST, false


@pytest.mark.long
def test_what_is_true_of_them_is_said(frames: dict[str, pd.DataFrame], said: dict[str, set[Finding]]) -> None:
    """The test above would be content with silence."""
    constant = {
        (name, column)
        for name, frame in frames.items()
        for column in frame.columns
        if frame[column].nunique(dropna=False) == 1
    }
    found = {(name, column) for name, pairs in said.items() for code, column in pairs if code == "constant_column"}

    assert found == constant
    assert len(constant) == 3
    assert {name for name, pairs in said.items() if ("duplicate_rows", None) in pairs} <= {
        name for name, frame in frames.items() if frame.duplicated().any()
    }
    assert ("id_like_feature", "ID") in said["ISLR Credit"]
    assert ("class_imbalance", "Class") in said["modeldata lending_club"]
