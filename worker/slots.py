"""What this worker has to give: training slots, one short slot, memory. And the loop that fills them."""

import os
import threading
from pathlib import Path

from core import database, lifecycle, queue
from core.ids import new_id
from core.lifecycle import SLOT_OF, Capacity, Claim
from core.logs import logger
from core.settings import settings


def _memory_of_this_machine() -> int:
    """80 % of the machine's, or of the container's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return int(total * 0.8)


class Slots:
    """Counts what is free in this process. The claim itself is decided in SQL."""

    def __init__(self) -> None:
        self.worker_id = settings.worker_id or new_id("wrk")
        self.training_slots = settings.training_slots or os.cpu_count() or 1
        self.memory = settings.worker_memory_bytes or _memory_of_this_machine()
        self.draining = threading.Event()
        self._held: dict[str, Claim] = {}
        self._lock = threading.Lock()

    def free(self) -> int:
        return 0 if self.draining.is_set() else self.training_slots + 1 - len(self._held)

    def claim(self) -> Claim | None:
        """The next run for this worker, or nothing. One claim at a time: two would count the same slot as free."""
        with self._lock:
            if self.draining.is_set():
                return None
            held = self._held.values()
            capacity = Capacity(
                training_slots=self.training_slots - sum(SLOT_OF[claim.kind] == "training" for claim in held),
                short_slots=1 - sum(SLOT_OF[claim.kind] == "short" for claim in held),
                free_memory=self.memory - sum(claim.memory for claim in held),
                total_memory=self.memory,
            )
            if capacity.training_slots <= 0 and capacity.short_slots <= 0:
                return None
            try:
                with database.writing() as session:
                    claim = lifecycle.claim_next(session, self.worker_id, capacity)
            except database.AWAY as error:
                logger().warning("claim_failed", error=type(error).__name__)
                return None
            if claim is not None:
                self._held[claim.run_id] = claim
            return claim

    def give_back(self, claim: Claim) -> None:
        with self._lock:
            del self._held[claim.run_id]
        try:
            with database.reading() as session:
                waiting = lifecycle.claimable(session)
        except database.AWAY:
            return
        if waiting:
            queue.ring()  # what came back may fit another worker


slots = Slots()
