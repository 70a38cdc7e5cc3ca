"""The benchmark of the intake keeps step with what it measures."""

import json
import subprocess
import sys
from pathlib import Path

INTAKE = Path(__file__).parents[1] / "benchmarks" / "intake.py"


def test_the_intake_benchmark_runs_without_its_peers() -> None:
    asked = [sys.executable, INTAKE, "--rows", "2000", "--rounds", "1", "--json", "--only"]
    printed = subprocess.run(asked, stdout=subprocess.PIPE, check=True, text=True).stdout

    figures = {figure["name"]: figure for figure in json.loads(printed)["figures"]}
    assert figures["CSV to canonical Parquet"]["value"] > 0
    assert figures["mapping the arrays as tensors"]["met"] is True
    assert figures["peak memory: ours"]["met"] is True
