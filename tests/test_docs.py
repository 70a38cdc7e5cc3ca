"""The documentation is true: generated pages are current, links resolve, the chart is the code's, commands run."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from api.artifacts import NAMES
from api.main import app
from core import lifecycle
from core.lifecycle import TRANSITIONS
from core.resolve.output import LEGAL
from core.settings import Settings
from core.spec import TrainingSpec
from docs import generate
from standalone import command
from tests.running import Serve, clean_environment
from worker.trainer.diagnosis import CODES

ROOT = Path(__file__).parent.parent
OURS = ("*.md", "docs/**/*.md", "client/*.md", "dashboard/*.md", "examples/*.md")
PAGES = sorted(page for pattern in OURS for page in ROOT.glob(pattern))
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
CAUSES = (ROOT / "worker" / "trainer" / "causes.py").read_text()
NOT_IN_OPENAPI = {
    "GET /docs",
    "GET /openapi.json",
    "GET /openapi-3.1.json",
    "GET /v1/schemas/spec.json",
}


# --- pages that are written from the code ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    committed = (ROOT / "docs" / name).read_text()

    assert committed == generate.PAGES[name](), "run `make docs`"


def test_every_setting_is_in_the_configuration_page() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()

    missing = [name for name in Settings.model_fields if f"BACKPROPD_{name.upper()}`" not in page]

    assert missing == []


def test_every_field_of_the_spec_is_in_the_defaults_page() -> None:
    page = (ROOT / "docs" / "defaults.md").read_text()
    schema = generate.TrainingSpec.model_json_schema()
    tags = {"name", "type"}  # stand in the path, in braces

    parts = [schema, *schema["$defs"].values()]
    missing = [
        field for part in parts for field in part["properties"] if f"/{field}`" not in page and field not in tags
    ]

    assert missing == []


# --- links, verbs, commands ------------------------------------------------------------------------------------------


def test_every_internal_link_resolves() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not _resolves(page, target)
    ]

    assert broken == []


def _resolves(page: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True  # another site's
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    if not found.is_file():
        return False
    return not anchor or anchor in [_anchor(heading) for heading in re.findall(r"^#+ (.+)$", found.read_text(), re.M)]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_file_that_a_page_names_exists() -> None:
    top = "api|core|worker|standalone|migrations|docs|tests|examples|benchmarks|deploy"
    missing = [
        f"{page.relative_to(ROOT)}: {named}"
        for page in PAGES
        for named in re.findall(rf"`((?:{top})/[\w./-]*)`", page.read_text())
        if not (ROOT / named).exists()
    ]

    assert missing == []


def test_every_make_verb_is_documented_and_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M)) - {"help"}

    named = set(re.findall(r"`make ([a-z-]+)`", README))

    assert named == verbs
    assert all(f"`{verb}`" in (ROOT / "CONTRIBUTING.md").read_text() for verb in verbs)


def test_every_command_is_documented_and_exists() -> None:
    commands = set(_commands(typer.main.get_command(command.app)))

    named = set(re.findall(r"backpropd ((?:keys )?[a-z]+)(?=[\s`])", _code(README)))

    assert commands <= named, f"not in README.md: {sorted(commands - named)}"
    assert named <= commands, f"no such command: {sorted(named - commands)}"


def _commands(group: Any, before: str = "") -> Iterator[str]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{before}{name} ")
        else:
            yield before + name


def _code(page: str) -> str:
    """What stands between backticks, and in fenced blocks."""
    fenced = re.findall(r"^```.*?^```", page, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)
    return "\n".join([*fenced, *re.findall(r"`[^`\n]+`", rest)])


# --- what the code does ----------------------------------------------------------------------------------------------


def test_the_chart_has_exactly_the_arrows_of_the_code() -> None:
    drawn = _arrows()

    assert {(before, after) for before, after, _ in drawn} == {
        (before, after) for before, following in TRANSITIONS.items() for after in following
    }
    assert len(drawn) == sum(len(following) for following in TRANSITIONS.values())


def test_each_arrow_names_functions_that_exist() -> None:
    named = {name for _, _, label in _arrows() for name in label.split(", ")} - {"planned"}

    assert named <= set(lifecycle.__all__)
    assert re.search(r"\[\*\] --> queued: submit_job", ARCHITECTURE)


def _arrows() -> list[tuple[str, str, str]]:
    chart = ARCHITECTURE.split("```mermaid")[1].split("```")[0]
    return re.findall(r"^ +(\w+) --> (\w+): (.+)$", chart, re.M)


def test_the_five_steps_stand_where_the_readme_says() -> None:
    steps = re.findall(r"^\| ([1-5]) .*\| `([\w/.]+)` \| `(.+)` \|$", README, re.M)

    assert [number for number, _, _ in steps] == list("12345")
    lines = [(ROOT / file).read_text().index(code) for _, file, code in steps]
    assert lines == sorted(lines)


# --- the HTTP contract -----------------------------------------------------------------------------------------------


def _calls(state: str) -> set[str]:
    return set(re.findall(rf"^\| `([A-Z]+ /[^`]*)` \|.*\| {state} \|$", README, re.M))


def test_the_contract_lists_every_route_that_is_built() -> None:
    built = {f"{method.upper()} {path}" for path, operations in app.openapi()["paths"].items() for method in operations}

    assert _calls("built") == built | NOT_IN_OPENAPI


def test_routes_outside_openapi_answer(serve: Serve) -> None:
    answers = {call: serve.http.get(call.removeprefix("GET ")).status_code for call in NOT_IN_OPENAPI}

    assert set(answers.values()) == {200}, answers


def test_planned_routes_answer_404(serve: Serve) -> None:
    methods = _methods_by_path()

    for call in sorted(_calls("planned")):
        method, path = call.split(" ")
        answer = serve.http.request(method, re.sub(r"\{\w+\}", "job_00000000000000000000000000", path), json={})

        expected = 405 if any(re.fullmatch(known, path) for known in methods) else 404
        assert answer.status_code == expected, call
        assert answer.headers["content-type"] == "application/problem+json", call


def _methods_by_path() -> set[str]:
    """Patterns of the addresses that are built, with any method."""
    return {re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) for path in app.openapi()["paths"]}


def test_the_example_of_an_error_is_what_the_server_says(serve: Serve) -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    shown = json.loads(page.split("```json")[1].split("```")[0])

    answer = serve.http.post("/v1/jobs", json={"dataset_id": "ds_x", "spec": {"target": "y", "traning": {}}})

    assert answer.json() | {"request_id": ""} == shown | {"request_id": ""}


# --- what the pages tell people to type ------------------------------------------------------------------------------


def _run_as_printed(serve: Serve, page: str, folder: Path) -> str:
    """Runs a page's curl blocks in one shell, then its Python blocks that need no more, beside the examples."""
    (folder / "examples").symlink_to(ROOT / "examples")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S)
    assert blocks
    assert all("curl" in block for block in blocks)
    script = "\n".join(f"echo '--- block {number}'\n{block}" for number, block in enumerate(blocks, 1))
    ran = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=clean_environment(BACKPROPD_URL=serve.url, BACKPROPD_API_KEY=serve.key),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


