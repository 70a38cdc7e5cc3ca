"""docker-compose.yml as Compose reads it: merged, with `${NAME:-default}` filled in from variables."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"

OURS = ("migrate", "api", "worker", "sweeper")

_INNERMOST = re.compile(r"\$\{(\w+)(?::-([^${}]*))?\}")


def read(**variables: str) -> dict[str, Any]:
    return dict(_filled_in(yaml.safe_load(FILE.read_text()), variables))


def _filled_in(node: Any, variables: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _filled_in(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled_in(value, variables) for value in node]
    if not isinstance(node, str):
        return node
    while (filled_in := _INNERMOST.sub(lambda found: variables.get(found[1]) or found[2] or "", node)) != node:
        node = filled_in
    return node
