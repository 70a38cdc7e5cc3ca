"""What `score_numpy.py` and `predict.py` are put together from: functions of numpy alone, copied where they are needed.

So they know nothing of this package; what they name is of this file, or in `scripts.IMPORTS`.
"""
# mypy: disable-error-code="no-any-return"

import csv
import json
import math
from datetime import datetime, time, timezone
from pathlib import Path
from typing import Any

import numpy as np

MISSING_MOMENT = np.iinfo(np.int64).min
# As the reader of tables has them (`worker/ingest/csv_text.py`), which a training does not know.
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL"]
MISSING_NUMBER = ["?", "-", "--", ".", "*", "None", "none", "n/a", "na", "<NA>", "NAN", "NaT", "missing"]

# --- layers -------------------------------------------------------------------------------------------------------


def linear(x: Any, weights: Any, key: str) -> Any:
    x = x @ weights[f"{key}.weight"].T
    return x + weights[f"{key}.bias"] if f"{key}.bias" in weights else x


def batch_norm(x: Any, weights: Any, key: str, eps: float) -> Any:
    x = (x - weights[f"{key}.running_mean"]) / np.sqrt(weights[f"{key}.running_var"] + np.float32(eps))
    return x * weights[f"{key}.weight"] + weights[f"{key}.bias"]


def layer_norm(x: Any, weights: Any, key: str, eps: float) -> Any:
    x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt((x * x).mean(1, keepdims=True) + np.float32(eps))
    return x * weights[f"{key}.weight"] + weights[f"{key}.bias"]


def rms_norm(x: Any, weights: Any, key: str, eps: float) -> Any:
    return x / np.sqrt((x * x).mean(1, keepdims=True) + np.float32(eps)) * weights[f"{key}.weight"]


# --- activations --------------------------------------------------------------------------------------------------


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def relu6(x: Any) -> Any:
    return np.clip(x, 0, 6)


def selu(x: Any) -> Any:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


def sigmoid(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def silu(x: Any) -> Any:
    return x * sigmoid(x)


def mish(x: Any) -> Any:
    return x * np.tanh(softplus(x, 1.0, 20.0))


def hardsigmoid(x: Any) -> Any:
    return np.clip(x + 3, 0, 6) / 6


def hardswish(x: Any) -> Any:
    return x * hardsigmoid(x)


def logsigmoid(x: Any) -> Any:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def softsign(x: Any) -> Any:
    return x / (1 + np.abs(x))


def tanhshrink(x: Any) -> Any:
    return x - np.tanh(x)


def leaky_relu(x: Any, slope: Any) -> Any:
    return np.where(x > 0, x, slope * x)


def elu(x: Any, alpha: float) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def celu(x: Any, alpha: float) -> Any:
    return np.maximum(x, 0) + np.minimum(alpha * np.expm1(np.minimum(x, 0) / alpha), 0)


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(np.float32))


def gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def softplus(x: Any, beta: float, threshold: float) -> Any:
    bent = (np.maximum(beta * x, 0) + np.log1p(np.exp(-np.abs(beta * x)))) / beta
    return np.where(beta * x > threshold, x, bent)


def hardtanh(x: Any, lowest: float, highest: float) -> Any:
    return np.clip(x, lowest, highest)


def hardshrink(x: Any, most: float) -> Any:
    return np.where(np.abs(x) > most, x, np.float32(0))


def softshrink(x: Any, most: float) -> Any:
    return np.sign(x) * np.maximum(np.abs(x) - most, 0)


def threshold(x: Any, most: float, value: float) -> Any:
    return np.where(x > most, x, np.float32(value))


def softmax(x: Any) -> Any:
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


# --- columns: (values of the rows, what preprocessing.json says of the column) -> features --------------------------


