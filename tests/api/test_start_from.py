"""Jobs that train on from the network of an earlier one, over HTTP."""

import json
from typing import Any

import httpx2
import pytest
from safetensors.numpy import load

from tests.api.asking import RANDOM, masked, problem
from tests.api.conftest import SHORT
from tests.conftest import PENGUINS
from tests.running import Api, Serve

NO_EPOCHS = {"target": "species", "training": {"epochs": 0}}
LONGER = {"target": "species", "network": {"hidden": [8]}, "training": {"epochs": 30, "optimizer": {"name": "adam"}}}


def submit(api: Api, dataset_id: str, spec: dict[str, Any], start: dict[str, Any], **options: Any) -> httpx2.Response:
    return api.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": spec, "start_from": start, **options})


def finished(serve: Serve, answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    return dict(serve.finished(answer.json()["id"]))


def table(api: Api, text: str) -> str:
    """The id of a dataset of this CSV."""
    answer = api.http.post("/v1/datasets", content=text, headers={"Content-Type": "text/csv"})
    return str(answer.raise_for_status().json()["id"])


def artifact(serve: Serve, job_id: str, name: str) -> bytes:
    return bytes(serve.http.get(f"/v1/jobs/{job_id}/artifacts/{name}").raise_for_status().content)


def names(serve: Serve, job_id: str) -> set[str]:
    return {one["name"] for one in serve.http.get(f"/v1/jobs/{job_id}/artifacts").json()["items"]}


@pytest.fixture(scope="module")
def overtrained(serve: Serve, penguins: str) -> str:
    """The id of a job whose best epoch is not its last."""
    spec = LONGER | {"training": {"epochs": 30, "optimizer": {"name": "adam", "learning_rate": 0.3}}}
    job = serve.finished(serve.submit(penguins, spec)["id"])
    assert job["best"]["epoch"] < 30, job["best"]
    return str(job["id"])


# --- what it begins with ----------------------------------------------------------------------------------------------


def test_no_epochs_predict_as_the_job_they_start_from_bit_for_bit(serve: Serve, penguins: str, trained: str) -> None:
    job = finished(serve, submit(serve, penguins, NO_EPOCHS, {"job_id": trained}))

    assert (job["status"], job["stop_reason"], job["best"]) == ("succeeded", "completed", None)
    for name in ("weights.safetensors", "preprocessing.json"):
        assert artifact(serve, job["id"], name) == artifact(serve, trained, name)
    report, earlier = (json.loads(artifact(serve, one, "report.json")) for one in (job["id"], trained))
    assert report["validation"] == earlier["validation"]
    assert [event["type"] for event in serve.events(job["id"])].count("epoch") == 0


def test_no_epochs_without_a_job_to_start_from_are_refused(serve: Serve, penguins: str) -> None:
    answer = serve.http.post("/v1/jobs", json={"dataset_id": penguins, "spec": NO_EPOCHS})

    assert [one["pointer"] for one in problem(answer, 422, "invalid_spec")["errors"]] == ["/spec/training/epochs"]


def test_training_goes_on_from_there_and_not_from_new_weights(serve: Serve, penguins: str, trained: str) -> None:
    job = finished(serve, submit(serve, penguins, SHORT, {"job_id": trained}))

    first, earlier = (
        next(event["data"]["train_loss"] for event in serve.events(one) if event["type"] == "epoch")
        for one in (job["id"], trained)
    )
    assert first < earlier
    assert job["start_from"] == {"job_id": trained, "weights": "best", "preprocessing": "keep"}


def test_the_last_weights_are_there_where_they_are_not_the_best(serve: Serve, penguins: str, overtrained: str) -> None:
    assert "last.safetensors" in names(serve, overtrained)

    job = finished(serve, submit(serve, penguins, NO_EPOCHS, {"job_id": overtrained, "weights": "last"}))

    assert artifact(serve, job["id"], "weights.safetensors") == artifact(serve, overtrained, "last.safetensors")
    assert artifact(serve, job["id"], "weights.safetensors") != artifact(serve, overtrained, "weights.safetensors")


def test_the_last_weights_are_the_kept_ones_where_those_came_last(serve: Serve, penguins: str, trained: str) -> None:
    assert "last.safetensors" not in names(serve, trained)

    job = finished(serve, submit(serve, penguins, NO_EPOCHS, {"job_id": trained, "weights": "last"}))

    assert artifact(serve, job["id"], "weights.safetensors") == artifact(serve, trained, "weights.safetensors")


def test_network_task_and_features_are_those_of_the_earlier_job_unless_said(
    serve: Serve, penguins: str, trained: str
) -> None:
    job = submit(serve, penguins, {"target": "species"}, {"job_id": trained}).json()

    resolved, earlier = job["resolved_spec"], serve.http.get(f"/v1/jobs/{trained}").json()["resolved_spec"]
    assert {part: resolved[part] for part in ("network", "features", "task")} == {
        part: earlier[part] for part in ("network", "features", "task")
    }
    assert resolved["training"]["epochs"] == 100
    serve.finished(job["id"])


def test_layers_without_weights_may_come_between(serve: Serve, penguins: str, trained: str) -> None:
    layers = [{"type": "dense", "units": 8, "activation": "relu"}, {"type": "dropout", "rate": 0.5}]
    spec = NO_EPOCHS | {"network": {"layers": layers}}

    job = finished(serve, submit(serve, penguins, spec, {"job_id": trained}))

    ours, theirs = (load(artifact(serve, one, "weights.safetensors")) for one in (job["id"], trained))
    assert (ours["3.weight"] == theirs["2.weight"]).all()


def test_a_form_says_it_as_a_json_text(serve: Serve, trained: str) -> None:
    form = {"spec": json.dumps(NO_EPOCHS), "start_from": json.dumps({"job_id": trained})}

    job = finished(serve, serve.http.post("/v1/jobs", data=form, files={"file": ("p.csv", PENGUINS.read_bytes())}))

    assert artifact(serve, job["id"], "weights.safetensors") == artifact(serve, trained, "weights.safetensors")


def test_a_clone_starts_where_its_job_did_or_where_it_is_told(serve: Serve, penguins: str, trained: str) -> None:
    first = finished(serve, submit(serve, penguins, NO_EPOCHS, {"job_id": trained}))
    clone = f"/v1/jobs/{first['id']}/clone"

    same, other = serve.http.post(clone), serve.http.post(clone, json={"start_from": {"job_id": first["id"]}})

    assert finished(serve, same)["start_from"]["job_id"] == trained
    assert finished(serve, other)["start_from"]["job_id"] == first["id"]


# --- other rows -------------------------------------------------------------------------------------------------------

FIRST = "size,colour,kind\n" + "".join(f"{i % 7},{'red' if i % 2 else 'blue'},{'ab'[i % 2]}\n" for i in range(40))
LATER = "size,colour,kind\n" + "".join(f"{i % 5},{'red' if i % 2 else 'green'},{'ba'[i % 2]}\n" for i in range(40))
SMALL = {"target": "kind", "network": {"hidden": [4]}, "training": {"epochs": 2, "loss": "cross_entropy"}}


@pytest.fixture(scope="module")
def small(serve: Serve) -> str:
    """The id of a job on 40 rows of red and blue."""
    return str(serve.finished(serve.submit(table(serve, FIRST), SMALL)["id"])["id"])


def test_a_category_never_seen_is_unknown_and_said(serve: Serve, small: str) -> None:
    job = finished(serve, submit(serve, table(serve, LATER), {"target": "kind"}, {"job_id": small}))

    assert job["status"] == "succeeded", job["error"]
    assert artifact(serve, job["id"], "preprocessing.json") == artifact(serve, small, "preprocessing.json")
    warnings = [event["data"] for event in serve.events(job["id"]) if event["type"] == "warning"]
    assert {"code": "unseen_categories", "column": "colour", "rows": 20}.items() <= warnings[-1].items()


def test_classes_keep_their_places_where_some_are_missing(serve: Serve, small: str) -> None:
    only_b = "size,colour,kind\n" + "".join(f"{i % 5},red,b\n" for i in range(20))

    job = finished(serve, submit(serve, table(serve, only_b), {"target": "kind"}, {"job_id": small}))

    assert job["status"] == "succeeded", job["error"]
    assert job["outputs"]["classes"] == ["a", "b"]
    assert job["latest_metrics"]["valid_accuracy"] == 1.0  # b stayed the second


def test_a_class_never_seen_is_refused(serve: Serve, small: str) -> None:
    strange = table(serve, LATER + "1,red,c\n2,red,c\n")

    found = problem(submit(serve, strange, {"target": "kind"}, {"job_id": small}), 422, "start_mismatch")

    assert (found["errors"][0]["pointer"], found["new_classes"]) == ("/spec/target", 1)


def test_preprocessing_that_is_fitted_anew_is_of_the_new_rows(serve: Serve, small: str) -> None:
    start = {"job_id": small, "preprocessing": "refit"}

    job = finished(serve, submit(serve, table(serve, LATER), {"target": "kind"}, start))

    fitted = json.loads(artifact(serve, job["id"], "preprocessing.json"))
    assert [one["categories"] for one in fitted["inputs"] if one["name"] == "colour"] == [["green", "red"]]


def test_a_refit_with_another_number_of_inputs_fails_by_name(serve: Serve, small: str) -> None:
    three = LATER + "1,black,a\n2,black,b\n3,black,a\n4,black,b\n"

    start = {"job_id": small, "preprocessing": "refit"}
    job = finished(serve, submit(serve, table(serve, three), {"target": "kind"}, start))

    assert (job["status"], job["error"]["code"], job["error"]["reason"]) == ("failed", "data_invalid", "start_mismatch")
    assert "[4, 3]" in job["error"]["message"]
    assert "[4, 4]" in job["error"]["message"]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"network": {"hidden": [8, 8]}}, "/spec/network"),
        ({"network": {"hidden": [9]}}, "/spec/network"),
        ({"network": {"hidden": [8], "activation": "prelu"}}, "/spec/network"),
        ({"features": {"exclude": ["island"]}}, "/spec/features"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    serve: Serve, penguins: str, trained: str, spec: dict[str, Any], pointer: str
) -> None:
    answer = submit(serve, penguins, {"target": "species", **spec}, {"job_id": trained})

    assert problem(answer, 422, "start_mismatch")["errors"][0]["pointer"] == pointer


