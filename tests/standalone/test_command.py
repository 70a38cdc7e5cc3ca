"""The command `backpropd`: what an operator gets wrong is answered in a sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import clean_environment


def backpropd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "standalone.command", *arguments]
    return subprocess.run(
        command, env=clean_environment(**environment), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("BACKPROPD_LEASE_SECONDS", "abc", "BACKPROPD_LEASE_SECONDS: Input should be a valid number"),
        ("BACKPROPD_DATABASE_URL", "mysql://x", "must begin with `sqlite:///` or `postgresql://`"),
        ("BACKPROPD_DATABASE_URL", "postgresql://127.0.0.1:1/x", "look at BACKPROPD_DATABASE_URL"),
        ("BACKPROPD_BROKER_URL", "localhost:6379", "must begin with `redis://`"),
        ("BACKPROPD_STORAGE_URL", "/data", "must begin with `file:` or `s3://`"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(variable: str, value: str, sentence: str) -> None:
    found = backpropd("keys", "list", **{variable: value})

    assert found.returncode == 1
    assert sentence in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_database_without_tables_says_what_to_run(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite3'}"

    found = backpropd("keys", "create", "--project", "growth", BACKPROPD_DATABASE_URL=url)

    assert found.returncode == 1
    assert "run `backpropd migrate`" in found.stderr


def test_a_key_is_made_listed_whole_and_revoked(tmp_path: Path) -> None:
    url = {"BACKPROPD_DATABASE_URL": f"sqlite:///{tmp_path / 'new.sqlite3'}"}
    assert backpropd("migrate", **url).returncode == 0
    made = json.loads(backpropd("keys", "create", "--project", "growth", "--name", "ci", "--json", **url).stdout)[0]

    listed = backpropd("keys", "list", **url).stdout
    key_id = re.search(r"key_[0-9a-z]{26}", listed)
    assert key_id is not None
    assert made["key"].startswith("bp_live_")
    assert made["key"] not in listed
    assert made["key"][-4:] in listed
    assert backpropd("keys", "revoke", key_id[0], **url).returncode == 0
    again = backpropd("keys", "revoke", key_id[0], **url)
    assert (again.returncode, "no such key" in again.stderr) == (1, True)


def test_every_command_has_help_with_an_example() -> None:
    for name in (["serve"], ["api"], ["worker"], ["sweeper"], ["migrate"], ["config"], ["keys", "create"]):
        assert "Example:" in backpropd(*name, "--help").stdout, name


def test_config_shows_every_setting_and_no_password() -> None:
    shown = json.loads(backpropd("config", "--json", BACKPROPD_DATABASE_URL="postgresql://me:hunter2@db/x").stdout)

    values = {one["name"]: one["value"] for one in shown}
    assert values["BACKPROPD_DATABASE_URL"] == "postgresql+psycopg://me:***@db/x"
    assert "hunter2" not in json.dumps(shown)
    assert "BACKPROPD_LEASE_SECONDS" in values
