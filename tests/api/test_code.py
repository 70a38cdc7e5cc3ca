"""`GET /v1/jobs/{id}/code`: the run again, as one script."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.asking import problem
from tests.conftest import PENGUINS
from tests.running import Serve

SPEC = {"target": "species", "network": {"hidden": [8]}, "training": {"epochs": 3}}


def test_the_script_trains_the_network_of_the_job_from_the_file_that_was_sent(
    serve: Serve, penguins: str, tmp_path: Path
) -> None:
    job = serve.finished(serve.submit(penguins, SPEC)["id"])["id"]
    answer = serve.http.get(f"/v1/jobs/{job}/code")
    assert answer.status_code == 200, answer.text
    (tmp_path / "train.py").write_bytes(answer.content)
    (tmp_path / "weights.safetensors").write_bytes(serve.http.get(f"/v1/jobs/{job}/weights").content)

    done = subprocess.run(
        [sys.executable, "-I", "train.py", PENGUINS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    apart = re.search(r"weights are (\S+) apart", done.stdout)
    assert apart is not None, done.stdout
    assert float(apart[1]) < 1e-5


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"loss": "focal"}, "/training/loss"), ({"refit": True}, "/training/refit")],
    ids=str,
)
def test_what_the_script_would_not_do_is_refused_by_name(
    serve: Serve, penguins: str, change: dict[str, object], pointer: str
) -> None:
    job = serve.finished(serve.submit(penguins, {**SPEC, "training": {"epochs": 2, **change}})["id"])["id"]

    found = problem(serve.http.get(f"/v1/jobs/{job}/code"), 422, "not_in_code")

    assert [one["pointer"] for one in found["errors"]] == [pointer]
