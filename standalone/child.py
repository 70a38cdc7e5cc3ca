"""A child of `serve`: started in its own session, started again when it dies, gone when `serve` is gone."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1
LONGEST_PAUSE = 10.0  # seconds between two starts of a child that keeps dying


class Child:
    """`environment` is asked at each start, for it may have changed with the last death."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Callable[[], dict[str, str]],
        *,
        hand_over: Sequence[int] = (),
        grace: float = 5.0,
    ) -> None:
        self.name = name
        self._command, self._environment = command, environment
        self._hand_over, self._grace = hand_over, grace
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._pause = 0.0
        self._not_before = 0.0

    def start(self) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            self._command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C reaches `serve` alone, which stops its children in order
            pass_fds=self._hand_over,
            preexec_fn=_die_with_parent(os.getpid()) if sys.platform == "linux" else None,
        )

    def tend(self) -> None:
        """Starts it again when it has died, after a pause that doubles."""
        assert self._process is not None
        if self._process.poll() is None:
            return
        now = time.monotonic()
        if not self._not_before:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what hangs in its session would outlive it for ever
            self._pause = 0.0 if now - self._started > LONGEST_PAUSE else min(LONGEST_PAUSE, 2 * self._pause or 0.25)
            self._not_before = now + self._pause
            print(f"backpropd: {self.name} ended ({self._process.returncode}), starting it again", file=sys.stderr)
        if now >= self._not_before:
            self._not_before = 0.0
            self.start()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for its whole session when its time is over."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self._grace)
            except subprocess.TimeoutExpired:
                print(f"backpropd: {self.name} did not stop in time and is killed", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _die_with_parent(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing may be loaded between fork and exec

    def ask_the_kernel() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # it died before we could ask

    return ask_the_kernel
