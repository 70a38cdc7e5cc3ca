"""The relay: what a training says again after a rescue is written once."""

from collections.abc import Iterator
from typing import Any

import pytest

from core import lifecycle
from core.lifecycle import Claim
from tests.core import factories
from tests.core.factories import claimed, do, events_of, expire
from worker.relay import Relay
from worker.trainer.messages import Logged


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


def test_a_rewound_log_hears_its_diagnoses_anew(held: Claim) -> None:
    _write(held, _epoch(1), _epoch(2), _diagnosis(2))

    _write(_rescued(held), _epoch(2, loss=0.6), _diagnosis(2))
    last = _rescued(held)
    _write(last, _epoch(2, loss=0.6), _diagnosis(2))

    rewound = [("rewound", 1), ("epoch", 2), ("diagnosis", 2)]
    assert _log(held) == [("epoch", 1), ("epoch", 2), ("diagnosis", 2), *rewound]
