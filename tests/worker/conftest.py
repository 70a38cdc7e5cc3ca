"""What all tests of the training process share."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import is_hypothesis_test

from worker.trainer import processor


@pytest.fixture(autouse=True)
def as_in_a_training_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """But where hypothesis draws: it counts on the smallest of all floats not being 0."""
    processor.set_up(threads=1)
    if is_hypothesis_test(request.function):
        torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)  # of the tests that follow, elsewhere
