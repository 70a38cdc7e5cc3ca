"""How a training process computes: each test in a process of its own."""

import json
import subprocess
import sys
from typing import Any

import pytest

DENORMAL = """
import json, torch
from worker.trainer import processor
processor.set_up({threads})
least = torch.full((4_000_000,), 1e-40)
print(json.dumps(int((least * 1.0 != 0).sum())))
"""

KEPT = """
import json, torch
from pathlib import Path
from worker.trainer import processor
{set_up}

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
blocks = [torch.ones(400_000) for _ in range(12)]
del blocks
print(json.dumps(resident() - before))
"""


def _said(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_less_than_float32_holds_is_zero_in_every_thread(threads: int) -> None:
    assert _said(DENORMAL.format(threads=threads)) == 0


def test_what_a_step_frees_is_kept_for_the_next_one() -> None:
    freed = 12 * 1_600_000

    assert _said(KEPT.format(set_up="processor.set_up(1)")) > 0.9 * freed
    assert _said(KEPT.format(set_up="")) < 0.5 * freed  # glibc's own way
