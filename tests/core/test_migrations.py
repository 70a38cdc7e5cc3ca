"""The database's history: it leads to the tables of the code, on both databases."""

import subprocess
import sys
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, inspect, text

import migrations
from core import database
from core.settings import Settings
from core.tables import Row
from tests.running import clean_environment

MIGRATE = "import sys, migrations; from core import database, tables; print(flush=True); sys.stdin.readline(); "
MIGRATE += "migrations.upgrade()"  # after all have said that they are ready, and were told to start


@pytest.fixture
def engine(database_url: str) -> Engine:
    """Connected to a migrated database."""
    return database.engine()


def test_the_migrations_lead_to_the_tables_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})

        assert compare_metadata(context, Row.metadata) == []


def test_a_column_that_no_migration_makes_would_be_found(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE workers DROP COLUMN pid"))
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), Row.metadata)

    assert [(one[0], one[2], one[3].name) for one in found] == [("add_column", "workers", "pid")]


def test_the_checks_of_the_code_are_in_the_database(engine: Engine) -> None:
    # Autogenerate does not look at CHECKs.
    from sqlalchemy import CheckConstraint

    inspector = inspect(engine)
    for one in Row.metadata.sorted_tables:
        ours = {check.name for check in one.constraints if isinstance(check, CheckConstraint)}
        assert {check["name"] for check in inspector.get_check_constraints(one.name)} == ours


def test_the_history_is_one_line_with_one_head() -> None:
    script = ScriptDirectory.from_config(migrations.config())

    assert len(script.get_heads()) == 1
    assert migrations.head() == script.get_heads()[0]
    assert all(not isinstance(one.down_revision, tuple) for one in script.walk_revisions())


def test_f31_migrators_at_once_make_the_tables_once(empty_database_url: str) -> None:
    environment = clean_environment(BACKPROPD_DATABASE_URL=empty_database_url)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", MIGRATE]

    migrators = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(4)]
    for migrator in migrators:
        assert migrator.stdout is not None
        migrator.stdout.readline()
    for migrator in migrators:
        assert migrator.stdin is not None
        migrator.stdin.write("go\n")
        migrator.stdin.flush()
    said = [migrator.communicate(timeout=60)[1] for migrator in migrators]

    assert [migrator.returncode for migrator in migrators] == [0] * 4, said
    own = database.new_engine(Settings(database_url=empty_database_url).database_url)
    with own.connect() as connection:
        revisions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        tables = set(inspect(connection).get_table_names())
    own.dispose()
    assert revisions == [migrations.head()]
    assert tables == {*Row.metadata.tables, "alembic_version"}


def test_a_migration_that_breaks_off_leaves_the_database_as_it_was(empty_database_url: str) -> None:
    # Between two of its revisions another would find half of the tables, and make the rest beside it.
    own = database.new_engine(Settings(database_url=empty_database_url).database_url)

    def break_off(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "inquiries" in statement:  # of the third revision
            raise RuntimeError("broken off")

    event.listen(own, "before_cursor_execute", break_off)
    configured = migrations.config()
    with own.execution_options(writes=True).connect() as connection:
        configured.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="broken off"):
            command.upgrade(configured, "head")
    event.remove(own, "before_cursor_execute", break_off)

    with own.connect() as connection:
        assert inspect(connection).get_table_names() == []
    own.dispose()
