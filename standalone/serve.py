"""`backpropd serve`: broker, API, worker and sweeper as children of one process, in one data folder."""

import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from core.ids import new_id
from core.stopping import Stop
from standalone import broker
from standalone.child import Child

HEALTHY_WITHIN = 60.0  # seconds until `serve` gives up on a start
WORKER_GRACE = 14.0  # the worker's own 8 s to drain, and the time to say so


class Refused(Exception):
    """`serve` cannot start; the message says what to do."""


class Serve:
    def __init__(self, data_dir: Path, host: str, port: int) -> None:
        self._data_dir = data_dir.resolve()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock_data_dir()
        self._socket = _listen(host, port)
        self._host, self._port = host, self._socket.getsockname()[1]
        self._over = Stop()
        self._worker_file = self._data_dir / "worker-id"
        self._environment = self._environment_of_children()
        self._children = self._make_children()

    # --- what there is ----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://[{self._here}]:{self._port}" if ":" in self._here else f"http://{self._here}:{self._port}"

    @property
    def _here(self) -> str:
        """An address at which this machine reaches what listens on `host`."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - a comparison

    def _lock_data_dir(self) -> int:
        handle = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another `backpropd serve` uses {self._data_dir}") from None
        return handle

    def _environment_of_children(self) -> dict[str, str]:
        """What the operator has set wins; the rest points into the data folder."""
        here = {
            "BACKPROPD_DATABASE_URL": f"sqlite:///{self._data_dir / 'backpropd.sqlite3'}",
            "BACKPROPD_STORAGE_URL": f"file:{self._data_dir / 'storage'}",
            "BACKPROPD_BROKER_URL": f"unix://{broker.socket_path(self._data_dir)}?db=0",
            "PYTHONUNBUFFERED": "1",
        }
        return {**here, **os.environ}

    def _make_children(self) -> list[Child]:
        """In the order of their start. They stop in this order too: API, worker, sweeper, and the broker last."""
        python = [sys.executable, "-m", "standalone.processes"]
        children = [
            Child(
                "api",
                [*python, "api", "--fd", str(self._socket.fileno())],
                lambda: self._environment,
                hand_over=[self._socket.fileno()],
                grace=8.0,
            ),
            Child("worker", [*python, "worker"], self._environment_of_worker, grace=WORKER_GRACE),
            Child("sweeper", [*python, "sweeper"], lambda: self._environment),
        ]
        if "BACKPROPD_BROKER_URL" not in os.environ:
            children.append(Child("broker", broker.command(self._data_dir), lambda: dict(os.environ)))
        return children

    def _environment_of_worker(self) -> dict[str, str]:
        """Whoever starts a worker here has seen the last one die: its leases need not run out."""
        replaces = self._worker_file.read_text() if self._worker_file.exists() else ""
        worker_id = new_id("wrk")
        self._worker_file.write_text(worker_id)
        own = {"BACKPROPD_WORKER_ID": worker_id}
        return {**self._environment, **own, **({"BACKPROPD_REPLACES_WORKER": replaces} if replaces else {})}

    # --- its life ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Starts everything, tends it until a signal, and stops it in order."""
        signal.signal(signal.SIGTERM, self._over.tell)
        signal.signal(signal.SIGINT, self._over.tell)
        started = time.monotonic()
        try:
            for child in self._children[3:]:
                child.start()
            key = self._prepare()
            for child in self._children[:3]:
                child.start()
            self._wait_until_healthy()
            self._greet(key, time.monotonic() - started)
            while not self._over.wait(0.1):
                for child in self._children:
                    child.tend()
        finally:
            self._stop()

    def _prepare(self) -> str:
        file = self._data_dir / "initial-api-key"
        found = subprocess.run(
            [sys.executable, "-m", "standalone.prepare", str(file)],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if found.returncode:
            raise Refused("the database could not be prepared; the reason stands above")
        return found.stdout

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + HEALTHY_WITHIN
        while not self._over.is_told:
            connection = http.client.HTTPConnection(self._here, self._port, timeout=2)
            try:
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise Refused("the API did not become healthy; its log stands above") from None
            finally:
                connection.close()
            for child in self._children:
                child.tend()
            self._over.wait(0.05)

    def _greet(self, key: str, seconds: float) -> None:
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"[bold]backpropd[/] is serving at [bold]{self.url}[/]  (ready in {seconds:.1f} s)")
        console.print(f"  reference  {self.url}/docs")
        console.print(f"  data       {self._data_dir}")
        if key:
            console.print(f"  admin key  {key}  (shown this once; also in {self._data_dir / 'initial-api-key'})")
            console.print("\nIn another terminal:\n")
            console.print(f"  export BACKPROPD_URL={self.url} BACKPROPD_API_KEY={key}\n")
        console.print("Ctrl-C stops it; a job under way goes on at the next start.")
        sys.stdout.flush()

    def _stop(self) -> None:
        self._socket.close()
        for child in self._children:
            child.stop()


def _listen(host: str, port: int) -> socket.socket:
    """Bound here and handed to the API: while that is started again, connections wait instead of being refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise Refused(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
    listening.listen(2048)
    return listening
