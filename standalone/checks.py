"""What a health check asks each process: `backpropd check api | worker | sweeper`. No answer is a good one.

The worker and the sweeper are asked through the database, where their beat is what everybody else relies on too: a
process that hangs, or that the database cannot hear, is not well, however alive it looks from here.
"""

import http.client
import socket

from sqlalchemy import Select, select
from sqlalchemy.exc import SQLAlchemyError

from core import database
from core.database import db_now
from core.settings import settings
from core.tables import Leadership, Worker

READY_WITHIN = 8.0  # seconds; `/readyz` gives each of its own checks less


def api(host: str, port: int) -> str | None:
    """Why the API on this machine cannot take requests."""
    connection = http.client.HTTPConnection(host, port, timeout=READY_WITHIN)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return None if answer.status == 200 else answer.read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{host}:{port} does not answer ({type(error).__name__})"
    finally:
        connection.close()


def worker() -> str | None:
    """Why the worker of this machine (in a container: of this container) counts as dead."""
    lives = select(Worker.id).where(
        Worker.host == socket.gethostname(), Worker.last_beat > db_now() - settings.lease_seconds
    )
    return _unless_found(lives.limit(1), f"no worker on this machine has beaten for {settings.lease_seconds:g} s")


def sweeper() -> str | None:
    """Why nobody sweeps. Of several sweepers one leads, and it is the only one that has to."""
    leads = select(Leadership.name).where(Leadership.name == "sweeper", Leadership.lease_until > db_now())
    return _unless_found(leads, "no sweeper leads")


def _unless_found(query: Select[str], reason: str) -> str | None:
    try:
        with database.reading() as session:
            return None if session.scalar(query) is not None else reason
    except SQLAlchemyError as error:
        return f"the database does not answer ({type(error).__name__})"
