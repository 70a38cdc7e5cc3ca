"""Trainings that go well, and trainings with a planted fault: table and spec, each named by what it is.

They were chosen by what the words mean, before any threshold was. Those of `HELD_OUT_*` were looked at only
afterwards: nothing was fitted to them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn import datasets

Table = tuple[Any, Any]  # features and target


@dataclass(frozen=True)
class Case:
    """One training."""

    name: str
    table: Callable[[], Table]
    network: dict[str, Any]
    training: dict[str, Any]
    code: str | None = None  # the diagnosis that it was made for

    def text(self) -> str:
        """The table as CSV; classes are words."""
        features, target = self.table()
        names = [f"x{place}" for place in range(features.shape[1])]
        words = [f"c{value}" if isinstance(value, int) else repr(value) for value in target.tolist()]
        rows = [
            ",".join([*(repr(float(value)) for value in row), word]) for row, word in zip(features, words, strict=True)
        ]
        return "\n".join([",".join([*names, "y"]), *rows]) + "\n"

    def spec(self) -> dict[str, Any]:
        return json.loads(json.dumps({"target": "y", "network": self.network, "training": self.training}))


def shipped(name: str) -> Callable[[], Table]:
    """A table of scikit-learn."""
    return lambda: getattr(datasets, f"load_{name}")(return_X_y=True)


def made(name: str, *, seed: int = 0, **options: Any) -> Callable[[], Table]:
    """A table that scikit-learn draws; numbers to predict are standardised."""

    def draw() -> Table:
        features, target = getattr(datasets, f"make_{name}")(random_state=seed, **options)
        return features, _standardised(target)

    return draw


def standardised(table: Callable[[], Table]) -> Callable[[], Table]:
    """Its target with mean 0 and deviation 1."""

    def draw() -> Table:
        features, target = table()
        return features, _standardised(target)

    return draw


def _standardised(target: Any) -> Any:
    if target.dtype.kind != "f":
        return target
    return (target - target.mean()) / target.std()


def dense(*units: int, then: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
    """Dense layers alike, relu unless said otherwise; `then` follows each of them."""
    one = {"type": "dense", "activation": "relu", **options}
    return {"layers": [layer for width in units for layer in ({**one, "units": width}, *(then or []))]}


def normal(deviation: float) -> dict[str, Any]:
    return {"name": "random_normal", "stddev": deviation}


def adam(rate: float, **options: Any) -> dict[str, Any]:
    return {"name": "adam", "learning_rate": rate, **options}


def sgd(rate: float, momentum: float = 0.0, **options: Any) -> dict[str, Any]:
    return {"name": "sgd", "learning_rate": rate, "momentum": momentum, **options}


DEFAULT: dict[str, Any] = {}
IRIS, WINE, CANCER, DIGITS = (shipped(name) for name in ("iris", "wine", "breast_cancer", "digits"))
DIABETES = shipped("diabetes")


def patient(epochs: int) -> dict[str, Any]:
    return {"patience": epochs}


HEALTHY = [
    Case("iris, all defaults", IRIS, DEFAULT, {}),
    Case(
        "iris, tanh", IRIS, dense(16, activation="tanh"), {"optimizer": adam(0.01), "epochs": 100, "stop": patient(20)}
    ),
    Case("wine, all defaults", WINE, DEFAULT, {}),
    Case("wine, adamw", WINE, {"hidden": [32]}, {"optimizer": "adamw", "epochs": 100, "stop": patient(10)}),
    Case("breast cancer, all defaults", CANCER, DEFAULT, {}),
    Case("breast cancer, patience", CANCER, {"hidden": [32]}, {"epochs": 200, "stop": patient(10)}),
    Case(
        "breast cancer, dropout",
        CANCER,
        dense(64, 64, then=[{"type": "dropout", "rate": 0.3}]),
        {"optimizer": {"name": "adamw", "weight_decay": 0.01}, "epochs": 60},
    ),
    Case("digits, all defaults", DIGITS, DEFAULT, {}),
    Case("digits, 20 epochs", DIGITS, {"hidden": [128]}, {"epochs": 20, "batch_size": 64}),
    Case("digits, batch norm", DIGITS, dense(64, 64, then=[{"type": "batch_norm"}]), {"epochs": 30}),
    Case("digits, momentum", DIGITS, DEFAULT, {"optimizer": sgd(0.05, 0.9), "epochs": 30}),
    Case(
        "digits, nesterov and cosine",
        DIGITS,
        DEFAULT,
        {"optimizer": sgd(0.05, 0.9, nesterov=True), "schedule": "cosine"},
    ),
    Case("digits, one cycle", DIGITS, DEFAULT, {"optimizer": adam(0.01), "schedule": "one_cycle", "epochs": 30}),
    Case(
        "digits, gelu and layer norm",
        DIGITS,
        dense(128, 64, activation="gelu", then=[{"type": "layer_norm"}]),
        {"epochs": 20},
    ),
    Case("diabetes", standardised(DIABETES), {"hidden": [32]}, {"epochs": 200, "stop": patient(15)}),
    Case(
        "diabetes, ridge-like",
        standardised(DIABETES),
        {"hidden": [16]},
        {"optimizer": {"name": "adamw", "weight_decay": 0.1}, "epochs": 50},
    ),
    Case("classes", made("classification", n_samples=1000), DEFAULT, {"epochs": 20}),
    Case(
        "classes, some labels wrong",
        made("classification", n_samples=2000, flip_y=0.1),
        {"hidden": [32]},
        {"epochs": 100, "stop": patient(8)},
    ),
    Case(
        "five classes",
        made("classification", n_samples=2000, n_informative=10, n_classes=5),
        DEFAULT,
        {"epochs": 100, "stop": patient(10)},
    ),
    Case(
        "a plane",
        made("regression", n_samples=500, n_features=10, noise=10.0),
        DEFAULT,
        {"epochs": 60, "stop": patient(10)},
    ),
    Case(
        "moons, tanh",
        made("moons", n_samples=500, noise=0.2),
        dense(16, 16, activation="tanh"),
        {"optimizer": adam(0.01), "epochs": 100},
    ),
    Case("moons, all defaults", made("moons", n_samples=1000, noise=0.3), DEFAULT, {}),
    Case("circles", made("circles", n_samples=600, noise=0.1, factor=0.5), {"hidden": [32, 32]}, {"epochs": 60}),
    Case("friedman 1", made("friedman1", n_samples=1000), DEFAULT, {}),
    Case(
        "friedman 1, noise", made("friedman1", n_samples=1000, noise=1.0), DEFAULT, {"epochs": 200, "stop": patient(15)}
    ),
    Case(
        "friedman 2, cosine",
        made("friedman2", n_samples=800),
        {"hidden": [64, 32], "activation": "silu"},
        {"optimizer": adam(0.003), "schedule": "cosine", "epochs": 80},
    ),
    Case(
        "friedman 3, reduced on plateaus",
        made("friedman3", n_samples=800),
        DEFAULT,
        {"schedule": "reduce_on_plateau", "epochs": 120, "stop": patient(30)},
    ),
    Case("blobs", made("blobs", n_samples=400, centers=5, n_features=8), DEFAULT, {"epochs": 30}),
    Case("quantiles of a Gaussian", made("gaussian_quantiles", n_samples=1000, n_features=5), DEFAULT, {"epochs": 60}),
    Case(
        "digits, sgd and a step",
        DIGITS,
        dense(64, weight_initializer="he_uniform"),
        {"optimizer": sgd(0.1), "schedule": {"name": "step", "step_size": 15}, "epochs": 40},
    ),
]

PLANTED = [
    Case("deep and sigmoid", DIGITS, dense(*[64] * 8, activation="sigmoid"), {"epochs": 30}, "vanishing_gradient"),
    Case(
        "weights begin far too large",
        DIGITS,
        dense(*[64] * 5, weight_initializer=normal(1.0)),
        {"optimizer": sgd(0.01), "epochs": 30},
        "exploding_gradient",
    ),
    Case(
        "biases begin far below 0",
        DIGITS,
        dense(64, 64, bias_initializer={"name": "constant", "value": -5.0}),
        {"optimizer": sgd(0.05), "epochs": 30},
        "dying_units",
    ),
    Case("adam with a rate of 1", CANCER, DEFAULT, {"optimizer": adam(1.0), "epochs": 30}, "learning_rate_too_high"),
    Case(
        "sgd with a rate of 5",
        DIGITS,
        dense(64, 64, activation="tanh"),
        {"optimizer": sgd(5.0), "epochs": 30},
        "learning_rate_too_high",
    ),
    Case(
        "adam with a rate of a millionth",
        WINE,
        DEFAULT,
        {"optimizer": adam(1e-6), "epochs": 50},
        "learning_rate_too_low",
    ),
    Case("sgd with a rate of 1e-5", DIGITS, DEFAULT, {"optimizer": sgd(1e-5), "epochs": 30}, "learning_rate_too_low"),
    Case(
        "wide on few wrong labels",
        made("classification", n_samples=150, flip_y=0.3),
        {"hidden": [512, 512]},
        {"epochs": 100},
        "overfitting",
    ),
    Case(
        "wide on few noisy numbers",
        made("friedman1", n_samples=150, noise=4.0),
        {"hidden": [256, 256]},
        {"epochs": 150},
        "overfitting",
    ),
    Case(
        "a rate that never falls",
        made("friedman1", n_samples=2000, noise=1.0),
        {"hidden": [16]},
        {"optimizer": sgd(0.1, 0.9), "epochs": 60},
        "plateau",
    ),
]

HELD_OUT_HEALTHY = [
    Case(
        "iris, rmsprop",
        IRIS,
        {"hidden": [24]},
        {"optimizer": {"name": "rmsprop", "learning_rate": 0.003}, "epochs": 60},
    ),
    Case("iris, L-BFGS", IRIS, {"hidden": [8]}, {"optimizer": "lbfgs", "epochs": 10}),
    Case(
        "wine, selu",
        WINE,
        dense(32, 32, activation="selu", weight_initializer="lecun_normal"),
        {"epochs": 40, "optimizer": "nadam"},
    ),
    Case("wine, weight decay", WINE, dense(32, l2=0.001), {"epochs": 80}),
    Case(
        "breast cancer, elu",
        CANCER,
        dense(48, 24, activation="elu"),
        {"epochs": 80, "stop": patient(12), "batch_size": 16},
    ),
    Case("breast cancer, no hidden layer", CANCER, {"hidden": []}, {"epochs": 100, "optimizer": adam(0.01)}),
    Case("breast cancer, averaged weights", CANCER, DEFAULT, {"epochs": 30, "ema_decay": 0.98}),
    Case(
        "digits, he and adamw",
        DIGITS,
        dense(256, 128, weight_initializer="he_normal"),
        {"optimizer": "adamw", "epochs": 25},
    ),
    Case("digits, five layers", DIGITS, dense(*[64] * 5, weight_initializer="he_uniform"), {"epochs": 25}),
    Case(
        "digits, residual",
        DIGITS,
        {
            "layers": [{"type": "dense", "units": 64, "activation": "relu"}]
            + [
                {
                    "type": "residual",
                    "layers": [
                        {"type": "batch_norm"},
                        {"type": "dense", "units": 64, "activation": "relu"},
                        {"type": "dense", "units": 64},
                    ],
                }
            ]
            * 3
        },
        {"epochs": 25},
    ),
    Case(
        "digits, warm-up and cosine",
        DIGITS,
        DEFAULT,
        {"optimizer": adam(0.003), "schedule": {"name": "cosine", "warmup_epochs": 5}, "epochs": 40},
    ),
    Case(
        "digits, tanh and momentum", DIGITS, dense(100, activation="tanh"), {"optimizer": sgd(0.1, 0.9), "epochs": 40}
    ),
    Case("digits, dropout", DIGITS, dense(128, 128, then=[{"type": "dropout", "rate": 0.5}]), {"epochs": 40}),
    Case("digits, large batches", DIGITS, DEFAULT, {"batch_size": 256, "optimizer": adam(0.005), "epochs": 60}),
    Case(
        "digits, labels smoothed",
        DIGITS,
        DEFAULT,
        {"loss": {"name": "cross_entropy", "label_smoothing": 0.1}, "epochs": 30},
    ),
    Case(
        "diabetes, huber",
        standardised(DIABETES),
        {"hidden": [32]},
        {"loss": "huber", "epochs": 100, "stop": patient(15)},
    ),
    Case(
        "diabetes as it is", DIABETES, {"hidden": [32]}, {"optimizer": adam(0.02), "epochs": 100, "stop": patient(20)}
    ),
    Case(
        "rare class",
        made("classification", seed=3, n_samples=2000, weights=[0.93]),
        DEFAULT,
        {"epochs": 30, "stop": patient(8)},
    ),
    Case(
        "twenty thousand rows",
        made("classification", seed=4, n_samples=20_000, n_informative=12, n_classes=4, flip_y=0.05),
        {"hidden": [128]},
        {"batch_size": 128, "epochs": 20},
    ),
    Case("hastie", made("hastie_10_2", seed=5, n_samples=3000), DEFAULT, {"epochs": 30, "stop": patient(6)}),
    Case(
        "moons, mish",
        made("moons", seed=6, n_samples=800, noise=0.15),
        dense(24, 24, activation="mish"),
        {"epochs": 80},
    ),
    Case(
        "circles, sgd",
        made("circles", seed=7, n_samples=1000, noise=0.05, factor=0.6),
        dense(32, 32, weight_initializer="he_uniform"),
        {"optimizer": sgd(0.1, 0.9), "epochs": 80},
    ),
    Case(
        "blobs that overlap",
        made("blobs", seed=8, n_samples=1000, centers=4, n_features=4, cluster_std=3.0),
        {"hidden": [32]},
        {"epochs": 40},
    ),
    Case(
        "friedman 1, layer norm",
        made("friedman1", seed=9, n_samples=1500, noise=0.5),
        dense(64, 64, activation="silu", then=[{"type": "layer_norm"}]),
        {"epochs": 60, "stop": patient(15)},
    ),
    Case(
        "friedman 2, radam",
        made("friedman2", seed=10, n_samples=600),
        DEFAULT,
        {"optimizer": {"name": "radam", "learning_rate": 0.003}, "epochs": 60},
    ),
    Case(
        "friedman 3, adagrad",
        made("friedman3", seed=11, n_samples=600),
        DEFAULT,
        {"optimizer": {"name": "adagrad", "learning_rate": 0.03}, "epochs": 80},
    ),
    Case(
        "few features of many",
        made("sparse_uncorrelated", seed=12, n_samples=1500, n_features=20),
        {"hidden": [32]},
        {"epochs": 100, "stop": patient(10)},
    ),
    Case(
        "swiss roll",
        made("swiss_roll", seed=13, n_samples=1500, noise=0.1),
        DEFAULT,
        {"epochs": 80, "schedule": "cosine", "optimizer": adam(0.005)},
    ),
    Case("s curve, mae", made("s_curve", seed=14, n_samples=1000, noise=0.05), DEFAULT, {"loss": "mae", "epochs": 60}),
    Case(
        "a plane of low rank",
        made("regression", seed=15, n_samples=800, n_features=30, effective_rank=8, noise=0.5),
        {"hidden": [16]},
        {"optimizer": {"name": "adamw", "weight_decay": 0.05}, "epochs": 100, "stop": patient(15)},
    ),
]

HELD_OUT_PLANTED = [
    Case(
        "deep, and tanh from next to nothing",
        DIGITS,
        dense(*[64] * 6, activation="tanh", weight_initializer=normal(0.01)),
        {"optimizer": sgd(0.05, 0.9), "epochs": 30},
        "vanishing_gradient",
    ),
    Case(
        "twelve sigmoid layers of 32",
        made("classification", seed=21, n_samples=1500, n_informative=6, n_classes=3),
        dense(*[32] * 12, activation="sigmoid"),
        {"epochs": 30},
        "vanishing_gradient",
    ),
    Case(
        "weights of one half on 128 inputs",
        made("friedman1", seed=22, n_samples=1000, noise=0.5),
        dense(*[128] * 4, weight_initializer=normal(0.5)),
        {"epochs": 40},
        "exploding_gradient",
    ),
    Case(
        "a target in the hundreds",
        DIABETES,
        {"hidden": [64, 64]},
        {"optimizer": sgd(0.05), "epochs": 50},
        "exploding_gradient",
    ),
    Case(
        "relu under biases of -3",
        made("blobs", seed=23, n_samples=600, centers=6, n_features=6, cluster_std=2.0),
        dense(48, 48, 48, bias_initializer={"name": "constant", "value": -3.0}),
        {"epochs": 30},
        "dying_units",
    ),
    Case(
        "adam with a rate of 0.3",
        DIGITS,
        {"hidden": [128]},
        {"optimizer": adam(0.3), "epochs": 30},
        "learning_rate_too_high",
    ),
    Case(
        "momentum with a rate of 2",
        made("moons", seed=24, n_samples=600, noise=0.2),
        dense(32, 32),
        {"optimizer": sgd(2.0, 0.9), "epochs": 40},
        "learning_rate_too_high",
    ),
    Case(
        "adamw with a rate of 3e-6",
        made("friedman1", seed=25, n_samples=600),
        DEFAULT,
        {"optimizer": {"name": "adamw", "learning_rate": 3e-6}, "epochs": 40},
        "learning_rate_too_low",
    ),
    Case(
        "256 units and 100 rows",
        made("classification", seed=26, n_samples=100, n_features=30, flip_y=0.2),
        {"hidden": [256, 256]},
        {"epochs": 120},
        "overfitting",
    ),
    Case(
        "adam that cannot settle",
        made("friedman1", seed=27, n_samples=2000, noise=2.0),
        {"hidden": [32]},
        {"optimizer": adam(0.03), "epochs": 60},
        "plateau",
    ),
]
