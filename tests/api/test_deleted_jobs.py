"""Deleting jobs over HTTP: what goes with one, what stays, and which one is refused."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine, text

from tests.api.asking import RANDOM, masked, problem
from tests.api.conftest import SHORT
from tests.api.test_predict import ROW
from tests.running import Api, Serve

Start = Callable[..., dict[str, Any]]


def delete(api: Api, job_id: str) -> Any:
    return api.http.delete(f"/v1/jobs/{job_id}")


def new_job(serve: Serve, dataset_id: str, **options: Any) -> str:
    return str(serve.finished(serve.submit(dataset_id, SHORT, **options)["id"])["id"])


def test_a_deleted_job_is_gone_with_all_that_was_of_it(serve: Serve, penguins: str) -> None:
    job_id = new_job(serve, penguins)
    traced = serve.http.post(f"/v1/jobs/{job_id}/trace", params={"wait": 60}).json()["id"]
    made = serve.http.post(f"/v1/jobs/{job_id}/predictions", json={"dataset_id": penguins}, params={"wait": 60}).json()[
        "id"
    ]
    serve.http.post(f"/v1/jobs/{job_id}/predict", json={"rows": [ROW]}).raise_for_status()

    gone = delete(serve, job_id)

    assert (gone.status_code, gone.content) == (204, b"")
    for path in ("", "/events", "/artifacts", "/weights"):
        problem(serve.http.get(f"/v1/jobs/{job_id}{path}"), 404, "not_found")
    problem(serve.http.post(f"/v1/jobs/{job_id}/predict", json={"rows": [ROW]}), 404, "not_found")
    problem(serve.http.get(f"/v1/traces/{traced}"), 404, "not_found")
    problem(serve.http.get(f"/v1/predictions/{made}/content"), 404, "not_found")
    assert job_id not in [one["id"] for one in serve.http.get("/v1/jobs").json()["items"]]
    assert masked(delete(serve, job_id)) == masked(delete(serve, RANDOM["job"]))
    assert rows_of(serve, job_id) == 0


def rows_of(serve: Serve, job_id: str) -> int:
    """In every table that names a job or its run."""
    engine = create_engine(f"sqlite:///{serve.data_dir / 'backpropd.sqlite3'}")
    with engine.connect() as connection:
        found = [
            connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE {column} = :job"), {"job": job_id}
            ).scalar_one()
            for table, column in (
                ("jobs", "id"),
                ("runs", "subject_id"),
                ("artifacts", "job_id"),
                ("inquiries", "job_id"),
            )
        ]
        found += [
            connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE run_id NOT IN (SELECT id FROM runs)")
            ).scalar_one()
            for table in ("events", "attempts", "checkpoints")
        ]
    engine.dispose()
    return sum(found)


def test_a_job_that_has_not_ended_is_not_deleted(serve: Serve, start_long: Start) -> None:
    job_id = start_long()["id"]

    assert problem(delete(serve, job_id), 409, "job_not_finished")["job_status"] in ("queued", "running")
    assert serve.job(job_id)["finished"] is False


def test_a_job_that_a_predictor_points_at_is_not_deleted(serve: Serve, penguins: str) -> None:
    first, second = new_job(serve, penguins), new_job(serve, penguins)
    for job_id in (first, second):
        serve.http.put("/v1/predictors/kept", json={"job_id": job_id}).raise_for_status()

    refused = problem(delete(serve, second), 409, "job_in_use")

    assert refused["predictors"] == ["kept"]
    assert delete(serve, first).status_code == 204
    assert serve.http.get("/v1/predictors/kept").json()["previous"] is None
    problem(serve.http.post("/v1/predictors/kept/rollback"), 409, "no_previous_job")
    assert serve.http.delete("/v1/predictors/kept").status_code == 204
    assert delete(serve, second).status_code == 204


def test_clones_and_jobs_that_train_on_outlive_it(serve: Serve, penguins: str) -> None:
    parent = new_job(serve, penguins)
    clone = serve.finished(serve.http.post(f"/v1/jobs/{parent}/clone").json()["id"])["id"]
    child = serve.submit(penguins, SHORT, start_from={"job_id": parent})["id"]

    assert delete(serve, parent).status_code == 204

    assert serve.job(clone)["cloned_from"] == parent
    assert serve.finished(child)["status"] == "succeeded"
    problem(serve.http.post(f"/v1/jobs/{parent}/clone"), 404, "not_found")


def test_a_cross_validation_goes_with_its_folds(serve: Serve, penguins: str) -> None:
    spec = {**SHORT, "split": {"folds": 2}}
    job_id = serve.finished(serve.submit(penguins, spec)["id"])["id"]

    assert delete(serve, job_id).status_code == 204

    assert rows_of(serve, job_id) == 0


def test_another_projects_job_is_not_deleted(serve: Serve, neighbour: Api, trained: str) -> None:
    assert masked(delete(neighbour, trained)) == masked(delete(neighbour, RANDOM["job"]))
    assert serve.job(trained)["status"] == "succeeded"
