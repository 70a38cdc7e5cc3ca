"""What a child needs, laid out before it starts: its order, and every file of it on this machine."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import structlog
from sqlalchemy import select

from core import database, errors, storage
from core.lifecycle import Claim
from core.logs import logger
from core.settings import settings
from core.start import Start
from core.storage import blob_key
from core.tables import Checkpoint, Dataset, Job
from worker.relay import Relay
from worker.trainer.order import Beginning, TableColumn, TrainingOrder

ARRAYS = ("numbers.npy", "codes.npy", "moments.npy")
FOLDER = "backpropd-run-"


def private_folder() -> Path:
    """A new folder for the files of one run; its name says whose it is."""
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=settings.work_dir))


def remove_left_folders() -> None:
    """Removes what workers that were killed have left on this machine. Called at boot, before there is any of ours."""
    for folder in Path(settings.work_dir or tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        pid = folder.name.removeprefix(FOLDER).split("-")[0]
        if pid.isdigit() and (int(pid) == os.getpid() or not Path("/proc", pid).exists()):
            shutil.rmtree(folder, ignore_errors=True)


def lay_out(claim: Claim, folder: Path) -> tuple[str, Relay]:
    """The child's order as JSON, and the relay that will hear it.

    Raises a `DataInvalid` when what it would read is gone.
    """
    if claim.kind == "ingest":
        return _ingest_order(claim, folder), Relay(claim, 1)
    store = storage.storage()
    with database.reading() as session:
        job = session.get_one(Job, claim.subject_id)
        found = session.get(Dataset, job.dataset_id)
        checkpoints = session.scalars(
            select(Checkpoint).where(Checkpoint.run_id == claim.run_id).order_by(Checkpoint.number.desc())
        ).all()
    if found is None:
        raise errors.DataInvalid("The dataset was deleted before the job could read it.")
    assert job.resolved_spec is not None, "only a resolved job is queued"
    structlog.contextvars.bind_contextvars(request_id=job.request_id)
    arrays = {
        name: str(store.fetch(blob_key(claim.project_id, found.files[name]["sha256"]), folder))
        for name in ARRAYS
        if name in found.files
    }
    training = TrainingOrder(
        spec=job.resolved_spec,
        rows=found.rows or 0,
        columns=[TableColumn.model_validate(column) for column in found.columns],
        numbers=arrays.get("numbers.npy"),
        codes=arrays.get("codes.npy"),
        moments=arrays.get("moments.npy"),
        start=None if job.start is None else _fetch_start(claim, Start.model_validate(job.start), folder),
        checkpoint=_fetch_checkpoint(claim, list(checkpoints), folder),
        folder=str(folder),
        checkpoint_seconds=settings.checkpoint_seconds,
        stop=cancel_order(job.keep) if claim.order == "cancel" else None,
    )
    return training.model_dump_json(), Relay(claim, job.resolved_spec.training.epochs)


def cancel_order(keep: str) -> Literal["cancel", "cancel_keep_last"]:
    """What a child is told of a cancel; that nothing shall be kept is not its business."""
    return "cancel_keep_last" if keep == "last" else "cancel"


def _ingest_order(claim: Claim, folder: Path) -> str:
    with database.reading() as session:
        dataset = session.get_one(Dataset, claim.subject_id)
    order = {
        "file": str(storage.storage().fetch(dataset.upload_key, folder)),
        "format": dataset.format,
        "folder": str(folder),
        "memory_bytes": settings.ingest_memory_bytes,
    }
    return json.dumps(order)


def _fetch_start(claim: Claim, start: Start, folder: Path) -> Beginning:
    """The files of the earlier job. Their bytes are kept until this job has ended, also where that one is deleted."""
    fetched = {
        name: str(storage.storage().fetch(blob_key(claim.project_id, file["sha256"]), folder))
        for name, file in start.files.items()
    }
    keeps = start.preprocessing == "keep"
    return Beginning(weights=fetched["weights"], preprocessing=fetched["preprocessing"] if keeps else None)


def _fetch_checkpoint(claim: Claim, newest_first: list[Checkpoint], folder: Path) -> str | None:
    """The newest checkpoint whose bytes are what its row says; the one before is kept for the day they are not."""
    for row in newest_first:
        target = folder / f"resume-{row.number}"
        target.mkdir(exist_ok=True)  # it is there when the storage was away at the first try
        try:
            for name, file in row.files.items():
                fetched = storage.storage().fetch(blob_key(claim.project_id, file["sha256"]), folder)
                if storage.measure(fetched).sha256 != file["sha256"]:
                    raise errors.NotFound()
                shutil.copyfile(fetched, target / name)
        except errors.NotFound:
            logger().error("checkpoint_damaged", number=row.number)
            continue
        return str(target)
    return None
