"""Child processes, seen from their supervisor: forked in milliseconds from a server that has torch loaded already."""

import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from core import faults
from worker.trainer.messages import MAX_MESSAGE, Stop, StopOrder, decode, encode

SAID_BYTES = 256 * 1024  # that are kept of what it writes: the last ones

_starting = threading.Lock()
_context = multiprocessing.get_context("forkserver")


def start_forkserver() -> None:
    """Called once at boot, before any thread. The children inherit an environment that holds no secret."""
    _context.set_forkserver_preload(["worker.preload"])
    # A child would run this process's main script again (for a console script: import Celery) to find its target.
    main = sys.modules["__main__"]
    main.__spec__, main.__file__ = None, None
    _launch()


def _launch() -> None:
    kept = dict(os.environ)
    os.environ.clear()
    os.environ |= {
        "PATH": kept.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime would report to Microsoft, and leave a file in the folder of work
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads beside another job are 10-25 times slower
        "OPENBLAS_NUM_THREADS": "1",  # numpy only checks what torch computes, and each thread would reserve memory
        "TMPDIR": kept.get("TMPDIR", ""),
    }
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ |= kept


def _is_running() -> bool:
    """Whether the forkserver lives. The library would start another one itself, with our environment."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Child:
    """One training or ingest process."""

    def __init__(self, order: str, memory_bytes: int, folder: str) -> None:
        self._connection, its_end = _context.Pipe()
        self._output, its_output = _context.Pipe(duplex=False)
        self._process = _context.Process(
            target=_enter, args=(its_end, its_output, order, memory_bytes, folder, faults.armed()), daemon=True
        )
        with _starting:
            if not _is_running():
                _launch()
            self._process.start()
        self._died: str | None = None
        its_end.close()  # or its death would never be seen as the end of the pipe
        its_output.close()
        self._written = bytearray()
        self._listener = threading.Thread(target=self._listen, name=f"output-of-{self.pid}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def messages(self, timeout: float) -> Iterator[Any]:
        """What it says within `timeout` seconds: returns after the first message and those right behind it.

        Raises `EOFError` when the process is gone.
        """
        try:
            while self._connection.poll(timeout):
                message = decode(self._connection.recv_bytes(MAX_MESSAGE))
                faults.point("pipe.heard")
                yield message
                timeout = 0.0
        except (ConnectionError, OSError) as error:
            raise EOFError from error

    def _listen(self) -> None:
        """Reads what it writes at once, whatever that is: a full pipe would make it wait."""
        while piece := os.read(self._output.fileno(), 65_536):
            self._written += piece
            del self._written[:-SAID_BYTES]

    def tell(self, order: StopOrder) -> None:
        faults.point("pipe.before_tell")
        try:
            self._connection.send_bytes(encode(Stop(order)))
        except OSError:
            return  # it is gone, which `messages` will say

    def kill(self) -> None:
        if self._died is None:
            self._process.kill()

    def written(self) -> str:
        """The end of what it wrote to its standard output and error; whole when it is buried."""
        return self._written.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")

    def bury(self) -> str:
        """Waits for the end of the process, and says how it died."""
        if self._died is not None:
            return self._died
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        self._process.close()
        self._connection.close()
        self._listener.join()  # it has read the end
        self._output.close()
        self._died = f"signal_{-code}" if code is not None and code < 0 else f"exit_{code}"
        return self._died


def _enter(
    connection: Connection, output: Connection, order: str, memory_bytes: int, folder: str, fault: str | None
) -> None:
    for standard in (1, 2):
        os.dup2(output.fileno(), standard)
    output.close()
    faulthandler.enable()  # where it was when it died of a signal, as far as Python knows
    faults.arm(fault)  # its environment says nothing of it
    from worker.sandbox import enter  # torch: only ever in the child

    enter(connection, order, memory_bytes, folder)
