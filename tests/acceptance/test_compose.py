"""The system as docker-compose.yml starts it, without Docker: its commands, its environment, its order, its health
checks, on a real Postgres and a Redis over TCP (acceptance of issue 1).
"""

from collections.abc import Callable
from contextlib import ExitStack
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.numpy import load

from api import keys
from tests import compose
from tests.conftest import PENGUINS
from tests.processes import Process, free_port, start_broker
from tests.running import Api, clean_environment, frame_data, wait_until


class Project:
    """The services of the file that are ours, each as a process of this machine."""

    def __init__(self, stack: ExitStack, folder: Path, variables: dict[str, str], **environment: str) -> None:
        self._stack, self._folder, self._environment = stack, folder, environment
        self.services: dict[str, Any] = compose.read(**variables)["services"]
        self.processes: dict[str, Process] = {}

    def up(self) -> None:
        order = TopologicalSorter({name: self.services[name].get("depends_on", {}) for name in self.services})
        for name in order.static_order():
            if name not in compose.OURS:
                continue  # Postgres and Redis are there already
            for needed, how in self.services[name]["depends_on"].items():
                if how["condition"] == "service_completed_successfully":
                    assert self.processes[needed].ended(60) == 0, self.processes[needed].tail()
            self.processes[name] = self._start(name, self.services[name]["command"])
        for name in compose.OURS:
            if "healthcheck" in self.services[name]:
                wait_until(lambda name=name: self._lives(name) and self.healthy(name), 60, f"a healthy {name}")

    def healthy(self, name: str) -> bool:
        """What the service's own health check says now."""
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self._start(name, command, log=f"{name}-health").ended(20) == 0

    def stop(self, name: str) -> int:
        grace = self.services[name].get("stop_grace_period", "10s")
        return self.processes[name].stop(float(grace.removesuffix("s")))

    def _lives(self, name: str) -> bool:
        self.processes[name].check_alive()
        return True

    def _start(self, name: str, command: list[str], log: str | None = None) -> Process:
        environment = {**self.services[name]["environment"], **self._environment}
        process = Process(log or name, command, clean_environment(**environment), self._folder)
        return self._stack.enter_context(process)


def test_the_commands_of_the_compose_file_train_a_job_and_stop_cleanly(
    new_postgres: Callable[[], str], tmp_path: Path
) -> None:
    port, key = free_port(), keys.draw()
    with ExitStack() as stack:
        # As short as in a container: pytest's own may be longer than the name of a socket can be.
        work_dir = Path(stack.enter_context(TemporaryDirectory(prefix="work-")))
        variables = {
            "BACKPROPD_DATABASE_URL": new_postgres(),
            "BACKPROPD_BROKER_URL": start_broker(stack, tmp_path),
            "BACKPROPD_STORAGE_URL": f"file:{tmp_path / 'storage'}",
        }
        project = Project(
            stack,
            tmp_path,
            variables,
            BACKPROPD_HOST="127.0.0.1",
            BACKPROPD_PORT=str(port),
            BACKPROPD_WORK_DIR=str(work_dir),
            TMPDIR=str(work_dir),
            BACKPROPD_BOOTSTRAP_API_KEY=key,  # as from `.env`
            BACKPROPD_TRAINING_SLOTS="1",
        )
        project.up()
        api = Api()
        api.connect(f"http://127.0.0.1:{port}", key)
        stack.callback(api.http.close)

        dataset = api.upload(PENGUINS)
        job = api.submit(dataset["id"], {"target": "species", "training": {"epochs": 20}})
        events = [frame_data(frame) for frame in api.sse(job["id"])]
        weights = load(api.http.get(f"/v1/jobs/{job['id']}/weights").content)

        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert sum(event["type"] == "epoch" for event in events) == 20
        assert events[-1]["type"] == "end"
        assert events[-1]["data"]["status"] == "succeeded"
        assert api.job(job["id"])["status"] == "succeeded"
        assert weights["0.weight"].ndim == 2
        ready = api.http.get("/readyz").json()
        assert set(ready["checks"].values()) == {"ok"}, ready

        codes = {name: project.stop(name) for name in ("api", "worker", "sweeper")}

        assert codes == {"api": 0, "worker": 0, "sweeper": 0}
        assert not project.healthy("api")
        assert not project.healthy("worker")
        assert not list(work_dir.iterdir())
