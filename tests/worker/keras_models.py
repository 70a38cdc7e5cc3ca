"""Sequential models made by Keras itself, in an interpreter of its own: `python keras_models.py OUT.json`.

Each is what a user would send: `model` as `to_json()` says it, and the file of `fit` that goes with it.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import keras
from keras import constraints, initializers, layers, losses, metrics, optimizers, regularizers

Model = Any
HIDDEN = ["relu6", "softplus", "softsign", "tanh", "selu", "elu", "silu", "gelu", "hard_sigmoid", "hard_silu", "mish"]
HIDDEN += ["celu", "hard_tanh", "hard_shrink", "soft_shrink", "tanh_shrink", "log_sigmoid", "sigmoid", "linear"]


def _sequential(*inner: Any, inputs: int = 4, **compiled: Any) -> Model:
    model = keras.Sequential([keras.Input((inputs,)), *inner])
    model.compile(**compiled)
    return model


def _classes(*inner: Any, **compiled: Any) -> Model:
    said = {"loss": "sparse_categorical_crossentropy", "optimizer": "adam", "metrics": ["accuracy"], **compiled}
    return _sequential(*inner, layers.Dense(3, activation="softmax"), **said)


def _numbers(*inner: Any, **compiled: Any) -> Model:
    return _sequential(*inner, layers.Dense(1), **{"loss": "mse", "optimizer": "adam", **compiled})


def _functional() -> Model:
    rows = keras.Input((4,))
    hidden = layers.Dense(5, activation="mish")(layers.Flatten()(rows))
    model = keras.Model(rows, layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(loss="binary_crossentropy", optimizer="nadam", metrics=[metrics.AUC(curve="PR"), metrics.Recall()])
    return model


def _branches() -> Model:
    rows = keras.Input((4,))
    model = keras.Model(rows, layers.Dense(1)(layers.Concatenate()([layers.Dense(3)(rows), rows])))
    model.compile(loss="mse", optimizer="adam")
    return model


@keras.saving.register_keras_serializable("mine")
class Dense(layers.Dense):  # type: ignore[misc]
    """Of the name of one of Keras's own."""


def _nested() -> Model:
    inner = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dropout(0.25)])
    return _classes(inner, layers.Dense(4, activation="tanh"))


