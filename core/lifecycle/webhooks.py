"""Calls that are due because a job has ended: a row each, in the transaction that ends it. Sending is not done here."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from core.database import db_now
from core.ids import new_id
from core.tables import Delivery, JobStatus, Run


def owe(session: Session, run: Run, status: JobStatus, webhook: Mapping[str, Any] | None) -> None:
    """`webhook` is that of the job, which has just become `status`."""
    event = f"job.{status}"
    if webhook is None or event not in webhook["events"]:
        return
    session.execute(
        insert(Delivery).values(
            id=new_id("msg"),
            project_id=run.project_id,
            job_id=run.subject_id,
            event=event,
            url=webhook["url"],
            status="due",
            tries=0,
            due_at=db_now(),
            created_at=db_now(),
        )
    )
