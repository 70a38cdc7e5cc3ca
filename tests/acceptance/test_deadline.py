"""The operator's limit for the time of a job (F25)."""

import signal
from collections.abc import Iterator

import pytest

from tests.conftest import PENGUINS
from tests.running import Serve, wait_until

ENDLESS = {"target": "species", "training": {"epochs": 100_000}}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    limits = {"BACKPROPD_MAX_JOB_SECONDS": "3", "BACKPROPD_CANCEL_GRACE_SECONDS": "2"}
    with Serve(tmp_path_factory.mktemp("hasty") / "data", **limits) as serve:
        yield serve


def test_f25_a_job_over_the_limit_fails_and_keeps_its_best_weights(hasty: Serve) -> None:
    job_id = hasty.submit(hasty.upload(PENGUINS)["id"], ENDLESS)["id"]

    ended = hasty.finished(job_id, 30)

    assert (ended["status"], ended["error"]["code"], ended["stop_reason"]) == ("failed", "deadline_exceeded", None)
    assert [(one["outcome"], one["cause"]) for one in ended["attempts"]] == [("failed", "deadline_exceeded")]
    assert ended["best"]["epoch"] >= 1
    assert len(hasty.artifact(job_id, "weights.safetensors")) > 1000
    assert hasty.http.post(f"/v1/jobs/{job_id}/predict", json={"rows": [{"bill_length_mm": 40}]}).status_code == 200


def test_f25_a_training_process_that_does_not_listen_is_killed(hasty: Serve) -> None:
    job_id = hasty.submit(hasty.upload(PENGUINS)["id"], ENDLESS)["id"]
    wait_until(lambda: hasty.job(job_id)["progress"]["epoch"] > 1, 30, "epoch 1")
    training = hasty.child("training")

    training.send_signal(signal.SIGSTOP)
    ended = hasty.finished(job_id, 30)

    assert (ended["status"], ended["error"]["code"]) == ("failed", "deadline_exceeded")
    assert not training.is_running()


def test_f25_the_budget_of_a_spec_ends_well_before_it(hasty: Serve) -> None:
    spec = {**ENDLESS, "training": {"epochs": 100_000, "stop": {"max_seconds": 0.5}}}

    ended = hasty.finished(hasty.submit(hasty.upload(PENGUINS)["id"], spec)["id"], 30)

    assert (ended["status"], ended["stop_reason"]) == ("succeeded", "time_budget")
