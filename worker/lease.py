"""The right to a run, kept alive: beaten from a thread of its own, from right after the claim to the very end."""

import threading
from types import TracebackType

from core import database, lifecycle
from core.lifecycle import Claim, Fenced
from core.logs import logger
from core.settings import settings


class Lease:
    """While the database is away the work goes on: the fence decides when it is back."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._over = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{claim.run_id}", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(settings.beat_seconds):
            try:
                with database.writing() as session:
                    lifecycle.renew(session, self._claim)
            except Fenced:
                if not self._over.is_set():
                    self.lost.set()
                return
            except database.AWAY as error:
                logger().warning("beat_failed", error=type(error).__name__, **self._claim.log_context())
