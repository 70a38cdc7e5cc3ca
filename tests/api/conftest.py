"""What the tests of the API share: a table, a finished job, a job that goes on, and another project."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from core.settings import Settings
from tests.api.asking import TABLE
from tests.conftest import PENGUINS
from tests.running import Api, Serve, clean_environment

SHORT = {"target": "species", "network": {"hidden": [8]}, "training": {"epochs": 3}}
LONG = {"target": "species", "network": {"hidden": [8]}, "training": {"epochs": 100_000}}


@pytest.fixture(scope="session")
def penguins(serve: Serve) -> str:
    """The id of a dataset that is ready."""
    return str(serve.upload(PENGUINS, wait="60")["id"])


@pytest.fixture(scope="session")
def trained(serve: Serve, penguins: str) -> str:
    """The id of a job that has succeeded."""
    job = serve.finished(serve.submit(penguins, SHORT, metadata={"made": "once"})["id"])
    assert job["status"] == "succeeded"
    return str(job["id"])


@pytest.fixture
def start_long(serve: Serve, penguins: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """Submits jobs that would train for minutes, and ends them afterwards."""
    started: list[str] = []

    def start(**options: Any) -> dict[str, Any]:
        job = serve.submit(penguins, LONG, **options)
        started.append(job["id"])
        return job

    yield start
    for job_id in started:
        serve.http.post(f"/v1/jobs/{job_id}/cancel", json={"force": True})
    for job_id in started:
        serve.finished(job_id)


def new_key(serve: Serve, project: str) -> str:
    """By the command that an operator uses."""
    printed = subprocess.run(
        [sys.executable, "-m", "standalone.command", "keys", "create", "--project", project, "--json"],
        env=clean_environment(BACKPROPD_DATABASE_URL=f"sqlite:///{serve.data_dir / 'backpropd.sqlite3'}"),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return str(json.loads(printed)[0]["key"])


@pytest.fixture(scope="session")
def neighbour(serve: Serve) -> Iterator[Api]:
    """The same API with the key of another project, which is no admin's."""
    api = Api()
    api.connect(serve.url, new_key(serve, "neighbour"))
    yield api
    api.http.close()


@pytest.fixture(scope="session")
def on_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`backpropd serve` with Postgres under it: it refuses texts that SQLite takes."""
    server = create_engine(Settings(database_url=postgres_server).database_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE hostile"))
    server.dispose()
    url = make_url(postgres_server).set(database="hostile").render_as_string(hide_password=False)
    with Serve(tmp_path_factory.mktemp("on-postgres") / "data", BACKPROPD_DATABASE_URL=url) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest) -> Serve:
    """The server over each of the two databases in turn."""
    found: Serve = request.getfixturevalue("serve" if request.param == "sqlite" else "on_postgres")
    return found


@pytest.fixture
def any_table(anywhere: Serve) -> str:
    """The id of a small dataset there."""
    files = {"file": ("small.csv", TABLE)}
    answer = anywhere.http.post("/v1/datasets?wait=60", files=files)  # the first to be read waits for a worker
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
