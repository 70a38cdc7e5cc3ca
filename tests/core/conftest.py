"""Fixtures of the tests of `core`."""

from collections.abc import Iterator

import pytest

from tests.core import factories


@pytest.fixture
def project(database_url: str) -> Iterator[str]:
    """A project on each database in turn. Whatever a test did, its rows must not contradict each other at the end."""
    yield factories.make_project()
    factories.check_rows()
