"""Twenty specs: what was planned and measured is what the jobs then take. In `benchmarks/plans.py`, which says how."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "plans.py"


@pytest.mark.long
def test_memory_and_time_of_twenty_specs_are_foretold() -> None:
    """Seconds only mean something on a machine that does nothing else meanwhile."""
    ran = subprocess.run([sys.executable, BENCHMARK, "--json"], capture_output=True, text=True, check=False)

    rows = json.loads(ran.stdout)
    assert len(rows) == 20
    off = {
        row["name"]: {name: round(row[name], 2) for name in ("memory_off", "seconds_off") if abs(row[name]) > 0.3}
        for row in rows
    }
    assert {name: found for name, found in off.items() if found} == {}
    assert ran.returncode == 0
