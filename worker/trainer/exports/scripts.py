"""Scripts that stand alone, put together from the functions of `numpy_functions`: only those that they need."""

import inspect
import json
import re
from collections.abc import Iterator
from types import CodeType

from worker.trainer.exports import numpy_functions

IMPORTS = {
    "csv": "import csv",
    "json": "import json",
    "math": "import math",
    "os": "import os",
    "sys": "import sys",
    "datetime": "from datetime import datetime, time, timezone",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
    "np": "import numpy as np",
    "ort": """os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would report to Microsoft from its import on
import onnxruntime as ort""",
    "load_file": "from safetensors.numpy import load_file",
    "save_file": "from safetensors.torch import load_file, save_file",
    "torch": "import torch",
    "nn": "from torch import nn",
    "functional": "from torch.nn import functional",
}
OTHERS = ("np", "ort", "load_file", "save_file", "torch", "nn", "functional")
CONSTANTS = {
    "MISSING_MOMENT": "MISSING_MOMENT = np.iinfo(np.int64).min",
    "MISSING": f"MISSING = {json.dumps(numpy_functions.MISSING)}",
    "MISSING_NUMBER": f"""# Where a number, or a date, is expected.
MISSING_NUMBER = {json.dumps(numpy_functions.MISSING_NUMBER)}""",
}
# As they are written, in their order; read once, in the forkserver, so that no later release mixes into this one.
SOURCES = {
    found[1]: re.sub(r"  # noqa.*", "", piece.rstrip())
    for piece in inspect.getsource(numpy_functions).split("\n\n\n")
    if (found := re.match(r"def (\w+)\(", piece))
}


def script(title: str, body: str) -> str:
    """A body behind the imports and functions that it names, and those that these name."""
    used, copied = set(_names(compile(body, "body", "exec"))), set[str]()
    while left := (used & SOURCES.keys()) - copied:
        for name in left:
            copied.add(name)
            used |= {"Any", *_names(getattr(numpy_functions, name).__code__)}
    if "ort" in used:
        used |= {"os"}
    if "save_file" in used:
        used -= {"load_file"}  # of torch as well
    imports = ([line for name, line in IMPORTS.items() if name in used and (name in OTHERS) == late] for late in (0, 1))
    parts = [
        f'"""{title}"""\n\n' + "\n\n".join("\n".join(lines) for lines in imports),
        *(["\n".join(constants)] if (constants := [line for name, line in CONSTANTS.items() if name in used]) else []),
        *(text for name, text in SOURCES.items() if name in copied),
        body.strip(),
    ]
    return "\n\n\n".join(parts) + "\n"


def _names(code: CodeType) -> Iterator[str]:
    """What a function names that is not its own, in the functions within it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
