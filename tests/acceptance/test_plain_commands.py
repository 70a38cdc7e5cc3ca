"""The commands that whoever knows FastAPI, Celery and Alembic types first, from a checkout, with variables alone."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from safetensors.numpy import load

from tests.conftest import PENGUINS
from tests.processes import Process, free_port, start_broker
from tests.running import Api, clean_environment, wait_until


def test_alembic_uvicorn_and_celery_are_enough_to_train_a_job(new_postgres: Callable[[], str], tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        environment = clean_environment(
            BACKPROPD_DATABASE_URL=new_postgres(),
            BACKPROPD_BROKER_URL=start_broker(stack, tmp_path),
            BACKPROPD_STORAGE_URL=f"file:{tmp_path / 'storage'}",
            BACKPROPD_TRAINING_SLOTS="1",
        )

        def start(command: str) -> Process:
            name = command.split()[0]
            return stack.enter_context(Process(name, command.split(), environment, tmp_path))

        migration = start("alembic upgrade head")
        assert migration.ended(60) == 0, migration.tail()
        key = start("backpropd keys create --project default --name first --json")
        assert key.ended(60) == 0, key.tail()
        uvicorn = start(f"uvicorn api.main:app --port {port}")
        celery = start("celery -A worker.app worker")
        api = Api()
        api.connect(f"http://127.0.0.1:{port}", json.loads(key.log.read_text())[0]["key"])
        stack.callback(api.http.close)

        def ready() -> bool:
            uvicorn.check_alive()
            celery.check_alive()
            return "Uvicorn running on" in uvicorn.tail()

        wait_until(ready, 60, "the open port of uvicorn")
        dataset = api.upload(PENGUINS)
        job = api.submit(dataset["id"], {"target": "species", "training": {"epochs": 5}})
        ended = api.finished(job["id"])

        assert ended["status"] == "succeeded", ended["error"]
        assert load(api.artifact(job["id"], "weights.safetensors"))
        assert celery.stop(30) == 0
        assert uvicorn.stop(10) == -15  # uvicorn's own way: it raises the signal again when it has stopped