def test_a_job_that_goes_on_cannot_be_started_from(serve: Serve, penguins: str, start_long: Any) -> None:
    running = start_long()

    assert problem(submit(serve, penguins, SHORT, {"job_id": running["id"]}), 409, "start_not_ready")


def test_a_job_that_left_nothing_cannot_be_started_from(serve: Serve, penguins: str, start_long: Any) -> None:
    gone = start_long()
    serve.http.post(f"/v1/jobs/{gone['id']}/cancel", json={"keep": "none"}).raise_for_status()
    serve.finished(gone["id"])

    answer = submit(serve, penguins, SHORT, {"job_id": gone["id"]})

    assert problem(answer, 422, "start_without_weights")["errors"][0]["pointer"] == "/start_from/job_id"


def test_the_job_of_another_project_is_none(serve: Serve, neighbour: Api, penguins: str, trained: str) -> None:
    theirs = table(neighbour, FIRST)

    answers = [submit(neighbour, theirs, {"target": "kind"}, {"job_id": one}) for one in (trained, RANDOM["job"])]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert masked(answers[0]) == masked(answers[1])


@pytest.mark.parametrize(
    "start", [{}, {"job_id": "../etc"}, {"job_id": 7}, {"job_id": None}, {"weights": "best"}, "job", [], {"job": "x"}]
)
def test_a_start_that_is_none_is_refused(serve: Serve, penguins: str, start: Any) -> None:
    found = problem(submit(serve, penguins, SHORT, start), 422, "invalid_spec")

    assert all(one["pointer"].startswith("/start_from") for one in found["errors"])
