"""One update laid open on request: from which weights, by which preprocessing, of which rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from core.spec.training import Trace
from tests.worker.factories import Listener, Read, order_for, read, table_text
from worker.trainer.inquiry import trace
from worker.trainer.main import train
from worker.trainer.messages import ANSWER, ARTIFACTS, Answered
from worker.trainer.order import Beginning, TraceOrder

SPEC: dict[str, Any] = {
    "target": "kind",
    "features": {"columns": {"soil": {"encode": "embedding", "dimension": 2}}},
    "network": {"layers": [{"type": "dense", "units": 5, "activation": "tanh"}, {"type": "dropout", "rate": 0.5}]},
    "training": {"epochs": 4, "batch_size": 16, "schedule": "cosine"},
    "trace": {"epochs": [1], "rows": 6},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(80))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, table: Read) -> Path:
    """The artifacts of a job that has ended."""
    folder = tmp_path_factory.mktemp("job") / "job"
    train(order_for(folder, table, SPEC), Listener())
    return folder / ARTIFACTS


def answered(folder: Path, table: Read, rows: int = 6, *, kept: Path | None = None, **changes: Any) -> dict[str, Any]:
    """The answer to a question about this spec, from these artifacts or from the start."""
    training = order_for(folder, table, {**SPEC, **changes})
    asked = TraceOrder(
        spec=training.spec.model_copy(update={"trace": Trace(rows=rows)}),
        **training.model_dump(include={"rows", "columns", "numbers", "codes", "folder"}),
        start=None if kept is None else _beginning(kept),
    )
    heard = Listener()
    trace(asked, heard)
    assert isinstance(heard.last, Answered)
    return dict(json.loads((folder / ANSWER / "trace.json").read_text()))


def _beginning(kept: Path) -> Beginning:
    return Beginning(weights=str(kept / "weights.safetensors"), preprocessing=str(kept / "preprocessing.json"))


def test_from_the_start_it_is_the_first_update_of_the_training(tmp_path: Path, table: Read, job: Path) -> None:
    assert [answered(tmp_path / "asked", table)] == json.loads((job / "trace.json").read_text())


def test_from_what_was_kept_it_begins_with_those_weights(tmp_path: Path, table: Read, job: Path) -> None:
    found = answered(tmp_path / "asked", table, kept=job)

    weights = load_file(job / "weights.safetensors")
    assert found["update"]["parameters"].keys() == weights.keys()
    for name, moved in found["update"]["parameters"].items():
        assert np.array_equal(np.array(moved["before"], np.float32), weights[name])
    assert (found["epoch"], found["step"]) == (1, 1)


def test_what_was_kept_is_read_by_the_preprocessing_that_belongs_to_it(tmp_path: Path, table: Read, job: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "weights.safetensors").symlink_to(job / "weights.safetensors")
    fitted = json.loads((job / "preprocessing.json").read_text())
    for one in fitted["inputs"]:
        if one["type"] == "number":
            one |= {"scaling": {"type": "affine", "center": 0.0, "scale": 2.0}, "imputed": 4.0}
    (own / "preprocessing.json").write_text(json.dumps(fitted))

    found = answered(tmp_path / "asked", table, kept=own)

    heights = table.numbers("height")[found["rows"]]
    np.testing.assert_allclose([row["height"] for row in found["inputs"]], heights / 2, rtol=1e-6)


def test_as_many_rows_as_were_asked_for_or_as_there_are(tmp_path: Path, table: Read) -> None:
    first = answered(tmp_path / "few", table, rows=2)
    everything = answered(tmp_path / "all", table, rows=32, split={"validation": 0.8})

    assert len(first["rows"]) == len(first["logits"]) == 2
    assert len(everything["rows"]) == 16
