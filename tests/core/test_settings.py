"""What an operator may set."""

import pytest
from pydantic import ValidationError

from core.settings import Settings


@pytest.fixture(autouse=True)
def no_settings_of_this_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BACKPROPD_{name.upper()}", raising=False)


def test_every_setting_has_a_default_and_a_meaning() -> None:
    Settings()

    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", ".)")), name


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROPD_LEASE_SECONDS", "7.5")

    assert Settings().lease_seconds == 7.5


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgres_is_reached_by_psycopg(scheme: str) -> None:
    settings = Settings(database_url=f"{scheme}://user:secret@host/name")

    assert settings.database_url == "postgresql+psycopg://user:secret@host/name"


@pytest.mark.parametrize("url", ["sqlite:///file", "postgresql+psycopg://host/name"])
def test_other_database_urls_stay_as_they_are(url: str) -> None:
    assert Settings(database_url=url).database_url == url


def test_settings_do_not_change_while_a_process_lives() -> None:
    with pytest.raises(ValidationError):
        Settings().lease_seconds = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_SECONDS", "0"),
        ("TRAINING_SLOTS", "0"),
        ("LOG_LEVEL", "loud"),
        ("MAX_BODY_BYTES", "x"),
        ("WORKER_MEMORY_BYTES", "1"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_process(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"BACKPROPD_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_the_admin_key_is_not_shown() -> None:
    assert "bp_secret" not in repr(Settings(bootstrap_api_key="bp_secret"))


def test_a_worker_beats_several_times_in_a_lease() -> None:
    assert Settings().beat_seconds * 3 <= Settings().lease_seconds
