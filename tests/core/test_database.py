"""The one place that knows both databases: clock, moments, transactions."""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import ColumnElement, column, select, table, text
from sqlalchemy.exc import IntegrityError

from core import database
from core.database import changed, db_now, insert_or_nothing
from core.ids import new_id
from core.tables import Leadership, Project
from tests.core.factories import at_once

MOMENTS = [
    datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2100, 2, 28, 23, 59, 59, 999000, tzinfo=timezone(timedelta(hours=5, minutes=45))),
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_moment_comes_back_as_the_same_moment_in_utc(database_url: str, moment: datetime) -> None:
    with database.writing() as session:
        session.add(Leadership(name="x", holder="y", lease_until=moment))
        session.commit()

    with database.reading() as session:
        found = session.get_one(Leadership, "x").lease_until

    assert abs(found - moment) < timedelta(microseconds=2)
    assert found.tzinfo is UTC


def test_moments_are_compared_and_moved_by_seconds(database_url: str) -> None:
    with database.writing() as session:
        at = database.now(session)
        session.add(Leadership(name="x", holder="y", lease_until=at))
        session.flush()

        def holds(condition: ColumnElement[bool]) -> bool:
            return session.scalar(select(Leadership.name).where(condition)) == "x"

        assert holds(Leadership.lease_until < db_now() + 5.0)
        assert not holds(Leadership.lease_until < db_now() - 5.0)
        assert holds(Leadership.lease_until > at - timedelta(seconds=1))
        assert not holds(Leadership.lease_until > at + timedelta(seconds=1))


def test_the_databases_clock_is_utc(database_url: str) -> None:
    with database.reading() as session:
        found = database.now(session)

    assert abs(found - datetime.now(UTC)) < timedelta(seconds=2)


def test_the_clock_goes_on_within_a_transaction(database_url: str) -> None:
    with database.writing() as session:
        first = database.now(session)
        threading.Event().wait(0.05)
        second = database.now(session)

    assert second - first >= timedelta(seconds=0.04)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_keeps_what_it_committed_and_refuses_dangling_references(database_url: str) -> None:
    with database.reading() as session:
        found = {
            name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_what_is_not_committed_is_undone(database_url: str) -> None:
    with database.writing() as session:
        session.add(Leadership(name="x", holder="y", lease_until=database.now(session)))
        session.flush()

    with database.reading() as session:
        assert session.get(Leadership, "x") is None


def test_a_row_gives_way_to_one_that_is_there(database_url: str) -> None:
    def insert(holder: str) -> bool:
        with database.writing() as session:
            made = insert_or_nothing(session, Leadership, name="x", holder=holder, lease_until=database.now(session))
            session.commit()
            return made

    assert (insert("first"), insert("second")) == (True, False)

    with database.reading() as session:
        assert session.get_one(Leadership, "x").holder == "first"


def test_of_eight_that_insert_at_once_one_makes_the_row(database_url: str) -> None:
    def insert() -> bool:
        with database.writing() as session:
            made = insert_or_nothing(session, Leadership, name="x", holder="y", lease_until=database.now(session))
            session.commit()
            return made

    assert sorted(at_once([insert] * 8), key=bool) == [False] * 7 + [True]


def test_the_number_of_changed_rows_is_told(database_url: str) -> None:
    leaderships = table("leaderships", column("name"), column("holder"))
    with database.writing() as session:
        for name in ("a", "b"):
            session.add(Leadership(name=name, holder="y", lease_until=database.now(session)))
        session.flush()

        assert changed(session.execute(leaderships.update().values(holder="z"))) == 2
        assert changed(session.execute(leaderships.delete().where(leaderships.c.name == "c"))) == 0


def test_readers_that_turn_writers_at_once_lose_no_update(database_url: str) -> None:
    with database.writing() as session:
        project_id = new_id("prj")
        session.add(Project(id=project_id, name="p", created_at=database.now(session)))
        session.commit()

    def add_one() -> None:
        for _ in range(10):
            with database.writing() as session:
                session.scalar(select(Project.queued))  # after a plain BEGIN this would make it a reader
                session.execute(
                    Project.__table__.update().where(Project.id == project_id).values(queued=Project.queued + 1)  # type: ignore[attr-defined]
                )
                session.commit()

    assert at_once([add_one] * 6) == [None] * 6

    with database.reading() as session:
        assert session.get_one(Project, project_id).queued == 60


def test_a_status_that_is_none_is_refused_by_the_database(database_url: str) -> None:
    insert = "INSERT INTO runs (id, kind, slot, subject_id, project_id, status, priority, memory, attempt, failures, "
    insert += (
        "interruptions, next_seq, queued_at) VALUES ('r', 'training', 'training', 'j', 'p', 'lost', 0,0,0,0,0,1,0)"
    )

    with database.writing() as session, pytest.raises(IntegrityError, match="ck_runs_status"):
        session.execute(text(insert))


def test_f18_a_new_sqlite_file_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    # The busy timeout does not cover the turn to WAL: of processes that met at a new file, some were refused.
    url = f"sqlite:///{tmp_path}/new.sqlite3"
    holder = sqlite3.connect(tmp_path / "new.sqlite3", isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE here (a)")
    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, lambda: holder.execute("COMMIT"))
    release.start()

    own = database.new_engine(url)
    with own.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM here")).scalar_one() == 0
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"

    release.join()
    holder.close()
    own.dispose()
