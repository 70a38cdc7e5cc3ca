"""`make demo` is the first thing that anybody runs: it must work, and it must not leave anything behind."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.running import clean_environment

DEMO = Path(__file__).parent.parent.parent / "examples" / "demo.py"


def test_the_demo_trains_real_data_and_all_its_checks_hold(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(DEMO)],
        # A setting of another installation must not reach the demo's own server.
        env=clean_environment(TMPDIR=str(tmp_path), BACKPROPD_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none"),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    for line in (
        r"uploaded   275 of 344 penguins as ds_",
        r"held back  69 rows",
        r"epoch    1/200  train_loss \d\.\d+  valid_loss \d\.\d+",
        r"epoch  200/200  train_loss",
        r"accuracy on the held back rows +(9\d|100)\.\d% of 69.* ok",
        r"size of the weights +[\d,]+ bytes +ok",
        r"SHA-256 of the weights +[0-9a-f]{64}\b",
        r"SHA-256 in the ETag +the same +ok",
        r"SHA-256 in the list of artifacts +the same +ok",
        r"difference +\d\.\de[-+]\d+.* ok",
        r"validation accuracy .* ok",
        r"All checks held",
        r"curl .*/weights",
    ):
        assert re.search(line, ended.stdout), f"no line {line!r} in:\n{ended.stdout}"
    assert ended.stderr == ""
    assert left_behind(tmp_path) == []


def test_a_demo_that_is_stopped_stops_its_server_first(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, str(DEMO)], env=clean_environment(TMPDIR=str(tmp_path)), stdout=subprocess.PIPE, text=True
    )
    with demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("serving")
        assert left_behind(tmp_path) != []

        demo.send_signal(signal.SIGTERM)

        assert demo.wait(60) == 143
    assert left_behind(tmp_path) == []


def left_behind(folder: Path) -> list[str]:
    """The demo's data folder, and processes that were started on it."""
    processes = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    return [str(path) for path in folder.glob("backpropd-demo-*")] + [one for one in processes if str(folder) in one]
