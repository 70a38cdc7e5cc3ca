"""What a bell starts."""

from core.queue import WORK, celery
from worker.slots import slots
from worker.supervisor import supervise


@celery.task(name=WORK)  # type: ignore[untyped-decorator]
def work() -> None:
    """There may be work: takes and supervises runs until there is none. A bell too many finds nothing and ends."""
    while (claim := slots.claim()) is not None:
        try:
            supervise(claim)
        finally:
            slots.give_back(claim)
