"""A process with a forkserver, as a worker has one: reads one JSON command a line, answers with one JSON line."""

import json
import sys
from dataclasses import asdict
from typing import Any

from worker import child
from worker.child import Child, start_forkserver


def _hear(heard: Child, seconds: float) -> dict[str, Any]:
    said: list[dict[str, Any]] = []
    try:
        for message in heard.messages(seconds):
            said.append({"kind": type(message).__name__, **asdict(message)})  # noqa: PERF401 - kept when the pipe ends
    except EOFError:
        return {"said": said, "ended": True}
    return {"said": said, "ended": False}


def _answer(children: dict[int, Child], command: dict[str, Any]) -> Any:
    match command:
        case {"do": "start", "order": order, "memory": memory, "folder": folder}:
            started = Child(order, memory, folder)
            assert started.pid is not None
            children[started.pid] = started
            return started.pid
        case {"do": "hear", "pid": pid, "seconds": seconds}:
            return _hear(children[pid], seconds)
        case {"do": "tell", "pid": pid, "order": order}:
            return children[pid].tell(order)
        case {"do": "bury", "pid": pid}:
            return children.pop(pid).bury()
        case {"do": "cap", "bytes": limit}:
            child.MAX_MESSAGE = limit
            return None
    raise ValueError(command)


if __name__ == "__main__":
    start_forkserver()
    at_work: dict[int, Child] = {}
    for line in sys.stdin:
        print(json.dumps(_answer(at_work, json.loads(line))), flush=True)
