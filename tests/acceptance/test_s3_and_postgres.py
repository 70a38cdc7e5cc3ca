"""The same `serve` with the parts of production: Postgres holds the truth, S3 the bytes."""

import hashlib
from collections.abc import Iterator

import pytest
from safetensors.numpy import load
from sqlalchemy import create_engine, text

from core.settings import Settings
from tests.conftest import PENGUINS
from tests.running import Serve
from tests.s3 import BUCKET, S3Server


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory, postgres_server: str, s3_server: S3Server) -> Iterator[Serve]:
    """`backpropd serve` that keeps nothing on its own disk."""
    server = create_engine(Settings(database_url=postgres_server).database_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE production"))
    folder = tmp_path_factory.mktemp("production") / "data"
    stores = {
        "BACKPROPD_DATABASE_URL": server.url.set(database="production").render_as_string(hide_password=False),
        "BACKPROPD_STORAGE_URL": f"s3://{BUCKET}/{folder.parent.name}",
    }
    with Serve(folder, **stores, **s3_server.environment) as running:
        yield running
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE production WITH (FORCE)"))
    server.dispose()


@pytest.fixture(scope="module")
def penguins(production: Serve) -> str:
    return str(production.upload(PENGUINS)["id"])


def test_a_job_runs_on_postgres_and_s3_and_its_weights_come_back(production: Serve, penguins: str) -> None:
    job = production.submit(penguins, {"target": "species", "training": {"epochs": 20}})

    ended = production.finished(job["id"])
    weights = production.artifact(job["id"], "weights.safetensors")

    assert ended["status"] == "succeeded", ended["error"]
    listed = production.http.get(f"/v1/jobs/{job['id']}/artifacts").json()["items"]
    sha256 = {one["name"]: one["sha256"] for one in listed}
    assert hashlib.sha256(weights).hexdigest() == sha256["weights.safetensors"]
    assert {name: tensor.shape for name, tensor in load(weights).items()}["4.weight"] == (3, 64)


def test_the_same_spec_and_table_leave_the_same_bytes_on_both_databases(
    production: Serve, penguins: str, serve: Serve
) -> None:
    spec = {"target": "species", "training": {"epochs": 10}}
    jobs = [
        (running, running.submit(dataset_id, spec)["id"])
        for running, dataset_id in ((production, penguins), (serve, serve.upload(PENGUINS)["id"]))
    ]

    ended = [running.finished(job_id) for running, job_id in jobs]

    assert [job["status"] for job in ended] == ["succeeded", "succeeded"]
    for name in ("weights.safetensors", "preprocessing.json", "spec.json", "report.json"):
        assert len({running.artifact(job_id, name) for running, job_id in jobs}) == 1, name
    headers = {running.artifact(job_id, "metrics.csv").split(b"\n")[0] for running, job_id in jobs}
    assert len(headers) == 1


def test_rows_and_bytes_are_elsewhere_than_in_the_data_folder(production: Serve, penguins: str) -> None:
    production.finished(production.submit(penguins, {"target": "species", "training": {"epochs": 1}})["id"])

    here = [file.name for file in production.data_dir.rglob("*") if file.is_file()]

    assert "initial-api-key" in here
    assert not [name for name in here if "sqlite" in name or len(name) == 64], here


def test_an_idempotency_key_makes_one_job_on_postgres(production: Serve, penguins: str) -> None:
    body = {"name": "once", "dataset_id": penguins, "spec": {"target": "species", "training": {"epochs": 1}}}

    answers = [production.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [False, True]
    named = [job for job in production.http.get("/v1/jobs").json()["items"] if job["name"] == "once"]
    assert len(named) == 1
