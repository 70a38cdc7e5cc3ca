"""Whether this process was told to stop: by a signal, while its main thread waits for that.

`threading.Event` cannot do it: `set` in a handler waits for ever for the lock that the same thread holds in `wait`,
where the signal comes in between. `backpropd serve` then never ended. A byte in a pipe needs no lock.
"""

import os
import select
from contextlib import suppress


class Stop:
    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self.is_told = False

    def tell(self, *_: object) -> None:
        """May be called by a handler of signals, and from any thread."""
        self.is_told = True
        with suppress(OSError):  # full: it was told often enough
            os.write(self._write, b"\0")

    def wait(self, seconds: float) -> bool:
        """Until it is told, or for so long; returns whether it was."""
        if not self.is_told:
            select.select([self._read], [], [], seconds)
        return self.is_told
