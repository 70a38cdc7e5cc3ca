"""One machine on which anything may die: a database, a storage, and the processes that a host forks."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

from core import database, lifecycle
from core.ids import new_id
from core.storage import Storage, measure, upload_key
from core.tables import Blob, Dataset, Job
from tests.core.factories import job_row, make_project
from tests.running import clean_environment, wait_until

# Dropout, batch norm, Adam and a schedule: all that is hard to resume to the same bits.
NETWORK = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "batch_norm"},
    {"type": "dropout", "rate": 0.3},
]
ROOT = Path(__file__).parents[2]


def spec_of(epochs: int, **training: Any) -> dict[str, Any]:
    chosen = {"epochs": epochs, "optimizer": "adam", "schedule": "cosine", "batch_size": 16, **training}
    return {"target": "species", "network": {"layers": NETWORK}, "training": chosen}


@dataclass
class Host:
    """The process `tests.faults.host`, and where its children work."""

    folder: Path
    log: Path
    process: "subprocess.Popen[str]" = field(init=False)

    def __enter__(self) -> "Host":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.host"],
                env=clean_environment(
                    PYTHONPATH=str(ROOT),
                    BACKPROPD_BROKER_URL=f"unix://{self.folder / 'no-broker'}",
                    BACKPROPD_LOG_FORMAT="json",
                    TMPDIR=str(self.folder),
                ),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the host died; see {self.log}"
        return json.loads(answer)

    def start(self, act: str, fault: str | None = None, **arguments: Any) -> int:
        return int(self.ask(do="start", act=act, fault=fault, arguments=arguments))

    def run(self, act: str, fault: str | None = None, **arguments: Any) -> int:
        """How it ended: 0, or the number of the signal below it."""
        return int(self.ask(do="wait", pid=self.start(act, fault, **arguments)))

    def wait(self, pid: int) -> int:
        return int(self.ask(do="wait", pid=pid))

    def training_processes(self) -> list[psutil.Process]:
        return [
            one for one in psutil.Process(self.ask(do="forkserver")).children() if one.status() != psutil.STATUS_ZOMBIE
        ]


@dataclass
class Scene:
    host: Host
    database_url: str
    storage: Path
    work_dir: Path
    dataset_id: str = ""  # the one that was read; others are copies of it

    def settle_down(self, **settings: Any) -> None:
        """From here on the host's children work here."""
        own = {
            "database_url": self.database_url,
            "storage_url": f"file:{self.storage}",
            "work_dir": str(self.work_dir),
            "checkpoint_seconds": 0.0,
            "beat_seconds": 0.02,
            "training_slots": 1,
            **settings,
        }
        self.host.ask(do="settle_down", settings=own)

    def read(self, table: Path) -> None:
        """Ingests a table, as a worker does."""
        self.dataset_id = self.upload(table)
        assert self.host.run("work") == 0

    def upload(self, table: Path) -> str:
        project_id, dataset_id = make_project(), new_id("ds")
        Storage(f"file:{self.storage}").put({upload_key(dataset_id): table.read_bytes()})
        stored = measure(table)
        with database.writing() as session:
            dataset = Dataset(
                id=dataset_id,
                project_id=project_id,
                name=table.name,
                status="processing",
                format="csv",
                bytes=stored.bytes,
                sha256=stored.sha256,
                upload_key=upload_key(dataset_id),
                created_at=database.now(session),
            )
            lifecycle.submit_dataset(session, dataset)
            session.commit()
        return dataset_id

    def new_dataset(self) -> tuple[str, str]:
        """A project of its own, so that no blob of another case stands in for a lost one, with the table in it."""
        project_id, dataset_id = make_project(), new_id("ds")
        with database.writing() as session:
            read = session.get_one(Dataset, self.dataset_id)
            facts = {column.key: getattr(read, column.key) for column in Dataset.__mapper__.column_attrs}
            session.add(Dataset(**facts | {"id": dataset_id, "project_id": project_id}))
            moment = database.now(session)
            for file in read.files.values():
                row = {"sha256": file["sha256"], "bytes": file["bytes"], "touched_at": moment}
                session.add(Blob(project_id=project_id, **row))
            source = read.project_id
            session.commit()
        (self.storage / project_id).mkdir()
        for file in read.files.values():
            shutil.copyfile(self.storage / source / file["sha256"], self.storage / project_id / file["sha256"])
        return project_id, dataset_id

    def submit(self, spec: Mapping[str, Any], fault: str | None = None) -> str:
        """By one API process that may die, and by the next with the same key: there is one job then."""
        project_id, dataset_id = self.new_dataset()
        asked = {"project_id": project_id, "dataset_id": dataset_id, "spec": dict(spec), "key": "once"}
        if fault is not None:
            self.host.run("submit", fault, **asked)
        assert self.host.run("submit", **asked) == 0
        with database.reading() as session:
            jobs = session.scalars(select(Job.id).where(Job.project_id == project_id)).all()
        assert len(jobs) == 1, "one key, and not one job"
        return jobs[0]

    def finish(self, job_id: str, fault: str | None = None, sweeper_fault: str | None = None) -> tuple[int, int]:
        """Workers come and go until the job has ended, the first with a fault. How that ended, and how many came."""
        first = self.host.run("work", fault)
        for workers in range(1, 12):
            if job_row(job_id).status in lifecycle.TERMINAL:
                return first, workers
            if sweeper_fault is not None and workers == 1:
                self.host.run("sweep", sweeper_fault)
            assert self.host.run("sweep") == 0
            assert self.host.run("work") == 0
        raise AssertionError(f"the job did not end: {job_row(job_id).status}; see {self.host.log}")

    def everybody_is_gone(self) -> None:
        wait_until(lambda: not self.host.training_processes(), 10, "the end of every training process")
