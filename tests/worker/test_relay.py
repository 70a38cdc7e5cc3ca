"""The relay: what a training says again after a rescue is written once."""

from collections.abc import Iterator
from typing import Any

import pytest

from core import lifecycle
from core.lifecycle import Claim
from tests.core import factories
from tests.core.factories import claimed, do, events_of, expire
from worker.relay import Relay
from worker.trainer.messages import Logged, Phase


@pytest.fixture
def held(database_url: str) -> Iterator[Claim]:
    """A claim on a job, on each database in turn."""
    yield factories.running(factories.make_project())
    factories.check_rows()


def _epoch(number: int, loss: float = 0.5) -> Logged:
    return Logged("epoch", {"epoch": number, "step": number, "train_loss": loss, "seconds": 1.0 * number})


def _diagnosis(epoch: int, code: str = "plateau") -> Logged:
    return Logged("diagnosis", {"epoch": epoch, "code": code, "message": "m", "evidence": {}, "patch": []})


def _write(held: Claim, *said: Logged) -> None:
    relay = Relay(held, 10)
    for message in said:
        relay.log(message)
    relay.write_out()


def _rescued(held: Claim) -> Claim:
    expire(held)
    do(lifecycle.rescue_dead)
    return claimed()


def _log(held: Claim) -> list[tuple[str, Any]]:
    return [
        (event.type, event.data.get("epoch", event.data.get("to_epoch")))
        for event in events_of(held.run_id)
        if event.type in ("epoch", "diagnosis", "rewound")
    ]


def test_a_diagnosis_is_written_after_its_epoch(held: Claim) -> None:
    _write(held, _epoch(1), _epoch(2), _diagnosis(2), _epoch(3))

    assert _log(held) == [("epoch", 1), ("epoch", 2), ("diagnosis", 2), ("epoch", 3)]


def test_a_diagnosis_that_comes_again_after_a_rescue_is_not_repeated(held: Claim) -> None:
    _write(held, _epoch(1), _epoch(2), _diagnosis(2), _epoch(3))

    _write(_rescued(held), _epoch(2), _diagnosis(2), _epoch(3), _epoch(4), _diagnosis(4, "overfitting"))

    assert _log(held) == [("epoch", 1), ("epoch", 2), ("diagnosis", 2), ("epoch", 3), ("epoch", 4), ("diagnosis", 4)]


def test_a_warning_that_comes_again_after_a_rescue_is_not_repeated(held: Claim) -> None:
    seen, other = (Logged("warning", {"code": "unseen", "message": "m", "column": name}) for name in ("a", "b"))
    _write(held, seen, _epoch(1))

    _write(_rescued(held), seen, other, _epoch(2))

    warned = [event.data["column"] for event in events_of(held.run_id) if event.type == "warning"]
    assert warned == ["a", "b"]


def test_a_diagnosis_that_was_lost_behind_its_epoch_is_written_after_the_rescue(held: Claim) -> None:
    _write(held, _epoch(1), _epoch(2))

    _write(_rescued(held), _epoch(2), _diagnosis(2), _epoch(3))

    assert _log(held) == [("epoch", 1), ("epoch", 2), ("diagnosis", 2), ("epoch", 3)]


def test_a_fold_that_is_rescued_repeats_nothing_and_knows_its_own_epochs(database_url: str) -> None:
    job_id = factories.make_job(factories.make_project(), folds=2)
    first, second = claimed(), claimed()
    _write(first, _epoch(1), _epoch(2))
    _write(second, _epoch(1, loss=0.9))
    expire(first)
    do(lifecycle.rescue_dead)

    _write(claimed(), _epoch(2), _epoch(3))

    told = [
        (event.type, event.data["fold"], event.data["epoch"])
        for event in events_of(factories.run_row(job_id).id)
        if event.type in ("epoch", "rewound")
    ]
    assert told == [("epoch", 1, 1), ("epoch", 1, 2), ("epoch", 2, 1), ("epoch", 1, 3)]
    assert factories.job_row(job_id).progress["epoch"] == 4
    factories.check_rows()


def test_progress_of_the_last_network_goes_on_from_that_of_the_folds(held: Claim) -> None:
    relay = Relay(held, 4, before=(30, 90))

    relay.log(_epoch(1))
    relay.write_out()

    shown = factories.job_row(held.subject_id).progress
    assert shown == {"epoch": 31, "epochs": 34, "step": 91, "fraction": 0.911765, "eta_seconds": 3.0}


def test_a_rewound_log_hears_its_diagnoses_anew(held: Claim) -> None:
    _write(held, _epoch(1), _epoch(2), _diagnosis(2))

    _write(_rescued(held), _epoch(2, loss=0.6), _diagnosis(2))
    last = _rescued(held)
    _write(last, _epoch(2, loss=0.6), _diagnosis(2))

    rewound = [("rewound", 1), ("epoch", 2), ("diagnosis", 2)]
    assert _log(held) == [("epoch", 1), ("epoch", 2), ("diagnosis", 2), *rewound]


HERE = {"torch": "2.13.0", "threads": 1, "cpu": "AVX2", "device": "cpu", "code": "1"}


def _warnings(held: Claim) -> list[dict[str, Any]]:
    return [event.data for event in events_of(held.run_id) if event.type == "warning"]


def _say_fingerprint(held: Claim, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    relay = Relay(held, 10, fingerprint=before)
    relay.phase(Phase("loading_data", fingerprint=now))
    relay.log(_epoch(1))
    relay.write_out()


def test_an_attempt_on_another_kind_of_machine_says_what_is_different(held: Claim) -> None:
    again = _rescued(held)

    _say_fingerprint(again, HERE, HERE | {"cpu": "AVX512", "threads": 2})

    (warned,) = _warnings(again)
    assert warned["code"] == "fingerprint_changed"
    assert warned["evidence"] == {"cpu": ["AVX2", "AVX512"], "threads": [1, 2]}
    assert "cpu AVX512 instead of AVX2" in warned["message"]


def test_an_attempt_on_the_same_kind_of_machine_says_nothing(held: Claim) -> None:
    _say_fingerprint(held, None, HERE)
    again = _rescued(held)

    _say_fingerprint(again, HERE, HERE)

    assert _warnings(again) == []
