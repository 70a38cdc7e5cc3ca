"""Jobs: submitting, waiting, finding, cancelling."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api.asking import TABLE, post_job, post_table, problem
from tests.api.conftest import LONG, SHORT
from tests.conftest import PENGUINS
from tests.running import Serve, wait_until

Start = Callable[..., dict[str, Any]]


def running(serve: Serve, job: dict[str, Any], epochs: int = 1) -> dict[str, Any]:
    """The job, once it has trained for so many epochs."""

    def look() -> dict[str, Any] | None:
        found = serve.job(job["id"])
        return found if found["progress"]["epoch"] >= epochs else None

    found = wait_until(look, what="an epoch")
    assert found is not None
    return found


def cancel(serve: Serve, job: dict[str, Any], **body: Any) -> Any:
    return serve.http.post(f"/v1/jobs/{job['id']}/cancel", json=body)


# --- submitting -------------------------------------------------------------------------------------------------------


def test_a_job_is_accepted_with_its_address_and_when_to_ask_again(serve: Serve, penguins: str) -> None:
    answer = post_job(serve, {"dataset_id": penguins, "spec": SHORT, "name": "n", "metadata": {"a": "b"}})

    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    assert (job["status"], job["name"], job["metadata"], job["priority"]) == ("queued", "n", {"a": "b"}, "normal")
    assert job["resolved_spec"]["network"]["output"]["units"] == 3


@pytest.mark.parametrize("spec", [SHORT, {**SHORT, "split": {"folds": 2}}], ids=["one network", "folds"])
def test_the_answer_to_a_submission_is_the_job_as_it_is_read(
    anywhere: Serve, any_table: str, spec: dict[str, Any]
) -> None:
    options = {"name": "n", "priority": "low", "metadata": {"a": "b"}}

    made = anywhere.submit(any_table, {**spec, "target": "y"}, **options)

    read = anywhere.job(made["id"])
    moving = {"status", "phase", "progress", "latest_metrics", "best", "attempts", "started_at", "finished_at"}
    moving |= {"stop_reason", "cross_validation", "finished", "queue"}
    assert {name: value for name, value in made.items() if name not in moving} == {
        name: value for name, value in read.items() if name not in moving
    }
    assert (made["status"], made["finished"], made["attempts"]) == ("queued", False, [])
    assert made["progress"]["epochs"] == 3 * (3 if "split" in spec else 1)
    assert (made["cross_validation"] is not None) == ("split" in spec)
    anywhere.finished(made["id"])


def test_a_job_may_be_submitted_before_its_dataset_was_read(serve: Serve) -> None:
    dataset = post_table(serve, PENGUINS.read_bytes(), wait=0).json()

    answer = post_job(serve, {"dataset_id": dataset["id"], "spec": SHORT})

    assert dataset["status"] == "processing"
    assert answer.status_code == 202
    assert serve.finished(answer.json()["id"])["status"] == "succeeded"


def test_a_job_that_waits_for_a_bad_dataset_fails_with_it(serve: Serve) -> None:
    dataset = post_table(serve, b"x,y\n1,2\n3\n", wait=0).json()

    job = serve.finished(post_job(serve, {"dataset_id": dataset["id"], "spec": {"target": "y"}}).json()["id"])

    assert job["status"] == "failed"
    assert job["error"]["code"]


def test_a_dataset_that_is_still_being_read_is_202_and_has_no_rows_yet(serve: Serve, tmp_path: Path) -> None:
    rows = b"".join(b"%d,%d,%d\n" % (n, n * 7 % 1000, n % 5) for n in range(300_000))

    answer = post_table(serve, b"a,b,c\n" + rows, wait=0)

    assert answer.status_code == 202
    assert answer.json()["status"] == "processing"
    problem(serve.http.get(f"{answer.headers['location']}/rows"), 409, "dataset_not_ready")
    problem(serve.http.delete(answer.headers["location"]), 409, "dataset_not_ready")


def test_a_target_that_is_not_there_is_422(serve: Serve, penguins: str) -> None:
    answer = post_job(serve, {"dataset_id": penguins, "spec": {"target": "spices"}})

    problem(answer, 422, "target_not_found")


def test_a_form_refuses_what_json_would_refuse(serve: Serve) -> None:
    def ask(**fields: str) -> Any:
        return serve.http.post("/v1/jobs", files={"file": ("small.csv", TABLE)}, data=fields)

    problem(ask(spec="{"), 400, "malformed_json")
    problem(ask(spec='{"target": "y", "target": "x"}'), 400, "malformed_json")
    problem(ask(spec='{"target": "\\u0000"}'), 422, "invalid_text")
    problem(ask(spec='{"target": "y"}', name="a\0b"), 422, "invalid_text")
    assert problem(ask(name="x"), 422, "invalid_spec")["errors"][0]["pointer"] == "/spec"
    assert problem(ask(spec='{"target": "y"}', epochs="5"), 422, "invalid_spec")["errors"][0]["pointer"] == "/epochs"
    assert problem(ask(spec='{"target": "y"}', metadata="x"), 400, "malformed_json")


def test_a_form_with_the_same_field_twice_is_refused(serve: Serve) -> None:
    fields = {"spec": ['{"target": "x"}', '{"target": "y"}']}

    answer = serve.http.post("/v1/jobs", files={"file": ("small.csv", TABLE)}, data=fields)

    problem(answer, 400, "invalid_request")


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["?wait=60", "Prefer"])
def test_a_wait_ends_with_the_job(serve: Serve, penguins: str, how: str) -> None:
    job = serve.submit(penguins, SHORT)
    path, headers = (how, {}) if how != "Prefer" else ("", {"Prefer": "respond-async, wait=60"})

    answer = serve.http.get(f"/v1/jobs/{job['id']}{path}", headers=headers)

    assert answer.json()["status"] == "succeeded"
    assert "retry-after" not in answer.headers
    assert answer.headers.get("preference-applied") == ("wait=60" if how == "Prefer" else None)


def test_a_wait_ends_when_its_time_is_over(serve: Serve, start_long: Start) -> None:
    job = start_long()
    started = time.monotonic()

    answer = serve.http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=1"})

    assert 0.9 <= time.monotonic() - started < 4
    assert not answer.json()["finished"]
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["preference-applied"] == "wait=1"


def test_a_create_may_wait_too(serve: Serve, penguins: str) -> None:
    answer = post_job(serve, {"dataset_id": penguins, "spec": SHORT}, Prefer="wait=60")

    assert answer.status_code == 202
    assert answer.json()["status"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=60"


@pytest.mark.parametrize("wait", ["61", "-1", "nan", "inf", "x", "1e9"])
def test_a_wait_has_bounds(serve: Serve, trained: str, wait: str) -> None:
    answer = serve.http.get(f"/v1/jobs/{trained}?wait={wait}")

    problem(answer, 422, "invalid_query")


@pytest.mark.parametrize("preference", ["wait=99999", "wait=x", "wait=-1", "", "wait", "handling=strict", "await=9"])
def test_a_preference_is_never_an_error(serve: Serve, trained: str, preference: str) -> None:
    answer = serve.http.get(f"/v1/jobs/{trained}", headers={"Prefer": preference})

    assert answer.status_code == 200


def test_fifty_waits_at_once_leave_the_process_answering(serve: Serve, start_long: Start) -> None:
    job = start_long()

    with ThreadPoolExecutor(50) as clients:
        waits = [clients.submit(serve.http.get, f"/v1/jobs/{job['id']}?wait=10") for _ in range(50)]
        time.sleep(1)
        times = []
        for _ in range(10):
            started = time.monotonic()
            assert serve.http.get("/healthz").status_code == 200
            times.append(time.monotonic() - started)
        still_waiting = sum(not one.done() for one in waits)

    assert still_waiting == 50
    assert sorted(times)[-2] < 0.5  # one may have met another process's burst
    assert all(one.result().status_code == 200 for one in waits)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_jobs_are_found_by_status_dataset_and_metadata(serve: Serve, trained: str, penguins: str) -> None:
    def ids(query: str) -> list[str]:
        return [one["id"] for one in serve.http.get(f"/v1/jobs?limit=200&{query}").json()["items"]]

    assert trained in ids("status=succeeded")
    assert trained in ids("status=failed&status=succeeded")
    assert trained not in ids("status=queued&status=failed")
    assert ids("metadata[made]=once") == [trained]
    assert ids("metadata[made]=twice") == []
    assert ids("metadata[made]=once&metadata[other]=x") == []
    assert trained in ids(f"dataset_id={penguins}&metadata[made]=once")
    assert ids("dataset_id=ds_01m85aed7remsr4cmx2hj3ac69") == []


@pytest.mark.parametrize("name", ['a"b', "a.b", "a[0]", "$", "a' OR '1'='1", "", "*", "a\\b"])
def test_no_name_of_metadata_breaks_the_filter(anywhere: Serve, name: str) -> None:
    answer = anywhere.http.get("/v1/jobs", params={f"metadata[{name}]": "x"})

    if '"' in name:
        problem(answer, 422, "invalid_query")
    else:
        assert answer.status_code == 200
        assert answer.json()["items"] == []


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_running_job_that_is_cancelled_keeps_its_best_weights(serve: Serve, start_long: Start) -> None:
    job = start_long()
    running(serve, job)

    answer = cancel(serve, job)
    ended = serve.finished(job["id"])

    assert answer.status_code == 200
    assert answer.json()["status"] in ("cancelling", "cancelled")
    assert (ended["status"], ended["stop_reason"]) == ("cancelled", "user_cancel")
    assert len(serve.artifact(job["id"], "weights.safetensors")) > 100


def test_a_job_cancelled_with_keep_none_leaves_nothing(serve: Serve, start_long: Start) -> None:
    job = start_long()
    running(serve, job)

    cancel(serve, job, keep="none")
    serve.finished(job["id"])

    assert serve.http.get(f"/v1/jobs/{job['id']}/artifacts").json()["items"] == []
    problem(serve.http.get(f"/v1/jobs/{job['id']}/weights"), 404, "artifact_not_found")


def test_a_job_cancelled_by_force_ends_at_once(serve: Serve, start_long: Start) -> None:
    job = start_long()
    running(serve, job)
    started = time.monotonic()

    cancel(serve, job, force=True)
    ended = serve.finished(job["id"])

    assert ended["status"] == "cancelled"
    assert time.monotonic() - started < 5


def test_cancelling_twice_is_cancelling_once(serve: Serve, start_long: Start) -> None:
    job = start_long()
    running(serve, job)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: cancel(serve, job), range(8)))
    ended = serve.finished(job["id"])
    again = cancel(serve, job)

    assert [answer.status_code for answer in answers] == [200] * 8
    assert again.status_code == 200
    assert again.json() == ended
    assert [event["type"] for event in serve.events(job["id"])].count("end") == 1


def test_a_queued_job_is_cancelled_without_ever_running(serve: Serve, start_long: Start) -> None:
    busy = [start_long() for _ in range(6)]
    job = start_long(priority="low")

    answer = cancel(serve, job)

    assert answer.json()["status"] == "cancelled"
    assert answer.json()["attempts"] == []
    assert serve.job(busy[0]["id"])["status"] != "cancelled"


def test_a_job_that_waits_for_its_dataset_is_cancelled(serve: Serve) -> None:
    rows = b"".join(b"%d,%d,%d\n" % (n, n * 7 % 1000, n % 5) for n in range(300_000))
    dataset = post_table(serve, b"a,b,c\n" + rows, wait=0).json()
    job = post_job(serve, {"dataset_id": dataset["id"], "spec": {"target": "c"}}).json()

    answer = cancel(serve, job)

    assert job["phase"] == "waiting_for_dataset"
    assert answer.json()["status"] == "cancelled"


def test_a_job_that_succeeded_is_not_cancelled_any_more(serve: Serve, trained: str) -> None:
    before = serve.job(trained)

    answer = serve.http.post(f"/v1/jobs/{trained}/cancel")

    problem(answer, 409, "job_already_terminal")
    assert serve.job(trained) == before


def test_the_weights_of_an_unfinished_job_are_not_ready(serve: Serve, start_long: Start) -> None:
    job = start_long()

    answer = serve.http.get(f"/v1/jobs/{job['id']}/weights")

    assert problem(answer, 409, "artifact_not_ready")["job_status"] in ("queued", "running")


# --- idempotency ------------------------------------------------------------------------------------------------------


def body_of(dataset_id: str, **options: Any) -> dict[str, Any]:
    return {"dataset_id": dataset_id, "spec": SHORT, **options}


def test_the_same_key_and_body_are_the_same_job(serve: Serve, penguins: str) -> None:
    key = f"same-{time.time_ns()}"
    body = body_of(penguins)
    other_order = json.dumps(dict(reversed(body.items())), indent=3)

    first, second = (post_job(serve, one, **{"Idempotency-Key": key}) for one in (body, other_order))

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]


def test_the_same_key_with_another_body_is_refused(serve: Serve, penguins: str) -> None:
    key = f"other-{time.time_ns()}"
    post_job(serve, body_of(penguins), **{"Idempotency-Key": key})

    answer = post_job(serve, body_of(penguins, name="another"), **{"Idempotency-Key": key})

    problem(answer, 422, "idempotency_key_reused")


def test_a_refused_request_leaves_its_key_free(serve: Serve, penguins: str) -> None:
    key = f"free-{time.time_ns()}"
    problem(post_job(serve, {"dataset_id": penguins, "spec": {"target": "spices"}}, **{"Idempotency-Key": key}),
            422, "target_not_found")  # fmt: skip

    answer = post_job(serve, body_of(penguins), **{"Idempotency-Key": key})

    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers


def test_two_projects_use_the_same_key_for_themselves(serve: Serve, neighbour: Serve, penguins: str) -> None:
    key = f"two-{time.time_ns()}"
    theirs = post_table(neighbour, PENGUINS.read_bytes()).json()["id"]

    ours, other = (
        post_job(api, body_of(dataset), **{"Idempotency-Key": key})
        for api, dataset in ((serve, penguins), (neighbour, theirs))
    )

    assert (ours.status_code, other.status_code) == (202, 202)
    assert ours.json()["id"] != other.json()["id"]
    assert "idempotent-replayed" not in other.headers


def test_twenty_at_once_with_one_key_are_one_job(anywhere: Serve, any_table: str) -> None:
    body = {"dataset_id": any_table, "spec": {"target": "y", "training": {"epochs": 1}}, "metadata": {"of": "twenty"}}
    key = f"twenty-{time.time_ns()}"

    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: post_job(anywhere, body, **{"Idempotency-Key": key}), range(20)))

    assert [answer.status_code for answer in answers] == [202] * 20
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1


def test_a_form_that_is_sent_again_makes_no_second_dataset(serve: Serve) -> None:
    key = {"Idempotency-Key": f"form-{time.time_ns()}"}

    def send() -> Any:
        return serve.http.post(
            "/v1/jobs?wait=60", files={"file": ("small.csv", TABLE)}, data={"spec": '{"target": "y"}'}, headers=key
        )

    first = send()
    before = set((serve.data_dir / "storage" / "uploads").iterdir())
    second = send()

    assert second.json()["id"] == first.json()["id"]
    assert second.json()["dataset_id"] == first.json()["dataset_id"]
    assert set((serve.data_dir / "storage" / "uploads").iterdir()) == before


@pytest.mark.parametrize("key", ["", "k" * 256, "schlüssel".encode(), b"\x80", b"a\tb"])
def test_a_bad_key_is_400(serve: Serve, penguins: str, key: str | bytes) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}

    answer = serve.http.post("/v1/jobs", content=json.dumps(body_of(penguins)), headers=headers)

    problem(answer, 400, "invalid_idempotency_key")


def test_two_keys_are_a_bad_key(serve: Serve, penguins: str) -> None:
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", "one"), ("Idempotency-Key", "two")]

    answer = serve.http.post("/v1/jobs", content=json.dumps(body_of(penguins)), headers=headers)

    problem(answer, 400, "invalid_idempotency_key")


def test_a_spec_that_was_resolved_is_accepted_again(serve: Serve, trained: str, penguins: str) -> None:
    resolved = serve.job(trained)["resolved_spec"]

    answer = post_job(serve, {"dataset_id": penguins, "spec": resolved})

    assert answer.status_code == 202
    assert answer.json()["resolved_spec"] == resolved


def test_a_long_job_is_what_it_says(serve: Serve, start_long: Start) -> None:
    job = start_long()

    found = running(serve, job)

    assert found["spec"]["training"]["epochs"] == LONG["training"]["epochs"]  # type: ignore[index]
    assert found["status"] == "running"


# --- a loss that stops being a number -----------------------------------------------------------------------------


def test_a_job_that_diverges_fails_by_name_and_keeps_its_best_weights(serve: Serve, penguins: str) -> None:
    spec = {
        "target": "bill_length_mm",
        "network": {"hidden": [16], "activation": "linear"},
        "training": {
            "epochs": 60,
            "optimizer": {"name": "sgd", "learning_rate": 10},
            "schedule": {"name": "constant", "warmup_epochs": 1000},  # harmless at first, and soon not any more
        },
    }

    job = serve.finished(serve.submit(penguins, spec)["id"])

    assert (job["status"], job["error"]["code"]) == ("failed", "diverged")
    assert {"epoch", "step", "batch", "layer", "column"} <= set(job["error"])
    assert 1 <= job["best"]["epoch"] < job["error"]["epoch"]
    names = {one["name"] for one in serve.http.get(f"/v1/jobs/{job['id']}/artifacts").json()["items"]}
    assert {"weights.safetensors", "report.json", "metrics.csv"} <= names
    report = serve.http.get(f"/v1/jobs/{job['id']}/artifacts/report.json").json()
    assert (report["stop_reason"], report["kept_epoch"]) == ("diverged", job["best"]["epoch"])
    last = serve.events(job["id"])[-1]
    assert (last["type"], last["data"]["status"]) == ("end", "failed")
