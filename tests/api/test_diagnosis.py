"""Diagnoses over HTTP: an event says what is wrong, and its patch is what a clone accepts."""

from typing import Any

import pytest
from jsonpatch import JsonPatch

from core.spec import TrainingSpec
from tests.running import Serve

RELU = {
    "type": "dense",
    "units": 32,
    "activation": "relu",
    "weight_initializer": {"name": "random_normal", "stddev": 2},
}
SICK: dict[str, dict[str, Any]] = {
    "learning_rate_too_high": {"training": {"epochs": 20, "optimizer": {"name": "adam", "learning_rate": 1.0}}},
    "exploding_gradient": {
        "network": {"layers": [RELU, RELU, RELU, {**RELU, "units": 3, "activation": "softmax"}]},
        "training": {"epochs": 8, "optimizer": "adam"},
    },
    "vanishing_gradient": {
        "network": {"hidden": [32] * 10, "activation": "sigmoid"},
        "training": {"epochs": 8, "optimizer": "sgd"},
    },
    "learning_rate_too_low": {
        "network": {"layers": [{"type": "dense", "units": 16, "activation": "relu"}]},
        "training": {"epochs": 10, "optimizer": {"name": "sgd", "learning_rate": 1e-5}},
    },
}


@pytest.mark.parametrize("code", SICK)
def test_the_patch_of_a_diagnosis_is_accepted_by_clone(serve: Serve, penguins: str, code: str) -> None:
    job = serve.finished(serve.submit(penguins, {"target": "species", **SICK[code]})["id"])
    [event] = [one for one in serve.events(job["id"]) if one["type"] == "diagnosis"]
    said = event["data"]

    answer = serve.http.post(f"/v1/jobs/{job['id']}/clone", json={"patch": said["patch"]})

    assert said["code"] == code
    assert answer.status_code == 202, answer.text
    clone = answer.json()
    patched = TrainingSpec.model_validate(JsonPatch(said["patch"]).apply(job["resolved_spec"]))
    assert clone["resolved_spec"] == patched.model_dump(mode="json")
    assert clone["resolved_spec"] != job["resolved_spec"]
    assert serve.finished(clone["id"])["status"] == "succeeded"
