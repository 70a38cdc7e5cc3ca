"""Clones: a job again, from its spec as sent, with what a patch changes."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.api.asking import RANDOM, TABLE, masked, pointers, post_job, post_table, problem
from tests.api.conftest import LONG, SHORT
from tests.api.test_hostile_json import MALFORMED
from tests.api.test_jobs import cancel, running
from tests.conftest import PENGUINS
from tests.running import Api, Serve

Start = Callable[..., dict[str, Any]]
Patch = list[dict[str, Any]]


def clone(api: Api, job_id: str, /, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
    return api.http.post(f"/v1/jobs/{job_id}/clone", json=body, headers=headers)


def cloned(api: Api, job_id: str, /, **body: Any) -> dict[str, Any]:
    """The clone, which was accepted."""
    answer = clone(api, job_id, **body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def refused(api: Api, job_id: str, code: str, patch: Any) -> list[tuple[str, str, str | None]]:
    """Pointer, code and suggestion of each thing that is wrong with the patch."""
    found = problem(clone(api, job_id, patch=patch), 422, code)["errors"]
    return [(one["pointer"], one["code"], one.get("suggestion")) for one in found]


def sha256(serve: Serve, job_id: str) -> str:
    return str(serve.http.head(f"/v1/jobs/{job_id}/weights").headers["etag"])


def set_to(path: str, value: Any, op: str = "replace") -> dict[str, Any]:
    return {"op": op, "path": path, "value": value}


@pytest.fixture(scope="module")
def parent(serve: Serve, penguins: str) -> str:
    """The id of a job with a name, metadata and a priority that has succeeded."""
    options: dict[str, Any] = {"name": "first", "metadata": {"team": "growth"}, "priority": "high"}
    return str(serve.finished(serve.submit(penguins, SHORT, **options)["id"])["id"])


# --- the same again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"patch": []}', b'{"dataset_id": null}'])
def test_a_clone_without_changes_is_the_same_job_again(serve: Serve, parent: str, body: bytes | None) -> None:
    first = serve.job(parent)

    answer = serve.http.post(f"/v1/jobs/{parent}/clone", content=body)

    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    assert job["id"] != parent
    assert (job["status"], job["cloned_from"]) == ("queued", parent)
    for field in ("dataset_id", "spec", "resolved_spec", "outputs", "name", "metadata", "priority", "warnings"):
        assert job[field] == first[field], field
    assert first["cloned_from"] is None


def test_a_plain_clone_trains_to_the_same_weights(serve: Serve, parent: str) -> None:
    answer = serve.http.post(f"/v1/jobs/{parent}/clone?wait=60")

    job = answer.json()
    assert job["status"] == "succeeded"
    assert sha256(serve, job["id"]) == sha256(serve, parent)
    assert job["best"] == serve.job(parent)["best"]


def test_a_clone_may_wait_for_its_end_by_a_preference(serve: Serve, parent: str) -> None:
    answer = clone(serve, parent, {"Prefer": "wait=60"})

    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.json()["finished"]


def test_name_metadata_and_priority_are_taken_over_unless_given(serve: Serve, parent: str) -> None:
    given = {"name": "second", "metadata": {"team": "core"}, "priority": "low"}

    changed = cloned(serve, parent, **given)
    emptied = cloned(serve, parent, name=None, metadata={})

    assert {field: changed[field] for field in given} == given
    assert (emptied["name"], emptied["metadata"], emptied["priority"]) == (None, {}, "high")


def test_a_clone_of_a_clone_says_whose_it_is(serve: Serve, parent: str) -> None:
    first = cloned(serve, parent)

    second = cloned(serve, first["id"])

    assert second["cloned_from"] == first["id"]
    assert serve.job(second["id"])["cloned_from"] == first["id"]


def test_a_read_leads_to_the_clone(serve: Serve, parent: str) -> None:
    link = serve.job(parent)["links"]["clone"]

    assert serve.http.post(link).status_code == 202


# --- jobs in any state ------------------------------------------------------------------------------------------------

QUICK = [set_to("/training/epochs", 1)]
LARGE = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n % 5) for n in range(300_000))  # is being read when the job comes


def test_a_running_and_a_cancelled_job_are_cloned(serve: Serve, start_long: Start) -> None:
    job = start_long()
    running(serve, job)

    while_it_runs = cloned(serve, job["id"], patch=QUICK)
    cancel(serve, job, force=True)
    ended = serve.finished(job["id"])
    afterwards = cloned(serve, job["id"], patch=QUICK)

    assert ended["status"] == "cancelled"
    for one in (while_it_runs, afterwards):
        assert one["spec"] == LONG | {"training": {"epochs": 1}}
        assert serve.finished(one["id"])["status"] == "succeeded"
    assert serve.job(job["id"]) == ended


def test_a_job_that_failed_is_cloned_with_what_was_wrong_mended(serve: Serve) -> None:
    dataset = post_table(serve, LARGE, wait=0).json()["id"]
    failed = serve.finished(post_job(serve, {"dataset_id": dataset, "spec": {"target": "z"}}).json()["id"])

    mended = serve.finished(
        cloned(serve, failed["id"], patch=[set_to("/target", "b"), *QUICK, set_to("/training/batch_size", 100_000)])[
            "id"
        ]
    )

    assert failed["status"] == "failed"
    assert mended["status"] == "succeeded"


def test_a_job_that_waits_for_its_dataset_is_cloned_from_the_defaults(serve: Serve) -> None:
    dataset = post_table(serve, LARGE, wait=0).json()["id"]
    waiting = post_job(serve, {"dataset_id": dataset, "spec": {"target": "b"}}).json()

    job = cloned(serve, waiting["id"], patch=[set_to("/training/batch_size", 4096)])

    for one in (waiting, job):
        cancel(serve, one)
    assert (job["phase"], job["resolved_spec"]) == ("waiting_for_dataset", None)
    assert set(job["spec"]) == {"target", "training"}
    assert job["spec"]["training"]["batch_size"] == 4096
    assert job["spec"]["training"]["loss"] == {"name": "auto"}


# --- the patch --------------------------------------------------------------------------------------------------------


def test_a_patch_changes_the_learning_rate(serve: Serve, penguins: str) -> None:
    spec = {**SHORT, "training": {"epochs": 3, "optimizer": {"name": "adam", "learning_rate": 0.01}}}
    first = serve.finished(serve.submit(penguins, spec)["id"])

    job = cloned(serve, first["id"], patch=[set_to("/training/optimizer/learning_rate", 0.1)])

    assert job["spec"]["training"] == {"epochs": 3, "optimizer": {"name": "adam", "learning_rate": 0.1}}
    assert job["resolved_spec"]["training"]["optimizer"]["learning_rate"] == 0.1
    assert serve.finished(job["id"])["status"] == "succeeded"
    assert sha256(serve, job["id"]) != sha256(serve, first["id"])
    assert serve.job(first["id"]) == first


def test_a_section_that_was_not_sent_is_filled_from_the_resolved_spec(serve: Serve, parent: str) -> None:
    first = serve.job(parent)
    assert "split" not in first["spec"]

    job = cloned(serve, parent, patch=[set_to("/split/seed", 7)])

    assert job["spec"] == {**SHORT, "split": {**first["resolved_spec"]["split"], "seed": 7}}
    assert job["resolved_spec"] == {**first["resolved_spec"], "split": job["spec"]["split"]}


def test_a_section_that_was_filled_and_not_changed_trains_to_the_same_weights(serve: Serve, parent: str) -> None:
    sections = ["version", "task", "features", "split", "resources"]
    settled = serve.job(parent)["resolved_spec"]

    job = cloned(serve, parent, patch=[set_to(f"/{one}", settled[one], "test") for one in sections])

    assert set(job["spec"]) == {*SHORT, *sections}
    assert job["resolved_spec"] == settled
    assert serve.finished(job["id"])["status"] == "succeeded"
    assert sha256(serve, job["id"]) == sha256(serve, parent)


def test_a_part_of_a_sent_section_that_was_not_sent_is_filled_too(serve: Serve, parent: str) -> None:
    settled = serve.job(parent)["resolved_spec"]["training"]

    job = cloned(
        serve,
        parent,
        patch=[set_to("/training/optimizer/learning_rate", 0.1), set_to("/training/stop/patience", 5)],
    )

    assert job["spec"]["training"] == {
        "epochs": 3,
        "optimizer": {**settled["optimizer"], "learning_rate": 0.1},
        "stop": {**settled["stop"], "patience": 5},
    }


def test_a_network_in_short_form_becomes_its_layers_where_the_patch_names_them(serve: Serve, parent: str) -> None:
    settled = serve.job(parent)["resolved_spec"]["network"]

    job = cloned(serve, parent, patch=[set_to("/network/layers/0/activation", "tanh")])

    [first, *others] = settled["layers"]
    assert job["spec"]["network"] == {**settled, "layers": [{**first, "activation": "tanh"}, *others]}


def test_a_network_that_was_not_sent_has_a_short_form_too(serve: Serve, parent: str) -> None:
    short = cloned(serve, parent, patch=[{"op": "remove", "path": "/network"}])

    job = cloned(serve, short["id"], patch=[set_to("/network/hidden", [4])])

    assert job["spec"]["network"] == {"hidden": [4], "activation": "relu"}


def test_a_bare_name_has_members_where_the_patch_names_one(serve: Serve, penguins: str) -> None:
    spec = {**SHORT, "training": {"epochs": 1, "optimizer": "Adam"}}
    first = serve.finished(serve.submit(penguins, spec)["id"])

    job = cloned(serve, first["id"], patch=[set_to("/training/optimizer/learning_rate", 0.1)])

    settled = first["resolved_spec"]["training"]["optimizer"]
    assert job["spec"]["training"] == {"epochs": 1, "optimizer": {**settled, "learning_rate": 0.1}}


def test_an_output_among_the_layers_stands_apart_where_the_patch_names_it(serve: Serve, penguins: str) -> None:
    layers = [{"type": "dense", "units": 8}, {"type": "dense", "units": 3, "activation": "softmax"}]
    spec = {**SHORT, "network": {"layers": layers}}
    first = serve.finished(serve.submit(penguins, spec)["id"])

    job = cloned(serve, first["id"], patch=[set_to("/network/output/l2", 0.1)])

    settled = first["resolved_spec"]["network"]
    assert job["spec"]["network"] == {**settled, "output": {**settled["output"], "l2": 0.1}}
    assert job["resolved_spec"]["network"] == job["spec"]["network"]


def test_every_operation_of_the_standard_is_there(serve: Serve, parent: str) -> None:
    patch: Patch = [
        {"op": "test", "path": "/training/epochs", "value": 3},
        {"op": "add", "path": "/network/hidden/-", "value": 4},
        {"op": "add", "path": "/network/hidden/0", "value": 16},
        {"op": "remove", "path": "/network/hidden/1"},
        {"op": "copy", "from": "/network/hidden/0", "path": "/network/hidden/2"},
        {"op": "move", "from": "/network/hidden/1", "path": "/network/hidden/0"},
        {"op": "replace", "path": "/training/epochs", "value": 2, "comment": "members of no operation are ignored"},
    ]

    job = cloned(serve, parent, patch=patch)

    assert job["spec"] == {**SHORT, "network": {"hidden": [4, 16, 16]}, "training": {"epochs": 2}}


def test_a_patch_may_bring_a_whole_spec(serve: Serve, parent: str) -> None:
    job = cloned(serve, parent, patch=[set_to("", {"target": "island", "training": {"epochs": 1}})])

    assert job["spec"] == {"target": "island", "training": {"epochs": 1}}


def test_a_test_that_fails_refuses_the_whole_patch(serve: Serve, parent: str) -> None:
    def failed(path: str, value: Any) -> list[tuple[str, str, str | None]]:
        return refused(serve, parent, "patch_test_failed", [*QUICK, set_to(path, value, "test")])

    assert failed("/training/epochs", 4) == [("/patch/1/path", "test_failed", None)]
    assert failed("/training/epochs", True) == [("/patch/1/path", "test_failed", None)]
    assert failed("/training/nothing", None) == [("/patch/1/path", "test_failed", None)]


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ([{}], {"/patch/0/op": "missing_field"}),
        ([{"path": "/task"}], {"/patch/0/op": "missing_field"}),
        ([{"op": "append", "path": "/task", "value": "x"}], {"/patch/0/op": "union_tag_invalid"}),
        ([{"op": ["add"], "path": "/task", "value": "x"}], {"/patch/0/op": "union_tag_invalid"}),
        ([{"op": "add", "value": 1}], {"/patch/0/path": "missing_field"}),
        ([{"op": "add", "path": "/task"}], {"/patch/0/value": "missing_field"}),
        ([{"op": "test", "path": "/task"}], {"/patch/0/value": "missing_field"}),
        ([{"op": "copy", "path": "/task"}], {"/patch/0/from": "missing_field"}),
        ([{"op": "move", "path": "/task", "from": 5}], {"/patch/0/from": "string_type"}),
        ([{"op": "remove", "path": None}], {"/patch/0/path": "string_type"}),
        ([{"op": "remove", "path": ["task"]}], {"/patch/0/path": "string_type"}),
        ([{"op": "remove", "path": "task"}], {"/patch/0/path": "invalid_value"}),
        ([{"op": "remove", "path": "/task/~2"}], {"/patch/0/path": "invalid_value"}),
        ([{"op": "remove", "path": "/task~"}], {"/patch/0/path": "invalid_value"}),
        ([{"op": "move", "path": "/task", "from": "#/task"}], {"/patch/0/from": "invalid_value"}),
        ([*QUICK, 5, "remove"], {"/patch/1": "dict_type", "/patch/2": "dict_type"}),
        ({"op": "remove", "path": "/task"}, {"/patch": "list_type"}),
        ("[]", {"/patch": "list_type"}),
        (None, {"/patch": "list_type"}),
    ],
)
def test_a_patch_that_is_none_is_refused_at_its_place(
    serve: Serve, parent: str, patch: Any, expected: dict[str, str]
) -> None:
    assert pointers(clone(serve, parent, patch=patch)) == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (set_to("/trainig/epochs", 5), ("path", "path_not_found", "training")),
        (set_to("/epochs", 5), ("path", "path_not_found", "training.epochs")),
        (set_to("/training/epoch", 5), ("path", "path_not_found", "epochs")),
        (set_to("/split/valid", 0.1), ("path", "path_not_found", "validation")),
        (set_to("/network/hidden/5", 5), ("path", "path_not_found", None)),
        (set_to("/network/hidden/x", 5), ("path", "path_not_found", None)),
        (set_to("/network/hidden/01", 5), ("path", "path_not_found", None)),
        (set_to("/network/hidden/" + "9" * 5000, 5), ("path", "path_not_found", None)),
        (set_to("/target/0", "x"), ("path", "path_not_found", None)),
        (set_to("/training/epochs/0", 5), ("path", "path_not_found", None)),
        (set_to("/training/optimizer/momentum/x", 5, "add"), ("path", "path_not_found", None)),
        (set_to("/network/hidden/-", 5), ("path", "not_possible", None)),
        (set_to("/network/hidden/9", 5, "add"), ("path", "not_possible", None)),
        ({"op": "remove", "path": ""}, ("path", "not_possible", None)),
        ({"op": "remove", "path": "/training/optimizr"}, ("path", "path_not_found", None)),
        ({"op": "remove", "path": "/network/hidden/-"}, ("path", "path_not_found", None)),
        ({"op": "move", "from": "/training", "path": "/training/stop"}, ("path", "not_possible", None)),
        ({"op": "move", "from": "", "path": "/training"}, ("path", "not_possible", None)),
        ({"op": "move", "from": "/training/epoch", "path": "/task"}, ("from", "path_not_found", "epochs")),
        ({"op": "copy", "from": "/network/hidden/-", "path": "/task"}, ("from", "path_not_found", None)),
        ({"op": "copy", "from": "/network/hidden/-/x", "path": "/task"}, ("from", "path_not_found", None)),
        ({"op": "copy", "from": "/target", "path": "/nowhere/at/all"}, ("path", "path_not_found", None)),
    ],
)
def test_an_operation_that_does_not_fit_is_refused_with_what_was_meant(
    serve: Serve, parent: str, operation: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    member, code, near = expected

    found = refused(serve, parent, "patch_not_applicable", [*QUICK, operation])

    assert found == [(f"/patch/1/{member}", code, near)]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (set_to("/training/epochs", -1), {"/spec/training/epochs": "greater_than_equal"}),
        (set_to("/training/learning_rate", 0.1, "add"), {"/spec/training/learning_rate": "unknown_field"}),
        (set_to("/trainig", {}, "add"), {"/spec/trainig": "unknown_field"}),
        (set_to("/network/layers", [{"type": "dense"}], "add"), {"/spec/network/layers/0/units": "missing_field"}),
        (set_to("/network", {"layers": [], "hidden": [4]}, "add"), {"/spec/network": "invalid_value"}),
        ({"op": "remove", "path": "/target"}, {"/spec/target": "missing_field"}),
        (set_to("", 5), {"/spec": "dict_type"}),
        (set_to("", []), {"/spec": "dict_type"}),
        (set_to("", {}), {"/spec/target": "missing_field"}),
    ],
)
def test_a_patched_spec_is_checked_as_a_new_one(
    serve: Serve, parent: str, operation: dict[str, Any], expected: dict[str, str]
) -> None:
    assert pointers(clone(serve, parent, patch=[operation])) == expected


def test_a_patched_spec_is_resolved_as_a_new_one(serve: Serve, parent: str) -> None:
    target = problem(clone(serve, parent, patch=[set_to("/target", "spices")]), 422, "target_not_found")
    loss = problem(clone(serve, parent, patch=[set_to("/training/loss", "mse", "add")]), 422, "incompatible_loss")

    assert [(one["pointer"], one["suggestion"]) for one in target["errors"]] == [("/spec/target", "species")]
    assert [one["pointer"] for one in loss["errors"]] == ["/spec/training/loss"]


def test_a_hundred_operations_are_accepted_and_no_more(serve: Serve, parent: str) -> None:
    job = cloned(serve, parent, patch=QUICK * 100)

    answer = clone(serve, parent, patch=QUICK * 101)

    assert job["spec"]["training"] == {"epochs": 1}
    assert pointers(answer) == {"/patch": "too_long"}


# --- the other options ------------------------------------------------------------------------------------------------


def test_a_clone_trains_on_another_dataset(serve: Serve, parent: str) -> None:
    rows = PENGUINS.read_bytes().splitlines(keepends=True)
    fewer = post_table(serve, b"".join(rows[:200])).json()["id"]

    job = cloned(serve, parent, dataset_id=fewer)

    assert job["dataset_id"] == fewer
    assert serve.finished(job["id"])["status"] == "succeeded"
    assert sha256(serve, job["id"]) != sha256(serve, parent)


def test_a_clone_on_a_dataset_that_does_not_fit_is_refused(serve: Serve, parent: str) -> None:
    other = post_table(serve, TABLE).json()["id"]

    problem(clone(serve, parent, dataset_id=other), 422, "target_not_found")
    problem(clone(serve, parent, dataset_id=RANDOM["dataset"]), 404, "not_found")
    assert cloned(serve, parent, dataset_id=other, patch=[set_to("/target", "y")])["outputs"]["classes"] == [
        "no",
        "yes",
    ]


def test_a_clone_whose_dataset_was_deleted_is_refused_as_a_create_is(serve: Serve) -> None:
    dataset = post_table(serve, TABLE).json()["id"]
    spec = {"target": "y", "training": {"epochs": 1}}
    job = serve.finished(serve.submit(dataset, spec)["id"])
    assert serve.http.delete(f"/v1/datasets/{dataset}").status_code == 204

    answer = clone(serve, job["id"])

    problem(answer, 404, "not_found")
    assert masked(answer) == masked(post_job(serve, {"dataset_id": dataset, "spec": spec}))
    elsewhere = post_table(serve, TABLE).json()["id"]
    assert serve.finished(cloned(serve, job["id"], dataset_id=elsewhere)["id"])["status"] == "succeeded"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"path": []}, "/path", "unknown_field"),
        ({"spec": {}}, "/spec", "unknown_field"),
        ({"priority": "urgent"}, "/priority", "literal_error"),
        ({"priority": None}, "/priority", "literal_error"),
        ({"metadata": {"k": 1}}, "/metadata/k", "string_type"),
        ({"name": "n" * 256}, "/name", "string_too_long"),
        ({"dataset_id": 5}, "/dataset_id", "string_type"),
        ({"dataset_id": "d" * 65}, "/dataset_id", "string_too_long"),
    ],
)
def test_options_of_a_clone_are_as_strict_as_a_creates(
    serve: Serve, parent: str, body: dict[str, Any], pointer: str, code: str
) -> None:
    assert pointers(clone(serve, parent, **body)) == {pointer: code}


# --- whose job --------------------------------------------------------------------------------------------------------


def test_another_projects_job_answers_as_a_random_id_does_whatever_is_asked(neighbour: Api, parent: str) -> None:
    dataset = post_table(neighbour, TABLE).json()["id"]
    bodies: list[dict[str, Any]] = [
        {},
        {"dataset_id": dataset},
        {"patch": [set_to("/target", "y")]},
        {"patch": [set_to("/target", "species", "test")]},
        {"patch": [set_to("/target", "spices", "test")]},
        {"patch": [{"op": "remove", "path": "/nowhere"}]},
    ]

    for body in bodies:
        theirs, nobodys = clone(neighbour, parent, **body), clone(neighbour, RANDOM["job"], **body)

        problem(theirs, 404, "not_found")
        assert masked(theirs) == masked(nobodys)


def test_another_projects_dataset_cannot_be_cloned_onto(neighbour: Api, penguins: str) -> None:
    dataset = post_table(neighbour, TABLE).json()["id"]
    job = neighbour.submit(dataset, {"target": "y", "training": {"epochs": 1}})

    theirs, nobodys = (clone(neighbour, job["id"], dataset_id=one) for one in (penguins, RANDOM["dataset"]))

    problem(theirs, 404, "not_found")
    assert masked(theirs) == masked(nobodys)


# --- idempotency ------------------------------------------------------------------------------------------------------


def test_the_same_key_and_body_are_the_same_clone(serve: Serve, parent: str) -> None:
    key = {"Idempotency-Key": f"clone-{time.time_ns()}"}

    first = clone(serve, parent, key, patch=QUICK)
    second = clone(serve, parent, key, patch=QUICK)

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]


def test_a_key_belongs_to_one_request_alone(serve: Serve, parent: str, trained: str, penguins: str) -> None:
    key = {"Idempotency-Key": f"clone-{time.time_ns()}"}
    clone(serve, parent, key)

    another_body = clone(serve, parent, key, name="another")
    another_job = clone(serve, trained, key)
    create = post_job(serve, {"dataset_id": penguins, "spec": SHORT}, **key)

    for answer in (another_body, another_job, create):
        problem(answer, 422, "idempotency_key_reused")


def test_a_replay_comes_though_the_patch_would_not_fit_any_more(serve: Serve) -> None:
    dataset = post_table(serve, LARGE, wait=0).json()["id"]
    spec = {"target": "b", "training": {"epochs": 1, "batch_size": 100_000}}
    job = post_job(serve, {"dataset_id": dataset, "spec": spec}).json()
    key = {"Idempotency-Key": f"clone-{time.time_ns()}"}
    patch = [set_to("/task", "auto", "test")]

    first = clone(serve, job["id"], key, patch=patch)
    cancel(serve, first.json())
    serve.finished(job["id"])
    second = clone(serve, job["id"], key, patch=patch)

    assert job["phase"] == "waiting_for_dataset"
    assert second.json()["id"] == first.json()["id"]
    problem(clone(serve, job["id"], patch=patch), 422, "patch_test_failed")


def test_twenty_at_once_with_one_key_are_one_clone(anywhere: Serve, any_table: str) -> None:
    job = anywhere.submit(any_table, {"target": "y", "training": {"epochs": 1}})
    key = {"Idempotency-Key": f"twenty-{time.time_ns()}"}

    with ThreadPoolExecutor(20) as clients:
        answers = list(
            clients.map(lambda _: clone(anywhere, job["id"], key, patch=[set_to("/split/seed", 1)]), range(20))
        )

    assert [answer.status_code for answer in answers] == [202] * 20
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, b"\x80"])
def test_a_bad_key_is_400(serve: Serve, parent: str, key: str | bytes) -> None:
    answer = serve.http.post(f"/v1/jobs/{parent}/clone", headers={"Idempotency-Key": key})

    problem(answer, 400, "invalid_idempotency_key")


# --- hostile bodies ---------------------------------------------------------------------------------------------------


def send(serve: Serve, job_id: str, body: bytes, **headers: str) -> httpx2.Response:
    headers = {"Content-Type": "application/json", **headers}
    return serve.http.post(f"/v1/jobs/{job_id}/clone", content=body, headers=headers)


def around(value: str) -> bytes:
    return f'{{"patch": [{{"op": "add", "path": "/training", "value": {value}}}]}}'.encode("utf-8", "surrogatepass")


HOSTILE = {
    "NaN": around('{"epochs": NaN}'),
    "Infinity": around("-Infinity"),
    "1e999": around('{"epochs": 1e999}'),
    "a million digits": around("9" * 1_000_000),
    "same key twice": around('{"epochs": 1, "epochs": 2}'),
    "same operation twice": b'{"patch": [], "patch": []}',
    "33 deep": around("[" * 33 + "]" * 33),
    "100,000 deep": around("[" * 100_000),
    "a surrogate as bytes": around('"\ud800"'),
}


@pytest.mark.parametrize("name", [name for name in MALFORMED if name != "empty"])
def test_what_is_no_json_is_400(serve: Serve, parent: str, name: str) -> None:
    problem(send(serve, parent, MALFORMED[name]), 400, "malformed_json")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_json_within_a_patch_is_400(serve: Serve, parent: str, name: str) -> None:
    problem(send(serve, parent, HOSTILE[name]), 400, "malformed_json")


@pytest.mark.parametrize("value", ['"a\\u0000b"', '"\\ud800"', '{"\\u0000": 1}'])
def test_texts_that_no_database_holds_are_422(serve: Serve, parent: str, value: str) -> None:
    problem(send(serve, parent, around(value)), 422, "invalid_text")


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'[{"op": "remove", "path": "/task"}]'])
def test_what_is_no_object_is_422(serve: Serve, parent: str, body: bytes) -> None:
    problem(send(serve, parent, body), 422, "invalid_spec")


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_415_for_a_body_that_is_not_json(serve: Serve, parent: str, media_type: str) -> None:
    problem(send(serve, parent, b"{}", **{"Content-Type": media_type}), 415, "unsupported_media_type")


def test_413_for_a_body_beyond_the_cap(serve: Serve, parent: str) -> None:
    problem(send(serve, parent, b" " * (2 << 20)), 413, "payload_too_large")


def test_copies_of_the_whole_into_itself_are_refused_before_they_fill_the_memory(serve: Serve, parent: str) -> None:
    double = [{"op": "copy", "from": "", "path": "/target"}, {"op": "copy", "from": "/target", "path": "/task"}] * 50
    started = time.monotonic()

    found = refused(serve, parent, "patch_not_applicable", double)

    assert time.monotonic() - started < 5
    assert [(pointer.rsplit("/", 1)[1], code) for pointer, code, _ in found] == [("from", "copies_too_large")]


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ({"op": "copy", "from": "/x", "path": "/y"}, "patch_not_applicable"),
        (set_to("/x", 1, "test"), "patch_not_applicable"),
        (set_to("/x/b/b", 1), "patch_not_applicable"),
        (set_to("/nowhere/x", 1), "patch_not_applicable"),
        ({"op": "remove", "path": "/nowhere"}, "patch_not_applicable"),
        (set_to("/x/b", 1, "add"), "invalid_spec"),
        ({"op": "move", "from": "/x", "path": "/training/stop"}, "invalid_spec"),
    ],
)
def test_a_patch_that_nests_ever_deeper_is_refused(serve: Serve, parent: str, last: dict[str, Any], code: str) -> None:
    deep: Any = {}
    for _ in range(25):
        deep = {"a": deep}
    layers = [set_to("/x" + "/a" * 25 * layer, deep, "add") for layer in range(99)]  # 2,475 levels in the end

    answer = clone(serve, parent, patch=[*layers, last])

    problem(answer, 422, code)


SECRET = "s3cr3t-v4lue"


@pytest.mark.parametrize(
    "patch",
    [
        [set_to("/target", SECRET, "test")],
        [set_to(f"/{SECRET}/x", SECRET)],
        [set_to(f"/x/{SECRET}/x", SECRET, "add")],
        [set_to("/x", {SECRET: [SECRET]}, "add"), {"op": "remove", "path": "/x/y"}],
        [set_to("/x", [SECRET], "add"), {"op": "copy", "path": "/y", "from": "/x/9"}],
        [set_to("/x", [SECRET], "add"), {"op": "test", "path": "/x/0", "value": 1}],
        [{"op": SECRET, "path": SECRET}],
        [{"op": "add", "path": SECRET, "value": 1}],
        [set_to("/training", SECRET)],
        [set_to("/target", [SECRET])],
        [set_to("/target", SECRET)],
    ],
)
def test_no_value_of_the_patch_comes_back(serve: Serve, parent: str, patch: Patch) -> None:
    answer = clone(serve, parent, patch=patch)

    assert 400 <= answer.status_code < 500
    assert SECRET not in answer.text


LETTERS = some.text(some.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
PLACES = some.sampled_from(
    ["", "/", "/target", "/training", "/training/epochs", "/training/-", "/network/hidden", "/network/hidden/0",
     "/network/hidden/-", "/network/hidden/1", "/split/seed", "/features/exclude/-", "/version", "/x", "/x/x", "/x/0"]
) | LETTERS.map(lambda text: "/" + text)  # fmt: skip
VALUES = some.recursive(
    some.none() | some.booleans() | some.integers(-5, 5) | some.floats(allow_nan=False, allow_infinity=False) | LETTERS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=6,
)
OPERATIONS = (
    some.fixed_dictionaries({"op": some.sampled_from(["add", "replace", "test"]), "path": PLACES, "value": VALUES})
    | some.fixed_dictionaries({"op": some.just("remove"), "path": PLACES})
    | some.fixed_dictionaries({"op": some.sampled_from(["move", "copy"]), "path": PLACES, "from": PLACES})
)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patch=some.lists(OPERATIONS, max_size=6) | some.lists(OPERATIONS | VALUES, max_size=3))
def test_no_patch_at_all_is_a_5xx(serve: Serve, parent: str, patch: list[Any]) -> None:
    remove_target = {"op": "remove", "path": "/target"}  # so that none of them trains

    answer = send(serve, parent, json.dumps({"patch": [*patch, remove_target, set_to("/x/x", 1)]}).encode())

    assert answer.status_code == 422, answer.text
    problem(answer, 422, answer.json()["code"])
