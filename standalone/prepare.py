"""What has to be so before the first process starts: the newest tables, and a key to begin with.

`python -m standalone.prepare FILE` runs in a process of its own, so that `serve` need not load a database for it.
"""

import os
import sys
from pathlib import Path

from sqlalchemy import select

import migrations
from api import keys
from core import database
from core.settings import settings
from core.tables import Key


def first_key(file: Path | None) -> str | None:
    """Makes the admin key of the project `default` where there is no key at all. Returns it the first time only.

    Without a file nobody would see a random key: then one is made only where the operator has set it. The file (mode
    0600) is written before the row is committed, for a key that was never written down could never be used.
    """
    with database.writing() as session:
        project_id = keys.create_project(session, "default")
        drawn = settings.bootstrap_api_key or (keys.draw() if file else None)
        if drawn is None or session.scalar(select(Key.id).limit(1)) is not None:
            session.commit()
            return None
        keys.create_key(session, project_id, "first", admin=True, key=drawn)
        if file is not None:
            file.unlink(missing_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
                opened.write(drawn + "\n")
        session.commit()
        return drawn


if __name__ == "__main__":
    migrations.upgrade()
    print(first_key(Path(sys.argv[1])) or "", end="")
