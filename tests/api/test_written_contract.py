"""The contract as it is written down: valid, complete, and true of every answer that this server gave to the tests.

The name keeps this file last of its folder: the server itself has counted by then what it answered.
"""

import inspect
import re
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, OpenAPIV32SpecValidator

from api import (
    artifacts,
    clones,
    datasets,
    events,
    health,
    intake,
    jobs,
    keys,
    metrics,
    pausing,
    plans,
    predict,
    predictions,
    predictors,
    specs,
    submissions,
    traces,
    transcripts,
)
from core.spec import TrainingSpec
from tests.api.asking import post_job, problem
from tests.api.test_operations import families
from tests.running import Serve

GUARDED = (
    artifacts,
    clones,
    datasets,
    events,
    jobs,
    metrics,
    pausing,
    predict,
    predictions,
    predictors,
    submissions,
    traces,
    transcripts,
)
HERE = {"GET /openapi.json", "GET /openapi-3.1.json", "GET /docs", "GET /v1/schemas/spec.json", "GET /errors/{code}"}


@pytest.fixture(scope="module")
def newest(serve: Serve) -> dict[str, Any]:
    return dict(serve.http.get("/openapi.json").json())


@pytest.fixture(scope="module")
def older(serve: Serve) -> dict[str, Any]:
    return dict(serve.http.get("/openapi-3.1.json").json())


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): one for path, methods in document["paths"].items() for method, one in methods.items()
    }


def test_both_documents_are_valid(newest: dict[str, Any], older: dict[str, Any]) -> None:
    OpenAPIV32SpecValidator(newest).validate()
    OpenAPIV31SpecValidator(older).validate()

    assert (newest["openapi"], older["openapi"]) == ("3.2.0", "3.1.0")


def test_only_the_newest_says_what_streams_are_made_of(newest: dict[str, Any], older: dict[str, Any]) -> None:
    read_events = newest["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]

    assert "itemSchema" in read_events["text/event-stream"]
    assert "itemSchema" in read_events["application/jsonl"]
    assert "itemSchema" not in str(older)
    assert set(operations(older)) == set(operations(newest))


def test_an_operation_is_called_as_its_function(newest: dict[str, Any]) -> None:
    functions = {
        name
        for module in (*GUARDED, health, intake, plans, specs)
        for name, found in inspect.getmembers(module, inspect.isfunction)
        if found.__module__ == module.__name__
    }

    names = [one["operationId"] for one in operations(newest).values()]

    assert len(set(names)) == len(names)
    assert set(names) <= functions


def test_every_operation_but_the_open_ones_states_its_key_and_its_errors(newest: dict[str, Any]) -> None:
    for (_, path), one in operations(newest).items():
        if path in ("/healthz", "/readyz", "/version"):
            assert "security" not in one
            continue
        assert one["security"] == [{"key": []}]
        assert one["responses"]["401"]["content"].keys() == {"application/problem+json"}
        assert one.get("description") or one.get("summary")


def test_every_reference_leads_somewhere(newest: dict[str, Any]) -> None:
    named = set(re.findall(r"#/components/schemas/(\w+)", str(newest)))

    assert named <= set(newest["components"]["schemas"])
    assert "HTTPValidationError" not in str(newest)


def test_every_answer_that_the_tests_saw_is_declared(serve: Serve, newest: dict[str, Any]) -> None:
    problem(post_job(serve, "{"), 400, "malformed_json")
    declared = {f"{method} {path}": set(one["responses"]) for (method, path), one in operations(newest).items()}

    samples = families(serve)["backpropd_http_request_duration_seconds"].samples
    seen = {
        (f"{sample.labels['method']} {sample.labels['route']}", sample.labels["status"])
        for sample in samples
        if sample.name.endswith("_count") and sample.value and sample.labels["route"] != "unknown"
    }

    by_head = {(f"GET {route.removeprefix('HEAD ')}", status) for route, status in seen if route.startswith("HEAD ")}
    seen = {(route, status) for route, status in seen if not route.startswith("HEAD ")} | by_head
    undeclared = {
        (route, status)
        for route, status in seen
        if route not in HERE and status != "405" and status not in declared.get(route, set())
    }
    assert ("POST /v1/jobs", "400") in seen
    assert undeclared == set()


def test_the_schema_of_a_spec_is_the_spec(serve: Serve, trained: str) -> None:
    answer = serve.http.get("/v1/schemas/spec.json")

    schema = answer.json()
    Draft202012Validator.check_schema(schema)
    assert answer.headers["content-type"] == "application/schema+json"
    assert set(schema["properties"]) == set(TrainingSpec.model_fields)
    Draft202012Validator(schema).validate(serve.job(trained)["resolved_spec"])


def test_the_page_to_read_needs_no_other_host(serve: Serve) -> None:
    page = serve.http.get("/docs").text

    own = re.findall(r"""(?:src|href)=["'](/static/[^"']+)["']""", page)
    assert re.findall(r"https?://", page) == []
    assert len(own) == 3
    assert '"validatorUrl": null' in page
    for path in own:
        answer = serve.http.get(path, headers={"Authorization": ""})
        assert answer.status_code == 200
        assert len(answer.content) > 100


def test_a_key_is_found_before_anything_else_is_looked_at() -> None:
    guarded = [route for module in GUARDED for route in module.router.routes]

    for route in guarded:
        assert any(one.call in (keys.caller, keys.admin) for one in route.dependant.dependencies), route  # type: ignore[attr-defined]
    assert len(guarded) >= 15


def test_documents_are_made_once(serve: Serve) -> None:
    serve.http.get("/openapi.json")
    started = time.monotonic()

    for _ in range(10):
        serve.http.get("/openapi.json")

    assert time.monotonic() - started < 2
