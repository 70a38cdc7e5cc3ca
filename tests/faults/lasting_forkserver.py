"""Preloaded by the forkserver of a host, which all its workers share: it outlives each of them.

A worker that is killed while it asks for a process, between `connect` and its file descriptors, takes the library's
forkserver with it: `recvfds` raises `EOFError`, and only an `OSError` ECONNABORTED is let pass. A shipped worker has a
forkserver of its own, which ends with it anyway.
"""

import errno
import socket
from multiprocessing import reduction

_recvfds = reduction.recvfds


def _recvfds_of_the_living(sock: socket.socket, size: int) -> list[int]:
    try:
        return _recvfds(sock, size)
    except EOFError as gone:
        raise OSError(errno.ECONNABORTED, "the worker died before it had said what it wants") from gone


reduction.recvfds = _recvfds_of_the_living
