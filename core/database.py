"""The one place that knows which database this is: engine, transactions, clock, and the lock around claims.

Postgres in production, SQLite (WAL) under `backpropd serve`; the rest of the code is the same on both.

SQLite: a transaction that will write must begin with BEGIN IMMEDIATE. One that begins as a reader and turns writer
fails with "database is locked" however long the busy timeout is (measured: 52-69 % of them under load).
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, Result, create_engine, event, literal, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import Double, Float, TypeDecorator, TypeEngine

from core import faults
from core.settings import settings

# What a database raises that is not there, or not free: the same call may succeed later.
AWAY = (DBAPIError, PoolTimeout)

CLAIM_LOCK = 0x6261636B  # any constant will do, as long as nothing else in this database uses it

# As many connections as there are threads that may ask for one (anyio's pool has 40): otherwise requests queue twice.
POOL_SIZE = 48

BUSY_TIMEOUT = 30  # seconds that a statement on SQLite waits for another's transaction


class Instant(TypeDecorator[datetime]):
    """A moment, kept as seconds since 1970 so that both databases compare and add alike; a UTC datetime in Python."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> float | None:
        return value.timestamp() if isinstance(value, datetime) else value

    def process_result_value(self, value: float | None, dialect: Any) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return Float() if isinstance(value, int | float) else self


class db_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock at this statement. `now()` would be the start of the transaction: leases came out short."""

    type = Instant()
    inherit_cache = True


@compiles(db_now, "postgresql")
def _postgres_clock(element: Any, compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(db_now, "sqlite")
def _sqlite_clock(element: Any, compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def new_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_size=POOL_SIZE, max_overflow=0, connect_args={"timeout": BUSY_TIMEOUT})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        parsed,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            "options": "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    )


def _prepare_sqlite(connection: DBAPIConnection, _: object) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # BEGIN is ours to write, below
    _turn_to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses committed rows at a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _turn_to_wal(connection: sqlite3.Connection) -> None:
    """Waits for others as long as any statement would: of a new file two turn at once, and SQLite, whose busy timeout
    does not cover this one change, told all but the first "database is locked".
    """
    give_up_at = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@cache
def engine() -> Engine:
    return new_engine(settings.database_url)


@cache
def _writer() -> Engine:
    return engine().execution_options(writes=True)


@cache
def _reader() -> Engine:
    """On Postgres each SELECT sees what is committed, in a transaction or not: without one, BEGIN and ROLLBACK are
    saved, half of what a look costs. SQLite has no round trips, and keeps one snapshot a session.
    """
    if engine().dialect.name == "postgresql":
        return engine().execution_options(isolation_level="AUTOCOMMIT")
    return engine()


@contextmanager
def reading() -> Iterator[Session]:
    """A session for looking; what it finds stays usable after it is closed."""
    with Session(_reader(), expire_on_commit=False) as session:
        yield session


@contextmanager
def writing() -> Iterator[Session]:
    """A session that may write. `commit` where it is to be seen: leaving without that undoes everything."""
    with Session(_writer(), expire_on_commit=False) as session:
        yield session


def commit(session: Session, name: str) -> None:
    """Commits, with a fault point on either side (`core.faults.COMMITS`). A fault that raises does what a database does
    that went away: before it nothing has happened, and after it the answer is lost and nobody can know.
    """
    try:
        faults.point(f"{name}.before_commit")
        session.commit()
        faults.point(f"{name}.after_commit")
    except OSError as error:
        raise OperationalError("COMMIT", None, error) from error


def now(session: Session) -> datetime:
    """The database's clock, for a row that is about to be inserted."""
    return session.execute(select(db_now())).scalar_one()


def serialise_claims(session: Session) -> None:
    """Lets one claim at a time through until this transaction ends.

    With SKIP LOCKED alone two workers pick beside each other and fair order is lost (12 of 24 claims, measured).
    SQLite's BEGIN IMMEDIATE already does it.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CLAIM_LOCK})


def limit_lock_wait(session: Session, seconds: int) -> None:
    """From here on this transaction waits so long for another's row, and then raises `OperationalError`.

    SQLite has one writer at a time, and no transaction of ours lasts long enough to matter.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SET LOCAL lock_timeout = '{seconds}s'"))


def insert_or_nothing(session: Session, table: Any, **values: Any) -> bool:
    """INSERT that gives way to a row that is already there. True when this call made the row."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).values(**values).on_conflict_do_nothing()
    # Not by the number of rows: psycopg's is -1 here, and a new row looked like an old one.
    return session.execute(insert.returning(literal(1))).one_or_none() is not None


def changed(result: Result[Any]) -> int:
    """How many rows an UPDATE, INSERT or DELETE changed."""
    assert isinstance(result, CursorResult)
    return int(result.rowcount)
