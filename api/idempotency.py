"""The `Idempotency-Key` of a request that makes a job: the same key and body are the same job, also after a crash."""

import hashlib
from typing import Annotated, Any

import rfc8785
from fastapi import Depends, Header, Request
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import database, errors
from core.database import insert_or_nothing, limit_lock_wait, now
from core.tables import IdempotentRequest, Job

LOCK_NOT_AVAILABLE = "55P03"  # Postgres
WAIT = 5  # seconds for the first request with the same key


async def key_of_request(
    request: Request,
    idempotency_key: Annotated[str | None, Header(description="The same key and body give the same job.")] = None,
) -> str | None:
    if idempotency_key is not None and not (
        len(request.headers.getlist("idempotency-key")) == 1
        and 0 < len(idempotency_key) <= 255
        and idempotency_key.isascii()
        and idempotency_key.isprintable()
    ):
        raise errors.InvalidIdempotencyKey()
    return idempotency_key


IdempotencyKey = Annotated[str | None, Depends(key_of_request)]


def fingerprint(path: str, body: Any) -> str:
    """Of a POST to this path: what tells a request that is repeated from another one."""
    try:
        return hashlib.sha256(f"POST {path} ".encode() + rfc8785.dumps(body)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise errors.InvalidSpec("An integer is too large.") from error


def earlier_job(project_id: str, key: str | None, fingerprint: str) -> str | None:
    """The job that a request with this key has made already."""
    if key is None:
        return None
    with database.reading() as session:
        earlier = session.get(IdempotentRequest, (project_id, key))
    return None if earlier is None else _job_of(earlier, fingerprint)


def claim(session: Session, job: Job, key: str, fingerprint: str) -> str | None:
    """Takes the key for this job, or returns the job that has it."""
    mine = {"fingerprint": fingerprint, "job_id": job.id, "created_at": now(session)}
    limit_lock_wait(session, WAIT)
    try:
        if insert_or_nothing(session, IdempotentRequest, project_id=job.project_id, key=key, **mine):
            return None
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        # the first request with this key is still in its transaction
        raise errors.IdempotencyInProgress(headers={"Retry-After": "1"}) from error
    return _job_of(session.get_one(IdempotentRequest, (job.project_id, key)), fingerprint)


def _job_of(earlier: IdempotentRequest, fingerprint: str) -> str:
    if earlier.fingerprint != fingerprint:
        raise errors.IdempotencyKeyReused()
    return earlier.job_id
