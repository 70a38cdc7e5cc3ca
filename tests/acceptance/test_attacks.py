"""Attacks on the invariants, each found to succeed once: processes killed or stopped at the worst moment, full disks,
bytes that rot."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from core import database, errors, storage
from core.lifecycle import Claim
from core.storage import Storage, blob_key
from core.tables import Blob, Checkpoint
from tests.conftest import PENGUINS
from tests.core.factories import make_project
from tests.running import Serve, wait_until
from worker import blobs, layout

LONG = {"target": "species", "training": {"epochs": 100_000}}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A `backpropd serve` whose training processes may be attacked; the rest of it stays."""
    with Serve(tmp_path_factory.mktemp("attacked") / "data") as running:
        yield running


def _at_epoch(serve: Serve, job_id: str, epoch: int) -> None:
    wait_until(lambda: serve.job(job_id)["progress"]["epoch"] >= epoch, 30, f"epoch {epoch}")


def _cancel(serve: Serve, job_id: str, **asked: Any) -> None:
    assert serve.http.post(f"/v1/jobs/{job_id}/cancel", json=asked).status_code == 200


def _forkserver(serve: Serve) -> psutil.Process:
    children = serve.child("worker").children()
    return next(one for one in children if any("forkserver" in word for word in one.cmdline()))


def test_a_running_job_cancelled_with_keep_last_leaves_its_last_weights(attacked: Serve) -> None:
    job_id = attacked.submit(attacked.upload(PENGUINS)["id"], LONG)["id"]
    _at_epoch(attacked, job_id, 300)

    _cancel(attacked, job_id, keep="last")
    ended = attacked.finished(job_id)

    report = attacked.http.get(f"/v1/jobs/{job_id}/artifacts/report.json").json()
    assert ended["status"] == "cancelled"
    assert ended["best"]["epoch"] < report["epochs"]  # otherwise the last would be the best
    assert report["kept_epoch"] == report["epochs"]


def test_a_job_goes_on_when_the_forkserver_dies_while_it_forks(attacked: Serve) -> None:
    dataset_id = attacked.upload(PENGUINS)["id"]
    forkserver = _forkserver(attacked)

    forkserver.send_signal(signal.SIGSTOP)
    job_id = attacked.submit(dataset_id, {"target": "species", "training": {"epochs": 5}})["id"]
    wait_until(lambda: attacked.job(job_id)["status"] == "running", 10, "the claim")
    time.sleep(0.5)  # the worker waits for the number of its child
    forkserver.send_signal(signal.SIGKILL)
    ended = attacked.finished(job_id)

    assert ended["status"] == "succeeded", ended["error"]
    assert [one["outcome"] for one in ended["attempts"]] == ["crashed", "succeeded"]


def test_a_training_process_that_hangs_does_not_outlive_its_worker(attacked: Serve) -> None:
    job_id = attacked.submit(attacked.upload(PENGUINS)["id"], {"target": "species", "training": {"epochs": 900}})["id"]
    _at_epoch(attacked, job_id, 20)
    hung, forkserver = attacked.child("training"), _forkserver(attacked)

    hung.suspend()
    attacked.child("worker").kill()

    assert psutil.wait_procs([hung, forkserver], timeout=10)[1] == []
    assert attacked.finished(job_id)["status"] == "succeeded"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for the private files of runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.long  # needs the right to mount
def test_f19_a_job_goes_on_after_its_disk_was_full(tmp_path: Path, small_disk: Path) -> None:
    full = {"BACKPROPD_WORK_DIR": str(small_disk), "BACKPROPD_CHECKPOINT_SECONDS": "0.2"}
    with Serve(tmp_path / "data", **full) as serve:
        job_id = serve.submit(serve.upload(PENGUINS)["id"], {"target": "species", "training": {"epochs": 1000}})["id"]
        _at_epoch(serve, job_id, 300)

        filler = _fill(small_disk)
        epoch = serve.job(job_id)["progress"]["epoch"]
        _at_epoch(serve, job_id, epoch + 100)  # it trains on, without checkpoints
        serve.child("training").kill()
        wait_until(lambda: serve.job(job_id)["attempts"][-1]["number"] == 2, 10, "the second attempt")
        time.sleep(1.0)  # there is no room for the checkpoint to go on from
        filler.unlink()
        ended = serve.finished(job_id)

    assert ended["status"] == "succeeded", ended["error"]
    assert [one["outcome"] for one in ended["attempts"]] == ["crashed", "succeeded"]
    assert ended["attempts"][1]["resumed_from_epoch"] > 0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A storage of this process, in a folder."""
    made = Storage(f"file:{tmp_path / 'storage'}")
    monkeypatch.setattr(storage, "storage", lambda: made)
    return made


def test_bytes_kept_again_while_they_are_collected_stay(
    database_url: str, store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "weights").write_bytes(b"the same bits as an hour ago")
    kept = blobs.keep(project, folder)["weights"]
    with database.writing() as session:
        session.execute(update(Blob).values(touched_at=database.now(session).timestamp() - 2 * blobs.COLLECT_AFTER))
        session.commit()
    keeper = threading.Thread(target=blobs.keep, args=(project, folder))
    delete = store.delete

    def delete_late(key: str) -> None:
        """The worst moment: the row is deleted, and the file is about to be."""
        keeper.start()
        keeper.join(1.0)
        delete(key)

    monkeypatch.setattr(store, "delete", delete_late)
    assert blobs.collect() == 1
    keeper.join(30)

    with database.reading() as session:
        assert session.get(Blob, (project, kept.sha256)) is not None
    assert store.read(blob_key(project, kept.sha256)) == b"the same bits as an hour ago"


def test_a_checkpoint_is_fetched_at_the_second_try_when_the_storage_was_away(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state.json").write_text("{}")
    stored = storage.measure(tmp_path / "state.json")
    store.put({blob_key("prj_1", stored.sha256): tmp_path / "state.json"})
    row = Checkpoint(run_id="run_1", number=1, attempt=1, epoch=3, files={"state.json": stored.as_json()})
    claim = Claim("run_1", "training", "job_1", "prj_1", 2, 0, None)
    fetch, tries = store.fetch, [errors.Unavailable()]

    def fetch_late(key: str, folder: Path) -> Path:
        if tries:
            raise tries.pop()
        return fetch(key, folder)

    monkeypatch.setattr(store, "fetch", fetch_late)
    with pytest.raises(errors.Unavailable):
        layout._fetch_checkpoint(claim, [row], tmp_path)

    found = layout._fetch_checkpoint(claim, [row], tmp_path)

    assert found is not None
    assert (Path(found) / "state.json").read_text() == "{}"
