"""Trains the Keras network of this project's seed, in an interpreter of its own.

`KERAS_BACKEND=torch python keras_sequential.py ASKED.npz ...` writes ANSWER.npz beside each ASKED.npz. Keras takes
seconds to import and warns while it does, so no test imports it.
"""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np


class BatchLosses(keras.callbacks.Callback):  # type: ignore[misc]
    """The loss of each batch by itself: what Keras reports is the mean of the epoch so far."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.found.append(float(logs["loss"]))


class EpsilonOfTorch(keras.callbacks.Callback):  # type: ignore[misc]
    """Keras adds epsilon to the root of the uncorrected squares (the epsilon-hat of Kingma and Ba 2015, section 2),
    torch to that of the corrected ones. Step t is the same where Keras has sqrt(1 - beta_2 ** t) times that of torch.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        adam = self.model.optimizer
        adam.epsilon = self.epsilon * (1 - adam.beta_2 ** (int(adam.iterations) + 1)) ** 0.5


def answer(asked: Any) -> dict[str, Any]:
    """Asked are `x`, `y`, `loss`, `epsilon`, `epsilon_of_torch`, the `orders` of the rows (epochs, rows), and weights
    as Keras has them: `first.0` to `first.5` to begin with, `trained.0` to `trained.5` to predict with.
    """

    def weights(name: str) -> list[Any]:
        return [asked[f"{name}.{place}"] for place in range(6)]

    network = keras.Sequential(
        [
            keras.Input((asked["x"].shape[1],)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    epsilon = float(asked["epsilon"])
    network.compile(loss=str(asked["loss"]), optimizer=keras.optimizers.Adam(epsilon=epsilon))
    network.set_weights(weights("first"))
    batches = BatchLosses()
    callbacks = [batches, EpsilonOfTorch(epsilon)] if asked["epsilon_of_torch"] else [batches]
    for epoch, order in enumerate(asked["orders"]):
        network.fit(
            asked["x"][order],
            asked["y"][order],
            batch_size=32,
            epochs=epoch + 1,
            initial_epoch=epoch,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
    network.set_weights(weights("trained"))
    return {"batch_losses": batches.found, "probabilities": network.predict(asked["x"], verbose=0)}


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        np.savez(path.with_name("answer.npz"), **answer(np.load(path)))
