"""`backpropd check`, as a health check calls it: by its exit code."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.processes import Process, free_port, start_broker
from tests.running import clean_environment, wait_until

Start = Callable[[str], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `backpropd ...` on one new database and one broker."""
    with ExitStack() as stack:
        environment = clean_environment(
            BACKPROPD_DATABASE_URL=f"sqlite:///{tmp_path / 'test.sqlite3'}",
            BACKPROPD_BROKER_URL=start_broker(stack, tmp_path),
            BACKPROPD_STORAGE_URL=f"file:{tmp_path / 'storage'}",
            BACKPROPD_BEAT_SECONDS="0.1",
            BACKPROPD_PORT=str(free_port()),
        )

        def process(arguments: str) -> Process:
            name = arguments.replace(" ", "-")
            return stack.enter_context(Process(name, ["backpropd", *arguments.split()], environment, tmp_path))

        yield process


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("api", "does not answer (ConnectionRefusedError)"),
        ("worker", "no worker on this machine has beaten for 30 s"),
        ("sweeper", "no sweeper leads"),
    ],
)
def test_what_does_not_run_is_not_well_and_the_reason_is_said(start: Start, name: str, reason: str) -> None:
    assert start("migrate").ended(30) == 0

    check = start(f"check {name}")

    assert check.ended(30) == 1
    assert reason in check.tail()


@pytest.mark.parametrize("name", ["api", "worker", "sweeper"])
def test_what_was_started_before_its_tables_is_not_well_until_they_are_there(start: Start, name: str) -> None:
    process = start(name)
    before = start(f"check {name}").ended(30)

    assert start("migrate").ended(30) == 0
    wait_until(lambda: start(f"check {name}").ended(30) == 0, 30, f"a {name} that is well")

    assert before == 1
    assert process.stop(15) == 0
