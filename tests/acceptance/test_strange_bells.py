"""What is not a bell lies in the queue (F14): it is dropped, and the worker goes on."""

import base64
import json
import uuid
from typing import Any

import psutil
import redis

from core.queue import CPU_QUEUE, WORK
from standalone.broker import socket_path
from tests.conftest import PENGUINS
from tests.running import Serve, wait_until

KEY = f"backpropd:{CPU_QUEUE}"


def _message(task: str, called_with: Any = None, **changes: Any) -> str:
    """As Celery writes one."""
    text = json.dumps([[], {}, {}] if called_with is None else called_with)
    found = {
        "body": base64.b64encode(text.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "root_id": None, "parent_id": None},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": CPU_QUEUE},
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "priority": 0,
        },
    }
    return json.dumps({**found, **changes})


STRANGE = {
    "no JSON": "garbage",
    "no object": "[1, 2]",
    "nothing": "",
    "no headers": json.dumps({"body": "e30=", "properties": {"delivery_tag": "x"}}),
    "another task": _message("worker.tasks.delete_everything"),
    "arguments": _message(WORK, [["job_00000000000000000000000000"], {"fold": 3}, {}]),
    "a body that is no JSON": _message(WORK, body="%%%"),
    "a pickle": _message(WORK, **{"content-type": "application/x-python-serialize", "content-encoding": "binary"}),
    "an older schema": _message(WORK, {"task": WORK, "id": "1", "args": [], "kwargs": {}}, headers={}),
}


def test_f14_what_is_not_a_bell_is_dropped_and_jobs_go_on(own_serve: Serve) -> None:
    dataset_id = own_serve.upload(PENGUINS)["id"]
    worker = own_serve.child("worker")
    own = redis.Redis(unix_socket_path=str(socket_path(own_serve.data_dir.resolve())))

    for text in STRANGE.values():
        own.lpush(KEY, text)
        job = own_serve.submit(dataset_id, {"target": "species", "training": {"epochs": 2}})
        assert own_serve.finished(job["id"])["status"] == "succeeded"
    wait_until(lambda: own.llen(KEY) == 0, 30, "an empty queue")

    assert worker.is_running()
    assert worker.status() != psutil.STATUS_ZOMBIE
    assert [child.pid for child in own_serve.children("worker")] == [worker.pid]
