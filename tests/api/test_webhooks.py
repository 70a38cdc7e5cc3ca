"""The webhook of a job: what may be asked for. That its call is due is tested with the rows."""

from typing import Any

import pytest

from tests.api.asking import pointers, post_job
from tests.api.conftest import SHORT
from tests.conftest import PENGUINS
from tests.running import Serve

URL = "https://example.org/hook?key=1"


def ask(serve: Serve, dataset_id: str, webhook: Any) -> Any:
    return post_job(serve, {"dataset_id": dataset_id, "spec": SHORT, "webhook": webhook})


def test_a_webhook_is_told_of_every_end_unless_some_are_named(serve: Serve, penguins: str) -> None:
    every = ask(serve, penguins, {"url": URL}).json()
    some = ask(serve, penguins, {"url": URL, "events": ["job.failed", "job.failed"]}).json()

    assert every["webhook"] == {"url": URL, "events": ["job.succeeded", "job.failed", "job.cancelled"]}
    assert some["webhook"] == {"url": URL, "events": ["job.failed"]}


def test_a_form_may_bring_a_webhook_and_a_clone_keeps_it(serve: Serve) -> None:
    fields = {"spec": '{"target": "species", "training": {"epochs": 1}}', "webhook": f'{{"url": "{URL}"}}'}
    job = serve.http.post("/v1/jobs", files={"file": ("p.csv", PENGUINS.read_bytes())}, data=fields).json()

    clone = serve.http.post(f"/v1/jobs/{job['id']}/clone").json()

    assert job["webhook"]["url"] == clone["webhook"]["url"] == URL


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org", "example.org", "https://", "https://[::1", "https://u:p@example.org", "https://e.org/#a",
     "https://e.org/a b", "https://exämple.org/", "javascript:alert(1)", "", "https://e.org:99999/",
     "https://" + "a" * 2048],
)  # fmt: skip
def test_an_address_that_cannot_be_called_is_refused(serve: Serve, penguins: str, url: str) -> None:
    assert "/webhook/url" in pointers(ask(serve, penguins, {"url": url}))


@pytest.mark.parametrize("events", [[], ["job.started"], "job.failed", [1]])
def test_events_that_there_are_not_are_refused(serve: Serve, penguins: str, events: Any) -> None:
    found = pointers(ask(serve, penguins, {"url": URL, "events": events}))

    assert any(pointer.startswith("/webhook/events") for pointer in found)
