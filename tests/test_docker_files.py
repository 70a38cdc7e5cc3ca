"""Dockerfile, docker-compose.yml, .dockerignore and the page for operators: linted, and held to what they promise."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from core.settings import Settings
from tests import compose
from tests.compose import OURS, ROOT

BIN = Path(sys.executable).parent
LONG_RUNNING = ("api", "worker", "sweeper")


def stages() -> dict[str, list[str]]:
    """The Dockerfile's instructions by stage, each on one line."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for instruction in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if start := re.fullmatch(r"FROM (\S+) AS (\w+)", instruction):
            found[start[2]] = []
        if instruction:
            found[list(found)[-1]].append(instruction)
    return found


def distributions(extra: str | None = None) -> set[str]:
    """Names of what the plain distribution, or one of its extras, asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {normalised(re.split(r"[^\w.-]", requirement)[0]) for requirement in wanted}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def services(**variables: str) -> dict[str, Any]:
    return dict(compose.read(**variables)["services"])


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    found = subprocess.run([BIN / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_compose_file_fits_the_compose_specification() -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout + found.stderr


# --- the images ---------------------------------------------------------------------------------------------------


def test_both_images_grow_from_one_base_and_run_as_a_numbered_user() -> None:
    found = stages()

    assert list(found) == ["base", "api", "worker"]
    for name in ("api", "worker"):
        assert found[name][0] == f"FROM base AS {name}"
        users = [instruction for instruction in found[name] if instruction.startswith("USER")]
        assert users == ["USER 10001:10001"]
        runs = [place for place, instruction in enumerate(found[name]) if instruction.startswith("RUN")]
        assert found[name].index(users[0]) > max(runs)


def test_the_api_image_installs_no_extra_and_the_worker_image_only_its_own() -> None:
    installs = {
        name: [line.split("pip install", 1)[1] for line in lines if "pip install" in line]
        for name, lines in stages().items()
    }

    assert installs["base"] == []
    assert installs["api"] == [" --constraint /source/constraints.txt /source"]
    assert [line.split()[-1] for line in installs["worker"]] == ["torch", '"/source[worker]"']
    assert all("--constraint" in line for lines in installs.values() for line in lines)


def test_torch_is_the_cpu_build_unless_the_builder_chooses() -> None:
    cpu = "https://download.pytorch.org/whl/cpu"

    assert f"ARG TORCH_INDEX_URL={cpu}" in stages()["worker"]
    assert services()["worker"]["build"]["args"] == {"TORCH_INDEX_URL": cpu}
    assert services(TORCH_INDEX_URL="https://x/cu130")["worker"]["build"]["args"] == {
        "TORCH_INDEX_URL": "https://x/cu130"
    }


def test_the_dependencies_of_both_images_are_pinned() -> None:
    pinned = {normalised(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}

    assert distributions() | distributions("worker") <= pinned


@pytest.mark.parametrize("service", ["migrate", "api", "sweeper"])
def test_what_runs_in_the_api_image_needs_nothing_of_the_worker_extra(service: str) -> None:
    assert services()[service]["build"]["target"] == "api"
    modules = {
        "migrate": ["migrations", "standalone.prepare"],
        "api": ["api.main", "standalone.processes", "standalone.checks"],
        "sweeper": ["worker.sweeper", "standalone.processes", "standalone.checks"],
    }[service]
    absent = [name for name, of in packages_distributions().items() if distributions("worker") & {*map(normalised, of)}]
    program = f"""
import importlib, sys
for name in {absent!r}:
    sys.modules[name] = None  # an import of it fails as it does where it is not installed
for module in {modules!r}:
    importlib.import_module(module)
