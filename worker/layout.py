"""What a child needs, laid out before it starts: its order, and every file of it on this machine."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import structlog
from sqlalchemy import select

from core import database, errors, lifecycle, storage
from core.cross_validation import folds_of, summary
from core.lifecycle import Claim
from core.logs import logger
from core.settings import settings
from core.spec import TrainingSpec
from core.spec.data import PartName
from core.spec.training import Trace
from core.start import BEST, PREPROCESSING, Start
from core.storage import blob_key
from core.tables import Artifact, Attempt, Checkpoint, Dataset, Inquiry, Job
from worker.relay import Relay
from worker.trainer.order import (
    Beginning,
    PlanOrder,
    PredictionsOrder,
    TableColumn,
    TableOrder,
    TraceOrder,
    TrainingOrder,
)

ARRAYS = ("numbers.npy", "codes.npy", "moments.npy")
TABLE = "table.parquet"
FOLDER = "backpropd-run-"
NETWORK = "network.onnx"


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
    match claim.kind:
        case "ingest":
            return _ingest_order(claim, folder), Relay(claim, 1)
        case "trace":
            return _trace_order(claim, folder), Relay(claim, 1)
        case "plan":
            return _plan_order(claim, folder), Relay(claim, 1)
        case "predictions":
            return _predictions_order(claim, folder), Relay(claim, 1)
        case "training" | "fold":
            return _training_order(claim, folder)


def _training_order(claim: Claim, folder: Path) -> tuple[str, Relay]:
    with database.reading() as session:
        job = session.get_one(Job, claim.concerns)
        folds = folds_of(session, [job.id]).get(job.id, [])
        try:
            datasets = lifecycle.datasets_of(session, job)
        except errors.NotFound as gone:
            raise errors.DataInvalid("A dataset was deleted before the job could read it.") from gone
        checkpoints = session.scalars(
            select(Checkpoint).where(Checkpoint.run_id == claim.run_id).order_by(Checkpoint.number.desc())
        ).all()
        attempts = session.scalars(
            select(Attempt.fingerprint)
            .where(Attempt.run_id == claim.run_id, Attempt.number < claim.attempt)
            .order_by(Attempt.number.desc())
        ).all()
    spec = job.resolved_spec
    assert spec is not None, "only a resolved job is queued"
    structlog.contextvars.bind_contextvars(request_id=job.request_id)
    if claim.fold is not None:  # a fold looks at no test rows
        datasets, spec = {"train": datasets["train"]}, spec.model_copy(update={"trace": None})
    training = TrainingOrder(
        **_tables(datasets, job, spec, folder),
        checkpoint=_fetch_checkpoint(claim, list(checkpoints), folder),
        checkpoint_seconds=settings.checkpoint_seconds,
        stop=cancel_order(job.keep) if claim.order == "cancel" else None,
        fold=claim.fold,
        cross_validation=summary(folds) if claim.fold is None else None,
    )
    epochs = training.cross_validation["epochs"] if training.cross_validation else spec.training.epochs
    before = (0, 0) if claim.fold else (sum(fold.epoch for fold in folds), sum(fold.step for fold in folds))
    return training.model_dump_json(), Relay(claim, epochs, before, next(filter(None, attempts), None))


def _tables(datasets: Mapping[PartName, Dataset], job: Job, spec: TrainingSpec, folder: Path) -> dict[str, Any]:
    """The part of an order that says what is read: all tables of a job, and the files that it starts from."""
    return {
        **_table(datasets["train"], folder, {spec.split.by}),
        "spec": spec,
        "start": _start_of(job, folder),
        "held_out": {
            part: TableOrder(**_table(dataset, folder, _texts(dataset)), spec=spec, folder=str(folder))
            for part, dataset in datasets.items()
            if part != "train"
        },
        "folder": str(folder),
    }


def _plan_order(claim: Claim, folder: Path) -> str:
    claimed = time.monotonic()
    with database.reading() as session:
        inquiry = session.get_one(Inquiry, claim.subject_id)
        planned = Job(**inquiry.request["job"])  # no row: what there would be
        try:
            datasets = lifecycle.datasets_of(session, planned)
        except errors.NotFound as gone:
            raise errors.DatasetDeleted() from gone
    spec = TrainingSpec.model_validate(inquiry.request["plan"]["resolved_spec"])
    order = PlanOrder(**_tables(datasets, planned, spec, folder), claimed=claimed)
    return order.model_dump_json()


def _trace_order(claim: Claim, folder: Path) -> str:
    with database.reading() as session:
        inquiry = session.get_one(Inquiry, claim.subject_id)
        job = session.get_one(Job, inquiry.job_id)
        found = session.get(Dataset, job.dataset_id)
        artifacts = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
    if found is None:
        raise errors.DatasetDeleted()
    assert job.resolved_spec is not None, "only a resolved job is asked about"
    if inquiry.request["weights"] == "kept":
        kept = {
            row.name: storage.storage().fetch(blob_key(claim.project_id, row.sha256), folder)
            for row in artifacts
            if row.name in (BEST, PREPROCESSING)
        }
        start: Beginning | None = Beginning(weights=str(kept[BEST]), preprocessing=str(kept[PREPROCESSING]))
    else:
        start = _start_of(job, folder)
    order = TraceOrder(
        **_table(found, folder, {job.resolved_spec.split.by}),
        spec=job.resolved_spec.model_copy(update={"trace": Trace(rows=inquiry.request["rows"])}),
        start=start,
        folder=str(folder),
    )
    return order.model_dump_json()


def _predictions_order(claim: Claim, folder: Path) -> str:
    with database.reading() as session:
        inquiry = session.get_one(Inquiry, claim.subject_id)
        job = session.get_one(Job, inquiry.job_id)
        wanted = (Dataset.id == inquiry.request["dataset_id"], Dataset.project_id == claim.project_id)
        found = session.scalar(select(Dataset).where(*wanted))
        artifacts = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
    if found is None:
        raise errors.DatasetDeleted("The dataset was deleted before it was predicted.")
    assert job.resolved_spec is not None, "only a job with a network is asked"
    files = {
        row.name: str(storage.storage().fetch(blob_key(claim.project_id, row.sha256), folder))
        for row in artifacts
        if row.name in (NETWORK, PREPROCESSING)
    }
    columns = job.resolved_spec.features.columns
    order = PredictionsOrder(
        **_table(found, folder, {name for name, choice in columns.items() if choice.type in ("category", None)}),
        spec=job.resolved_spec,
        folder=str(folder),
        network=files[NETWORK],
        preprocessing=files[PREPROCESSING],
        format=inquiry.request["format"],
    )
    return order.model_dump_json()


def _texts(dataset: Dataset) -> set[str | None]:
    return {column["name"] for column in dataset.columns if column["type"] == "text"}


def _table(dataset: Dataset, folder: Path, wanted: Collection[str | None]) -> dict[str, Any]:
    """The part of an order that says where the table lies: whole, where `wanted` columns have no codes."""
    columns = [TableColumn.model_validate(column) for column in dataset.columns]
    needs_whole = any(column.name in wanted and column.code_row is None for column in columns)
    files = {
        name: str(storage.storage().fetch(blob_key(dataset.project_id, dataset.files[name]["sha256"]), folder))
        for name in (*ARRAYS, *([TABLE] if needs_whole else []))
        if name in dataset.files
    }
    return {
        "rows": dataset.rows or 0,
        "columns": columns,
        "numbers": files.get("numbers.npy"),
        "codes": files.get("codes.npy"),
        "moments": files.get("moments.npy"),
        "parquet": files.get(TABLE),
    }


def cancel_order(keep: str) -> Literal["cancel", "cancel_keep_last"]:
    """What a child is told of a cancel; that nothing shall be kept is not its business."""
    return "cancel_keep_last" if keep == "last" else "cancel"


def _ingest_order(claim: Claim, folder: Path) -> str:
    with database.reading() as session:
        dataset = session.get_one(Dataset, claim.subject_id)
    order = {
        "kind": "ingest",
        "file": str(storage.storage().fetch(dataset.upload_key, folder)),
        "format": dataset.format,
        "reading": dataset.reading or {},
        "folder": str(folder),
        "memory_bytes": settings.ingest_memory_bytes,
        "expanded_bytes": settings.max_upload_bytes,
        "seconds": settings.ingest_seconds,
    }
    return json.dumps(order)


def _start_of(job: Job, folder: Path) -> Beginning | None:
    """The files of the earlier job. Their bytes are kept until this job has ended, also where that one is deleted."""
    if job.start is None:
        return None
    start = Start.model_validate(job.start)
    fetched = {
        name: str(storage.storage().fetch(blob_key(job.project_id, file["sha256"]), folder))
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