def _job(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _run_python(code: str, folder: Path) -> str:
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


def test_the_readme_works_as_printed(serve: Serve, tmp_path: Path) -> None:
    printed = _run_as_printed(serve, README, tmp_path)

    assert _job(tmp_path / "job.json")["status"] == "succeeded"
    assert _job(tmp_path / "keras.json")["status"] == "succeeded"
    assert printed.count("event: end\n") == 1
    assert printed.count('"type":"end"') == 3, "each form ends with the end"
    loading = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "load_file" in block)
    _run_python(loading, tmp_path)


def test_the_specs_that_are_shown_are_accepted() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    shown = [json.loads(block) for block in re.findall(r"^```json\n(\{\"target\".*?)^```", page, re.M | re.S)]

    assert len(shown) >= 3
    assert all(TrainingSpec.model_validate(spec).targets for spec in shown)


def test_the_table_of_losses_has_the_legal_pairs() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    table = page.partition("| task | output | losses |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]

    shown = {(output.split("`")[1], loss) for _, output, losses in rows for loss in re.findall(r"`(\w+)`", losses)}

    legal = {(output, loss) for pairs in LEGAL.values() for output, losses in pairs.items() for loss in losses}
    assert shown == legal


def test_the_diagnosis_works_as_printed(serve: Serve, tmp_path: Path) -> None:
    _run_as_printed(serve, (ROOT / "docs" / "diagnosis.md").read_text(), tmp_path)

    said = json.loads((tmp_path / "diagnosis.jsonl").read_text())["data"]
    assert said["code"] == "learning_rate_too_high"
    assert _job(tmp_path / "mended.json")["status"] == "succeeded"


def test_every_diagnosis_and_each_field_of_its_evidence_is_explained() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text()
    named = set(re.findall(r'^ +"(\w+)": (?:_short\(|_per_layer\(|best\.number|recent\[0\]|spec\.)', CAUSES, re.M))

    assert re.findall(r"^## (\w+_\w+|overfitting|plateau)$", page, re.M) == CODES
    assert [field for field in sorted(named) if f"`{field}`" not in page and f"`{field}[]`" not in page] == []


def test_the_tasks_work_as_printed(serve: Serve, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "api.md").read_text()

    _run_as_printed(serve, page, tmp_path)

    assert _job(tmp_path / "job.json")["status"] == "succeeded"
    assert _job(tmp_path / "cancelled.json")["status"] == "cancelled"
    assert _job(tmp_path / "jobs.json")["items"][0]["id"] == _job(tmp_path / "job.json")["id"]
    assert _job(tmp_path / "once-1.json")["id"] == _job(tmp_path / "once-2.json")["id"]
    clone = _job(tmp_path / "clone.json")
    assert (clone["status"], clone["cloned_from"]) == ("succeeded", _job(tmp_path / "job.json")["id"])
    assert len(_job(tmp_path / "trace.json")["trace"]["rows"]) == 2
    assert _job(tmp_path / "error.json")["code"] == "invalid_spec"
    assert '"type":"epoch"' in (tmp_path / "losses.jsonl").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.S)[0]
    shown = _run_python(code, tmp_path)
    assert float(re.search(r"'Adelie': ([\d.e-]+)", shown)[1]) > 0.9  # type: ignore[index]


def test_the_page_of_artifacts_works_as_printed(serve: Serve, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "artifacts.md").read_text()

    _run_as_printed(serve, page, tmp_path)

    in_torch, in_numpy = re.findall(r"```python\n(.*?)```", page, re.S)
    _run_python(in_torch, tmp_path)
    assert "'label': 'Adelie'" in _run_python(in_numpy, tmp_path)
    named = set(re.findall(r"^\| `([\w.]+)` \|", page, re.M))
    assert named == {*NAMES}


def test_the_page_of_datasets_works_as_printed(serve: Serve, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "datasets.md").read_text()

    _run_as_printed(serve, page, tmp_path)

    columns = [(one["type"], one["missing"]) for one in _job(tmp_path / "prices.json")["columns"]]
    assert columns == [("category", 0), ("number", 1), ("datetime", 0)]
    otherwise = _job(tmp_path / "otherwise.json")
    assert otherwise["derived_from"] == _job(tmp_path / "prices.json")["id"]
    assert otherwise["dialect"]["date_formats"] == ["%m/%d/%Y"]
    assert _job(tmp_path / "iris.json")["status"] == "succeeded"
