"""A host of processes that may die, and a scene for each database."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from core import database
from core.settings import Settings, settings
from tests import conftest
from tests.conftest import PENGUINS
from tests.faults.invariants import Result, result_of
from tests.faults.scene import Host, Scene


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("h")  # the path of a socket is short
    with Host(folder, folder / "host.log") as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def module_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Each of the two databases in turn, for all tests of a module."""
    patch = pytest.MonkeyPatch()
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("database")
        file = shutil.copyfile(request.getfixturevalue("migrated_sqlite"), folder / "test.sqlite3")
        url = f"sqlite:///{file}"
    else:
        new_database: Callable[[str], str] = request.getfixturevalue("copied_postgres")
        url = new_database(request.getfixturevalue("migrated_postgres"))
    url = Settings(database_url=url).database_url
    patch.setattr(database, "settings", settings.model_copy(update={"database_url": url}))
    conftest._forget_engines()
    database.engine()
    yield url
    conftest._forget_engines()
    patch.undo()


@pytest.fixture(scope="module")
def scene(host: Host, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """One with the penguins, read."""
    folder = tmp_path_factory.mktemp("scene")
    made = Scene(host, module_database, folder / "storage", folder / "work")
    made.storage.mkdir()
    made.work_dir.mkdir()
    made.settle_down()
    made.read(PENGUINS)
    return made


@pytest.fixture(scope="module")
def undisturbed(scene: Scene) -> Callable[[int], Result]:
    """What a training of so many epochs comes to where nothing happens."""
    known: dict[int, Result] = {}

    def of(epochs: int) -> Result:
        if epochs not in known:
            from tests.faults.scene import spec_of

            job_id = scene.submit(spec_of(epochs))
            assert scene.finish(job_id) == (0, 1)
            known[epochs] = result_of(job_id)
        return known[epochs]

    return of
