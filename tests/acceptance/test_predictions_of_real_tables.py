"""Real tables through the shipped processes: the API predicts what the files of the bundle do."""

import contextlib
import datetime
import io
import json
import runpy
import statistics
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import Serve
from tests.worker.tables import FEW, FORMS, NAMES, Table, folder_of, load

# Of a probability; of a number, times the deviation of the target. Or the last bit of a float32, where that is more: of
# a year near 1,940, with a deviation of 5.8, it is 2.1e-5 deviations.
TOLERANCE = 1e-5
TRAINING = {"epochs": 5, "optimizer": {"name": "adam", "learning_rate": 0.01}}
PER_CALL = 1_000
Rows = list[dict[str, Any]]


@pytest.mark.parametrize("name", FEW[1:3])
def test_the_api_and_the_files_predict_the_same_for_every_row_of_a_real_table(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    _agrees(serve, tmp_path, name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in FEW[1:3]])
def test_the_api_and_the_files_predict_the_same_for_every_row_of_all_real_tables(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    _agrees(serve, tmp_path, name)


def _agrees(serve: Serve, tmp_path: Path, name: str) -> None:
    table = load(name)
    folder = folder_of(tmp_path, name)
    folder.mkdir(parents=True)
    (folder / "table.parquet").write_bytes(FORMS["parquet"][1](table))
    dataset = serve.upload(folder / "table.parquet")
    job = _trained(serve, dataset)
    target = job["spec"]["target"]
    with zipfile.ZipFile(io.BytesIO(serve.artifact(job["id"], "bundle.zip"))) as bundle:
        bundle.extractall(folder)
    rows = _with_probes(table, json.loads((folder / "preprocessing.json").read_text())["inputs"])
    allowed = TOLERANCE
    if job["outputs"]["task"] == "regression":
        allowed *= statistics.pstdev(value for value in table[target] if isinstance(value, int | float)) or 1.0

    said = _predicted(serve, job["id"], rows)

    for script in ("score_numpy.py", "predict.py"):
        predict: Callable[[Rows], Rows] = runpy.run_path(str(folder / script))["predict"]
        for row, (by_api, by_file) in enumerate(zip(said, predict(rows), strict=True)):
            api, file = _scores(by_api), _scores(by_file)
            assert api.keys() == file.keys()
            off = max(abs(api[key] - file[key]) for key in api)
            last_bit = max(float(np.spacing(np.float32(abs(value)))) for value in file.values())
            assert off <= max(allowed, last_bit), (name, script, row, rows[row], by_api, by_file)


def _trained(serve: Serve, dataset: dict[str, Any]) -> dict[str, Any]:
    """A job that predicts the last column, or the one before, ...: the first that can be."""
    for column in reversed(dataset["columns"]):
        answer = serve.http.post(
            "/v1/jobs", json={"dataset_id": dataset["id"], "spec": {"target": column["name"], "training": TRAINING}}
        )
        if answer.status_code != 202:
            continue
        job = serve.finished(answer.json()["id"])
        if job["status"] == "succeeded":
            return job
        assert job["error"]["code"] == "data_invalid", job["error"]
    pytest.skip("no column of it can be predicted")


def _with_probes(table: Table, inputs: list[dict[str, Any]]) -> Rows:
    """All rows, and copies of some without a value in one column, in all columns, and with categories never seen."""
    names = [one["name"] for one in inputs]
    rows = [
        {name: _as_json(value) for name, value in zip(names, values, strict=True)}
        for values in zip(*(table[name] for name in names), strict=True)
    ]
    probes: Rows = [dict.fromkeys(names)]
    for place, one in enumerate(inputs):
        row = rows[place % len(rows)]
        probes.append({**row, one["name"]: None})
        if len(names) > 1:
            probes.append({name: value for name, value in row.items() if name != one["name"]})
        if "categories" in one:
            probes.append({**row, one["name"]: "never seen"})
    return rows + probes


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value


def _predicted(serve: Serve, job_id: str, rows: Rows) -> Rows:
    found: Rows = []
    for first in range(0, len(rows), PER_CALL):
        answer = serve.http.post(f"/v1/jobs/{job_id}/predict", json={"rows": rows[first : first + PER_CALL]})
        assert answer.status_code == 200, answer.text
        found += answer.json()["predictions"]
    return found


def _scores(prediction: dict[str, Any]) -> dict[str, float]:
    for name in ("probabilities", "scores"):
        with contextlib.suppress(KeyError):
            return dict(prediction[name])
    return {"value": prediction["value"]}
