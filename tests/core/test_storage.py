"""Bytes in a folder and in a real S3-compatible server: the same behaviour."""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core import errors, storage
from core.storage import CHUNK, Storage, StoredFile
from tests.s3 import BUCKET, S3Server

LARGE = bytes(range(256)) * (12 * 1024 * 1024 // 256)  # more than one part of a multipart upload

STREAM = """
import asyncio, resource, sys
from core.storage import CHUNK, Storage

async def chunks():
    for _ in range(400):
        yield bytes(CHUNK)

store = Storage(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
asyncio.run(store.put_stream("uploads/ds_1", chunks()))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)  # bytes at most, beyond the start's
"""


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Each kind of storage in turn, empty."""
    if request.param == "folder":
        return Storage(f"file:{tmp_path / 'stored'}")
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Storage(f"s3://{BUCKET}/{tmp_path.name}")


async def chunks_of(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def put_stream(store: Storage, key: str, chunks: AsyncIterator[bytes]) -> StoredFile:
    return asyncio.run(store.put_stream(key, chunks))


def streamed(store: Storage, key: str, start: int, end: int) -> list[bytes]:
    async def read() -> list[bytes]:
        return [piece async for piece in store.stream(key, start, end)]

    return asyncio.run(read())


# --- writing and reading ------------------------------------------------------------------------------------------


def test_bytes_come_back_as_they_were_put(store: Storage) -> None:
    store.put({"prj/aaa": b"some bytes"})

    assert store.read("prj/aaa") == b"some bytes"


def test_a_file_comes_back_as_it_was_put(store: Storage, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(LARGE)

    store.put({"prj/bbb": file})

    assert store.read("prj/bbb") == LARGE
    assert file.exists()


def test_a_second_put_replaces_the_first(store: Storage) -> None:
    store.put({"prj/aaa": b"first, and longer"})
    store.put({"prj/aaa": b"second"})

    assert store.read("prj/aaa") == b"second"


@pytest.mark.parametrize("content", [b"", b"x", LARGE], ids=["empty", "one byte", "several parts"])
def test_a_stream_is_stored_whole_and_measured_on_the_way(store: Storage, content: bytes) -> None:
    stored = put_stream(store, "uploads/ds_1", chunks_of(content))

    assert stored == StoredFile(hashlib.sha256(content).hexdigest(), len(content))
    assert store.read("uploads/ds_1") == content


def test_any_range_can_be_streamed(store: Storage) -> None:
    store.put({"prj/ccc": LARGE})

    for start, end in [(0, 1), (5, 5), (CHUNK - 1, CHUNK + 1), (100, 3 * CHUNK), (len(LARGE) - 3, len(LARGE))]:
        pieces = streamed(store, "prj/ccc", start, end)
        assert b"".join(pieces) == LARGE[start:end]
        assert all(len(piece) <= CHUNK for piece in pieces)


def test_a_fetched_file_is_a_local_one_with_the_bytes(store: Storage, tmp_path: Path) -> None:
    store.put({"prj/ddd": LARGE})

    fetched = store.fetch("prj/ddd", tmp_path)

    assert storage.measure(fetched) == StoredFile(hashlib.sha256(LARGE).hexdigest(), len(LARGE))


def test_what_was_deleted_is_gone_and_deleting_it_again_is_no_error(store: Storage) -> None:
    store.put({"prj/aaa": b"x"})

    store.delete("prj/aaa")
    store.delete("prj/aaa")

    with pytest.raises(errors.NotFound):
        store.read("prj/aaa")


def test_what_was_never_stored_is_not_found(store: Storage, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        store.read("prj/none")
    with pytest.raises(errors.NotFound):
        store.fetch("prj/none", tmp_path)
    with pytest.raises(errors.NotFound):
        streamed(store, "prj/none", 0, 1)


def test_a_storage_that_can_be_written_passes_its_check(store: Storage) -> None:
    store.check()


def test_a_stream_is_never_held_in_memory_as_a_whole(tmp_path: Path) -> None:
    peak = subprocess.run(
        [sys.executable, "-c", STREAM, f"file:{tmp_path}"], capture_output=True, text=True, check=True, timeout=60
    )

    assert (tmp_path / "uploads" / "ds_1").stat().st_size == 400 * CHUNK
    assert int(peak.stdout) < 150 * CHUNK


# --- streams that break -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 10, len(LARGE)], ids=["at once", "early", "after several parts"])
def test_of_a_stream_that_fails_nothing_is_stored_and_its_error_is_its_own(
    store: Storage, tmp_path: Path, sent: int
) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        async for chunk in chunks_of(LARGE[:sent]):
            yield chunk
        raise errors.PayloadTooLarge("This one.")

    with pytest.raises(errors.PayloadTooLarge, match="This one"):
        put_stream(store, "uploads/ds_2", breaks())

    with pytest.raises(errors.NotFound):
        store.read("uploads/ds_2")
    assert [file for file in (tmp_path / "stored").rglob("*") if file.is_file()] == []


def test_a_stream_that_is_cancelled_stores_nothing(store: Storage, tmp_path: Path) -> None:
    async def upload() -> None:
        sent = asyncio.Event()

        async def stalls() -> AsyncIterator[bytes]:
            yield LARGE[:CHUNK]
            sent.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(store.put_stream("uploads/ds_3", stalls()))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(upload())

    with pytest.raises(errors.NotFound):
        store.read("uploads/ds_3")


# --- storage that is not as it should be --------------------------------------------------------------------------


def test_wrong_credentials_are_an_unreachable_storage(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    store = Storage(f"s3://{BUCKET}/wrong")

    for act in (store.check, lambda: store.read("x"), lambda: store.put({"x": b""})):
        with pytest.raises(errors.Unavailable) as refused:
            act()
        assert refused.value.headers == {"Retry-After": "2"}
        assert "not-the-secret" not in refused.value.detail


def test_a_folder_that_is_a_file_is_an_unreachable_storage(tmp_path: Path) -> None:
    store = Storage(f"file:{tmp_path / 'stored'}")
    (tmp_path / "stored" / "prj").write_text("in the way")

    with pytest.raises(errors.Unavailable) as refused:
        store.put({"prj/aaa": b"x"})

    assert str(tmp_path) not in refused.value.detail


@pytest.mark.parametrize("url", ["", "/tmp/x", "gs://bucket", "http://x"])
def test_another_kind_of_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="BACKPROPD_STORAGE_URL"):
        Storage(url)


def test_both_forms_of_a_file_url_are_the_same_folder(tmp_path: Path) -> None:
    Storage(f"file:{tmp_path}").put({"prj/aaa": b"x"})

    assert Storage(f"file://{tmp_path}").read("prj/aaa") == b"x"


def test_what_was_being_written_when_its_process_died_is_removed_after_a_while(tmp_path: Path) -> None:
    store = Storage(f"file:{tmp_path / 'stored'}")
    die = "import os; from core.storage import Storage; import sys; s = Storage(sys.argv[1])\n"
    die += "def pieces():\n    yield bytes(1 << 20)\n    os.kill(os.getpid(), 9)\n"
    subprocess.run(
        [sys.executable, "-c", die + "s._store.put('prj_1/' + 'a' * 64, pieces())", f"file:{tmp_path / 'stored'}"]
    )
    store.put({"prj_1/whole": b"whole"})
    left = [file.name for file in (tmp_path / "stored" / "prj_1").iterdir() if file.name != "whole"]

    assert store.remove_parts_older_than(60.0) == 0
    assert store.remove_parts_older_than(-1.0) == 1

    assert len(left) == 1
    assert [file.name for file in (tmp_path / "stored" / "prj_1").iterdir()] == ["whole"]
