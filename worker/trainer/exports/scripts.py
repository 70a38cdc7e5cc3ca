"""Scripts that stand alone, put together from functions of this package: only those that they need."""

import inspect
import re
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

IMPORTS = {
    "csv": "import csv",
    "json": "import json",
    "math": "import math",
    "sys": "import sys",
    "datetime": "from datetime import datetime, time, timezone",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
    "np": "import numpy as np",
    "ort": "import onnxruntime as ort",
    "load_file": "from safetensors.numpy import load_file",
}
STANDARD = ("csv", "json", "math", "sys", "datetime", "Path", "Any")
CONSTANTS = {"MISSING_MOMENT": "MISSING_MOMENT = np.iinfo(np.int64).min"}


def script(title: str, library: ModuleType, wanted: list[str], body: str) -> str:
    """A script of these functions of a library, those that they call, and a body of its own."""
    used = set(wanted) | set(_names(compile(body, "body", "exec")))
    functions = {name: made for name, made in vars(library).items() if isinstance(made, FunctionType)}
    copied: set[str] = set()
    while left := (used & functions.keys()) - copied:
        for name in left:
            copied.add(name)
            used |= {"Any", *_names(functions[name].__code__)}
    imports = [line for name, line in IMPORTS.items() if name in used and name in STANDARD]
    others = [line for name, line in IMPORTS.items() if name in used and name not in STANDARD]
    constants = [line for name, line in CONSTANTS.items() if name in used]
    parts = [
        f'"""{title}"""\n\n' + "\n".join(imports) + "\n\n" + "\n".join(others),
        *(["\n".join(constants)] if constants else []),
        *(text for name, text in _sources(library).items() if name in copied),
        body.strip(),
    ]
    return _without_noqa("\n\n\n".join(parts)) + "\n"


def _sources(library: ModuleType) -> dict[str, str]:
    """Each function as it is written. `inspect` would read word by word, 1 ms a function."""
    pieces = re.split(r"\n\n\n", inspect.getsource(library))
    return {found[1]: piece.rstrip() for piece in pieces if (found := re.match(r"def (\w+)\(", piece))}


def _names(code: CodeType) -> Iterator[str]:
    """What a function names that is not its own, in the functions within it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _without_noqa(text: str) -> str:
    return "\n".join(line.split("  # noqa")[0] for line in text.split("\n"))
