"""One reading of a table by one library, in a process of its own: says CPU seconds by phase, the most memory it
had, and how large its Parquet is.

Started by `intake.py` with whatever interpreter holds the library.
"""

import argparse
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="has `convert(source, folder)`, which may answer CPU seconds by phase")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("core", type=int)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {asked.core})  # before the libraries count cores

    module = importlib.import_module(asked.module)
    begun = time.process_time()
    phases = module.convert(asked.source, asked.folder)
    seconds = phases or {"convert": time.process_time() - begun}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = next(asked.folder.rglob("table.parquet")).stat().st_size
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak, "size": size}))


if __name__ == "__main__":
    main()
