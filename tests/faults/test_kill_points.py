"""A job whose processes die at each fault point in turn ends as if nothing had happened (F1-F5, F8, F9, F15).

The loop: a training of three epochs is killed at point p on its n-th pass, n up to 6, and whoever comes next goes on.
"""

import random
from collections.abc import Callable

import pytest

from core import faults
from core.storage import measure
from tests.conftest import PENGUINS
from tests.core.factories import attempts_of, cancel, check_rows, dataset_row, job_row, pause, resume, run_row
from tests.faults.invariants import Result, check_ended, check_folders, check_storage, result_of
from tests.faults.scene import Scene, spec_of
from tests.running import wait_until

EPOCHS, DEEP_EPOCHS = 3, 12
MOST_PASSES, DEEPEST = 6, 30
DIVERGES = {
    "target": "body_mass_g",
    "target_scale": "none",
    "network": {"hidden": [8]},
    "training": {"epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 10.0}, "loss": "mse"},
}

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
    cases = [(point, drawn.randint(1, 3)) for point in drawn.sample(OF_A_TRAINING, 7)]

    met = [_killed(scene, expected, EPOCHS, point, number) for point, number in [*cases, ("succeed.before_commit", 1)]]

    assert sum(met) >= 4, "hardly anything was killed"
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


# --- the other ways of a job ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("when", "outcome"), [("before", "lost"), pytest.param("after", "crashed", marks=pytest.mark.long)]
)
def test_f1_a_worker_that_dies_while_it_says_that_its_training_process_died(
    scene: Scene, undisturbed: Undisturbed, when: str, outcome: str
) -> None:
    expected = undisturbed(DEEP_EPOCHS)
    job_id = scene.submit(spec_of(DEEP_EPOCHS))

    worker = scene.host.start("work", f"crash.{when}_commit:1:kill")
    (training,) = wait_until(scene.host.training_processes, what="a training process")
    training.kill()
    assert scene.host.wait(worker) == -9
    scene.host.run("sweep")
    scene.finish(job_id)

    check_ended(job_id, scene.storage, expected)
    assert [one.outcome for one in attempts_of(run_row(job_id).id)] == [outcome, "succeeded"]


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "point",
    [
        "release.before_commit",
        pytest.param("release.after_commit", marks=pytest.mark.long),
        pytest.param("pipe.before_tell", marks=pytest.mark.long),
    ],
)
def test_a_worker_that_dies_while_its_job_pauses_leaves_it_paused(
    scene: Scene, undisturbed: Undisturbed, point: str
) -> None:
    expected = undisturbed(DEEP_EPOCHS)
    job_id = scene.submit(spec_of(DEEP_EPOCHS))
    worker = scene.host.start("work", f"{point}:1:kill")
    wait_until(lambda: job_row(job_id).progress["epoch"] >= 1, what="an epoch")

    pause(job_row(job_id).project_id, job_id)
    ended = scene.host.wait(worker)
    scene.everybody_is_gone()
    assert scene.host.run("sweep") == 0

    if job_row(job_id).status == "succeeded":  # it was done before it heard of the pause
        assert ended == 0
    else:
        assert ended == -9
        assert job_row(job_id).status == "paused"
        resume(job_row(job_id).project_id, job_id)
        scene.finish(job_id)
    check_ended(job_id, scene.storage, expected)


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["cancel", "pause", "resume"])
def test_f9_what_was_asked_around_a_death_has_happened_or_has_not(scene: Scene, what: str, when: str) -> None:
    job_id = scene.submit(spec_of(EPOCHS))
    project_id = job_row(job_id).project_id
    if what == "resume":
        pause(project_id, job_id)
    asked = {"what": what, "project_id": project_id, "job_id": job_id}
    before = job_row(job_id).status

    assert scene.host.run("ask", f"{what}.{when}_commit:1:kill", **asked) == -9
    left = job_row(job_id).status
    check_rows()
    assert scene.host.run("ask", **asked) == 0

    after = {"cancel": "cancelled", "pause": "paused", "resume": "queued"}[what]
    assert left == (before if when == "before" else after)
    assert job_row(job_id).status == after
    cancel(project_id, job_id, force=True)


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.long)])
def test_a_fold_whose_worker_dies_as_it_ends_counts_once(scene: Scene, when: str) -> None:
    spec = spec_of(EPOCHS) | {"split": {"folds": 2}}
    whole = scene.submit(spec)
    scene.finish(whole)
    job_id = scene.submit(spec)

    first, _ = scene.finish(job_id, f"fold_trained.{when}_commit:1:kill")

    assert first == -9
    check_ended(job_id, scene.storage, result_of(whole))


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
def test_a_job_that_diverges_fails_once(scene: Scene, when: str) -> None:
    job_id = scene.submit(DIVERGES)

    first, _ = scene.finish(job_id, f"fail.{when}_commit:1:kill")

    assert first == -9
    job = job_row(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "diverged"
    check_rows()


@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "point",
    [
        "dataset_ready.before_commit",
        pytest.param("dataset_ready.after_commit", marks=pytest.mark.long),
        pytest.param("touch_blobs.after_commit", marks=pytest.mark.long),
        pytest.param("storage.before_sync", marks=pytest.mark.long),
        "pipe.before_say",
    ],
)
def test_f3_a_table_whose_reader_dies_is_read_to_the_same_bytes(scene: Scene, point: str) -> None:
    dataset_id = scene.upload(PENGUINS)

    scene.host.run("work", f"{point}:1:kill")
    scene.everybody_is_gone()
    while dataset_row(dataset_id).status == "processing":
        assert scene.host.run("sweep") == 0
        assert scene.host.run("work") == 0
    scene.host.run("work")  # whoever comes next removes what the dead have left

    read, expected = dataset_row(dataset_id), dataset_row(scene.dataset_id)
    assert (read.status, read.rows, read.files) == ("ready", expected.rows, expected.files)
    for file in read.files.values():
        assert measure(scene.storage / read.project_id / file["sha256"]).sha256 == file["sha256"]
    check_rows()
    _clean(scene)


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", OF_A_TRAINING)
def test_f1_to_f5_a_job_that_is_killed_at_any_point_ends_as_if_nothing_had_happened(
    scene: Scene, undisturbed: Undisturbed, point: str
) -> None:
    _at_each_pass(scene, undisturbed(EPOCHS), point, "kill")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("point", OF_A_TRAINING)
def test_f15_f21_a_job_that_fails_at_any_point_ends_as_if_nothing_had_happened(
    scene: Scene, undisturbed: Undisturbed, point: str
) -> None:
    _at_each_pass(scene, undisturbed(EPOCHS), point, "raise")


def _at_each_pass(scene: Scene, expected: Result, point: str, action: str) -> None:
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
