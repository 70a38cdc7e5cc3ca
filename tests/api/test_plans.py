"""A plan says what a job will be, stores nothing, and refuses as submitting does."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from safetensors.numpy import load

from tests.api.asking import RANDOM, TABLE, masked, pointers, post_table, problem
from tests.api.conftest import SHORT
from tests.conftest import PENGUINS
from tests.running import Api, Serve

BLOCK = {"type": "residual", "layers": [{"type": "layer_norm"}, {"type": "dense", "units": 6, "activation": "relu"}]}
RICH = {
    "target": "species",
    "features": {"columns": {"island": {"encode": "embedding", "dimension": 2}}},
    "split": {"test": 0.1},
    "network": {"layers": [{"type": "dense", "units": 8, "activation": "prelu"}, BLOCK, {"type": "batch_norm"}]},
    "training": {"epochs": 3, "batch_size": 16, "accumulate": 2, "optimizer": "adamw"},
}


def plan(serve: Serve, dataset_id: str, spec: dict[str, Any], **options: Any) -> httpx2.Response:
    return serve.http.post("/v1/jobs/plan", json={"dataset_id": dataset_id, "spec": spec, **options})


def jobs(serve: Serve) -> str:
    return serve.http.get("/v1/jobs", params={"limit": 100}).text


@pytest.mark.parametrize("spec", [SHORT, RICH], ids=["short", "rich"])
def test_a_plan_is_what_the_job_then_is(serve: Serve, penguins: str, spec: dict[str, Any]) -> None:
    answer = plan(serve, penguins, spec)
    planned = answer.json()
    job = serve.finished(serve.submit(penguins, spec)["id"])

    assert answer.status_code == 200
    assert job["status"] == "succeeded", job["error"]
    assert planned["resolved_spec"] == job["resolved_spec"]
    assert (planned["outputs"], planned["warnings"]) == (job["outputs"], job["warnings"])
    rows = serve.http.get(f"/v1/jobs/{job['id']}/artifacts/report.json").json()["rows"]
    assert planned["rows"] == {
        "train": rows["train"],
        "validation": len(rows["validation"]),
        "test": len(rows["test"]),
    }
    assert planned["steps"] == job["progress"]["step"] == 3 * planned["steps_per_epoch"]


def test_its_layers_have_the_names_and_sizes_of_the_weights_file(serve: Serve, penguins: str) -> None:
    layers = plan(serve, penguins, RICH).json()["layers"]
    job = serve.finished(serve.submit(penguins, RICH)["id"])

    weights = load(serve.http.get(f"/v1/jobs/{job['id']}/weights").content)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    sizes: dict[str, int] = {}
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        sizes[layer] = sizes.get(layer, 0) + (0 if kind in buffers else tensor.size)
    assert {one["name"]: one["parameters"] for one in layers if one["parameters"]} == sizes
    assert sum(sizes.values()) == plan(serve, penguins, RICH).json()["parameters"]
    assert layers[-1] | {"parameters": 0} == {
        "name": "4",
        "type": "output",
        "activation": "softmax",
        "output_shape": [3],
        "parameters": 0,
    }


def test_nothing_is_stored(serve: Serve, penguins: str) -> None:
    before = jobs(serve)

    plan(serve, penguins, SHORT, name="never")

    assert jobs(serve) == before


def test_datasets_that_measure_are_planned_with(serve: Serve, penguins: str) -> None:
    lines = PENGUINS.read_bytes().splitlines(keepends=True)[:31]
    some = post_table(serve, b"".join(lines), wait=60).json()["id"]

    planned = plan(serve, penguins, SHORT, validation_dataset_id=some, test_dataset_id=some).json()

    assert planned["rows"] == {"train": 344, "validation": 30, "test": 30}


def test_a_start_is_planned_with(serve: Serve, penguins: str, trained: str) -> None:
    planned = plan(serve, penguins, {"target": "species"}, start_from={"job_id": trained}).json()

    assert planned["resolved_spec"]["network"] == serve.job(trained)["resolved_spec"]["network"]


@pytest.mark.parametrize(
    ("dataset", "spec", "options"),
    [
        (None, {"target": "sepcies"}, {}),
        (None, {"target": "species", "traning": {}}, {}),
        (None, {"target": "species", "split": {"method": "time", "by": "island"}}, {}),
        (None, {"target": "species", "training": {"epochs": 0}}, {}),
        (None, {"target": "species", "network": {"hidden": [60000, 60000]}}, {}),
        (None, SHORT, {"test_dataset_id": RANDOM["dataset"]}),
        (None, SHORT, {"priority": "urgent"}),
        (RANDOM["dataset"], SHORT, {}),
    ],
)
def test_it_is_refused_as_the_job_would_be(
    serve: Serve, penguins: str, dataset: str | None, spec: dict[str, Any], options: dict[str, Any]
) -> None:
    body = {"dataset_id": dataset or penguins, "spec": spec, **options}

    planned, submitted = (serve.http.post(path, json=body) for path in ("/v1/jobs/plan", "/v1/jobs"))

    assert planned.status_code >= 400
    assert masked(planned)[:2] == masked(submitted)[:2]


@pytest.mark.parametrize(("query", "where"), [("mesure=true", "mesure"), ("measure=perhaps", "measure")])
def test_a_query_that_says_something_else_is_refused(serve: Serve, penguins: str, query: str, where: str) -> None:
    answer = serve.http.post(f"/v1/jobs/plan?{query}", json={"dataset_id": penguins, "spec": SHORT})

    assert [one["pointer"] for one in problem(answer, 422, "invalid_query")["errors"]] == [f"/query/{where}"]


def test_a_form_is_no_plan(serve: Serve) -> None:
    answer = serve.http.post("/v1/jobs/plan", files={"file": ("p.csv", PENGUINS.read_bytes())}, data={"spec": "{}"})

    problem(answer, 415, "unsupported_media_type")


def test_a_body_without_a_spec_says_so(serve: Serve, penguins: str) -> None:
    answer = serve.http.post("/v1/jobs/plan", json={"dataset_id": penguins})

    assert list(pointers(answer)) == ["/spec"]


# --- measured ---------------------------------------------------------------------------------------------------------


def measured(api: Api, dataset_id: str, spec: dict[str, Any], wait: float = 60, **options: Any) -> httpx2.Response:
    body = {"dataset_id": dataset_id, "spec": spec, **options}
    return api.http.post("/v1/jobs/plan", json=body, params={"measure": "true", "wait": wait})


@pytest.mark.parametrize("spec", [SHORT, RICH], ids=["short", "rich"])
def test_a_measured_plan_is_a_plan_and_what_a_worker_has_timed(
    serve: Serve, penguins: str, spec: dict[str, Any]
) -> None:
    before = jobs(serve)
    answer = measured(serve, penguins, spec)

    found = answer.json()
    assert answer.status_code == 200
    assert answer.headers["location"] == found["links"]["self"] == f"/v1/plans/{found['id']}"
    assert (found["status"], found["error"]) == ("succeeded", None)
    assert found.items() >= plan(serve, penguins, spec).json().items()
    timed = found["measured"]
    parts = ("loading_seconds", "training_seconds", "export_seconds")
    assert all(timed[name] > 0 for name in (*parts, "step_seconds", "epoch_seconds"))
    assert timed["seconds"] == pytest.approx(sum(timed[name] for name in parts), abs=1e-4)
    assert timed["steps"] == found["steps"], "so short a job is trained to its end"
    assert timed["memory_bytes"] == pytest.approx(found["memory_bytes"], rel=0.6)
    assert serve.http.get(answer.headers["location"]).content == answer.content
    assert jobs(serve) == before


def test_a_long_job_is_not_trained_to_its_end(serve: Serve, penguins: str) -> None:
    spec = {"target": "species", "training": {"epochs": 100_000, "stop": {"patience": 1, "target_loss": 10}}}

    found = measured(serve, penguins, spec).json()

    assert found["status"] == "succeeded"
    assert 1 < found["measured"]["steps"] < found["steps"] / 10
    assert found["measured"]["seconds"] > 50, "nobody knows when it would end early"
    timed = measured(serve, penguins, {**spec, "training": {"epochs": 100_000, "stop": {"max_seconds": 9}}}).json()
    assert timed["measured"]["training_seconds"] == 9


def test_202_before_there_is_an_answer_that_can_be_read_later(serve: Serve, penguins: str) -> None:
    answer = measured(serve, penguins, SHORT, wait=0)

    asked = answer.json()
    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    assert (asked["measured"], asked["finished_at"]) == (None, None)
    assert asked["parameters"] == plan(serve, penguins, SHORT).json()["parameters"]
    read = serve.http.get(answer.headers["location"], params={"wait": 60}).json()
    assert read["status"] == "succeeded"
    assert read["measured"]["seconds"] > 0


def test_datasets_that_measure_and_a_start_are_measured_with(serve: Serve, penguins: str, trained: str) -> None:
    some = post_table(serve, b"".join(PENGUINS.read_bytes().splitlines(keepends=True)[:31]), wait=60).json()["id"]
    options = {"validation_dataset_id": some, "start_from": {"job_id": trained}}

    found = measured(serve, penguins, {"target": "species", "training": {"epochs": 2}}, **options).json()

    assert found["status"] == "succeeded", found["error"]
    assert found["rows"]["validation"] == 30


def test_what_diverges_at_once_is_said(serve: Serve, penguins: str) -> None:
    optimizer = {"name": "sgd", "learning_rate": 10, "momentum": 0.99}
    spec = {"target": "bill_length_mm", "network": {"hidden": [64] * 6}, "training": {"optimizer": optimizer}}

    found = measured(serve, penguins, spec).json()

    assert (found["status"], found["error"]["code"], found["measured"]) == ("failed", "diverged", None)


def test_what_a_plan_refuses_is_not_measured(serve: Serve, penguins: str) -> None:
    answer = measured(serve, penguins, {"target": "sepcies"})

    assert answer.status_code == 422
    assert masked(answer)[:2] == masked(plan(serve, penguins, {"target": "sepcies"}))[:2]


def test_another_projects_plan_answers_as_a_random_id_does(
    serve: Serve, neighbour: Api, penguins: str, trained: str
) -> None:
    path = measured(serve, penguins, SHORT).headers["location"]
    trace = serve.http.post(f"/v1/jobs/{trained}/trace", params={"wait": 60}).json()["id"]

    theirs, nobodys = (neighbour.http.get(one) for one in (path, f"/v1/plans/{RANDOM['plan']}"))
    assert masked(theirs) == masked(nobodys)
    problem(serve.http.get(f"/v1/plans/{trace}"), 404, "not_found")
    problem(serve.http.get(path.replace("plans", "traces")), 404, "not_found")


def test_a_chosen_threshold_stands_in_the_outputs(serve: Serve) -> None:
    dataset = post_table(serve, TABLE, wait=60).json()["id"]
    training = {"epochs": 3, "threshold": {"metric": "f1"}}

    planned = plan(serve, dataset, {"target": "y", "training": training}).json()["outputs"]
    job = serve.finished(serve.submit(dataset, {"target": "y", "training": training})["id"])
    report = serve.http.get(f"/v1/jobs/{job['id']}/artifacts/report.json").json()

    assert planned["thresholds"] == [0.5], "until it is chosen"
    assert job["outputs"] == {**planned, "thresholds": report["threshold"]["values"]}


def test_the_memory_of_a_plan_is_that_of_the_job(serve: Serve) -> None:
    draw = np.random.default_rng(0)
    written = io.BytesIO()
    np.savez(written, X=draw.standard_normal((40_000, 60), np.float32), y=np.arange(40_000) % 3)
    dataset = post_table(serve, written.getvalue(), "application/x-npz", wait=60).json()["id"]
    spec = {"target": "y", "network": {"hidden": [256, 128]}, "training": {"epochs": 4, "batch_size": 1024}}

    planned = measured(serve, dataset, spec).json()
    job_id, peak = serve.submit(dataset, spec)["id"], 0
    while not serve.job(job_id)["finished"]:
        for child in serve.children("training"):
            with suppress(psutil.Error, OSError, StopIteration):
                lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()
                peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")))

    assert planned["memory_bytes"] == pytest.approx(peak * 1024, rel=0.3)
    assert planned["measured"]["memory_bytes"] == pytest.approx(peak * 1024, rel=0.3)
