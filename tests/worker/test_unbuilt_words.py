"""A word that the spec promises and nothing builds fails the type check, at the builder that is missing.

The sources are copied, a word is added to one `Literal` of `core/spec/`, and mypy looks at what builds it. The first
look takes 20 s, for mypy reads torch; each after it a second.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.spec import TrainingSpec

ROOT = Path(__file__).parent.parent.parent
SPEC = ROOT / "core" / "spec"
LITERAL = re.compile(r'Literal\[\s*"[^\]]*?(,?\s*)\]')
UNBUILT = "unbuilt_word"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that mypy has looked at, and found right."""
    copy = tmp_path_factory.mktemp("sources")
    for folder in ("core", "worker"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    assert complaints(copy) == []
    return copy


def complaints(sources: Path) -> list[str]:
    """What mypy says of the spec and of what is built from it."""
    packages = [word for name in ("core.spec", "core.resolve", "worker.trainer") for word in ("--package", name)]
    command = [Path(sys.executable).with_name("mypy"), "--cache-dir", ".cache", "--no-error-summary", *packages]
    looked = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert looked.stderr == ""
    return looked.stdout.splitlines()


@contextmanager
def one_word_more(file: Path, literal: re.Match[str]) -> Iterator[None]:
    """The file with a word more at the end of one of its Literals."""
    text = file.read_text()
    file.write_text(f'{text[: literal.start(1)]}, "{UNBUILT}"{text[literal.start(1) :].lstrip(",")}')
    try:
        yield
    finally:
        file.write_text(text)


def literal_with(file: str, word: str) -> re.Match[str]:
    """The first Literal of this file that has this word."""
    found = LITERAL.finditer((SPEC / file).read_text())
    return next(one for one in found if f'"{word}"' in one[0])


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "word", "builder"),
    [
        ("activations.py", "relu", "worker/trainer/activations.py"),
        ("activations.py", "hardshrink", "worker/trainer/activations.py"),
        ("network.py", "dropout", "worker/trainer/network.py"),
        ("network.py", "exp", "worker/trainer/predictions.py"),
        ("losses.py", "mse", "worker/trainer/losses.py"),
        ("optimizers.py", "adamw", "worker/trainer/optimizers.py"),
        ("schedules.py", "cosine", "worker/trainer/schedules.py"),
        ("initializers.py", "he_normal", "worker/trainer/initializers.py"),
        ("metrics.py", "accuracy", "worker/trainer/metrics.py"),
        ("metrics.py", "rmse", "worker/trainer/metrics.py"),
        ("features.py", "embedding", "worker/trainer/preprocessing/"),
    ],
)
def test_a_word_without_a_builder_fails_the_type_check(sources: Path, file: str, word: str, builder: str) -> None:
    with one_word_more(sources / "core" / "spec" / file, literal_with(file, word)):
        found = complaints(sources)

    assert [line for line in found if line.startswith(builder)], found


def promised(part: Any) -> Iterator[set[str]]:
    """The words of every choice in a JSON Schema."""
    match part:
        case dict():
            yield {str(word) for word in part.get("enum", [part.get("const")])}
            yield from (words for one in part.values() for words in promised(one))
        case list():
            yield from (words for one in part for words in promised(one))


CHOICES = [words for words in promised(TrainingSpec.model_json_schema()) if words]


def is_promised(literal: re.Match[str]) -> bool:
    """Whether a user may say its words; names of ours, as those of the parts of the rows, are no choice of a spec."""
    words = set(re.findall(r'"([^"]+)"', literal[0]))
    return any(words <= choice for choice in CHOICES)


EVERY = [
    pytest.param(path.name, place, id=f"{path.name}-{place}-{one[0][:40]}")
    for path in sorted(SPEC.glob("*.py"))
    for place, one in enumerate(LITERAL.finditer(path.read_text()))
    if is_promised(one)
]


@pytest.mark.long
@pytest.mark.parametrize(("file", "place"), EVERY)
def test_every_literal_of_the_spec_is_fenced(sources: Path, file: str, place: int) -> None:
    literal = [*LITERAL.finditer((SPEC / file).read_text())][place]

    with one_word_more(sources / "core" / "spec" / file, literal):
        found = complaints(sources)

    assert [line for line in found if not line.startswith("core/spec/")], found
