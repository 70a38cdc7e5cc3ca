"""Whatever stands in what a client calls a Keras model is mapped, or refused."""

import json
from collections import Counter
from typing import Any

from core import errors
from core.importers.keras_model import from_keras


def _layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


# Anything may stand anywhere in what a client calls a model.
WRONG: list[Any] = [None, True, -1, 1e300, "x", "softmax", [], [[]], {}, {"class_name": "Dense"}, {"config": 1}]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


def test_anything_anywhere_is_mapped_or_refused() -> None:
    stop = {"class_name": "EarlyStopping", "config": {"patience": 2, "monitor": "val_loss", "min_delta": 0}}
    slower = {"class_name": "ReduceLROnPlateau", "config": {"min_lr": 0.1}}
    zeros = {
        "module": "keras.initializers",
        "class_name": "VarianceScaling",
        "config": {"scale": 1.0, "mode": "fan_in"},
    }
    layers = [
        _layer(
            "Dense",
            units=4,
            activation={"class_name": "PReLU", "config": {"shared_axes": [1]}},
            kernel_initializer=zeros,
        ),
        _layer("BatchNormalization", momentum=0.9),
        _layer("Dense", units=3, kernel_regularizer={"class_name": "L1L2", "config": {"l1": 0.1, "l2": None}}),
    ]
    sgd = {"class_name": "SGD", "config": {"learning_rate": 0.1, "weight_decay": 0.1}}
    loss = {"class_name": "CategoricalCrossentropy", "config": {"from_logits": True}}
    whole = {
        "target": "species",
        "model": {"class_name": "Sequential", "config": {"layers": layers}},
        "compile": {"loss": loss, "optimizer": sgd, "metrics": ["accuracy"]},
        "fit": {"epochs": 2, "callbacks": [stop, slower], "class_weight": {"a": 1.0}},
    }
    assert _imported(whole)

    outcomes = Counter[bool]()
    for place in _places(whole)[1:]:
        if len(place) == 1:
            continue  # a body's own fields are checked before
        for wrong in WRONG:
            body = json.loads(json.dumps(whole))
            parent = body
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = wrong
            outcomes[_imported(body)] += 1
    assert outcomes[True] > 10
    assert outcomes[False] > 300


def _imported(body: dict[str, Any]) -> bool:
    """Whether it was mapped, and not refused; anything else would be a fault of ours."""
    try:
        found = from_keras(body["model"], body["compile"], body["fit"], body["target"])
    except errors.ModelNotMappable:
        return False
    assert json.dumps(found.spec, allow_nan=False)
    return True
