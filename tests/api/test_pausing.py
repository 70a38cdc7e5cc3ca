"""Pause and resume over HTTP, with real workers: a free slot, and the same bits in the end."""

from collections.abc import Callable
from typing import Any

import pytest
from safetensors.numpy import load

from tests.api.asking import RANDOM, masked, problem
from tests.api.conftest import LONG, SHORT
from tests.running import Api, Serve, wait_until

Start = Callable[..., dict[str, Any]]

# Dropout and batch norm are the hardest to resume; a second or two, so that it can be paused in the middle.
NOISY = {
    "target": "species",
    "network": {
        "layers": [
            {"type": "dense", "units": 32, "activation": "relu"},
            {"type": "batch_norm"},
            {"type": "dropout", "rate": 0.2},
        ]
    },
    "training": {"epochs": 150, "optimizer": "adam", "schedule": "cosine", "batch_size": 16},
}


def ask(serve: Serve, job_id: str, what: str, **body: Any) -> Any:
    return serve.http.post(f"/v1/jobs/{job_id}/{what}", json=body or None)


def epoch_of(serve: Serve, job_id: str) -> int:
    return int(serve.job(job_id)["progress"]["epoch"])


def trained_for(serve: Serve, job_id: str, epochs: int) -> None:
    wait_until(lambda: epoch_of(serve, job_id) >= epochs, what=f"epoch {epochs}")


def paused(serve: Serve, job_id: str) -> dict[str, Any]:
    wait_until(lambda: serve.job(job_id)["status"] == "paused", what="the pause")
    return serve.job(job_id)


def test_a_paused_job_goes_on_from_its_checkpoint_when_it_is_resumed(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]
    trained_for(serve, job_id, 5)

    asked = ask(serve, job_id, "pause")
    resting = paused(serve, job_id)
    again = ask(serve, job_id, "resume")
    trained_for(serve, job_id, resting["progress"]["epoch"] + 1)

    assert asked.status_code == 200
    assert asked.json()["status"] in ("pausing", "paused")
    assert (resting["finished"], resting["phase"], resting["progress"]["eta_seconds"]) == (False, None, None)
    assert again.json()["status"] in ("queued", "running")
    attempts = serve.job(job_id)["attempts"]
    assert [(one["outcome"], one["cause"]) for one in attempts] == [("interrupted", "paused"), ("running", None)]
    assert attempts[1]["resumed_from_epoch"] >= resting["progress"]["epoch"] - 1
    said = [one["data"]["status"] for one in serve.events(job_id) if one["type"] == "status"]
    assert said[:2] == ["queued", "running"]
    assert [one for one in said if one not in ("queued", "running")] == ["pausing", "paused"]
    assert "checkpoint" in [one["type"] for one in serve.events(job_id)]


def test_a_job_that_was_paused_twice_ends_with_the_same_bits(serve: Serve, penguins: str) -> None:
    undisturbed = serve.finished(serve.submit(penguins, NOISY)["id"])
    job_id = serve.submit(penguins, NOISY)["id"]

    for epochs in (10, 60):
        trained_for(serve, job_id, epochs)
        ask(serve, job_id, "pause")
        paused(serve, job_id)
        ask(serve, job_id, "resume")
    ended = serve.finished(job_id)

    assert ended["status"] == "succeeded"
    assert len(ended["attempts"]) == 3
    same = ("weights.safetensors", "report.json", "network.onnx")
    assert [serve.artifact(job_id, name) for name in same] == [serve.artifact(undisturbed["id"], name) for name in same]
    assert "rewound" not in [one["type"] for one in serve.events(job_id)]


def test_a_pause_by_force_goes_on_from_the_last_checkpoint(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]
    trained_for(serve, job_id, 1)

    ask(serve, job_id, "pause", force=True)

    paused(serve, job_id)
    ask(serve, job_id, "resume")
    trained_for(serve, job_id, 2)


def test_the_folds_of_a_job_pause_and_go_on_together(serve: Serve, penguins: str) -> None:
    spec = {**SHORT, "split": {"folds": 2}, "training": {"epochs": 20_000}}
    job_id = serve.submit(penguins, spec)["id"]
    trained_for(serve, job_id, 2)

    ask(serve, job_id, "pause")
    resting = paused(serve, job_id)
    ask(serve, job_id, "resume")
    trained_for(serve, job_id, resting["progress"]["epoch"] + 1)

    again = [one for one in serve.job(job_id)["attempts"] if one["number"] == 2]
    assert again
    assert all(one["fold"] is not None for one in again)
    ask(serve, job_id, "cancel", force=True)
    serve.finished(job_id)


