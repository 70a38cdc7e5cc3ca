"""The database's history: `alembic upgrade head`, or `backpropd migrate`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def config() -> Config:
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent))
    return found


def head() -> str | None:
    """The newest revision that this code knows."""
    return ScriptDirectory.from_config(config()).get_current_head()


def upgrade() -> None:
    command.upgrade(config(), "head")
