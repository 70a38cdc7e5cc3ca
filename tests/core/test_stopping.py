"""A signal that comes at any moment of a wait is heard, and holds up nothing."""

import subprocess
import sys

STORM = """
import signal
from core.stopping import Stop

stop = Stop()
signal.signal(signal.SIGALRM, lambda *_: stop.tell())
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
heard = 0
for _ in range(300):
    stop = Stop()
    while not stop.wait(0.00001):
        pass
    heard += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert heard == 300
print("heard")
"""


def test_a_stop_that_is_told_in_the_middle_of_a_wait_does_not_hang() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout == "heard\n", done.stderr
