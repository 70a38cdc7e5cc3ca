"""The bell: it may be lost, and it never makes anybody wait."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.queue import broker_url_for_celery
from tests.running import clean_environment

RING = """
import time
from core import logs, queue
logs.configure()
longest = 0.0
for turn in range(3000):  # three times what the ringer keeps
    started = time.monotonic()
    queue.ring()
    queue.wake("job_1")
    longest = max(longest, time.monotonic() - started)
print(longest)
"""


@pytest.mark.parametrize(
    ("ours", "celerys"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:secret@host:6380/2", "rediss://user:secret@host:6380/2"),
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock?virtual_host=0"),
        ("unix:///run/valkey.sock?db=3", "redis+socket:///run/valkey.sock?virtual_host=3"),
    ],
)
def test_a_socket_is_named_as_celery_names_it(ours: str, celerys: str) -> None:
    assert broker_url_for_celery(ours) == celerys


@pytest.fixture(params=["refuses", "is silent"])
def dead_broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a broker that is away: nobody listens, or somebody does who never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    if request.param == "refuses":
        listener.close()
    yield url
    listener.close()


def test_a_call_returns_at_once_while_the_broker_is_away(dead_broker: str) -> None:
    ringing = subprocess.run(
        [sys.executable, "-c", RING],
        env=clean_environment(BACKPROPD_BROKER_URL=dead_broker),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert float(ringing.stdout) < 0.25


def test_importing_the_queue_opens_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        subprocess.run(
            [sys.executable, "-c", "import core.queue"],
            env=clean_environment(BACKPROPD_BROKER_URL=url),
            timeout=60,
            check=True,
        )
        listener.settimeout(0)

        with pytest.raises(BlockingIOError):
            listener.accept()
