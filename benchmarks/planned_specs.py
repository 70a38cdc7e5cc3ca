"""Twenty specs as unlike each other as users' are, and the tables that they are about."""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Planned:
    """A spec of one of the `TABLES`."""

    name: str
    table: str
    spec: dict[str, Any]


def _classes(rows: int, columns: int, classes: int) -> bytes:
    """One vector column and a class that follows from it, roughly: an .npz."""
    draw = np.random.default_rng(0)
    features = draw.standard_normal((rows, columns), np.float32)
    scores = features @ draw.standard_normal((columns, classes), np.float32)
    noise = draw.standard_normal(scores.shape, np.float32) * columns**0.5
    return _npz(X=features, y=np.argmax(scores + noise, 1))


def _numbers(rows: int, columns: int) -> bytes:
    draw = np.random.default_rng(1)
    features = draw.standard_normal((rows, columns), np.float32)
    weights = draw.standard_normal((columns, 2), np.float32)
    target = np.tanh(features @ weights) + 0.1 * draw.standard_normal((rows, 2), np.float32)
    return _npz(X=features, y=target[:, 0], z=target[:, 1])


def _npz(**arrays: Any) -> bytes:
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def _customers(rows: int) -> bytes:
    """Numbers, categories of few and of many values, a date, holes; two classes, the second of one row in ten."""
    draw = random.Random(2)
    lines = ["age,income,city,plan,since,churned"]
    for _ in range(rows):
        age, plan = draw.randint(18, 90), draw.choice("abc")
        income = "" if draw.random() < 0.1 else f"{draw.lognormvariate(10, 0.5):.2f}"
        since = f"20{draw.randint(10, 24)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        churned = "yes" if draw.random() < (0.25 if plan == "c" else 0.03) else "no"
        lines.append(f"{age},{income},city {draw.randint(1, 300)},{plan},{since},{churned}")
    return "\n".join(lines).encode()


TABLES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "tiny": ("tiny.npz", lambda: _classes(150, 4, 3)),
    "customers": ("customers.csv", lambda: _customers(5_000)),
    "wide": ("wide.npz", lambda: _classes(2_000, 500, 10)),
    "numbers": ("numbers.npz", lambda: _numbers(20_000, 30)),
    "large": ("large.npz", lambda: _classes(100_000, 100, 5)),
}


def _dense(*units: int, then: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"layers": [one for width in units for one in ({"type": "dense", "units": width}, RELU, *then)]}


RELU = {"type": "activation", "activation": "relu"}
BATCH_NORM, DROPOUT = {"type": "batch_norm"}, {"type": "dropout", "rate": 0.2}
BLOCK = {"type": "residual", "layers": [{"type": "layer_norm"}, {"type": "dense", "units": 64}, RELU]}
EMBEDDED = {"columns": {"city": {"encode": "embedding", "dimension": 16}}}
SPECS = (
    Planned("all defaults, tiny", "tiny", {"target": "y"}),
    Planned("one epoch, tiny", "tiny", {"target": "y", "training": {"epochs": 1}}),
    Planned("L-BFGS, tiny", "tiny", {"target": "y", "training": {"optimizer": "lbfgs", "epochs": 20}}),
    Planned("all defaults, mixed columns", "customers", {"target": "churned"}),
    Planned(
        "embeddings, batch norm, dropout",
        "customers",
        {
            "target": "churned",
            "features": EMBEDDED,
            "network": _dense(128, 64, then=(BATCH_NORM, DROPOUT)),
            "training": {"epochs": 30, "batch_size": 64, "metrics": ["roc_auc", "f1", "log_loss"]},
        },
    ),
    Planned(
        "balanced, EMA, one-cycle, test rows",
        "customers",
        {
            "target": "churned",
            "split": {"test": 0.2},
            "training": {"epochs": 20, "class_weights": "balanced", "ema_decay": 0.99, "schedule": "one_cycle"},
        },
    ),
    Planned(
        "wide network, AdamW, amsgrad",
        "wide",
        {
            "target": "y",
            "network": {"hidden": [1024, 1024]},
            "training": {"epochs": 5, "optimizer": {"name": "adamw", "amsgrad": True}},
        },
    ),
    Planned(
        "one layer of 4096, SGD",
        "wide",
        {
            "target": "y",
            "network": {"hidden": [4096]},
            "training": {"epochs": 4, "optimizer": {"name": "sgd", "momentum": 0.9}},
        },
    ),
    Planned(
        "linear, L-BFGS, wide table",
        "wide",
        {"target": "y", "network": {"hidden": []}, "training": {"epochs": 20, "optimizer": "lbfgs"}},
    ),
    Planned("regression of two numbers", "numbers", {"target": ["y", "z"], "training": {"epochs": 3}}),
    Planned(
        "bfloat16, batch of 512",
        "numbers",
        {
            "target": "y",
            "features": {"exclude": ["z"]},
            "network": {"hidden": [256, 256]},
            "training": {"epochs": 5, "batch_size": 512, "precision": "bfloat16"},
        },
    ),
    Planned(
        "residual blocks, layer norm, refit",
        "numbers",
        {
            "target": "y",
            "features": {"exclude": ["z"]},
            "network": {"layers": [{"type": "dense", "units": 64}, RELU, BLOCK, BLOCK]},
            "training": {"epochs": 3, "batch_size": 128, "refit": True},
        },
    ),
    Planned(
        "L-BFGS on all rows",
        "numbers",
        {"target": ["y", "z"], "network": {"hidden": [64, 64]}, "training": {"epochs": 5, "optimizer": "lbfgs"}},
    ),
    Planned(
        "quantiles, accumulate",
        "numbers",
        {
            "target": "y",
            "features": {"exclude": ["z"]},
            "training": {
                "epochs": 6,
                "batch_size": 128,
                "accumulate": 4,
                "loss": {"name": "quantile", "quantiles": [0.1, 0.5, 0.9]},
            },
        },
    ),
    Planned(
        "W2",
        "large",
        {"target": "y", "network": {"hidden": [256, 128]}, "training": {"epochs": 5, "batch_size": 256}},
    ),
    Planned(
        "batch of 8192, batch norm",
        "large",
        {
            "target": "y",
            "network": _dense(256, 256, then=(BATCH_NORM,)),
            "training": {"epochs": 4, "batch_size": 8192},
        },
    ),
    Planned(
        "accumulate, EMA, dropout",
        "large",
        {
            "target": "y",
            "network": _dense(128, then=(DROPOUT,)),
            "training": {"epochs": 4, "batch_size": 512, "accumulate": 8, "ema_decay": 0.9},
        },
    ),
    Planned(
        "L-BFGS on 80,000 rows",
        "large",
        {"target": "y", "network": {"hidden": [32]}, "training": {"epochs": 4, "optimizer": "lbfgs"}},
    ),
    Planned(
        "2048-2048, limit of steps",
        "large",
        {"target": "y", "network": {"hidden": [2048, 2048]}, "training": {"steps": 40, "batch_size": 256}},
    ),
    Planned(
        "no validation, two threads",
        "large",
        {
            "target": "y",
            "split": {"validation": 0},
            "resources": {"threads": 2},
            "training": {"epochs": 3, "batch_size": 1024, "optimizer": "rmsprop"},
        },
    ),
)