MODELS: dict[str, Callable[[], Model]] = {
    # The one of this project's seed.
    "seed": lambda: _classes(
        layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu"), loss="categorical_crossentropy"
    ),
    # --- mapped
    "noise": lambda: _classes(
        layers.GaussianNoise(0.1),
        layers.Dense(8, kernel_initializer="lecun_normal", activation="selu"),
        layers.AlphaDropout(0.1),
        layers.Dense(8),
        layers.GaussianDropout(0.2),
        layers.Dropout(0.3, seed=3),
    ),
    "norms": lambda: _classes(
        layers.Dense(8, use_bias=False),
        layers.BatchNormalization(momentum=0.9, epsilon=1e-4),
        layers.Activation("silu"),
        layers.Dense(8),
        layers.LayerNormalization(epsilon=1e-5),
        layers.ReLU(),
        layers.Dense(8),
        layers.RMSNormalization(),
        optimizer=optimizers.AdamW(2e-3, weight_decay=0.01, global_clipnorm=1.0),
    ),
    "activation layers": lambda: _classes(
        layers.Dense(8),
        layers.LeakyReLU(negative_slope=0.1),
        layers.Dense(8, activation=layers.ELU(alpha=0.5)),
        layers.Dense(8),
        layers.PReLU(shared_axes=[1], alpha_initializer=initializers.Constant(0.1)),
        layers.Dense(8, activation="leaky_relu"),
        layers.Dense(8),
        layers.ReLU(max_value=6),
        layers.Dense(8),
        layers.ReLU(max_value=2.0),
        layers.ReLU(negative_slope=0.05),
    ),
    "activations": lambda: _classes(
        *[layers.Dense(4, activation=name) for name in HIDDEN],
        optimizer="adamax",
    ),
    "initializers": lambda: _numbers(
        *[
            layers.Dense(4, kernel_initializer=one, bias_initializer=initializers.Constant(0.1))
            for one in (
                initializers.HeNormal(seed=1),
                initializers.HeUniform(),
                initializers.GlorotNormal(),
                initializers.LecunUniform(),
                initializers.RandomNormal(stddev=0.2),
                initializers.RandomUniform(-0.3, 0.3),
                initializers.TruncatedNormal(stddev=0.1),
                initializers.Orthogonal(gain=1.2),
                initializers.Identity(),
                initializers.VarianceScaling(2.0, "fan_out", "uniform"),
                initializers.Ones(),
            )
        ],
        loss=losses.Huber(delta=2.0),
        optimizer=optimizers.RMSprop(0.01, rho=0.8, momentum=0.5, centered=True),
        metrics=["mae", metrics.RootMeanSquaredError(), metrics.R2Score(), metrics.MeanAbsolutePercentageError()],
    ),
    "penalties": lambda: _numbers(
        layers.Dense(8, kernel_regularizer="l2", activation="relu"),
        layers.Dense(8, kernel_regularizer=regularizers.L1(0.02), kernel_constraint=constraints.MaxNorm(3)),
        layers.Dense(8, kernel_regularizer=regularizers.L1L2(0.001, 0.002), kernel_constraint="max_norm"),
        loss="mae",
        optimizer=optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipvalue=0.5),
    ),
    "logits": lambda: _sequential(
        layers.Dense(8, activation="relu"),
        layers.Dense(3),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer="adagrad",
        metrics=[metrics.SparseTopKCategoricalAccuracy(2)],
    ),
    "softmax layer": lambda: _sequential(
        layers.Dense(8, activation="relu"),
        layers.Dense(3),
        layers.Softmax(),
        loss=losses.CategoricalCrossentropy(label_smoothing=0.1),
        optimizer="adadelta",
    ),
    "binary": _functional,
    "labels": lambda: _sequential(
        layers.Dense(8, activation="relu"),
        layers.Dense(2, activation="sigmoid"),
        loss=losses.BinaryFocalCrossentropy(gamma=1.5),
        optimizer=optimizers.Adam(use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2),
    ),
    "focal": lambda: _classes(layers.Dense(8, activation="relu"), loss=losses.CategoricalFocalCrossentropy()),
    "margin": lambda: _sequential(
        layers.Dense(8, activation="relu"),
        layers.Dense(3),
        loss="categorical_hinge",
        optimizer=optimizers.SGD(weight_decay=0.01),
    ),
    "counts": lambda: _sequential(
        layers.Dense(8, activation="relu"),
        layers.Dense(1, activation="exponential"),
        loss="poisson",
        optimizer="adafactor",
    ),
    "normalised": lambda: _numbers(layers.Normalization(), layers.Dense(8, activation="relu"), loss="log_cosh"),
    "nested": _nested,
    # --- refused
    "branches": _branches,
    "custom class": lambda: _classes(Dense(4)),
    "dropped out": lambda: _sequential(layers.Dense(1), layers.Dropout(0.1), loss="mse", optimizer="adam"),
    "rescaled": lambda: _numbers(layers.Rescaling(1 / 255)),
    "frozen": lambda: _numbers(layers.Dense(4, trainable=False)),
    "bias penalty": lambda: _numbers(layers.Dense(4, bias_regularizer="l2", activity_regularizer="l1")),
    "unit norm": lambda: _numbers(layers.Dense(4, kernel_constraint="unit_norm")),
    "glu": lambda: _numbers(layers.Dense(4, activation="squareplus"), layers.Dense(4, activation="glu")),
    "softmax twice": lambda: _classes(layers.Dense(4, activation="softmax")),
    "logits of softmax": lambda: _classes(loss=losses.SparseCategoricalCrossentropy(from_logits=True)),
    "squares of sigmoid": lambda: _sequential(layers.Dense(1, activation="sigmoid"), loss="mse", optimizer="adam"),
    "tanh output": lambda: _sequential(layers.Dense(1, activation="tanh"), loss="mse", optimizer="adam"),
    "other losses": lambda: _numbers(loss="mean_absolute_percentage_error"),
    "summed loss": lambda: _numbers(loss=losses.MeanSquaredError(reduction="sum")),
    "lion": lambda: _numbers(optimizer="lion"),
    "clipnorm": lambda: _numbers(optimizer=optimizers.Adam(clipnorm=1.0)),
    "decaying rate": lambda: _numbers(optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 100))),
    "momentum and decay": lambda: _numbers(optimizer=optimizers.SGD(momentum=0.9, weight_decay=0.01)),
    "no scale": lambda: _numbers(layers.BatchNormalization(scale=False), layers.LayerNormalization(center=False)),
    "one slope each": lambda: _numbers(layers.Dense(4), layers.PReLU()),
    "half": lambda: _numbers(layers.Dense(4, dtype="float16")),
    "given mean": lambda: _numbers(layers.Normalization(mean=[0.0] * 4, variance=[1.0] * 4)),
    "images": lambda: _sequential(
        layers.Reshape((2, 2)), layers.Flatten(), layers.Dense(1), loss="mse", optimizer="adam"
    ),
}

if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        json.dump({name: json.loads(make().to_json()) for name, make in MODELS.items()}, file)
