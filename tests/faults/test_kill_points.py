"""A job whose processes die at each fault point in turn ends as if nothing had happened (F1-F5, F8, F9, F15).

The loop: a training of three epochs is killed at point p on its n-th pass, n up to 6, and whoever comes next goes on.
"""

import random
from collections.abc import Callable

import pytest

from core import faults
from tests.faults.invariants import Result, check_ended, check_folders, check_storage
from tests.faults.scene import Scene, spec_of

EPOCHS, DEEP_EPOCHS = 3, 40
MOST_PASSES, DEEPEST = 6, 60

# Passed by a job that is submitted, claimed, trained with a checkpoint after each epoch, and ended.
OF_A_TRAINING = [
    *(f"{name}.{when}_commit" for name in ("claim", "renew", "record") for when in ("before", "after")),
    *(
        f"{name}.{when}_commit"
        for name in ("touch_blobs", "save_checkpoint", "succeed")
        for when in ("before", "after")
    ),
    "storage.before_put",
    "storage.before_sync",
    "storage.after_put",
    "wake.before_send",
    *(name for name, (process, _) in faults.OTHERS.items() if process in ("worker", "training")),
]
OF_A_TRAINING.remove("pipe.before_tell")
OF_A_SUBMISSION = ["submit.before_commit", "submit.after_commit", "ring.before_send"]
OF_A_SWEEP = ["rescue.before_commit", "rescue.after_commit"]

Undisturbed = Callable[[int], Result]


def _killed(scene: Scene, undisturbed: Result, epochs: int, point: str, number: int, action: str = "kill") -> bool:
    """One case, with everything checked; whether the fault was met."""
    job_id = scene.submit(spec_of(epochs))
    first, workers = scene.finish(job_id, f"{point}:{number}:{action}")
    scene.everybody_is_gone()
    check_ended(job_id, scene.storage, undisturbed)
    return first != 0 or workers > 1


def _clean(scene: Scene) -> None:
    check_storage(scene.storage)
    check_folders(scene.work_dir)


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
def test_f1_to_f5_a_sample_of_kills_loses_nothing(scene: Scene, undisturbed: Undisturbed) -> None:
    expected, drawn = undisturbed(EPOCHS), random.Random(1)
    cases = [(point, drawn.randint(1, 3)) for point in drawn.sample(OF_A_TRAINING, 9)]

    met = [_killed(scene, expected, EPOCHS, point, number) for point, number in [*cases, ("succeed.before_commit", 1)]]

    assert sum(met) >= 5, "hardly anything was killed"
    _clean(scene)


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("point", OF_A_SUBMISSION)
def test_f8_f9_an_api_that_dies_around_the_commit_leaves_one_job_for_one_key(
    scene: Scene, undisturbed: Undisturbed, point: str
) -> None:
    job_id = scene.submit(spec_of(EPOCHS), fault=f"{point}:1:kill")

    scene.finish(job_id)

    check_ended(job_id, scene.storage, undisturbed(EPOCHS))


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("point", OF_A_SWEEP)
def test_a_sweeper_that_dies_while_it_rescues_rescues_once(scene: Scene, undisturbed: Undisturbed, point: str) -> None:
    job_id = scene.submit(spec_of(EPOCHS))

    first, _ = scene.finish(job_id, "record.before_commit:2:kill", sweeper_fault=f"{point}:1:kill")

    assert first == -9
    check_ended(job_id, scene.storage, undisturbed(EPOCHS))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ["kill", "raise"])
@pytest.mark.parametrize("point", OF_A_TRAINING)
def test_f1_to_f5_a_job_ends_as_if_nothing_had_happened(
    scene: Scene, undisturbed: Undisturbed, point: str, action: str
) -> None:
    expected = undisturbed(EPOCHS)

    for number in range(1, MOST_PASSES + 1):
        if not _killed(scene, expected, EPOCHS, point, number, action):
            break

    _clean(scene)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seed", range(20))
def test_f1_to_f5_ten_deep_kills_lose_nothing(scene: Scene, undisturbed: Undisturbed, seed: int) -> None:
    expected, drawn = undisturbed(DEEP_EPOCHS), random.Random(seed)

    for _ in range(10):
        point, number = drawn.choice(OF_A_TRAINING), drawn.randint(MOST_PASSES + 1, DEEPEST)
        _killed(scene, expected, DEEP_EPOCHS, point, number)

    _clean(scene)
