"""API keys: drawn at random, shown once, stored as SHA-256; and the project that each of them stands for."""

import hashlib
import math
import secrets
import string
import time
import zlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from core import database, errors
from core.database import insert_or_nothing, now
from core.ids import new_id
from core.tables import Key, Project

PREFIX = "bp_live_"
ALPHABET = string.digits + string.ascii_letters
RANDOM_LETTERS, CHECK_LETTERS = 30, 6
RECHECK_SECONDS = 2.0  # a revoked key is dead in 5 s
VALID_KEY = select(Key.id, Key.project_id, Key.admin).where(Key.sha256 == bindparam("sha256"), Key.revoked_at.is_(None))

_seen: dict[str, tuple[float, bool]] = {}  # keys with open streams: when they were looked up, and what was found


@dataclass(frozen=True)
class Caller:
    """Who asks: everything that is looked up is looked up in this project."""

    project_id: str
    key_id: str
    admin: bool


_callers: dict[str, tuple[float, Caller]] = {}  # valid keys that have come, by SHA-256: when they were looked up


def draw() -> str:
    """A new key: prefix, 30 random letters (178 bits), and a checksum that finds a typo without a database."""
    secret = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LETTERS))
    return secret + _checksum(secret)


def _checksum(text: str) -> str:
    number, letters = zlib.crc32(text.encode()), ""
    for _ in range(CHECK_LETTERS):
        number, place = divmod(number, len(ALPHABET))
        letters += ALPHABET[place]
    return letters


def digest(key: str) -> str:
    """Of a random 178-bit secret a plain hash is enough: there is nothing to guess that slowness would protect."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_project(session: Session, name: str) -> str:
    """The id of the project with this name, made where it is not there yet. The caller commits."""
    insert_or_nothing(
        session,
        Project,
        id=new_id("prj"),
        name=name,
        weight=1.0,
        virtual_time=0.0,
        queued=0,
        running=0,
        created_at=now(session),
    )
    found = session.scalar(select(Project.id).where(Project.name == name))
    assert found is not None
    return found


def create_key(session: Session, project_id: str, name: str, *, admin: bool, key: str | None = None) -> str:
    """Stores a new key and returns it, for the one time that it is shown. The caller commits."""
    key = key or draw()
    insert_or_nothing(
        session,
        Key,
        id=new_id("key"),
        project_id=project_id,
        name=name,
        sha256=digest(key),
        last_four=key[-4:],
        admin=admin,
        created_at=now(session),
        revoked_at=None,
    )
    return key


async def caller(request: Request) -> Caller:
    """The project of the key in `Authorization`. Every wrong key gets the same answer."""
    given = request.headers.getlist("authorization")
    scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not 8 <= len(key) <= 256:
        raise errors.Unauthenticated()
    sha256 = digest(key)
    looked_at, found = _callers.get(sha256, (-math.inf, None))
    if found is not None and time.monotonic() - looked_at < RECHECK_SECONDS:
        return found
    looked_at = time.monotonic()
    found = await run_in_threadpool(_caller_with, sha256)
    if found is None:
        _callers.pop(sha256, None)
        raise errors.Unauthenticated()
    _callers[sha256] = looked_at, found
    return found


def _caller_with(sha256: str) -> Caller | None:
    with database.reading() as session:
        found = session.execute(VALID_KEY, {"sha256": sha256}).one_or_none()
    return None if found is None else Caller(found.project_id, found.id, found.admin)


async def still_valid(key_id: str) -> bool:
    """Whether the key that opened a stream may keep it open. Looked up every 2 s a key, however many streams."""
    looked_at, valid = _seen.get(key_id, (0.0, True))
    if valid and time.monotonic() - looked_at > RECHECK_SECONDS:
        _seen[key_id] = time.monotonic(), True  # so that only one looks
        valid = await run_in_threadpool(_is_valid, key_id)
        _seen[key_id] = time.monotonic(), valid
    return valid


def _is_valid(key_id: str) -> bool:
    with database.reading() as session:
        return session.scalar(select(Key.id).where(Key.id == key_id, Key.revoked_at.is_(None))) is not None


def admin(found: Annotated[Caller, Depends(caller)]) -> Caller:
    if not found.admin:
        raise errors.InsufficientScope()
    return found


CurrentCaller = Annotated[Caller, Depends(caller)]
AdminCaller = Annotated[Caller, Depends(admin)]
