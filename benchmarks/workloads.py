"""The three workloads that engines are compared on: their sizes, their rows, and the loss that is compared.

Needs numpy alone, except for making the rows of W1 and W2: that is scikit-learn's, and runs in the peers' environment
(`python workloads.py W1 folder`).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEARNING_RATE = 1e-3  # of Adam, for everybody


class NotRun(Exception):
    """A contestant cannot run here; its text is the reason that the table shows."""


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    rows: int
    inputs: int
    hidden: tuple[int, ...]
    classes: int
    batch_size: int
    epochs: int
    loss_at_most: float  # of ours, on all training rows, after the last step

    @property
    def widths(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each dense layer, the output last."""
        return list(zip((self.inputs, *self.hidden), (*self.hidden, self.classes), strict=True))

    @property
    def steps(self) -> int:
        return self.epochs * -(-self.rows // self.batch_size)

    @property
    def gflop(self) -> float:
        """Of all matrix products: forward, weight gradients, and input gradients of all layers but the first."""
        products = [inputs * outputs for inputs, outputs in self.widths]
        return 2 * (3 * sum(products) - products[0]) * self.rows * self.epochs / 1e9

    @property
    def data_bytes(self) -> int:
        """Of the features as float32."""
        return self.rows * self.inputs * 4

    def load(self, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return np.load(folder / f"{self.name}-features.npy"), np.load(folder / f"{self.name}-target.npy")


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "digits, 1,797 x 64; 64-64; batch 32; 50 epochs", 1_797, 64, (64, 64), 10, 32, 50, 0.007),
        Workload("W2", "100,000 x 100; 256-128; batch 256; 5 epochs", 100_000, 100, (256, 128), 5, 256, 5, 0.156),
        Workload("W3", "60,000 x 784; 512-512; batch 128; 3 epochs", 60_000, 784, (512, 512), 10, 128, 3, 0.105),
    )
}


def mean_cross_entropy(
    weights: list[NDArray[np.float32]], features: NDArray[np.float32], target: NDArray[np.int64]
) -> float:
    """Over all rows, by numpy, for whatever trained these: matrix (inputs, outputs) and bias of each layer in turn."""
    total = 0.0
    for start in range(0, len(target), 8192):
        part, wanted = features[start : start + 8192], target[start : start + 8192]
        for place in range(0, len(weights), 2):
            part = part @ weights[place] + weights[place + 1]
            if place < len(weights) - 2:
                part = np.maximum(part, 0)
        logits = part.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        total += float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(wanted)), wanted]).sum())
    return total / len(target)


# --- the rows ---------------------------------------------------------------------------------------------------------


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # here, because our own environment does without it

    features, target = load_digits(return_X_y=True)
    return (features / 16).astype("f4"), target.astype("i8")


def clusters() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import make_classification

    features, target = make_classification(
        100_000,
        100,
        n_informative=40,
        n_redundant=20,
        n_classes=5,
        n_clusters_per_class=3,
        random_state=0,
    )
    return ((features - features.mean(0)) / features.std(0)).astype("f4"), target.astype("i8")


def noisy_patterns() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    draw = np.random.default_rng(0)
    patterns = draw.random((10, 784), dtype="f4") * (draw.random((10, 784)) < 0.25)
    classes = draw.integers(0, 10, 60_000)
    target = classes.copy()
    wrong = draw.random(60_000) < 0.03
    target[wrong] = draw.integers(0, 10, wrong.sum())
    noise = draw.random((60_000, 784), dtype="f4") * (draw.random((60_000, 784)) < 0.3)
    return np.clip((0.35 * patterns[classes] + 0.9 * noise).astype("f4"), 0, 1), target.astype("i8")


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    features, target = {"W1": digits, "W2": clusters, "W3": noisy_patterns}[name]()
    assert features.shape == (WORKLOADS[name].rows, WORKLOADS[name].inputs)
    np.save(folder / f"{name}-features.npy", np.ascontiguousarray(features))
    np.save(folder / f"{name}-target.npy", target)


if __name__ == "__main__":
    main()
