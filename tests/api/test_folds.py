"""Cross-validation over HTTP: the folds of scikit-learn, what they come to, and the network after them."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from tests.api.asking import post_table, problem
from tests.running import Serve

ROWS = 203
SPEC = {"target": "kind", "network": {"hidden": [4]}, "training": {"epochs": 3}}
KINDS = [("ash", "birch", "cedar")[(row * row) % 3] for row in range(ROWS)]
PEOPLE = [f"person {row % 23}" for row in range(ROWS)]
SPLITS: list[dict[str, Any]] = [
    {"method": "random", "folds": 4, "seed": 11},
    {"method": "stratified", "folds": 5},
    {"method": "group", "by": "who", "folds": 3, "seed": 3},
]


@pytest.fixture(scope="module")
def trees(serve: Serve) -> str:
    """The id of a dataset whose rows have a kind and a person."""
    lines = [f"{row % 13},{row * 0.01},{PEOPLE[row]},{KINDS[row]}" for row in range(ROWS)]
    answer = post_table(serve, "\n".join(["x,y,who,kind", *lines]).encode(), wait=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _of_scikit_learn(split: dict[str, Any]) -> list[list[int]]:
    drawn: Any = {"n_splits": split["folds"], "shuffle": True, "random_state": split.get("seed", 0)}
    match split["method"]:
        case "random":
            found = KFold(**drawn).split(KINDS)
        case "stratified":
            found = StratifiedKFold(**drawn).split(KINDS, KINDS)
        case _:
            found = GroupKFold(**drawn).split(KINDS, groups=PEOPLE)
    return [own.tolist() for _, own in found]


def _trained(serve: Serve, dataset_id: str, split: dict[str, Any], **spec: Any) -> dict[str, Any]:
    job = serve.finished(serve.submit(dataset_id, SPEC | {"split": split} | spec)["id"])
    assert job["status"] == "succeeded", job["error"]
    return job


@pytest.mark.parametrize("split", SPLITS, ids=["KFold", "StratifiedKFold", "GroupKFold"])
def test_membership_mean_and_spread_are_those_of_scikit_learn_and_numpy(
    serve: Serve, trees: str, split: dict[str, Any]
) -> None:
    job = _trained(serve, trees, split)

    report = json.loads(serve.artifact(job["id"], "report.json"))
    end = serve.events(job["id"])[-1]
    found = job["cross_validation"]
    assert report["rows"]["folds"] == _of_scikit_learn(split)
    assert [one["rows"] for one in found["folds"]] == [len(fold) for fold in report["rows"]["folds"]]
    for name in ("loss", "accuracy"):
        values = [one[name] for one in found["folds"]]
        assert found["mean"][name] == pytest.approx(np.mean(values), rel=1e-12)
        assert found["std"][name] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert end["type"] == "end"
    assert end["data"]["cross_validation"] == report["cross_validation"] == found


def test_a_plan_says_what_the_folds_then_are(serve: Serve, trees: str) -> None:
    spec = SPEC | {"split": {"folds": 4, "test": 0.1}}
    planned = serve.http.post("/v1/jobs/plan", json={"dataset_id": trees, "spec": spec}).json()
    job = _trained(serve, trees, spec["split"])  # type: ignore[arg-type]

    assert [one["validation"] for one in planned["folds"]] == [one["rows"] for one in job["cross_validation"]["folds"]]
    assert planned["rows"] == {"train": 183, "validation": 0, "test": 20}
    assert planned["resolved_spec"] == job["resolved_spec"]
    last = max(job["cross_validation"]["epochs"], 1) * planned["steps_per_epoch"]
    assert job["progress"]["step"] == sum(one["steps"] for one in planned["folds"]) + last
    assert planned["steps"] == sum(one["steps"] for one in planned["folds"]) + 3 * planned["steps_per_epoch"]


def test_a_job_without_folds_has_none(serve: Serve, trained: str, penguins: str) -> None:
    planned = serve.http.post("/v1/jobs/plan", json={"dataset_id": penguins, "spec": {"target": "species"}}).json()

    assert serve.job(trained)["cross_validation"] is None
    assert planned["folds"] == []


def test_the_log_says_of_each_line_which_fold_it_is_of(serve: Serve, trees: str) -> None:
    job = _trained(serve, trees, {"folds": 3})

    events = serve.events(job["id"])
    epochs = [(event["data"].get("fold"), event["data"]["epoch"]) for event in events if event["type"] == "epoch"]
    ended = [event["data"] for event in events if event["type"] == "fold"]
    own = range(1, job["cross_validation"]["epochs"] + 1)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert sorted(epochs, key=str) == sorted(
        [(fold, epoch) for fold in (1, 2, 3) for epoch in (1, 2, 3)] + [(None, epoch) for epoch in own], key=str
    )
    assert sorted(ended, key=lambda one: one["fold"]) == job["cross_validation"]["folds"]
    assert sorted((one["fold"] or 9, one["outcome"]) for one in job["attempts"]) == [
        (fold, "succeeded") for fold in (1, 2, 3, 9)
    ]
    table = list(csv.DictReader(io.StringIO(serve.artifact(job["id"], "metrics.csv").decode())))
    assert [(line["fold"], line["epoch"]) for line in table] == [
        (str(fold), str(epoch)) for fold in (1, 2, 3) for epoch in (1, 2, 3)
    ] + [("", str(epoch)) for epoch in own]


def test_its_network_and_its_test_rows_are_there(serve: Serve, trees: str) -> None:
    job = _trained(serve, trees, {"folds": 3, "test": 0.2})

    weights = load(serve.http.get(f"/v1/jobs/{job['id']}/weights").content)
    report = json.loads(serve.artifact(job["id"], "report.json"))
    assert {"0.weight", "0.bias"} <= set(weights)
    assert job["test"]["rows"] == 41
    assert job["progress"]["fraction"] == 1.0
    assert not set(report["rows"]["test"]) & {row for fold in report["rows"]["folds"] for row in fold}


def test_it_is_listed_cloned_and_trained_on_from(serve: Serve, trees: str) -> None:
    job = _trained(serve, trees, {"folds": 3})

    listed = serve.http.get("/v1/jobs", params={"dataset_id": trees, "limit": 1}).json()["items"][0]
    body = {"patch": [{"op": "remove", "path": "/split/folds"}]}
    clone = serve.finished(serve.http.post(f"/v1/jobs/{job['id']}/clone", json=body).json()["id"])
    start = {"job_id": job["id"]}
    further = serve.finished(serve.submit(trees, SPEC | {"split": {"folds": 2}}, start_from=start)["id"])

    assert listed == job
    assert (clone["status"], clone["cross_validation"]) == ("succeeded", None)
    assert (further["status"], len(further["cross_validation"]["folds"])) == ("succeeded", 2)


def test_a_job_that_brings_its_table_is_cross_validated(serve: Serve) -> None:
    rows = [{"x": row % 7, "y": row * 0.5} for row in range(30)]
    spec = {"target": "y", "split": {"folds": 3}, "training": {"epochs": 2}}

    answer = serve.http.post("/v1/jobs", json={"dataset": {"rows": rows}, "spec": spec}, params={"wait": 60})

    assert answer.json()["status"] == "succeeded", answer.text
    assert answer.json()["cross_validation"]["mean"]["loss"] > 0


def test_a_fold_that_fails_fails_the_job_and_is_named(serve: Serve) -> None:
    rows = [{"x": float(row), "y": float(row * row)} for row in range(40)]
    training = {"epochs": 500, "optimizer": {"name": "sgd", "learning_rate": 10.0}}
    network = {"hidden": [8], "activation": "linear"}
    spec = {"target": "y", "split": {"folds": 4}, "network": network, "training": training}

    answer = serve.http.post("/v1/jobs", json={"dataset": {"rows": rows}, "spec": spec}, params={"wait": 60})

    job = answer.json()
    assert (job["status"], job["error"]["code"]) == ("failed", "diverged")
    assert job["error"]["fold"] in (1, 2, 3, 4)
    assert job["error"]["message"].startswith(f"Fold {job['error']['fold']}: ")


def test_a_cancelled_job_ends_its_folds(serve: Serve, trees: str) -> None:
    job = serve.submit(trees, SPEC | {"split": {"folds": 3}, "training": {"epochs": 100_000}})
    stream = serve.sse(job["id"])
    assert any(b'"type":"epoch"' in frame and b'"fold":' in frame for frame in stream)

    answer = serve.http.post(f"/v1/jobs/{job['id']}/cancel", json={})

    left = [frame for frame in stream if b"event: end" in frame]
    assert (answer.json()["status"], answer.json()["finished"]) == ("cancelled", True)
    assert len(left) == 1
    assert {one["outcome"] for one in answer.json()["attempts"]} == {"cancelled"}


def test_folds_that_make_no_sense_are_refused_with_their_place(serve: Serve, trees: str) -> None:
    def refused(**spec: Any) -> Any:
        return serve.http.post("/v1/jobs", json={"dataset_id": trees, "spec": SPEC | spec})

    by_method = problem(refused(split={"folds": 3, "method": "last"}), 422, "invalid_spec")
    beside_refit = problem(refused(split={"folds": 3}, training={"refit": True}), 422, "data_invalid")
    too_many = problem(refused(split={"folds": 24, "method": "group", "by": "who"}), 422, "dataset_too_small")

    assert [one["pointer"] for one in by_method["errors"]] == ["/spec/split"]
    assert [one["pointer"] for one in beside_refit["errors"]] == ["/spec/training/refit"]
    assert [one["pointer"] for one in too_many["errors"]] == ["/spec/split/folds"]
