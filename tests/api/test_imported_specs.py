"""A model of Keras or scikit-learn becomes a spec over HTTP, and that trains."""

import json
from typing import Any

import pytest

from tests.api.asking import pointers, problem
from tests.running import Serve


def _layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


SEED = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            _layer("InputLayer", batch_shape=[None, 4], dtype="float32", name="input_layer"),
            _layer("Dense", units=64, activation="relu"),
            _layer("Dense", units=64, activation="relu"),
            _layer("Dense", units=3, activation="softmax"),
        ],
    },
}
COMPILE = {"loss": "categorical_crossentropy", "optimizer": "adam", "metrics": ["accuracy"]}
FIT = {"epochs": 2, "batch_size": 32, "validation_split": 0.2}
BODY = {"target": "species", "model": SEED, "compile": COMPILE, "fit": FIT}


def _from_keras(serve: Serve, body: Any) -> Any:
    return serve.http.post("/v1/specs/from-keras", json=body)


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
def test_the_model_of_the_seed_is_typed_trained_and_leaves_keras_files(
    serve: Serve, penguins: str, as_text: bool
) -> None:
    answer = _from_keras(serve, {**BODY, "model": json.dumps(SEED) if as_text else SEED})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    columns = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    spec = {**found["spec"], "outputs": ["network.keras", "network.weights.h5"]}
    spec["features"] |= {"include": columns}

    job = serve.finished(serve.submit(penguins, spec)["id"])

    assert job["status"] == "succeeded", job["error"]
    assert job["resolved_spec"]["split"]["method"] == "last"
    for name, first in (("network.keras", b"PK\x03\x04"), ("network.weights.h5", b"\x89HDF")):
        assert serve.http.get(f"/v1/jobs/{job['id']}/artifacts/{name}").content[:4] == first
    outcomes = {one["option"]: one["outcome"] for one in found["options"]}
    assert outcomes["Dense.units"] == "mapped"
    assert outcomes["adam.epsilon"] == "mapped_with_difference"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": 1}, {"/model": "string_type"}),
        ({"model": "{"}, {"/model": "json_invalid"}),
        ({"model": "[]"}, {"/model": "json_invalid"}),
        ({"model": '{"a": NaN}'}, {"/model": "json_invalid"}),
        ({"target": ""}, {"/target": "string_too_short"}),
        ({"compiled": {}}, {"/compiled": "unknown_field"}),
        ({"fit": []}, {"/fit": "dict_type"}),
    ],
    ids=str,
)
def test_a_body_that_is_none_is_refused_where_it_is_wrong(
    serve: Serve, change: dict[str, Any], expected: dict[str, str]
) -> None:
    assert pointers(_from_keras(serve, {**BODY, **change})) == expected


def test_what_is_refused_is_named_with_its_place(serve: Serve) -> None:
    model = {**SEED, "config": {"layers": [_layer("Lambda", function="x"), *SEED["config"]["layers"]]}}  # type: ignore[dict-item, misc, index]

    found = problem(_from_keras(serve, {**BODY, "model": model}), 422, "model_not_mappable")

    assert [one["pointer"] for one in found["errors"]] == ["/model/config/layers/0"]


def test_an_estimator_of_scikit_learn_is_trained(serve: Serve, penguins: str) -> None:
    params = {"hidden_layer_sizes": [16], "max_iter": 3, "early_stopping": True, "random_state": 7}
    body = {"target": "species", "estimator": "MLPClassifier", "params": params, "classes": 3}

    answer = serve.http.post("/v1/specs/from-sklearn", json=body)

    assert answer.status_code == 200, answer.text
    job = serve.finished(serve.submit(penguins, answer.json()["spec"])["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["resolved_spec"]["training"]["stop"]["monitor"] == "valid_accuracy"


def test_an_unknown_parameter_of_an_estimator_is_refused(serve: Serve) -> None:
    body = {"target": "y", "estimator": "MLPRegressor", "params": {"dropout": 0.1}}

    found = problem(serve.http.post("/v1/specs/from-sklearn", json=body), 422, "model_not_mappable")

    assert found["errors"][0]["pointer"] == "/params/dropout"
