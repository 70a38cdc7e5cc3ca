"""Questions that a worker answers, as their routes look for them: in the project that asked, and of one kind."""

from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from api.keys import Caller
from api.waiting import waker
from core import database, errors
from core.tables import Inquiry, InquiryKind

ANSWER_WAIT = 10.0  # seconds, unless `?wait=` says otherwise


async def answered(caller: Caller, inquiry_id: str, kind: InquiryKind, seconds: float) -> Inquiry:
    """The row once it has its answer, or as it is after so many seconds."""
    return await waker.until(
        inquiry_id,
        seconds,
        lambda: run_in_threadpool(inquiry_or_404, caller, inquiry_id, kind),
        lambda row: row.finished_at is not None,
    )


def inquiry_or_404(caller: Caller, inquiry_id: str, kind: InquiryKind) -> Inquiry:
    mine = (Inquiry.id == inquiry_id, Inquiry.project_id == caller.project_id, Inquiry.kind == kind)
    with database.reading() as session:
        found = session.scalar(select(Inquiry).where(*mine))
    if found is None:
        raise errors.NotFound()
    return found