def scaled(x: Any, scaling: Any) -> Any:
    if scaling["type"] == "affine":
        return (x - np.float32(scaling["center"])) / np.float32(scaling["scale"])
    knots, deviates = np.array(scaling["knots"], np.float32), np.array(scaling["deviates"], np.float32)
    if len(knots) == 1:
        return np.full_like(x, deviates[0])
    x = np.clip(x, knots[0], knots[-1])
    place = np.searchsorted(knots[1:-1], x, "right")
    return deviates[place] + (x - knots[place]) / np.diff(knots)[place] * np.diff(deviates)[place]


def is_missing(value: Any) -> bool:
    """Where a number or a date is expected."""
    return value is None or (isinstance(value, str) and value.strip() in MISSING + MISSING_NUMBER)


def numbers(values: Any) -> Any:
    if not isinstance(values, np.ndarray):
        values = np.array([math.nan if is_missing(value) else float(value) for value in values])
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def number(values: Any, fitted: Any) -> list[Any]:
    x = numbers(values)
    missing = ~np.isfinite(x)
    x = scaled(np.where(missing, np.float32(fitted["imputed"]), x), fitted["scaling"])
    return [x, missing.astype(np.float32)] if fitted["missing_indicator"] else [x]


def vector(values: Any, fitted: Any) -> list[Any]:
    size = len(fitted["center"])
    if not isinstance(values, np.ndarray):
        values = np.array([numbers([None] * size if value is None else value) for value in values])
    x = numbers(values).reshape(-1, size)
    missing = ~np.isfinite(x)
    x = np.where(missing, np.array(fitted["imputed"], np.float32), x)
    x = (x - np.array(fitted["center"], np.float32)) / np.array(fitted["scale"], np.float32)
    return [*x.T, missing.any(1).astype(np.float32)] if fitted["missing_indicator"] else list(x.T)


