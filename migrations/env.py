"""How Alembic reaches the database. One migrator at a time: a second waits for the first and finds nothing to do."""

from alembic import context
from sqlalchemy import Connection, text

from core import database
from core.tables import Row

MIGRATION_LOCK = 0x6D696772


def run(connection: Connection) -> None:
    # All of it in one transaction: unless told that DDL can be undone, Alembic commits after each revision on SQLite,
    # and a second migrator, which had looked between two of them, made the rest a second time.
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        compare_type=True,
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with database.engine().execution_options(writes=True).connect() as opened:
        run(opened)
        opened.commit()
