"""The settings as a table: for `backpropd config`, and for `docs/configuration.md`, which a test compares."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from core.settings import Settings

HIDDEN = {"replaces_worker", "worker_id"}  # between `serve` and its worker
SECRETS = {"bootstrap_api_key"}


def effective(settings: Settings) -> list[dict[str, Any]]:
    """Name, value here (without secrets), and meaning of every setting."""
    return [
        {
            "name": f"BACKPROPD_{name.upper()}",
            "value": _masked(name, getattr(settings, name)),
            "meaning": field.description,
        }
        for name, field in Settings.model_fields.items()
        if name not in HIDDEN
    ]


def as_markdown() -> str:
    """The table of `docs/configuration.md`."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if name not in HIDDEN:
            default = "" if field.default is None else f"`{field.default}`"
            lines.append(f"| `BACKPROPD_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _masked(name: str, value: Any) -> Any:
    if name in SECRETS:
        return "(set)" if value else None
    if name.endswith("_url"):
        parts = urlsplit(str(value))
        if parts.password:
            host = parts.netloc.rpartition("@")[2]
            return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
    return value
