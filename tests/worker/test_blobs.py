"""Bytes that nothing refers to go; all others stay, however many they are."""

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from core import database, storage
from core.ids import new_id
from core.storage import Storage, blob_key, upload_key
from core.tables import Artifact, Blob, Dataset, Inquiry, Job
from tests.core.factories import claimed, make_dataset, make_inquiry, make_job, make_project, succeed
from worker import blobs


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    own = Storage(f"file:{tmp_path / 'storage'}")
    monkeypatch.setattr(storage, "storage", lambda: own)
    return own


@pytest.fixture
def project(database_url: str) -> str:
    return make_project()


def keep(project_id: str, folder: Path, content: bytes) -> str:
    folder.mkdir()
    (folder / "file").write_bytes(content)
    return blobs.keep(project_id, folder)["file"].sha256


def grow_old() -> None:
    with database.writing() as session:
        session.execute(update(Blob).values(touched_at=database.db_now() - 2 * blobs.COLLECT_AFTER))
        session.commit()


def test_only_what_nothing_refers_to_is_collected(store: Storage, project: str, tmp_path: Path) -> None:
    unused, artifact, table, answer = (
        keep(project, tmp_path / name, name.encode()) for name in ("unused", "artifact", "table", "answer")
    )
    job_id, dataset_id = make_job(project), make_dataset(project)
    inquiry_id = make_inquiry(project, job_id)
    with database.writing() as session:
        made = {"name": "a", "media_type": "text/csv", "sha256": artifact, "bytes": 8}
        session.add(Artifact(id=new_id("art"), job_id=job_id, created_at=database.now(session), **made))
        files = {"table.parquet": {"sha256": table, "bytes": 5}}
        session.execute(update(Dataset).where(Dataset.id == dataset_id).values(files=files))
        answered = {"trace.json": {"sha256": answer, "bytes": 6}}
        session.execute(update(Inquiry).where(Inquiry.id == inquiry_id).values(files=answered))
        session.commit()
    grow_old()

    assert blobs.collect() == 1

    with database.reading() as session:
        assert set(session.scalars(select(Blob.sha256))) == {artifact, table, answer}
    assert store.read(blob_key(project, table)) == b"table"
    with pytest.raises(storage.errors.NotFound):
        store.read(blob_key(project, unused))


def test_the_weights_that_a_job_will_start_from_stay_until_it_has_ended(
    store: Storage, project: str, tmp_path: Path
) -> None:
    weights = keep(project, tmp_path / "weights", b"weights")
    job_id = make_job(project)
    with database.writing() as session:
        start = {"files": {"weights": {"sha256": weights, "bytes": 7}}}
        session.execute(update(Job).where(Job.id == job_id).values(start=start))
        session.commit()
    grow_old()

    assert blobs.collect() == 0
    succeed(claimed())
    assert blobs.collect() == 1


def test_what_was_touched_lately_is_not_collected(store: Storage, project: str, tmp_path: Path) -> None:
    keep(project, tmp_path / "new", b"new")

    assert blobs.collect() == 0


def test_an_upload_without_a_row_goes_after_an_hour(store: Storage, project: str) -> None:
    dataset_id = make_dataset(project)
    lost, young = new_id("ds"), new_id("ds")
    store.put({upload_key(one): b"a,b\n1,2\n" for one in (dataset_id, lost, young)})
    assert store._folder is not None
    before = time.time() - 2 * blobs.COLLECT_AFTER
    for one in (dataset_id, lost):
        os.utime(store._folder / upload_key(one), (before, before))

    assert blobs.collect_uploads() == 1

    assert store.read(upload_key(dataset_id))
    assert store.read(upload_key(young))
    with pytest.raises(storage.errors.NotFound):
        store.read(upload_key(lost))


def test_an_upload_stays_as_long_as_any_dataset_reads_it(store: Storage, project: str) -> None:
    first = make_dataset(project)
    second = make_dataset(project, upload_of=first)
    store.put({upload_key(first): b"a,b\n1,2\n"})
    assert store._folder is not None
    before = time.time() - 2 * blobs.COLLECT_AFTER
    os.utime(store._folder / upload_key(first), (before, before))

    for dataset_id, collected in ((first, 0), (second, 1)):
        with database.writing() as session:
            session.execute(delete(Dataset).where(Dataset.id == dataset_id))
            session.commit()
        assert blobs.collect_uploads() == collected
