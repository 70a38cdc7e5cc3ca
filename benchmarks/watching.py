"""Training processes seen from outside, while jobs run: their CPU time and memory, as /proc has them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from serving import Serve


@contextmanager
def watching(serve: Serve, look: Callable[[int], float], every: float = 0.005) -> Iterator[dict[int, float]]:
    """The largest that `look` has seen of each training process meanwhile, by process id."""
    forkserver = next(
        process.pid
        for process in psutil.Process(serve.process.pid).children(recursive=True)
        if "forkserver" in " ".join(process.cmdline())
    )
    seen: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            for pid in children(forkserver):
                try:
                    seen[pid] = max(seen.get(pid, 0.0), look(pid))
                except (OSError, ValueError, IndexError):
                    continue  # it has just ended

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    """Of all threads that live, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def proportional_memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
