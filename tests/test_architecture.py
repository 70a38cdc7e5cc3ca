"""The fences between the parts of this system, and that each of them holds."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.running import clean_environment

ROOT = Path(__file__).parent.parent
PRODUCT = ("api", "core", "migrations", "standalone", "worker")
SOURCES = sorted(file for part in PRODUCT for file in (ROOT / part).rglob("*.py"))

# What an input could turn into code: unpickling, evaluating, a shell.
DANGEROUS = {
    "pickle": r"\b(pickle|cloudpickle|dill|joblib|marshal|shelve)\.(loads?|Unpickler|open)\b",
    "import": r"\bimport (pickle|cloudpickle|dill|joblib|marshal|shelve)\b",
    "torch.load": r"\btorch\.load\(",
    "numpy": r"allow_pickle\s*=\s*True",
    "yaml": r"\byaml\.(unsafe_|full_)?load\(",
    "eval": r"(?<![\w.`])(eval|exec)\(",
    "shell": r"shell\s*=\s*True|\bos\.(system|popen)\(",
}
NAMES_THAT_SAY_NOTHING = {
    "utils", "util", "helpers", "helper", "common", "base", "manager", "service", "services", "repository",
    "handlers", "types", "constants", "misc",
}  # fmt: skip


# --- what the API never loads -------------------------------------------------------------------------------------


def test_the_api_starts_without_torch_table_readers_or_the_worker() -> None:
    look = "import sys, api.main; print('\\n'.join(sys.modules))"

    seen = subprocess.run(
        [sys.executable, "-c", look], env=clean_environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )

    loaded = {name.split(".")[0] for name in seen.stdout.splitlines()}
    assert {"api", "core", "fastapi"} <= loaded
    assert (
        loaded
        & {"torch", "sklearn", "duckdb", "numpy", "pandas", "pyarrow", "onnx", "onnxruntime", "safetensors", "worker"}
        == set()
    )


# --- who may import whom ------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the product that a test may break."""
    for part in PRODUCT:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(tree: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=tree, capture_output=True, text=True
    )


def test_the_contracts_of_imports_hold(tree: Path) -> None:
    linted = lint_imports(tree)

    assert linted.returncode == 0, linted.stdout
    assert " 0 broken" in linted.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("api/jobs.py", "import worker.slots", "api and worker do not know each other"),
        ("worker/slots.py", "import api.main", "api and worker do not know each other"),
        ("core/ids.py", "import api.main", "core knows neither side"),
        ("core/ids.py", "import fastapi", "core and worker stay free of the web"),
        ("worker/slots.py", "from fastapi import FastAPI", "core and worker stay free of the web"),
        ("api/jobs.py", "import torch", "core and api stay free of torch"),
        ("core/spec/data.py", "import numpy", "core and api stay free of torch"),
        ("api/rows.py", "import numpy", "core and api stay free of torch"),
        ("api/loaded_networks.py", "import onnxruntime", "core and api stay free of torch"),
        ("api/networks.py", "import torch", "core and api stay free of torch"),
        ("worker/trainer/fit.py", "import core.database", "the trainer and the reader of tables know no way out"),
        ("worker/trainer/fit.py", "import sqlalchemy", "the trainer and the reader of tables know no way out"),
        ("worker/ingest/main.py", "import core.database", "the trainer and the reader of tables know no way out"),
        ("worker/trainer/fit.py", "import worker.slots", "the trainer imports nothing of the worker around it"),
    ],
)
def test_an_import_across_a_fence_breaks_its_contract(tree: Path, file: str, line: str, contract: str) -> None:
    with (tree / file).open("a") as source:
        source.write(f"\n{line}\n")

    linted = lint_imports(tree)

    assert linted.returncode != 0
    broken = [line for line in linted.stdout.splitlines() if " BROKEN" in line]
    assert any(contract in line for line in broken), linted.stdout


def test_the_trainers_fence_names_all_of_the_worker_around_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [fence] = [one for one in contracts if one["name"] == "the trainer imports nothing of the worker around it"]

    around = {
        f"worker.{entry.stem}"
        for entry in (ROOT / "worker").iterdir()
        if (entry.suffix == ".py" or (entry / "__init__.py").exists()) and entry.stem not in ("__init__", "trainer")
    }

    assert set(fence["forbidden_modules"]) == around


# --- what no file holds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("danger", DANGEROUS)
def test_no_file_can_turn_an_input_into_code(danger: str) -> None:
    pattern = re.compile(DANGEROUS[danger])

    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in SOURCES
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if pattern.search(line.split("#")[0])
    ]

    assert len(SOURCES) > 40
    assert found == []


@pytest.mark.parametrize(
    ("danger", "line"),
    [
        ("pickle", "x = pickle.load(file)"),
        ("import", "import pickle"),
        ("torch.load", "torch.load(path)"),
        ("numpy", "np.load(path, allow_pickle=True)"),
        ("yaml", "yaml.load(text)"),
        ("eval", "x = eval(text)"),
        ("shell", "subprocess.run(command, shell=True)"),
    ],
)
def test_the_search_for_dangers_finds_them(danger: str, line: str) -> None:
    assert re.search(DANGEROUS[danger], line)
    assert not re.search(DANGEROUS["eval"], "network.eval()")


def test_every_file_is_named_by_what_it_is_about() -> None:
    names = {part for file in SOURCES for part in (*file.relative_to(ROOT).parts[:-1], file.stem)}

    assert names & NAMES_THAT_SAY_NOTHING == set()


def test_every_module_says_what_it_owns() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in SOURCES
        if file.read_text().strip() and not file.read_text().startswith(('"""', "#!"))
    ]

    assert silent == []