print([name for name in ("worker.app", "worker.tasks", "worker.supervisor") if name in sys.modules])
"""

    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert {"torch", "duckdb"} <= set(absent)
    assert (found.returncode, found.stdout) == (0, "[]\n"), found.stderr


def test_only_what_the_images_are_made_of_goes_to_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert lines[0] == "*"
    assert let_through == {*packages["packages"], "pyproject.toml", "README.md", "constraints.txt"}


def test_no_secret_is_baked_in() -> None:
    baked = [line for lines in stages().values() for line in lines if line.startswith(("ARG", "ENV", "COPY", "ADD"))]

    assert not [line for line in baked if re.search(r"key|password|secret|token|\.env", line, re.IGNORECASE)]
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


# --- the services -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_change_nothing_but_their_volumes(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert "privileged" not in service


def test_those_who_touch_bytes_share_one_storage_that_the_image_has_made_for_their_user() -> None:
    found = services()
    folders = next(line for line in stages()["base"] if "install --directory" in line)

    for name in LONG_RUNNING:
        assert "storage:/data/storage" in found[name]["volumes"]
        assert found[name]["environment"]["BACKPROPD_STORAGE_URL"] == "file:/data/storage"
    assert "--owner 10001 --group 10001 /data/storage /data/work" in folders
    assert found["worker"]["environment"]["BACKPROPD_WORK_DIR"] == "/data/work"
    assert found["api"]["environment"]["TMPDIR"] == "/data/work"
    assert all("work:/data/work" in found[name]["volumes"] for name in ("api", "worker"))
    assert set(compose.read()["volumes"]) == {"postgres", "storage", "work"}


@pytest.mark.parametrize("name", ["postgres", "redis", *LONG_RUNNING])
def test_what_runs_for_long_says_whether_it_is_well_from_its_first_second(name: str) -> None:
    health = services()[name]["healthcheck"]

    assert health["test"][0] == "CMD"
    assert health["start_interval"] == "1s"
    assert services()[name]["restart"] == "unless-stopped"


def test_tables_are_made_once_before_anything_uses_them() -> None:
    found = services()

    assert found["migrate"]["command"] == ["backpropd", "migrate"]
    assert found["migrate"]["restart"] == "no"
    assert found["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in LONG_RUNNING:
        assert found[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }


def test_the_built_in_password_is_of_no_use_outside() -> None:
    found = services()
    password = found["postgres"]["environment"]["POSTGRES_PASSWORD"]

    assert f":{password}@postgres" in found["api"]["environment"]["BACKPROPD_DATABASE_URL"]
    assert compose.read()["networks"]["data"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert found[name]["networks"] == ["data"]
        assert "ports" not in found[name]
    assert found["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "BOOTSTRAP_API_KEY" not in json.dumps(found)


def test_a_password_from_outside_reaches_both_ends() -> None:
    found = services(POSTGRES_PASSWORD="other")

    assert found["postgres"]["environment"]["POSTGRES_PASSWORD"] == "other"
    assert ":other@postgres" in found["worker"]["environment"]["BACKPROPD_DATABASE_URL"]


def test_the_worker_is_given_the_time_that_its_checkpoints_need() -> None:
    grace = float(services()["worker"]["stop_grace_period"].removesuffix("s"))

    assert grace >= 2 * Settings.model_fields["drain_seconds"].default


def test_every_variable_of_ours_is_one_that_something_reads() -> None:
    known = {f"BACKPROPD_{name.upper()}" for name in Settings.model_fields} | {
        "BACKPROPD_HOST",
        "BACKPROPD_PORT",
        "TMPDIR",
    }

    for name in OURS:
        assert set(services()[name]["environment"]) <= known


def test_the_page_for_operators_names_only_what_there_is() -> None:
    page = (ROOT / "deploy" / "README.md").read_text()
    settings = {f"BACKPROPD_{name.upper()}" for name in Settings.model_fields}
    of_compose = set(re.findall(r"\$\{(\w+)", compose.FILE.read_text()))
    volumes = {f"backpropd_{name}" for name in compose.read()["volumes"]}

    assert set(re.findall(r"\bBACKPROPD_\w+", page)) <= settings | of_compose
    assert of_compose - set(re.findall(r"\b[A-Z_]+\b", page)) == set()
    assert set(re.findall(r"\bbackpropd_\w+", page)) - volumes <= metric_names()


def metric_names() -> set[str]:
    declared = (ROOT / "api" / "metrics.py").read_text()
    return set(re.findall(r'"(backpropd_\w+)"', declared))