def text(value: Any) -> str:
    """The JSON text of a category, without quotes: 2.0 is 2."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def known_texts(categories: list[Any]) -> dict[str, int]:
    """The place of each category by its text; of two with the same, that of a text. As in Python, 1 is true."""
    known: dict[str, int] = {}
    found = [(value, place) for place, value in enumerate(categories) if value is not None]
    for value, place in sorted(found, key=lambda one: not isinstance(one[0], str)):
        known.setdefault(text(value), place)
    for value, place in found:
        if value == 0 or value == 1:
            known.setdefault(str(int(value)), place)
            known.setdefault(text(bool(value)), place)
    return known


def places(values: Any, categories: list[Any], unknown: int, imputed: Any = None) -> Any:
    """The place of each value in `categories`; `imputed` stands for a missing one."""
    known = known_texts(categories)
    missing = {value: place for place, value in enumerate(categories)}.get(imputed, unknown)
    known_values: dict[Any, int] = {None: missing, **known}  # most are texts already
    return np.array(
        [
            known_values.get(value, unknown) if value is None or type(value) is str else known.get(text(value), unknown)
            for value in values
        ],
        np.int64,
    )


def category(values: Any, fitted: Any) -> list[Any]:
    count, rare = len(fitted["categories"]), bool(fitted["rare"])
    found = places(values, fitted["categories"], count if rare else -1, fitted["imputed"])
    return [(found == place).astype(np.float32) for place in range(count + rare)]


def ordinal(values: Any, fitted: Any) -> list[Any]:
    found = places(values, fitted["categories"], -1)
    missing = found == -1
    x = scaled(np.where(missing, np.float32(fitted["imputed"]), found.astype(np.float32)), fitted["scaling"])
    return [x, missing.astype(np.float32)] if fitted["missing_indicator"] else [x]


def strings(values: Any, missing: str) -> Any:
    """Categories as ONNX takes them. A text that happens to be the one for a missing value is none that it knows."""
    texts = [missing if value is None else text(value) for value in values]
    unknown = missing + "\0"
    return [unknown if value is not None and one == missing else one for value, one in zip(values, texts)]  # noqa: B905


def embedding(values: Any, fitted: Any) -> Any:
    return places(values, fitted["categories"], -1, fitted["imputed"]) + 1


def seconds(value: Any) -> int:
    """Since 1970 in UTC, or since midnight, of ISO 8601 or of a number of them."""
    if is_missing(value):
        return MISSING_MOMENT
    if not isinstance(value, str):
        return int(value // 1)
    if "-" not in value[1:5] and ":" in value[:3]:
        moment = time.fromisoformat(value)
        return moment.hour * 3600 + moment.minute * 60 + moment.second
    found = datetime.fromisoformat(value)
    utc = timezone.utc  # noqa: UP017 - of older Pythons too
    since = (found if found.tzinfo else found.replace(tzinfo=utc)) - datetime(1970, 1, 1, tzinfo=utc)
    return since.days * 86_400 + since.seconds


def part_of(moments: Any, part: str) -> Any:
    days = moments // 86_400
    if part == "elapsed":
        return moments
    if part == "weekday":
        return (days + 3) % 7
    if part in ("hour", "minute"):
        return moments // 3600 % 24 if part == "hour" else moments // 60 % 60
    months = days.astype("datetime64[D]").astype("datetime64[M]")
    if part == "day":
        return days - months.astype("datetime64[D]").astype(np.int64) + 1
    return months.astype(np.int64) % 12 + 1 if part == "month" else months.astype(np.int64) // 12 + 1970


def moment(values: Any, fitted: Any) -> list[Any]:
    if not isinstance(values, np.ndarray):
        values = np.array([seconds(value) for value in values], np.int64)
    missing = values == MISSING_MOMENT
    moments = np.where(missing, fitted["imputed"], values)
    features = []
    for made in fitted["parts"]:
        part = part_of(moments, made["part"])
        if made["type"] == "plain":
            features.append(scaled((part - made["origin"]).astype(np.float32), made["scaling"]))
        else:
            angles = 2 * np.pi * np.arange(made["period"]) / made["period"]
            features += [wave.astype(np.float32)[part - made["first"]] for wave in (np.sin(angles), np.cos(angles))]
    return [*features, missing.astype(np.float32)] if fitted["missing_indicator"] else features


# --- rows and predictions --------------------------------------------------------------------------------------------


def read_rows(file: str) -> list[dict[str, Any]]:
    """[{column: value}, ...] of a .csv, .jsonl or .json"""
    data = Path(file).read_text(encoding="utf-8-sig")
    if file.endswith(".csv"):
        rows = csv.DictReader(data.splitlines(True))
        return [{name: None if cell in MISSING else cell for name, cell in row.items()} for row in rows]
    return [json.loads(line) for line in data.splitlines() if line] if file.endswith(".jsonl") else json.loads(data)


def answers(scores: Any, said: Any) -> list[dict[str, Any]]:
    """The prediction of each row as the API gives it; `said` has task, targets, classes, quantiles and thresholds."""
    names, classes, quantiles, thresholds = said["targets"], said["classes"], said["quantiles"], said["thresholds"]
    found = []
    for row in scores.tolist():
        if said["task"] == "regression":
            values = [dict(zip(map(str, quantiles), of_one)) if quantiles else of_one for of_one in row]  # noqa: B905
            one, several = ("quantiles", "quantiles") if quantiles else ("value", "values")
            found.append({one: values[0]} if len(names) == 1 else {several: dict(zip(names, values))})  # noqa: B905
        elif said["task"] == "multilabel":
            labels = [name for name, score, most in zip(names, row, thresholds) if score > most]  # noqa: B905
            found.append({"labels": labels, said["scores"]: dict(zip(names, row))})  # noqa: B905
        else:
            place = int(row[1] > thresholds[0]) if len(row) == 2 else row.index(max(row))
            found.append({"label": classes[place], said["scores"]: dict(zip(map(text, classes), row))})  # noqa: B905
    return found
