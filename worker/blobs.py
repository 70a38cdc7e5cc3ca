"""Blobs: bytes in storage under their SHA-256, and the collector of those that nothing refers to."""

from itertools import chain
from pathlib import Path

from sqlalchemy import delete, select, update

from core import database, storage
from core.database import changed, commit, db_now, insert_or_nothing
from core.lifecycle import TERMINAL
from core.storage import StoredFile, blob_key
from core.tables import Artifact, Blob, Checkpoint, Dataset, Inquiry, Job, Run

COLLECT_AFTER = 3600.0  # seconds since it was touched


def keep(project_id: str, folder: Path) -> dict[str, StoredFile]:
    """Stores every file of a folder, by name.

    Their rows are touched first, so that no collector takes what is about to be referred to.
    """
    found = {file.name: storage.measure(file) for file in sorted(folder.iterdir()) if not file.is_symlink()}
    with database.writing() as session:
        moment = database.now(session)
        for one in found.values():
            touched = update(Blob).where(Blob.project_id == project_id, Blob.sha256 == one.sha256)
            if not changed(session.execute(touched.values(touched_at=moment))):
                row = {"project_id": project_id, "sha256": one.sha256, "bytes": one.bytes, "touched_at": moment}
                insert_or_nothing(session, Blob, **row)
        commit(session, "touch_blobs")
    storage.storage().put({blob_key(project_id, one.sha256): folder / name for name, one in found.items()})
    return found


def collect() -> int:
    """Deletes blobs that no row refers to and nobody touched for an hour. Returns how many."""
    with database.reading() as session:
        old = select(Blob.project_id, Blob.sha256).where(Blob.touched_at < db_now() - COLLECT_AFTER)
        artifacts = select(Job.project_id, Artifact.sha256).join(Job, Job.id == Artifact.job_id)
        unused = {(project, sha256) for project, sha256 in session.execute(old.except_(artifacts))}
        datasets = select(Dataset.project_id, Dataset.files)
        answers = select(Inquiry.project_id, Inquiry.files)
        checkpoints = select(Run.project_id, Checkpoint.files).join(Run, Run.id == Checkpoint.run_id)
        holding = chain.from_iterable(session.execute(query) for query in (datasets, answers, checkpoints))
        for project, files in holding:
            unused -= {(project, str(file["sha256"])) for file in files.values()}
        starts = select(Job.project_id, Job.start).where(Job.start.is_not(None), Job.status.not_in(TERMINAL))
        for project, start in session.execute(starts):
            unused -= {(project, str(file["sha256"])) for file in start["files"].values()}
    collected = 0
    for project_id, sha256 in unused:
        with database.writing() as session:
            gone = session.execute(
                delete(Blob).where(
                    Blob.project_id == project_id,
                    Blob.sha256 == sha256,
                    Blob.touched_at < db_now() - COLLECT_AFTER,  # touched since: somebody is about to refer to it
                )
            )
            if changed(gone):
                # The bytes before the commit: whoever keeps the same ones meanwhile waits for it, then stores them.
                storage.storage().delete(blob_key(project_id, sha256))
                collected += 1
            commit(session, "collect_blob")
    return collected


def collect_uploads() -> int:
    """Deletes uploads that no row was committed for, or is left of. Returns how many."""
    old = storage.storage().uploads_older_than(COLLECT_AFTER)
    with database.reading() as session:
        known = set(session.scalars(select(Dataset.upload_key).where(Dataset.upload_key.in_(old))))
    lost = [key for key in old if key not in known]
    for key in lost:
        storage.storage().delete(key)
    return len(lost) + storage.storage().remove_parts_older_than(COLLECT_AFTER)
