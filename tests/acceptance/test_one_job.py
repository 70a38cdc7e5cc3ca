"""One job, over HTTP only, through the processes that ship (acceptance 3 of issue 1)."""

import hashlib
import json
from pathlib import Path

import pytest
from safetensors.numpy import load

from tests.conftest import PENGUINS
from tests.running import Serve, frame_data

DENSE = {"type": "dense", "units": 64, "activation": "relu"}
SEQUENTIAL = {"layers": [DENSE, DENSE, {"type": "dense", "units": 3, "activation": "softmax"}]}
TRAINING = {"loss": "categorical_crossentropy", "optimizer": "adam", "epochs": 20, "batch_size": 32}


@pytest.fixture(scope="module")
def penguins(serve: Serve) -> str:
    return str(serve.upload(PENGUINS)["id"])


def test_the_keras_example_trains_and_its_log_is_whole(serve: Serve, penguins: str) -> None:
    job = serve.submit(penguins, {"target": "species", "network": SEQUENTIAL, "training": TRAINING})

    frames = list(serve.sse(job["id"]))

    events = [frame_data(frame) for frame in frames]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["data"]["epoch"] for event in events if event["type"] == "epoch"] == list(range(1, 21))
    assert events[-1]["type"] == "end"
    assert events[-1]["data"]["status"] == "succeeded"
    assert serve.job(job["id"])["best"]["metric"] == "valid_loss"


def test_three_dense_layers_with_softmax_are_the_short_form(serve: Serve, penguins: str) -> None:
    short = {"hidden": [64, 64], "activation": "relu"}
    jobs = [
        serve.submit(penguins, {"target": "species", "network": network, "training": TRAINING})
        for network in (SEQUENTIAL, short)
    ]

    ended = [serve.finished(job["id"]) for job in jobs]

    assert ended[0]["resolved_spec"] == ended[1]["resolved_spec"]
    assert serve.artifact(jobs[0]["id"], "weights.safetensors") == serve.artifact(jobs[1]["id"], "weights.safetensors")


def test_late_and_returning_readers_see_the_same_bytes_on_every_transport(serve: Serve, penguins: str) -> None:
    job = serve.submit(penguins, {"target": "species", "training": {"epochs": 300}})
    live = serve.sse(job["id"])
    first = [next(live) for _ in range(5)]

    late = list(serve.sse(job["id"]))
    rest = list(live)
    returned = list(serve.sse(job["id"], last_event_id=5))

    assert first + rest == late
    assert returned == late[5:]
    events = [frame_data(frame) for frame in late]
    lines = serve.http.get(f"/v1/jobs/{job['id']}/events", headers={"Accept": "application/jsonl"}).content
    assert [json.loads(line) for line in lines.splitlines()] == events
    assert serve.events(job["id"]) == events


def test_a_reader_at_the_end_gets_204_and_one_beyond_it_400(serve: Serve, penguins: str) -> None:
    job = serve.submit(penguins, {"target": "species", "training": {"epochs": 2}})
    last = len(list(serve.sse(job["id"])))

    def answer(last_event_id: str) -> int:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last_event_id}
        return int(serve.http.get(f"/v1/jobs/{job['id']}/events", headers=headers).status_code)

    assert answer(str(last)) == 204
    assert answer(str(last + 1)) == 400
    assert answer("x") == 400


def test_training_ends_when_the_error_is_below_the_threshold(serve: Serve, penguins: str) -> None:
    stop = {"target_loss": 0.3}
    job = serve.submit(penguins, {"target": "species", "training": {"epochs": 500, "stop": stop}})

    ended = serve.finished(job["id"])

    assert ended["stop_reason"] == "target_reached"
    losses = [event["data"]["train_loss"] for event in serve.events(job["id"]) if event["type"] == "epoch"]
    assert losses[-1] <= 0.3
    assert all(loss > 0.3 for loss in losses[:-1])


def test_weights_are_what_the_row_says_and_open_with_safetensors_alone(serve: Serve, penguins: str) -> None:
    job = serve.submit(penguins, {"target": "species", "network": SEQUENTIAL, "training": TRAINING})
    serve.finished(job["id"])

    answer = serve.http.get(f"/v1/jobs/{job['id']}/weights")
    listed = {one["name"]: one for one in serve.http.get(f"/v1/jobs/{job['id']}/artifacts").json()["items"]}

    assert hashlib.sha256(answer.content).hexdigest() == listed["weights.safetensors"]["sha256"]
    assert answer.headers["etag"] == f'"{listed["weights.safetensors"]["sha256"]}"'
    assert len(answer.content) == listed["weights.safetensors"]["bytes"]
    shapes = {name: tensor.shape for name, tensor in load(answer.content).items()}
    assert shapes["0.weight"][0] == 64
    assert shapes["2.weight"] == (64, 64)
    assert shapes["4.weight"] == (3, 64)
    assert set(listed) >= {"preprocessing.json", "spec.json", "metrics.csv", "report.json"}


def test_one_form_takes_a_csv_to_a_finished_job(serve: Serve, tmp_path: Path) -> None:
    files = {"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")}

    answer = serve.http.post("/v1/jobs?wait=60", files=files, data={"spec": '{"target": "species"}'})

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert answer.json()["status"] == "succeeded"
