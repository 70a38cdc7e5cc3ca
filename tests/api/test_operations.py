"""What an operator sees: health, metrics, log lines with the request's id, and a broker that is away."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.asking import TABLE, post_job, post_table
from tests.running import Serve, wait_until


def families(serve: Serve) -> dict[str, Any]:
    answer = serve.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(serve: Serve, name: str, **labels: str) -> float:
    samples = [sample for family in families(serve).values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


# --- health -----------------------------------------------------------------------------------------------------------


def test_the_process_lives_and_can_work(serve: Serve) -> None:
    alive, ready = serve.http.get("/healthz"), serve.http.get("/readyz")

    assert alive.json() == {"status": "ok"}
    assert ready.status_code == 200
    checks = dict.fromkeys(("database", "migrations", "storage", "broker"), "ok")
    assert ready.json() == {"status": "ready", "checks": checks}


def test_the_version_says_what_runs_here(serve: Serve) -> None:
    found = serve.http.get("/version").json()

    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", found["version"])
    assert (found["api"], found["spec_versions"]) == ("v1", [1])


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_the_families_that_dashboards_are_made_of_are_there(serve: Serve, trained: str) -> None:
    found = families(serve)

    assert set(found) >= {
        "backpropd_http_request_duration_seconds",
        "backpropd_jobs_submitted",
        "backpropd_uploaded_bytes",
        "backpropd_event_readers",
        "backpropd_build_info",
        "backpropd_jobs",
        "backpropd_datasets",
        "backpropd_runs",
        "backpropd_queue_oldest_seconds",
        "backpropd_workers",
        "backpropd_worker_slots",
        "backpropd_run_interruptions",
        "backpropd_run_failures",
    }
    assert value(serve, "backpropd_workers") == 1
    assert value(serve, "backpropd_jobs", status="succeeded") >= 1


def test_counters_count(serve: Serve) -> None:
    def now() -> tuple[float, float]:
        return value(serve, "backpropd_jobs_submitted_total"), value(serve, "backpropd_uploaded_bytes_total")

    before = now()

    dataset_id = post_table(serve, TABLE).json()["id"]
    post_job(serve, {"dataset_id": dataset_id, "spec": {"target": "y", "training": {"epochs": 1}}})

    assert now() == (before[0] + 1, before[1] + len(TABLE))


def test_requests_are_counted_by_their_route_and_never_by_what_was_sent(serve: Serve, trained: str) -> None:
    serve.http.get("/made/up/path")
    serve.http.get(f"/v1/jobs/{trained}")

    samples = families(serve)["backpropd_http_request_duration_seconds"].samples

    routes = {sample.labels["route"] for sample in samples}
    assert {"unknown", "/v1/jobs/{job_id}"} <= routes
    assert not any(trained in route or "made" in route for route in routes)


# --- ids and log lines ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["abcdefgh", "0b7e8c1e-5a8f-4e0e-9d0b-7f1b6e1c2d3e", "A_b-" * 16])
def test_a_request_id_that_is_one_is_echoed(serve: Serve, given: str) -> None:
    answer = serve.http.get("/healthz", headers={"X-Request-Id": given})

    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "has space", 'quote"s-in-it', "ümlaut-long", "a,b,c,d,e,f"])
def test_a_request_id_that_is_none_is_replaced(serve: Serve, given: str) -> None:
    answer = serve.http.get("/healthz", headers={"X-Request-Id": given.encode()})

    assert re.fullmatch(r"req_[0-9a-z]{26}", answer.headers["x-request-id"])


def test_every_request_is_a_line_of_json_with_its_id(serve: Serve) -> None:
    answers = [serve.http.get("/v1/jobs"), serve.http.get("/nowhere"), post_job(serve, "{")]

    def lines() -> list[dict[str, Any]]:
        *whole, _half_written = serve.log.read_text().split("\n")
        return [json.loads(line) for line in whole if "request_answered" in line]

    for answer in answers:
        request_id = answer.headers["x-request-id"]
        line = wait_until(lambda: [one for one in lines() if one["request_id"] == request_id])[0]  # noqa: B023
        assert line["status"] == answer.status_code
        assert {"method", "route", "seconds", "timestamp", "level"} <= set(line)


def test_no_line_of_the_log_holds_a_key_or_a_traceback(serve: Serve) -> None:
    log = serve.log.read_text()

    shown = log.split("Ctrl-C stops it")[1]
    assert serve.key not in shown
    assert "Traceback" not in shown
    assert "request_failed" not in shown
    assert "Authorization" not in shown


# --- without the broker -----------------------------------------------------------------------------------------------


@pytest.fixture
def frozen_broker(own_serve: Serve) -> Iterator[Serve]:
    """A server whose broker takes connections and never answers."""
    dataset = own_serve.http.post("/v1/datasets", files={"file": ("small.csv", TABLE)})
    assert dataset.status_code == 201
    broker = own_serve.child("broker")
    broker.send_signal(signal.SIGSTOP)
    yield own_serve
    broker.send_signal(signal.SIGCONT)


def test_a_job_is_accepted_and_trained_while_the_broker_is_frozen(frozen_broker: Serve) -> None:
    serve = frozen_broker
    dataset_id = serve.http.get("/v1/datasets").json()["items"][0]["id"]
    body = {"dataset_id": dataset_id, "spec": {"target": "y", "training": {"epochs": 2}}}

    times, answers = [], []
    for _ in range(5):
        started = time.monotonic()
        answers.append(post_job(serve, body))
        times.append(time.monotonic() - started)
    ready = serve.http.get("/readyz")

    assert [answer.status_code for answer in answers] == [202] * 5
    assert max(times) < 1.0
    assert ready.status_code == 200
    assert ready.json()["checks"]["broker"].startswith("failed: ")
    assert serve.finished(answers[0].json()["id"])["status"] == "succeeded"


def test_log_files_are_where_the_tests_look(serve: Serve) -> None:
    assert isinstance(serve.log, Path)
    assert serve.log.stat().st_size > 0
