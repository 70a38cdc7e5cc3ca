"""A call is due once, from the transaction that ends the job on, on both databases."""

from functools import partial

import pytest
from sqlalchemy import select

from core import database, errors, lifecycle
from core.lifecycle import Fenced
from core.tables import Delivery
from tests.core.factories import at_once, cancel, claimed, do, make_job, succeed

URL = "https://example.org/hook?key=1"
ALL = {"url": URL, "events": ["job.succeeded", "job.failed", "job.cancelled"]}


def owed() -> list[tuple[str, str, str, int]]:
    with database.reading() as session:
        found = session.scalars(select(Delivery).order_by(Delivery.id)).all()
    assert all(one.id.startswith("msg_") for one in found)
    return [(one.event, one.url, one.status, one.tries) for one in found]


def test_a_job_that_succeeds_owes_one_call(project: str) -> None:
    make_job(project, webhook=ALL)
    held = claimed()
    assert owed() == []

    succeed(held)

    assert owed() == [("job.succeeded", URL, "due", 0)]


def test_a_job_that_fails_owes_one_call(project: str) -> None:
    make_job(project, webhook=ALL)

    do(lifecycle.fail, claimed(), errors.Diverged())

    assert owed() == [("job.failed", URL, "due", 0)]


def test_a_job_that_is_cancelled_owes_one_call(project: str) -> None:
    cancel(project, make_job(project, webhook=ALL))

    assert owed() == [("job.cancelled", URL, "due", 0)]


@pytest.mark.parametrize("webhook", [None, {"url": URL, "events": ["job.failed"]}])
def test_an_end_that_nobody_wants_to_hear_of_owes_nothing(project: str, webhook: dict[str, object] | None) -> None:
    make_job(project, webhook=webhook)

    succeed(claimed())

    assert owed() == []


def test_a_zombie_owes_nothing(project: str) -> None:
    make_job(project, webhook=ALL)
    held = claimed()
    succeed(held)

    with pytest.raises(Fenced):
        do(lifecycle.fail, held, errors.Diverged())

    assert owed() == [("job.succeeded", URL, "due", 0)]


def test_ends_that_race_owe_one_call(project: str) -> None:
    for number in range(1, 11):
        job_id = make_job(project, webhook=ALL)
        held = claimed()

        at_once([partial(succeed, held), partial(cancel, project, job_id)])

        assert len(owed()) == number


def test_a_job_that_is_deleted_is_not_told_of(project: str) -> None:
    job_id = make_job(project, webhook=ALL)
    succeed(claimed())

    do(lifecycle.delete_job, project, job_id)

    assert owed() == []
