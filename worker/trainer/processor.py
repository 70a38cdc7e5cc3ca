"""How a training process computes, and what it does with memory that is free again."""

import ctypes

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT, MAPPED = 64 * 1024 * 1024, 32 * 1024 * 1024  # bytes; glibc allows no more than 32 MiB for the second


_libc = ctypes.CDLL(None)


def set_up(threads: int) -> None:
    """Called once, before anything is computed: the threads that compute with this one take over its switches.

    Numbers below 1.2e-38, the least that float32 holds in full, are taken as 0. Adam's memory of a weight whose
    gradient stays 0 shrinks by a tenth a step, and is such a number after 800 steps; a processor of Intel's takes 150
    cycles for each of them, and 27 times as long for an update that has no others.

    Freed memory is kept for the next step, up to 64 MiB: glibc would give back what lies at the end of its heap, and
    fetch it again, page by page, in every step.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:  # glibc's alone
        mallopt(M_MMAP_THRESHOLD, MAPPED)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Gives back what is free, between two parts of a training that take memory in other pieces: the second could use
    little of what the first has left, and both together would be its peak.
    """
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