def test_a_paused_job_leaves_its_slot_to_others(serve: Serve, penguins: str, start_long: Start) -> None:
    busy = [start_long()["id"] for _ in range(3)]  # there are two slots at most on the smallest machine
    for job_id in busy:
        ask(serve, job_id, "pause")
    for job_id in busy:
        paused(serve, job_id)

    ended = serve.finished(serve.submit(penguins, SHORT)["id"])

    assert ended["status"] == "succeeded"
    assert {serve.job(job_id)["status"] for job_id in busy} == {"paused"}


def test_a_paused_job_that_is_cancelled_leaves_the_weights_of_its_checkpoint(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]
    trained_for(serve, job_id, 3)
    ask(serve, job_id, "pause")
    paused(serve, job_id)

    ask(serve, job_id, "cancel")
    ended = serve.finished(job_id)

    assert (ended["status"], ended["stop_reason"]) == ("cancelled", "user_cancel")
    assert len(serve.artifact(job_id, "weights.safetensors")) > 100


def test_pausing_and_resuming_are_safe_to_repeat(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]

    assert [ask(serve, job_id, "pause").status_code for _ in range(3)] == [200] * 3
    paused(serve, job_id)
    assert [ask(serve, job_id, "resume").status_code for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("what", ["pause", "resume"])
def test_a_job_that_has_ended_refuses(serve: Serve, trained: str, what: str) -> None:
    before = serve.job(trained)

    problem(ask(serve, trained, what), 409, "job_already_terminal")

    assert serve.job(trained) == before


@pytest.mark.parametrize("what", ["pause", "resume"])
def test_a_strangers_job_answers_as_a_random_id_does(neighbour: Api, trained: str, what: str) -> None:
    theirs = neighbour.http.post(f"/v1/jobs/{trained}/{what}")
    nobodys = neighbour.http.post(f"/v1/jobs/{RANDOM['job']}/{what}")

    assert theirs.status_code == 404
    assert masked(theirs) == masked(nobodys)


def test_a_pause_that_is_written_wrong_is_refused_and_changes_nothing(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]
    address = f"/v1/jobs/{job_id}/pause"

    problem(serve.http.post(address, json={"forse": True}), 422, "invalid_spec")
    problem(serve.http.post(address, content=b"{"), 400, "malformed_json")

    assert serve.job(job_id)["status"] in ("queued", "running")
    assert LONG["training"]["epochs"] == serve.job(job_id)["progress"]["epochs"]  # type: ignore[index]


# --- the best weights so far ------------------------------------------------------------------------------------------


def test_the_best_weights_so_far_are_there_while_the_job_rests_and_while_it_runs(
    serve: Serve, start_long: Start
) -> None:
    job_id = start_long()["id"]
    address = f"/v1/jobs/{job_id}/weights"
    trained_for(serve, job_id, 2)
    ask(serve, job_id, "pause")
    paused(serve, job_id)

    answer = serve.http.get(address, params={"at": "best"})
    ask(serve, job_id, "resume")
    trained_for(serve, job_id, 3)
    while_running = serve.http.get(address, params={"at": "best"})

    assert answer.status_code == 200
    tensors = load(answer.content)
    assert {name: tensors[name].shape for name in tensors if name.endswith("bias")} == {"0.bias": (8,), "2.bias": (3,)}
    assert answer.headers["etag"]
    assert while_running.status_code == 200
    assert load(while_running.content).keys() == tensors.keys()
    problem(serve.http.get(address), 409, "artifact_not_ready")
    problem(serve.http.get(address, params={"at": "best", "format": "pt"}), 409, "artifact_not_ready")


def test_before_the_first_checkpoint_there_are_no_best_weights(serve: Serve, penguins: str, start_long: Start) -> None:
    for _ in range(4):
        start_long()
    job_id = start_long(priority="low")["id"]

    problem(serve.http.get(f"/v1/jobs/{job_id}/weights", params={"at": "best"}), 409, "no_checkpoint_yet")


def test_the_best_weights_of_a_job_that_has_ended_are_those_it_kept(serve: Serve, trained: str) -> None:
    best = serve.http.get(f"/v1/jobs/{trained}/weights", params={"at": "best"})

    assert best.content == serve.artifact(trained, "weights.safetensors")
