"""Networks that the API has loaded: each once, no more of them than may be, and the one that was asked last stays."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api import loaded_networks
from api.loaded_networks import NEEDED, Answering, LoadedNetworks
from core import errors, storage
from core.settings import Settings
from core.storage import Storage, blob_key, of_bytes
from tests.running import Serve

PROJECT = "prj_1"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    own = Storage(f"file:{tmp_path / 'storage'}")
    monkeypatch.setattr(storage, "storage", lambda: own)
    return own


@pytest.fixture
def files(serve: Serve, trained: str) -> list[bytes]:
    return [serve.artifact(trained, name) for name in NEEDED]


def answering(store: Storage, files: list[bytes], number: int = 0) -> Answering:
    """The files of a job, which differ by their `spec.json`."""
    own = [*files[:2], files[2] + b" " * number]
    found = [of_bytes(one) for one in own]
    store.put({blob_key(PROJECT, one.sha256): data for one, data in zip(found, own, strict=True)})
    return Answering("job_1", PROJECT, tuple((one.sha256, one.bytes) for one in found))


def allow(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    monkeypatch.setattr(loaded_networks, "settings", Settings(**limits))  # type: ignore[arg-type]


def test_many_that_ask_at_once_get_the_one_that_is_loaded(store: Storage, files: list[bytes]) -> None:
    loaded, asked, together = LoadedNetworks(), answering(store, files), threading.Barrier(8)

    def get(_: int) -> int:
        together.wait(10)
        return id(loaded.get(asked))

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(get, range(8)))

    assert (len(found), len(loaded)) == (1, 1)


def test_the_one_that_was_asked_longest_ago_goes(
    store: Storage, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, predict_networks=2)
    loaded, jobs = LoadedNetworks(), [answering(store, files, number) for number in range(3)]

    first, second = loaded.get(jobs[0]), loaded.get(jobs[1])
    assert loaded.get(jobs[0]) is first
    loaded.get(jobs[2])

    assert len(loaded) == 2
    assert loaded.get(jobs[0]) is first
    assert loaded.get(jobs[1]) is not second


def test_no_more_memory_is_taken_than_is_allowed(
    store: Storage, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1024 * 1024
    allow(monkeypatch, predict_memory_bytes=limit, predict_networks=1000)
    padded = [files[0], files[1] + b" " * 90_000, files[2]]
    loaded = LoadedNetworks()

    for number in range(6):
        loaded.get(answering(store, padded, number))

    assert 1 < len(loaded) < 6
    assert loaded.bytes <= limit
    with pytest.raises(errors.NetworkTooLarge):
        loaded.get(answering(store, [files[0], files[1] + b" " * 400_000, files[2]]))


def test_damaged_bytes_are_not_predicted_with(store: Storage, files: list[bytes]) -> None:
    asked = answering(store, files)
    store.put({blob_key(PROJECT, asked.files[0][0]): files[0][:-1]})

    with pytest.raises(errors.Unavailable):
        LoadedNetworks().get(asked)
