"""Whether this process lives, whether it can work, and what it is."""

import asyncio
from collections.abc import Callable
from functools import cache
from importlib.metadata import version as distribution_version

import redis
from alembic.runtime.migration import MigrationContext
from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import select

import migrations
from core import database, storage
from core.settings import settings

router = APIRouter(tags=["operations"])

CHECK_SECONDS = 5.0


class Alive(BaseModel):
    status: str = "ok"


class Ready(BaseModel):
    status: str
    checks: dict[str, str]


class Version(BaseModel):
    version: str
    api: str = "v1"
    spec_versions: list[int] = [1]


@router.get("/healthz")
async def healthz() -> Alive:
    """This process answers. Says nothing of what it depends on."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Ready, "description": "Something is missing."}})
async def readyz(response: Response) -> Ready:
    """Database, migrations, storage and broker. A missing broker is named, and no reason not to send requests here."""
    checks: dict[str, Callable[[], str]] = {
        "database": _database,
        "migrations": _migrations,
        "storage": _storage,
        "broker": _broker,
    }
    found = dict(zip(checks, await asyncio.gather(*map(_outcome, checks.values())), strict=True))
    ready = all(outcome == "ok" for name, outcome in found.items() if name != "broker")
    response.status_code = 200 if ready else 503
    return Ready(status="ready" if ready else "not_ready", checks=found)


async def _outcome(check: Callable[[], str]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await asyncio.to_thread(check)
    except Exception as error:  # noqa: BLE001 - whatever it is: the check failed, and its kind is all that is said
        return f"failed: {type(error).__name__}"


def _database() -> str:
    with database.reading() as session:
        session.execute(select(1))
    return "ok"


def _migrations() -> str:
    with database.engine().connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return "ok" if current == _head() else "failed: run `backpropd migrate`"


@cache
def _head() -> str | None:
    return migrations.head()


def _storage() -> str:
    storage.storage().check()
    return "ok"


def _broker() -> str:
    with redis.Redis.from_url(settings.broker_url, socket_timeout=2, socket_connect_timeout=2) as client:
        client.ping()
    return "ok"


@router.get("/version")
async def version() -> Version:
    """What is running here."""
    return Version(version=distribution_version("backpropd"))
