"""The shipped commands, running as child processes, spoken to over HTTP only."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx2
import psutil

Found = TypeVar("Found")

OURS = ("BACKPROPD_", "AWS_")


def clean_environment(**added: str) -> dict[str, str]:
    """This process's environment without any setting of ours, and with what is added."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | added


def wait_until(look: Callable[[], Found], seconds: float = 30.0, what: str = "the condition") -> Found:
    """Looks until what it sees is true; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(0.02)
    return found


class Api:
    """The API at a URL, spoken to with one key."""

    url = ""

    def connect(self, url: str, key: str) -> None:
        self.url, self.key = url, key
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=httpx2.Timeout(70))

    def upload(self, path: Path, **parameters: str) -> dict[str, Any]:
        parameters = {"wait": "60"} | parameters  # a worker on a busy machine has hardly started
        answer = self.http.post("/v1/datasets", files={"file": (path.name, path.read_bytes())}, params=parameters)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def submit(self, dataset_id: str, spec: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": spec, **options})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str, wait: float = 0) -> dict[str, Any]:
        answer = self.http.get(f"/v1/jobs/{job_id}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def finished(self, job_id: str, seconds: float = 90) -> dict[str, Any]:
        """The job when it has ended, through any restart of the API."""

        def look() -> dict[str, Any] | None:
            try:
                job = self.job(job_id, wait=5)
            except httpx2.TransportError:
                return None
            return job if job["finished"] else None

        return wait_until(look, seconds, f"the end of {job_id}")  # type: ignore[return-value]

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """All events so far, by pages."""
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self.http.get(f"/v1/jobs/{job_id}/events", params={"after": after, "limit": 1000}).json()
            found += page["items"]
            after = page["next_page"] if page["items"] else None
        return found

    def sse(self, job_id: str, last_event_id: int | None = None) -> Iterator[bytes]:
        """The frames of the event stream, without comments, each as its bytes."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        with self.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
            assert answer.status_code == 200, answer.status_code
            buffer = b""
            for piece in answer.iter_bytes():
                buffer += piece
                while b"\n\n" in buffer:
                    frame, buffer = buffer.split(b"\n\n", 1)
                    if frame.startswith(b"id:"):
                        yield frame

    def artifact(self, job_id: str, name: str) -> bytes:
        answer = self.http.get(f"/v1/jobs/{job_id}/artifacts/{name}")
        assert answer.status_code == 200, answer.text
        return answer.content


class Serve(Api):
    """`backpropd serve` on a free port. Its log is `log` in the data folder's parent."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self._environment = clean_environment(BACKPROPD_LOG_FORMAT="json", **environment)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Serve":
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        started_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "standalone.command", "serve", "--port", "0", "--data-dir", str(self.data_dir)],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        text = wait_until(lambda: self._greeting(started_at), 60, "the greeting of `serve`")
        url = text.split("is serving at ")[1].split()[0]
        self.connect(url, (self.data_dir / "initial-api-key").read_text().strip())

    def _greeting(self, since: int) -> str | None:
        assert self.process is not None
        text = self.log.read_bytes()[since:].decode()
        assert self.process.poll() is None, f"serve ended with {self.process.returncode}:\n{text[-3000:]}"
        return text if "Ctrl-C stops it" in text else None

    def stop(self, sign: signal.Signals = signal.SIGTERM, seconds: float = 40) -> float:
        """Ends it; returns how many seconds that took."""
        if self.process is None:
            return 0.0
        self.http.close()
        started = time.monotonic()
        self.process.send_signal(sign)
        self.process.wait(seconds)
        self.process = None
        return time.monotonic() - started

    # --- its processes ------------------------------------------------------------------------------------------

    def children(self, name: str) -> list[psutil.Process]:
        """Processes by their part: api, worker, sweeper, broker, training (children of the forkserver)."""
        assert self.process is not None
        direct = psutil.Process(self.process.pid).children()
        if name == "training":
            servers = [child for one in self.children("worker") for child in one.children() if _is_forkserver(child)]
            return [child for server in servers for child in server.children()]
        marks = {"api": "api", "worker": "worker", "sweeper": "sweeper", "broker": "valkey"}
        return [child for child in direct if any(marks[name] in word for word in _words(child))]

    def child(self, name: str) -> psutil.Process:
        found: list[psutil.Process] = wait_until(lambda: self.children(name), 20, f"a process {name}")
        return found[0]

    def freeze(self, process: psutil.Process) -> None:
        """SIGSTOP, between two writes: one frozen in the middle of a write on SQLite keeps all others from writing
        until it goes on (docs/reliability.md), and no other could take over what it holds.
        """

        def frozen_outside_a_write() -> bool:
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED, 10, "the freeze")
            if self._can_be_written():
                return True
            process.send_signal(signal.SIGCONT)
            return False

        wait_until(frozen_outside_a_write, 20, "a freeze between two writes")

    def _can_be_written(self) -> bool:
        with closing(sqlite3.connect(self.data_dir / "backpropd.sqlite3", timeout=2, isolation_level=None)) as own:
            try:
                own.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            own.execute("ROLLBACK")
            return True


def _is_forkserver(process: psutil.Process) -> bool:
    return any("forkserver" in word for word in _words(process))


def _words(process: psutil.Process) -> list[str]:
    """Its command line; of a process that has just died, nothing."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def frame_data(frame: bytes) -> dict[str, Any]:
    line = next(line for line in frame.split(b"\n") if line.startswith(b"data: "))
    return dict(json.loads(line.removeprefix(b"data: ")))
