"""Where a child process begins: limits first, then the work, then one last word.

The forkserver imports this module (`preload.py`), and with it torch, onnxruntime and the table reader. It must never
compute: a child with more than one thread would deadlock in the parent's thread pool.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

# numpy loads these two at their first use: 15 to 20 ms that each child would pay.
import numpy.ma
import numpy.random  # noqa: F401
import torch
from pydantic import Field, TypeAdapter

from core import errors, faults
from worker.ingest.main import IngestOrder, ingest
from worker.trainer.inquiry import measure_plan, trace
from worker.trainer.main import train
from worker.trainer.messages import Failed, FromChild, Stop, StopOrder, decode, encode
from worker.trainer.order import PlanOrder, PredictionsOrder, TraceOrder, TrainingOrder
from worker.trainer.stored_predictions import predict_table

torch.set_num_threads(1)  # before any parallel region; each child sets its own number first

AnyOrder = TrainingOrder | TraceOrder | PlanOrder | PredictionsOrder | IngestOrder
ORDER: TypeAdapter[AnyOrder] = TypeAdapter(Annotated[AnyOrder, Field(discriminator="kind")])

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


class Pipe:
    """The child's end. A supervisor that is gone ends the child at its next word or look."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def say(self, message: FromChild) -> None:
        faults.point("pipe.before_say")
        try:
            self._connection.send_bytes(encode(message))
        except OSError:
            os._exit(75)  # nobody listens: this attempt is over
        faults.point("pipe.after_say")

    def is_told(self) -> bool:
        try:
            return self._connection.poll()
        except OSError:
            os._exit(75)

    def stop_order(self) -> StopOrder | None:
        try:
            if not self._connection.poll():
                return None
            told = decode(self._connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(75)
        assert isinstance(told, Stop)
        return told.order


def enter(connection: Connection, order: str, memory_bytes: int, folder: str) -> None:
    """The body of a child: works on an order (JSON of one of `ORDER`) inside its limits."""
    mapped = _limit(memory_bytes, folder)
    pipe = Pipe(connection)
    try:
        match ORDER.validate_json(order):
            case TrainingOrder() as training:
                train(training, pipe)
            case TraceOrder() as tracing:
                trace(tracing, pipe)
            case PlanOrder() as planning:
                measure_plan(planning, mapped, pipe)
            case PredictionsOrder() as predicting:
                predict_table(predicting, pipe)
            case IngestOrder() as reading:
                resource.setrlimit(resource.RLIMIT_CPU, (reading.seconds, reading.seconds))  # SIGKILL when it is over
                ingest(reading, pipe)
    except errors.Problem as problem:
        pipe.say(Failed(type(problem).__name__, problem.detail, problem.errors, problem.facts))
    except MemoryError:  # the reservation is used up
        pipe.say(Failed(errors.OutOfMemory.__name__, errors.OutOfMemory.title()))
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        pipe.say(Failed(errors.OutOfMemory.__name__, errors.OutOfMemory.title()))
    with contextlib.suppress(OSError):
        connection.close()
    sys.stderr.flush()


def _limit(memory_bytes: int, folder: str) -> int:
    """Returns the bytes that are mapped already, and shared with the forkserver."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setsid()  # a Ctrl-C at the terminal is the supervisor's to answer
    os.umask(0o077)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What the forkserver has mapped is shared: the reservation comes on top of it.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes, mapped + memory_bytes))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out, the job goes and not the server
    return mapped
