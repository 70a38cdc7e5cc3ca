"""`GET /v1/jobs/{id}/logs`: what a training process wrote before it died."""

import os
import signal
import threading
from multiprocessing import Pipe
from typing import Any

from tests.api.conftest import new_key
from tests.conftest import PENGUINS
from tests.running import Api, Serve, wait_until
from worker.child import SAID_BYTES, Child


def _logs(api: Api, job_id: str, **parameters: Any) -> str:
    answer = api.http.get(f"/v1/jobs/{job_id}/logs", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


def test_a_training_process_that_crashed_leaves_where_it_was(own_serve: Serve) -> None:
    dataset_id = own_serve.upload(PENGUINS)["id"]
    job_id = own_serve.submit(dataset_id, {"target": "species", "training": {"epochs": 100_000}})["id"]
    wait_until(lambda: own_serve.job(job_id)["progress"]["epoch"] > 5, 30, "epoch 5")

    own_serve.child("training").send_signal(signal.SIGABRT)
    crashed = wait_until(lambda: next(iter(own_serve.job(job_id)["attempts"][:-1]), None), 30, "another attempt")
    wrote = _logs(own_serve, job_id, attempt=1)

    assert (crashed["outcome"], crashed["cause"]) == ("crashed", "signal_6")
    assert "Fatal Python error: Aborted" in wrote
    assert "worker/trainer/fit.py" in wrote
    assert _logs(own_serve, job_id) == ""  # of the one that goes on now
    assert b'"child_wrote"' in own_serve.log.read_bytes()


def test_a_training_that_wrote_nothing_has_an_empty_log(serve: Serve, trained: str) -> None:
    assert _logs(serve, trained) == ""
    assert serve.job(trained)["links"]["logs"] == f"/v1/jobs/{trained}/logs"


def test_an_attempt_that_never_was_and_a_job_of_others_are_not_found(serve: Serve, trained: str) -> None:
    assert serve.http.get(f"/v1/jobs/{trained}/logs?attempt=2").json()["code"] == "not_found"
    assert serve.http.get(f"/v1/jobs/{trained}/logs?fold=1").json()["code"] == "not_found"
    assert serve.http.get(f"/v1/jobs/{trained}/logs?attempt=0").json()["code"] == "invalid_query"
    other = Api()
    other.connect(serve.url, new_key(serve, "reads-no-logs"))
    assert other.http.get(f"/v1/jobs/{trained}/logs").status_code == 404
    other.http.close()


def test_of_a_process_that_writes_without_end_the_last_256_kib_are_kept() -> None:
    child = Child.__new__(Child)
    child._output, its_end = Pipe(duplex=False)
    child._written = bytearray()
    listener = threading.Thread(target=child._listen)
    listener.start()

    for line in range(100_000):
        os.write(its_end.fileno(), b"line %07d\0\n" % line)
    its_end.close()
    listener.join(10)
    written = child.written()
    child._output.close()

    assert len(written) == SAID_BYTES
    assert written.endswith("line 0099999\N{REPLACEMENT CHARACTER}\n")
    assert "\0" not in written  # Postgres takes none
