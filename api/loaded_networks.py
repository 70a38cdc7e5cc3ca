"""The networks that this process has loaded: each once, whoever asks, and the ones that were asked last."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, select
from sqlalchemy.orm import Session

from api.keys import Caller
from core import errors, storage
from core.lifecycle import TERMINAL
from core.settings import settings
from core.storage import blob_key
from core.tables import Artifact, Job, Predictor

if TYPE_CHECKING:
    from api.networks import Network

NEEDED = ("network.onnx", "preprocessing.json", "spec.json")
_ANY = select(Job.id, Job.status, Artifact.name, Artifact.sha256, Artifact.bytes).where(
    Job.project_id == bindparam("project_id")
)
_FILES = and_(Artifact.job_id == Job.id, Artifact.name.in_(NEEDED))
ANSWERING = _ANY.outerjoin(Artifact, _FILES).where(Job.id == bindparam("asked"))
ANSWERING_BY_NAME = (
    _ANY.join(Predictor, Predictor.job_id == Job.id)
    .outerjoin(Artifact, _FILES)
    .where(Predictor.project_id == bindparam("project_id"), Predictor.name == bindparam("asked"))
)


@dataclass(frozen=True)
class Answering:
    """The job that answers, and its files that predictions need: SHA-256 and size of each."""

    job_id: str
    project_id: str
    files: tuple[tuple[str, int], ...]  # in the order of `NEEDED`

    @property
    def key(self) -> tuple[str, ...]:
        return (self.project_id, *(sha256 for sha256, _ in self.files))


def job_that_answers(session: Session, caller: Caller, *, job_id: str | None = None, name: str = "") -> Answering:
    """A job by its id, or the one that a predictor points at: one look, so that it is one job's answer.

    Raises `NotFound`, `JobNotFinished` or `NoNetwork`.
    """
    query, asked = (ANSWERING_BY_NAME, name) if job_id is None else (ANSWERING, job_id)
    rows = session.execute(query, {"project_id": caller.project_id, "asked": asked}).all()
    if not rows:
        raise errors.NotFound()
    found, status = rows[0].id, rows[0].status
    if status not in TERMINAL:
        raise errors.JobNotFinished(job_status=status)
    files = {row.name: (row.sha256, row.bytes) for row in rows}
    if not all(needed in files for needed in NEEDED):
        raise errors.NoNetwork(job_status=status)
    return Answering(found, caller.project_id, tuple(files[needed] for needed in NEEDED))


class LoadedNetworks:
    """Bounded by number and by memory. Two that ask for the same one at once wait for one loading."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[str, ...], tuple[Network, int]] = OrderedDict()
        self._loading: dict[tuple[str, ...], threading.Lock] = {}

    def get(self, answering: Answering) -> "Network":
        """Raises `NetworkTooLarge`; `NotFound` where its job was deleted meanwhile."""
        if (found := self._find(answering.key)) is not None:
            return found
        with self._lock:
            one_at_a_time = self._loading.setdefault(answering.key, threading.Lock())
        with one_at_a_time:
            try:
                return self._find(answering.key) or self._load(answering)
            finally:
                with self._lock:
                    self._loading.pop(answering.key, None)

    def _find(self, key: tuple[str, ...]) -> "Network | None":
        with self._lock:
            if key not in self._loaded:
                return None
            self._loaded.move_to_end(key)
            return self._loaded[key][0]

    def _load(self, answering: Answering) -> "Network":
        from api.networks import COSTS, Files, Network  # numpy and onnxruntime: only a process that predicts has them

        limit = settings.predict_memory_bytes
        if COSTS * sum(size for _, size in answering.files[:2]) > limit:
            raise errors.NetworkTooLarge(limit_bytes=limit)
        files = Files(*(_fetch(answering.project_id, sha256) for sha256, _ in answering.files))
        network = Network(files)
        with self._lock:
            self._loaded[answering.key] = network, files.cost
            while len(self._loaded) > settings.predict_networks or self.bytes > limit:
                self._loaded.popitem(last=False)  # whoever uses it now keeps it for so long
        return network

    @property
    def bytes(self) -> int:
        return sum(cost for _, cost in self._loaded.values())

    def __len__(self) -> int:
        return len(self._loaded)


def _fetch(project_id: str, sha256: str) -> bytes:
    found = storage.storage().read(blob_key(project_id, sha256))
    if storage.of_bytes(found).sha256 != sha256:
        raise errors.Unavailable("A file of this job is damaged in the storage; have it restored, or train it again.")
    return found


loaded_networks = LoadedNetworks()
