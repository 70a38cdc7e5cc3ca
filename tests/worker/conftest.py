"""What all tests of the training process share."""

import pytest

from worker.trainer import processor


@pytest.fixture(scope="session", autouse=True)
def as_in_a_training_process() -> None:
    processor.set_up(threads=1)
