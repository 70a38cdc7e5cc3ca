"""One contestant: a process on one core that trains one workload from scratch each time it is told to.

It is started by `rounds.py` with whatever interpreter holds its libraries. A line on its standard input is a seed and
the file for the final weights; its answer is a line of JSON with the CPU seconds that the training took.
"""

import argparse
import gc
import importlib
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from workloads import WORKLOADS, NotRun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="has `LIBRARIES` and `prepare(workload, features, target, **options)`")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("folder", type=Path, help="where the rows lie")
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    asked = parser.parse_args()
    os.sched_setaffinity(0, {asked.core})  # before the libraries count cores

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print is no answer

    def answer(**facts: object) -> None:
        answers.write(json.dumps(facts) + "\n")

    module = importlib.import_module(asked.module)
    workload = WORKLOADS[asked.workload]
    try:
        train = module.prepare(workload, *workload.load(asked.folder), **asked.options)
    except NotRun as reason:
        answer(not_run=str(reason))
        return
    answer(versions={library: version(library) for library in module.LIBRARIES})

    while line := os.read(0, 4096):  # unbuffered: a line at a time is written
        seed, weights_file = line.decode().split()
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        outcome = train(int(seed))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if isinstance(outcome, dict):  # a measurement, not a training
            answer(cpu=cpu, wall=wall, **outcome)
        else:
            np.savez(weights_file, *outcome)
            answer(cpu=cpu, wall=wall)


if __name__ == "__main__":
    main()
