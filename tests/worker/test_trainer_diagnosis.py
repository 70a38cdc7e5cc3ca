"""Diagnoses: planted faults are named, healthy trainings are left alone, and the patch helps.

`valid_loss` is compared as it is kept: the best of all epochs, that of the weights a user downloads; infinite where no
epoch was worth keeping.
"""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonpatch import JsonPatch

from core.errors import Diverged
from tests.worker.factories import Listener, Read, order_for, read
from tests.worker.pathologies import HEALTHY, HELD_OUT_HEALTHY, HELD_OUT_PLANTED, IRIS, PLANTED, Case, adam
from worker.trainer.diagnosis import CODES
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, Logged, Trained, encode


@dataclass
class Outcome:
    """What a training has said and found."""

    spec: dict[str, Any]  # resolved
    log: list[Logged]
    ended: Any
    folder: Path

    @property
    def diagnoses(self) -> list[dict[str, Any]]:
        return [one.data for one in self.log if one.type == "diagnosis"]

    @property
    def valid_loss(self) -> float:
        losses = [one.data.get("valid_loss") for one in self.log if one.type == "epoch"]
        return min((loss for loss in losses if loss is not None), default=math.inf)

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / ARTIFACTS / "report.json").read_text())
        return found


def _trained(
    folder: Path, table: Read, spec: dict[str, Any], listener: Listener | None = None, **order: Any
) -> Outcome:
    listener = listener or Listener()
    given = order_for(folder, table, spec, **order)
    try:
        train(given, listener)
    except Diverged:
        assert listener.epochs[-1]["nonfinite"]
    log = [one for one in listener.said if isinstance(one, Logged)]
    return Outcome(given.spec.model_dump(mode="json"), log, listener.last, folder)


def _case(folder: Path, case: Case) -> tuple[Read, Outcome]:
    table = read(folder / "data", case.text())
    return table, _trained(folder / "job", table, case.spec())


def _mended(folder: Path, table: Read, sick: Outcome) -> Outcome:
    """The training of the resolved spec with the patch of its first diagnosis."""
    return _trained(folder / "mended", table, JsonPatch(sick.diagnoses[0]["patch"]).apply(sick.spec))


def _named(cases: list[Case]) -> dict[str, Case]:
    return {case.name: case for case in cases}


# --- the acceptance ---------------------------------------------------------------------------------------------------

ONE_OF_EACH = list({case.code: case for case in PLANTED}.values())
FIVE = HEALTHY[::6]


def test_each_code_is_planted() -> None:
    assert {case.code for case in ONE_OF_EACH} == set(CODES)
    assert len(PLANTED) == len(HELD_OUT_PLANTED) == 10
    assert len(HEALTHY) == len(HELD_OUT_HEALTHY) == 30


@pytest.mark.long
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_a_planted_fault_is_named_and_its_patch_lowers_valid_loss(tmp_path: Path, case: Case) -> None:
    table, sick = _case(tmp_path, case)

    mended = _mended(tmp_path, table, sick)

    assert sick.diagnoses[0]["code"] == case.code
    assert mended.valid_loss < sick.valid_loss


@pytest.mark.parametrize("case", FIVE, ids=lambda case: case.name)
def test_a_healthy_training_hears_of_no_fault(tmp_path: Path, case: Case) -> None:
    _, healthy = _case(tmp_path, case)

    assert healthy.diagnoses == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("cases", [PLANTED, HELD_OUT_PLANTED], ids=["seen", "held out"])
def test_nine_of_ten_faults_are_named_and_seven_of_ten_patches_help(tmp_path: Path, cases: list[Case]) -> None:
    named, lowered = [], []
    for place, case in enumerate(cases):
        table, sick = _case(tmp_path / str(place), case)
        if sick.diagnoses:
            named += [case.name] * (sick.diagnoses[0]["code"] == case.code)
            lowered += [case.name] * (_mended(tmp_path / str(place), table, sick).valid_loss < sick.valid_loss)

    assert len(named) >= 9, _named(cases).keys() - named
    assert len(lowered) >= 7, _named(cases).keys() - lowered


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("cases", [HEALTHY, HELD_OUT_HEALTHY], ids=["seen", "held out"])
def test_thirty_healthy_trainings_hear_of_two_faults_at_most(tmp_path: Path, cases: list[Case]) -> None:
    heard = []
    for place, case in enumerate(cases):
        _, healthy = _case(tmp_path / str(place), case)
        heard += [(case.name, one["message"]) for one in healthy.diagnoses]

    assert len(heard) <= 2, heard


# --- how it is said ---------------------------------------------------------------------------------------------------

PLANTED_BY_CODE = {str(case.code): case for case in reversed(PLANTED)}
FAST = {"target": "y", "network": {"hidden": [16]}, "training": {"optimizer": adam(1.0), "epochs": 12}}


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("iris"), Case("iris", IRIS, {}, {}).text())


def test_a_diagnosis_comes_right_after_the_event_of_its_epoch(tmp_path: Path, iris: Read) -> None:
    sick = _trained(tmp_path / "job", iris, FAST)

    place = next(place for place, one in enumerate(sick.log) if one.type == "diagnosis")
    said = sick.log[place].data
    assert sick.log[place - 1].type == "epoch"
    assert sick.log[place - 1].data["epoch"] == said["epoch"]
    assert set(said) == {"epoch", "code", "message", "evidence", "patch"}


