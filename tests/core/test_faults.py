"""Fault points: each stands in the list and in the code, and none does anything unless it was asked for."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import faults
from tests.running import clean_environment

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for part in ("api", "core", "worker") for file in (ROOT / part).rglob("*.py"))


@pytest.fixture(autouse=True)
def _disarmed() -> object:
    yield
    faults.arm(None)


def called(name: str, place: int) -> list[str]:
    """The texts that are given to calls of that name, anywhere in the product."""
    found: list[str] = []
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name and len(node.args) > place:
                argument = node.args[place]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.append(argument.value)
    return found


def test_every_point_in_the_code_stands_in_the_list_and_every_one_of_the_list_in_the_code() -> None:
    assert set(called("point", 0)) == set(faults.OTHERS)
    assert set(called("commit", 1)) == set(faults.COMMITS)


def test_no_commit_goes_by_without_a_fault_point() -> None:
    bare = [file.name for file in SOURCES if "session.commit()" in file.read_text()]

    assert bare == ["database.py"]


def test_the_command_lists_every_point() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "standalone.command", "faults"],
        env=clean_environment(),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    listed = {line.split()[0] for line in printed.splitlines()[1:]}
    assert listed == set(faults.POINTS)


def test_without_the_variable_nothing_happens() -> None:
    assert faults.armed() is None

    for name in faults.POINTS:
        faults.point(name)


def test_a_fault_is_met_at_its_pass_and_at_no_other_place() -> None:
    faults.arm("record.before_commit:2:raise")

    faults.point("record.before_commit")
    faults.point("record.after_commit")
    with pytest.raises(OSError, match=r"record\.before_commit"):
        faults.point("record.before_commit")
    faults.point("record.before_commit")


def test_a_fault_of_every_pass_is_met_each_time() -> None:
    faults.arm("pipe.heard:*:raise")

    for _ in range(3):
        with pytest.raises(OSError, match=r"pipe\.heard"):
            faults.point("pipe.heard")


def test_a_process_sleeps_for_as_long_as_it_was_told() -> None:
    faults.arm("pipe.heard:1:sleep:0.2")
    began = time.monotonic()

    faults.point("pipe.heard")

    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(("action", "ended"), [("kill", -signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_a_process_dies_or_stops_by_its_environment(action: str, ended: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from core import faults; faults.point('pipe.heard'); faults.point('pipe.heard')"],
        env=clean_environment(FAULT=f"pipe.heard:2:{action}"),
        cwd=ROOT,
    )

    _, status = os.waitpid(child.pid, os.WUNTRACED)

    if action == "stop":
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == ended
        child.kill()
        child.wait()
    else:
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == ended


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pipe.heard",
        "pipe.heard:1",
        "pipe.heard:0:kill",
        "pipe.heard:1:die",
        "nowhere:1:kill",
        "pipe.heard:1:kill:3",
    ],
)
def test_a_fault_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="FAULT"):
        faults.arm(text)

    assert faults.armed() is None
