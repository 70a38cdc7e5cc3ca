"""Bytes: uploads, what ingest made, checkpoints and artifacts, in a local folder or in S3.

A blob's key is `{project}/{sha256}`; an upload's is `uploads/{dataset}`. Clients never name a path. The order that
makes a half-written file invisible: write under a temporary name, fsync, rename, and only then commit the row that
points at it. S3 needs no rename: an object appears whole or not at all.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from core import errors, faults
from core.settings import settings

CHUNK = 1024 * 1024
UPLOADS = "uploads"


@dataclass(frozen=True)
class StoredFile:
    sha256: str
    bytes: int

    def as_json(self) -> dict[str, str | int]:
        return {"sha256": self.sha256, "bytes": self.bytes}


def blob_key(project_id: str, sha256: str) -> str:
    return f"{project_id}/{sha256}"


def upload_key(dataset_id: str) -> str:
    return f"{UPLOADS}/{dataset_id}"


def measure(path: Path) -> StoredFile:
    """SHA-256 and size of a file."""
    with path.open("rb") as file:
        return StoredFile(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def of_bytes(data: bytes) -> StoredFile:
    return StoredFile(hashlib.sha256(data).hexdigest(), len(data))


class Storage:
    """One API for a folder and a bucket."""

    def __init__(self, url: str) -> None:
        self._folder: Path | None = None
        self._store: LocalStore | S3Store
        if url.startswith("file:"):
            self._folder = Path(url.removeprefix("file://").removeprefix("file:")).resolve()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(prefix=self._folder, mkdir=True)
        elif url.startswith("s3:"):
            endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
            parts = urlsplit(url)
            self._store = S3Store(
                bucket=parts.netloc,
                prefix=parts.path.strip("/") or None,
                client_options={"allow_http": endpoint.startswith("http://"), "timeout": "60s"},
            )
        else:
            raise ValueError("BACKPROPD_STORAGE_URL must begin with `file:` or `s3://`.")

    # --- writing --------------------------------------------------------------------------------------------

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        """Stores whole files under their keys. When this returns, they survive a power cut."""
        with _our_errors():
            for key, file in files.items():
                faults.point("storage.before_put")
                self._store.put(key, file)
            faults.point("storage.before_sync")
            self._make_durable(*files)
            faults.point("storage.after_put")

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> StoredFile:
        """Stores what arrives, never holding more of it than one part; hashes it on the way.

        When `chunks` raises, nothing is stored.
        """
        digest, size = hashlib.sha256(), 0

        async def measured() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        with _our_errors():
            faults.point("storage.before_put")
            await self._store.put_async(key, measured())
            faults.point("storage.before_sync")
            await asyncio.to_thread(self._make_durable, key)
            faults.point("storage.after_put")
        return StoredFile(digest.hexdigest(), size)

    def _make_durable(self, *keys: str) -> None:
        """A rename is only as lasting as the file and the folders it was made in."""
        if self._folder is None:
            return
        paths = [self._folder / key for key in keys]
        folders = {path.parent for path in paths}
        for one in (*paths, *folders, *{folder.parent for folder in folders}):
            handle = os.open(one, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def delete(self, key: str) -> None:
        with _our_errors():
            try:
                faults.point("storage.before_delete")
                self._store.delete(key)
            except (NotFoundError, FileNotFoundError):
                return

    # --- reading --------------------------------------------------------------------------------------------

    def fetch(self, key: str, folder: Path) -> Path:
        """A local file with the bytes of `key`: the stored one itself, or a copy of it in `folder`.

        It is read only, for it may be the original.
        """
        if self._folder is not None:
            path = self._folder / key
            if not path.is_file():
                raise errors.NotFound()
            return path
        target = folder / key.replace("/", "-")
        with _our_errors(), target.open("wb") as file:
            for chunk in self._store.get(key).stream(CHUNK):
                file.write(chunk)
        return target

    def read(self, key: str) -> bytes:
        with _our_errors():
            return bytes(self._store.get(key).bytes())

    async def stream(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes [start, end) of `key`, in pieces."""
        while start < end:
            with _our_errors():
                piece = await self._store.get_range_async(key, start=start, end=min(start + CHUNK, end))
            yield bytes(piece)
            start += len(piece)

    def uploads_older_than(self, seconds: float) -> list[str]:
        """The keys of uploads that were stored before that."""
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        with _our_errors():
            found = [entry for page in self._store.list(prefix=UPLOADS) for entry in page]
        return [entry["path"] for entry in found if entry["last_modified"] < before]

    def remove_parts_older_than(self, seconds: float) -> int:
        """Removes files that were being written when their process died, under the temporary names that the library
        gives (`...#1`) and that it never lists. Returns how many. A bucket has none: an object appears whole.
        """
        if self._folder is None:
            return 0
        before = datetime.now(UTC).timestamp() - seconds
        removed = 0
        for part in self._folder.rglob("*#*"):
            with contextlib.suppress(FileNotFoundError):  # it has its own name by now
                if part.stat().st_mtime < before:
                    part.unlink()
                    removed += 1
        return removed

    def check(self) -> None:
        """Raises `Unavailable` when nothing can be written here."""
        self.put({"health/probe": b"ok"})


@contextmanager
def _our_errors() -> Iterator[None]:
    """What the storage library raises, in our words, once and here."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise errors.NotFound() from error
    except (BaseError, OSError) as error:
        if "os error 28" in str(error) or "No space left" in str(error):
            raise errors.StorageFull() from error
        raise errors.Unavailable("The storage is not reachable right now; send the same request again.") from error


@cache
def storage() -> Storage:
    return Storage(settings.storage_url)