def test_it_is_said_once_and_stands_in_the_report(tmp_path: Path, iris: Read) -> None:
    sick = _trained(tmp_path / "job", iris, FAST)

    assert [one["code"] for one in sick.diagnoses] == ["learning_rate_too_high"]
    assert sick.report["diagnoses"] == sick.diagnoses


def test_the_report_of_a_healthy_training_has_none(tmp_path: Path, iris: Read) -> None:
    healthy = _trained(tmp_path / "job", iris, {"target": "y", "training": {"epochs": 5}})

    assert healthy.report["diagnoses"] == []


def test_a_training_that_diverges_says_why_before_it_fails(tmp_path: Path) -> None:
    _, sick = _case(tmp_path, PLANTED_BY_CODE["exploding_gradient"])

    assert [one.type for one in sick.log] == ["epoch", "diagnosis"]
    assert sick.log[0].data["train_loss"] is None
    assert encode(sick.log[1])


@pytest.mark.parametrize(("epochs", "rate"), [(1, 1e-6), (2, 1e-6), (1, 1e-3), (2, 1e-3), (5, 1e-3), (8, 1e-3)])
def test_a_training_that_is_only_short_hears_nothing(tmp_path: Path, iris: Read, epochs: int, rate: float) -> None:
    spec = {"target": "y", "training": {"optimizer": adam(rate), "epochs": epochs}}

    assert _trained(tmp_path / "job", iris, spec).diagnoses == []


def test_without_validation_rows_the_rate_is_judged_by_train_loss(tmp_path: Path, iris: Read) -> None:
    spec = {"target": "y", "split": {"validation": 0}, "training": {"optimizer": adam(1e-6), "epochs": 20}}

    sick = _trained(tmp_path / "job", iris, spec)

    assert [one["code"] for one in sick.diagnoses] == ["learning_rate_too_low"]


def test_a_rate_that_rises_in_a_warm_up_is_not_too_low(tmp_path: Path, iris: Read) -> None:
    schedule = {"name": "constant", "warmup_epochs": 40}
    spec = {"target": "y", "training": {"optimizer": adam(1e-3), "schedule": schedule, "epochs": 60}}

    assert _trained(tmp_path / "job", iris, spec).diagnoses == []


def test_a_schedule_that_ends_before_its_time_is_a_rate_too_low(tmp_path: Path, iris: Read) -> None:
    schedule = {"name": "step", "step_size": 1}
    spec = {"target": "y", "training": {"optimizer": adam(1e-3), "schedule": schedule, "epochs": 40}}

    sick = _trained(tmp_path / "job", iris, spec)

    assert [one["code"] for one in sick.diagnoses] == ["learning_rate_too_low"]
    assert sick.diagnoses[0]["patch"][0]["path"] == "/training/schedule"
    assert _mended(tmp_path, iris, sick).valid_loss < sick.valid_loss


def test_a_loss_that_stands_where_it_began_is_a_plateau(tmp_path: Path, iris: Read) -> None:
    spec = {"target": "y", "training": {"optimizer": adam(1e-3, weight_decay=1.0), "epochs": 60}}

    sick = _trained(tmp_path / "job", iris, spec)

    assert sick.diagnoses[0]["code"] == "plateau"
    assert {"op": "add", "path": "/training/optimizer/weight_decay", "value": 0.0} in sick.diagnoses[0]["patch"]
    assert _mended(tmp_path, iris, sick).valid_loss < sick.valid_loss


def test_a_refit_says_nothing_again(tmp_path: Path, iris: Read) -> None:
    training = {"optimizer": adam(1.0), "epochs": 12, "refit": True}

    sick = _trained(tmp_path / "job", iris, {**FAST, "training": training})

    assert sick.report["refitted"] is True
    assert [one["code"] for one in sick.diagnoses] == ["learning_rate_too_high"]
    assert sick.report["diagnoses"] == sick.diagnoses


# --- after a rescue ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["learning_rate_too_high", "learning_rate_too_low", "overfitting"])
@pytest.mark.parametrize("after", [-1, 0, 1])
def test_interrupted_around_a_diagnosis_it_is_neither_lost_nor_repeated(tmp_path: Path, code: str, after: int) -> None:
    case = PLANTED_BY_CODE[code]
    table, whole = _case(tmp_path, case)
    first = whole.diagnoses[0]["epoch"]

    until = _trained(tmp_path / "until", table, case.spec(), Listener("drain", after_epochs=first + after))
    written = tmp_path / "until" / next(tmp_path.joinpath("until").glob("checkpoint-*")).name
    since = _trained(tmp_path / "since", table, case.spec(), checkpoint=str(written))

    assert until.diagnoses + since.diagnoses == whole.diagnoses
    assert isinstance(since.ended, Trained)
    assert since.report["diagnoses"] == whole.diagnoses


def test_diagnoses_need_no_torch() -> None:
    look = "import sys, worker.trainer.diagnosis; print('torch' in sys.modules)"

    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "False"
