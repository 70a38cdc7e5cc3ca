"""What the forkserver imports, once, before any child exists; it is never imported elsewhere.

torch, scikit-learn and the table reader take 2.6 s to load, which no job pays. What loading them has mapped, and nobody
may need again, is given back.
"""

import ctypes
import gc
import re
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path


class _NoPandas(MetaPathFinder):
    """scikit-learn and pyarrow take pandas along wherever it is installed: 40 MB and 0.5 s, for nothing that we call.

    A None in `sys.modules` would do for Python, but pyarrow's own code takes it for the module.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is left out here", name=name)


sys.meta_path.insert(0, _NoPandas())

import worker.sandbox  # noqa: E402, F401

MADV_DONTNEED = 4
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ ([1-9]\d*) ")  # of a file: its inode is not 0


def return_file_pages() -> None:
    """Unmaps the pages of libraries that hold nothing but what the file holds: 130 MB, read by initialisers alone.

    They stay in the page cache for as long as the system likes. A child that needs one finds it there, as it would have
    to in any case: a fork copies no mappings of files that nobody has written to.
    """
    libc = ctypes.CDLL(None)
    start = end = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := MAPPING.match(line):
            start, end = (int(address, 16) for address in mapping.group(1, 2))
        elif "-" in line.partition(" ")[0]:
            start = end = 0  # memory of no file
        elif line.startswith("Anonymous:") and end and int(line.split()[1]) == 0:  # not one page of it is our own copy
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)  # refused: they stay


gc.freeze()  # a child's collector would write to each object's page, and have a copy of 70 MB that it only looks at
return_file_pages()
