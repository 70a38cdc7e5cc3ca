"""JSON from clients that are careless or worse: 400 or 422 with the place, never 5xx, and never the value back."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.api.asking import RANDOM, pointers, post_job, problem
from tests.running import Serve

SECRET = "s3cr3t-v4lue"
PREFIX, SUFFIX = f'{{"dataset_id": "{RANDOM["dataset"]}", "spec": {{"target": "y", "training": ', "}}"


def around(value: str) -> bytes:
    return (PREFIX + value + SUFFIX).encode("utf-8", "surrogatepass")


MALFORMED = {
    "empty": b"",
    "space": b" \n ",
    "NaN": around('{"epochs": NaN}'),
    "Infinity": around('{"epochs": Infinity}'),
    "-Infinity": around('{"epochs": -Infinity}'),
    "1e999": around('{"epochs": 1e999}'),
    "-1e999": around('{"epochs": -1e999}'),
    "21 digits": around('{"epochs": 123456789012345678901}'),
    "a million digits": around('{"epochs": ' + "9" * 1_000_000 + "}"),
    "same key twice": around('{"epochs": 1, "epochs": 2}'),
    "same key twice, once escaped": around('{"epochs": 1, "epoch\\u0073": 2}'),
    "33 deep": b'{"a":' * 33 + b"1" + b"}" * 33,
    "100,000 deep": b"[" * 100_000,
    "100,000 deep objects": b'{"a":' * 100_000,
    "UTF-16": '{"spec": {}}'.encode("utf-16"),
    "UTF-16 without a mark": '{"spec": {}}'.encode("utf-16-le"),
    "UTF-32": '{"spec": {}}'.encode("utf-32"),
    "BOM": b"\xef\xbb\xbf{}",
    "Latin-1": around('{"epöchs": 1}').decode().encode("latin-1"),
    "a surrogate as bytes": around('{"\ud800": 1}'),
    "trailing bytes": b'{"spec": {}} x',
    "two texts": b"{}{}",
    "trailing NUL": b"{}\0",
    "trailing comma": b'{"spec": {},}',
    "comment": b"{/* none */}",
    "single quotes": b"{'spec': {}}",
    "bare word": b"spec",
    "hexadecimal": around('{"epochs": 0x10}'),
    "leading zero": around('{"epochs": 010}'),
    "raw control character": around('{"epochs": "a\nb"}'),
    "cut off": around("")[:-10],
    "a form's text": b"spec=%7B%7D",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_json_is_400(serve: Serve, name: str) -> None:
    answer = post_job(serve, MALFORMED[name])

    problem(answer, 400, "malformed_json")


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"name": "\\udc00\\ud800"}',
        b'{"a\\u0000b": 1}',
        b'{"\\ud800": 1}',
        b'{"metadata": {"k": "\\u0000"}}',
        b'{"metadata": {"\\u0000": "v"}}',
        b'{"spec": {"features": {"include": ["x", "\\udfff"]}}}',
    ],
)
def test_texts_that_no_database_holds_are_422(anywhere: Serve, body: bytes) -> None:
    answer = post_job(anywhere, body)

    problem(answer, 422, "invalid_text")


def test_a_pair_of_surrogates_is_a_letter(anywhere: Serve, any_table: str) -> None:
    body = f'{{"dataset_id": "{any_table}", "name": "\\ud83e\\udde0", "spec": {{"target": "y"}}}}'

    answer = post_job(anywhere, body)

    assert answer.status_code == 202
    assert answer.json()["name"] == "🧠"


@pytest.mark.parametrize("body", [b"[]", b"null", b"true", b"1", b'"spec"', b"[[[]]]", b"1e5"])
def test_what_is_no_object_is_422(serve: Serve, body: bytes) -> None:
    answer = post_job(serve, body)

    problem(answer, 422, "invalid_spec")


ADAM = {"name": "adam"}
WRONG: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"/spec/target": "missing_field"}),
    ({"target": 5}, {"/spec/target": "string_type"}),
    ({"target": None}, {"/spec/target": "string_type"}),
    ({"target": ""}, {"/spec/target": "string_too_short"}),
    ({"target": "y" * 257}, {"/spec/target": "string_too_long"}),
    ({"target": "y", "training": []}, {"/spec/training": "dict_type"}),
    ({"target": "y", "training": {"epochs": "5"}}, {"/spec/training/epochs": "int_type"}),
    ({"target": "y", "training": {"epochs": True}}, {"/spec/training/epochs": "int_type"}),
    ({"target": "y", "training": {"epochs": 1.5}}, {"/spec/training/epochs": "int_type"}),
    ({"target": "y", "training": {"epochs": 10**9}}, {"/spec/training/epochs": "less_than_equal"}),
    ({"target": "y", "training": {"seed": 10**19}}, {"/spec/training/seed": "less_than_equal"}),
    ({"target": "y", "training": {"seed": -1}}, {"/spec/training/seed": "greater_than_equal"}),
    ({"target": "y", "training": {"optimizer": "lion"}}, {"/spec/training/optimizer": "literal_error"}),
    ({"target": "y", "training": {"optimizer": {}}}, {"/spec/training/optimizer/name": "missing_field"}),
    ({"target": "y", "training": {"optimizer": 5}}, {"/spec/training/optimizer": "dict_type"}),
    (
        {"target": "y", "training": {"optimizer": {"name": "adam", "learning_rate": True}}},
        {"/spec/training/optimizer/learning_rate": "float_type"},
    ),
    (
        {"target": "y", "training": {"optimizer": {"name": "adam", "learning_rate": "0.1"}}},
        {"/spec/training/optimizer/learning_rate": "float_type"},
    ),
    (
        {"target": "y", "training": {"optimizer": {"name": "adam", "learning_rate": 0}}},
        {"/spec/training/optimizer/learning_rate": "greater_than"},
    ),
    (
        {"target": "y", "training": {"optimizer": {"name": "adam", "betas": [0.9, 1]}}},
        {"/spec/training/optimizer/betas/1": "less_than"},
    ),
    (
        {"target": "y", "network": {"hidden": [True, "3", 0, 10**9]}},
        {
            "/spec/network/hidden/0": "int_type",
            "/spec/network/hidden/1": "int_type",
            "/spec/network/hidden/2": "greater_than_equal",
            "/spec/network/hidden/3": "less_than_equal",
        },
    ),
    ({"target": "y", "network": {"hidden": [1] * 65}}, {"/spec/network/hidden": "too_long"}),
    ({"target": "y", "network": {"layers": [{"units": 3}]}}, {"/spec/network/layers/0/type": "missing_field"}),
    (
        {"target": "y", "network": {"layers": [{"type": "dense", "units": 3}, {"type": "dropout", "rate": 1}]}},
        {"/spec/network/layers/1/rate": "less_than"},
    ),
    ({"target": "y", "network": {"hidden": [3], "layers": []}}, {"/spec/network": "invalid_value"}),
    ({"target": "y", "features": {"columns": {"a/b~c": {"scale": 1}}}},
     {"/spec/features/columns/a~1b~0c/scale": "literal_error"}),
    ({"target": "y", "features": {"columns": {"dense": 1}}}, {"/spec/features/columns/dense": "dict_type"}),
    ({"target": "y", "features": {"columns": {"k" * 257: {}}}},
     {f"/spec/features/columns/{'k' * 64}": "string_too_long"}),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), WRONG, ids=[next(iter(found)) for _, found in WRONG])
def test_what_is_wrong_in_a_spec_is_pointed_at(serve: Serve, spec: dict[str, Any], expected: dict[str, str]) -> None:
    answer = post_job(serve, {"dataset_id": RANDOM["dataset"], "spec": spec})

    assert pointers(answer) == expected


UNKNOWN = [
    ({"datasetid": "x"}, "/datasetid", "dataset_id"),
    ({"spec": {"targte": "y"}}, "/spec/targte", "target"),
    ({"spec": {"label": "y"}}, "/spec/label", "target"),
    ({"spec": {"training": {"epoch": 5}}}, "/spec/training/epoch", "epochs"),
    ({"spec": {"training": {"max_iter": 5}}}, "/spec/training/max_iter", "epochs"),
    ({"spec": {"training": {"optimizer": {**ADAM, "lr": 1}}}}, "/spec/training/optimizer/lr", "learning_rate"),
    ({"spec": {"training": {"optimizer": {**ADAM, "momentum": 1}}}}, "/spec/training/optimizer/momentum", None),
    ({"spec": {"training": {"stop": {"patiense": 5}}}}, "/spec/training/stop/patiense", "patience"),
    ({"spec": {"network": {"hiden": [5]}}}, "/spec/network/hiden", "hidden"),
    ({"spec": {"network": {"layers": [{"type": "dense", "unit": 5}]}}}, "/spec/network/layers/0/unit", "units"),
    ({"spec": {"network": {"layers": [{"type": "dropout", "p": 0.5}]}}}, "/spec/network/layers/0/p", "rate"),
    ({"spec": {"split": {"valid": 0.1}}}, "/spec/split/valid", "validation"),
    ({"spec": {"features": {"columns": {"x": {"inpute": "mean"}}}}}, "/spec/features/columns/x/inpute", "impute"),
    ({"spec": {"qqq": 1}}, "/spec/qqq", None),
    ({"__proto__": {}}, "/__proto__", None),
]


@pytest.mark.parametrize(("body", "pointer", "meant"), UNKNOWN, ids=[pointer for _, pointer, _ in UNKNOWN])
def test_an_unknown_field_is_refused_and_a_likely_one_suggested(
    serve: Serve, body: dict[str, Any], pointer: str, meant: str | None
) -> None:
    answer = post_job(serve, body)

    found = {one["pointer"]: one for one in problem(answer, 422, "invalid_spec")["errors"]}
    assert found[pointer]["code"] == "unknown_field"
    assert found[pointer].get("suggestion") == meant


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"k": 1}},
        {"metadata": {"k": None}},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {str(number): "v" for number in range(33)}},
        {"metadata": ["k"]},
        {"priority": True},
        {"priority": "urgent"},
        {"name": 5},
        {"name": "n" * 256},
        {"dataset_id": 5},
        {"dataset_id": "d" * 65},
    ],
)
def test_options_of_a_job_have_their_types_and_bounds(serve: Serve, body: dict[str, Any]) -> None:
    whole = {"dataset_id": RANDOM["dataset"], "spec": {"target": "y"}, **body}

    answer = post_job(serve, whole)

    found = pointers(answer)
    assert len(found) == 1
    assert next(iter(found)).startswith(f"/{next(iter(body))}")


@pytest.mark.parametrize("body", [{"force": "yes"}, {"force": 1}, {"keep": "all"}, {"kep": "none"}, {"keep": None}])
def test_the_body_of_a_cancel_is_as_strict(serve: Serve, trained: str, body: dict[str, Any]) -> None:
    answer = serve.http.post(f"/v1/jobs/{trained}/cancel", json=body)

    assert list(pointers(answer)) == [f"/{next(iter(body))}"]


@pytest.mark.parametrize(
    "body",
    [
        {"dataset_id": SECRET, "spec": {"target": "y"}},
        {"dataset_id": SECRET * 20, "spec": {"target": [SECRET]}},
        {"name": [SECRET], "priority": SECRET, "metadata": {"k": [SECRET]}},
        {"spec": {"task": SECRET, "network": {"activation": SECRET, "layers": [{"type": SECRET}]}}},
        {"spec": {"training": {"loss": SECRET, "optimizer": {"name": SECRET}, "epochs": SECRET}}},
        {"spec": {"training": {"optimizer": SECRET, "stop": {"monitor": SECRET}}}},
        {"spec": {"version": SECRET, "split": {"method": SECRET, "validation": SECRET}}},
    ],
)
def test_no_value_of_the_input_comes_back(serve: Serve, body: dict[str, Any]) -> None:
    answer = post_job(serve, body)

    assert 400 <= answer.status_code < 500
    assert SECRET not in answer.text


def test_a_hundred_errors_are_enough(serve: Serve) -> None:
    answer = post_job(serve, {"spec": {"target": "y", "features": {"include": [1] * 5_000}}})

    assert len(problem(answer, 422, "invalid_spec")["errors"]) == 100


def test_a_megabyte_of_errors_does_not_stop_the_server(serve: Serve) -> None:
    hostile = json.dumps({"spec": {"target": "y", "features": {"include": [1] * 300_000}}})
    slowest = 0.0

    with ThreadPoolExecutor(1) as other:
        refused = other.submit(post_job, serve, hostile)
        while not refused.done():
            started = time.monotonic()
            serve.http.get("/healthz")
            slowest = max(slowest, time.monotonic() - started)

    problem(refused.result(), 422, "invalid_spec")
    assert slowest < 1.0


# --- whatever else there is -----------------------------------------------------------------------------------------

LETTERS = some.text(max_size=8)
FIELDS = some.sampled_from(
    ["dataset_id", "spec", "target", "training", "optimizer", "name", "network", "layers", "hidden", "epochs", "stop",
     "features", "columns", "split", "metadata", "priority", "type", "units", "loss", "version", "include", "task"]
)  # fmt: skip
LEAVES = (
    some.none() | some.booleans() | some.integers() | some.floats() | LETTERS
    | some.sampled_from(["adam", "dense", "y", "auto", RANDOM["dataset"], "mse", 1, 0, -1, 2**53, 2**64])
)  # fmt: skip
BODIES = some.recursive(
    LEAVES,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(FIELDS | LETTERS, inner, max_size=5),
    max_leaves=25,
)
MODEST = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@MODEST
@given(body=some.fixed_dictionaries({"dataset_id": LEAVES, "spec": BODIES}) | BODIES)
def test_no_json_at_all_is_a_5xx(anywhere: Serve, body: Any) -> None:
    answer = post_job(anywhere, json.dumps(body))

    assert 400 <= answer.status_code < 500, answer.text
    problem(answer, answer.status_code, answer.json()["code"])


@MODEST
@given(name=some.sampled_from(["limit", "page", "status", "dataset_id", "metadata[k]"]) | LETTERS, value=LETTERS)
def test_no_query_at_all_is_a_5xx(anywhere: Serve, name: str, value: str) -> None:
    parameters = {name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()}

    answer = anywhere.http.get("/v1/jobs", params=parameters)

    assert answer.status_code in (200, 422), answer.text


@MODEST
@given(body=some.binary(max_size=60))
def test_no_bytes_at_all_are_a_5xx(serve: Serve, body: bytes) -> None:
    answer = post_job(serve, body)

    assert answer.status_code in (400, 422), answer.text
