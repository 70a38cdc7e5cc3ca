"""What a network has learned of a column, by `preprocessing.json`: the values it knows, and what becomes of others."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Facts = dict[str, Any]  # policy, and what belongs to it


@dataclass(frozen=True)
class Learned:
    """Of one column. Each `Facts` is said of a row as it is: what was done with its value."""

    kind: str  # as in preprocessing.json
    known: frozenset[str]  # the categories, and the rare ones, as texts
    range: tuple[float, float] | None  # of the training rows
    when_missing: Facts
    when_unseen: Facts
    when_outside: Facts


def learned(fitted: Mapping[str, Any]) -> Learned:
    """`fitted` is one of the `inputs` of `preprocessing.json`."""
    kind, nothing = fitted["type"], dict[str, Any]()
    if kind in ("category", "ordinal", "embedding"):
        missing, unseen = _of_categories(fitted)
        return Learned(kind, _known(fitted), None, missing, unseen, nothing)
    minimum, maximum = fitted.get("minimum"), fitted.get("maximum")
    shown = (moment_text(minimum), moment_text(maximum)) if kind == "datetime" else (minimum, maximum)
    policy = "clipped" if (fitted.get("scaling") or {}).get("type") == "quantile" else "used_as_it_is"
    missing = {"policy": "imputed"}
    if kind != "vector":
        missing["imputed"] = moment_text(fitted["imputed"]) if kind == "datetime" else fitted["imputed"]
    outside = {"policy": policy, "minimum": shown[0], "maximum": shown[1]}
    known_range = None if minimum is None or maximum is None else (minimum, maximum)
    return Learned(kind, frozenset(), known_range, missing, nothing, outside)


def _of_categories(fitted: Mapping[str, Any]) -> tuple[Facts, Facts]:
    """What becomes of a missing one, and of one that no training row had."""
    if fitted["type"] == "ordinal":
        place = fitted["imputed"]
        is_one = place == int(place) and 0 <= place < len(fitted["categories"])
        imputed = {"policy": "imputed", "imputed": fitted["categories"][int(place)] if is_one else place}
        return imputed, imputed
    rare = "rare" if fitted["rare"] else "no_category"
    unseen = {"policy": "unknown" if fitted["type"] == "embedding" else rare}
    if fitted["imputed"] is not None:
        return {"policy": "imputed", "imputed": fitted["imputed"]}, unseen
    return {"policy": "own_category"} if None in fitted["categories"] else unseen, unseen


def _known(fitted: Mapping[str, Any]) -> frozenset[str]:
    """As the network itself has it: 1 is true and 0 is false."""
    values = [value for value in (*fitted["categories"], *fitted.get("rare", ())) if value is not None]
    numbers = [value for value in values if value in (0, 1)]
    return frozenset(
        {*map(text, values), *(text(int(value)) for value in numbers), *(text(bool(value)) for value in numbers)}
    )


def text(value: Any) -> str:
    """The JSON text of a category, without quotes: 2.0 is 2."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def moment_text(seconds: int | None) -> str | int | None:
    """RFC 3339; the number itself where that has no such year."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return seconds


def stands_for_nothing(missing: str, known: frozenset[str]) -> str | None:
    """What to give the network for the text that means a missing value to it, where that was said as a text: one that
    it does not know. None where it is a category."""
    return None if missing in known else "\0" * (len(missing) + 1)
