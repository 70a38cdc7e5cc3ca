"""Killed at random moments and resumed, a training ends with the bits of the undisturbed one (F1, F5; I16).

Dropout, batch norm, Adam and a schedule; a checkpoint after each epoch; on both databases.
"""

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from core import lifecycle
from tests.core.factories import attempts_of, job_row, run_row
from tests.faults.invariants import Result, check_ended, check_folders, check_storage
from tests.faults.scene import Scene, spec_of

EPOCHS = 25
KILLS = 50


def _kill_at_a_random_moment(scene: Scene, drawn: random.Random, seconds: float) -> None:
    """One worker, which is killed with its training process, or whose training process is; or it is done before."""
    worker = scene.host.start("work")
    time.sleep(drawn.uniform(0.0, seconds))  # the moment is the point: there is nothing to wait for
    training = scene.host.training_processes()
    if training and drawn.random() < 0.5:
        training[0].kill()
    else:
        os.kill(worker, signal.SIGKILL)
    scene.host.wait(worker)
    scene.everybody_is_gone()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_f1_f5_killed_at_fifty_random_moments_it_ends_with_the_same_bits(
    scene: Scene, undisturbed: Callable[[int], Result]
) -> None:
    expected, drawn = undisturbed(EPOCHS), random.Random(6)
    began = time.monotonic()
    scene.finish(scene.submit(spec_of(EPOCHS)))
    seconds = time.monotonic() - began
    kills = 0

    while kills < KILLS:
        job_id = scene.submit(spec_of(EPOCHS))
        for _ in range(drawn.randint(1, 3)):
            if job_row(job_id).status in lifecycle.TERMINAL:
                break
            _kill_at_a_random_moment(scene, drawn, seconds)
            assert scene.host.run("sweep") == 0
        scene.finish(job_id)
        kills += sum(one.outcome in ("lost", "crashed") for one in attempts_of(run_row(job_id).id))
        check_ended(job_id, scene.storage, expected)

    check_storage(scene.storage)
    check_folders(scene.work_dir)
