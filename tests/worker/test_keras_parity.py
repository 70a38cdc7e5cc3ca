"""The Keras network of this project's seed, trained by this engine and by Keras 3 itself: the same weights to begin
with, the same batches in the same order, the same epsilon. Keras runs in `keras_sequential.py`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor

from core.spec import TrainingSpec
from tests.worker.factories import Listener, order_for, read
from worker.trainer import fit as loop
from worker.trainer.examples import Batch, Examples
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, Logged
from worker.trainer.network import Network, build

SCRIPT = Path(__file__).with_name("keras_sequential.py")
EPOCHS, BATCH_SIZE, ROWS = 5, 32, 1797
PIXELS = [f"p{place}" for place in range(64)]
CLASSES = [f"d{digit}" for digit in range(10)]


@dataclass(frozen=True)
class Case:
    loss: str  # by Keras's name
    one_hot: bool
    epsilon: float
    epsilon_of_torch: bool = False  # Keras is made to add it where torch does


CASES = {
    # Keras adds epsilon elsewhere than torch does: 1e-10 is too small for that to show after 285 steps.
    "sparse": Case("sparse_categorical_crossentropy", one_hot=False, epsilon=1e-10),
    "one-hot": Case("categorical_crossentropy", one_hot=True, epsilon=1e-10),
    "epsilon": Case("sparse_categorical_crossentropy", one_hot=False, epsilon=1e-7, epsilon_of_torch=True),
}


@dataclass(frozen=True)
class Found:
    """What both have found. The loss of a batch is the mean over its rows."""

    epoch_losses: NDArray[np.float64]  # (epochs,) as we report it: over the batches, each counting by its rows
    batch_losses: NDArray[np.float64]  # (epochs, batches - 1) as we report it: no step event tells of the last batch
    probabilities: NDArray[np.float32]  # (rows, classes) with the weights of our artifact
    keras_batch_losses: NDArray[np.float64]  # (epochs, batches)
    keras_probabilities: NDArray[np.float32]  # (rows, classes) with the weights of our artifact


@pytest.fixture(scope="module")
def by_both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    folder = tmp_path_factory.mktemp("parity")
    pixels, digits = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(np.float32)
    ours = {name: _by_us(folder / name, case, pixels, digits) for name, case in CASES.items()}
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    asked = [folder / name / "asked.npz" for name in CASES]

    subprocess.run([sys.executable, SCRIPT, *asked], env=environment, check=True, timeout=150)

    found = {}
    for name, own in ours.items():
        theirs = np.load(folder / name / "answer.npz")
        losses = theirs["batch_losses"].reshape(EPOCHS, -1)
        found[name] = Found(**own, keras_batch_losses=losses, keras_probabilities=theirs["probabilities"])
    return found


def _by_us(folder: Path, case: Case, pixels: NDArray[np.float32], digits: NDArray[np.int64]) -> dict[str, Any]:
    """Trains as a job would, and writes down what Keras is asked to do."""
    y = np.eye(10, dtype=np.int64)[digits] if case.one_hot else digits
    order = order_for(folder / "job", read(folder / "table", _csv(pixels, y)), _spec(case))
    heard, rows_of_updates, batches = Listener(), list[Tensor](), Examples.batches

    def noted(self: Examples, updates: tuple[Tensor, ...], start: int = 0) -> Iterator[Batch]:
        rows_of_updates.extend(updates)
        return batches(self, updates, start)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Examples, "batches", noted)
        patched.setattr(loop, "STEP_SECONDS", 0.0)  # an event of every step
        patched.setattr(loop, "FIRST_STEP_SECONDS", 0.0)
        train(order, heard)

    first, trained = _network(order.spec), _network(order.spec)
    trained.load_state_dict(load_file(folder / "job" / ARTIFACTS / "weights.safetensors"))
    np.savez(
        folder / "asked.npz",
        x=pixels,
        y=y,
        loss=case.loss,
        epsilon=case.epsilon,
        epsilon_of_torch=case.epsilon_of_torch,
        orders=torch.cat(rows_of_updates).reshape(EPOCHS, ROWS).numpy(),
        **_as_in_keras("first", first),
        **_as_in_keras("trained", trained),
    )
    steps = [one.data["train_loss"] for one in heard.said if isinstance(one, Logged) and one.type == "step"]
    with torch.no_grad():
        probabilities = trained(torch.from_numpy(pixels)).softmax(1).numpy()
    return {
        "epoch_losses": np.array([epoch["train_loss"] for epoch in heard.epochs]),
        "batch_losses": np.array(steps).reshape(EPOCHS, -1),
        "probabilities": probabilities,
    }


def _csv(pixels: NDArray[np.float32], y: NDArray[np.int64]) -> str:
    names = [*PIXELS, *(CLASSES if y.ndim == 2 else ["digit"])]
    rows = zip(pixels.tolist(), y.reshape(len(y), -1).tolist(), strict=True)
    return "\n".join([",".join(names), *(",".join(map(str, [*inputs, *target])) for inputs, target in rows)]) + "\n"


def _spec(case: Case) -> dict[str, Any]:
    """As a user of Keras types it."""
    return {
        "target": CLASSES if case.one_hot else "digit",
        "features": {"columns": {name: {"scale": "none"} for name in PIXELS}},
        "split": {"validation": 0},
        "network": {
            "layers": [
                {"type": "dense", "units": 64, "activation": "relu"},
                {"type": "dense", "units": 64, "activation": "relu"},
                {"type": "dense", "units": 10, "activation": "softmax"},
            ]
        },
        "training": {
            "loss": case.loss,
            "optimizer": {"name": "adam", "eps": case.epsilon},
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
        },
    }


def _network(spec: TrainingSpec) -> Network:
    """As it begins."""
    return build(spec.network.layers or [], loop.output_of(spec), len(PIXELS), spec.training.seed)


def _as_in_keras(name: str, network: Network) -> Mapping[str, Any]:
    """Matrix (inputs, units) and bias of each layer in turn."""
    tensors = [tensor.T if tensor.dim() == 2 else tensor for tensor in map(Tensor.detach, network.parameters())]
    return {f"{name}.{place}": tensor.numpy() for place, tensor in enumerate(tensors)}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_batch_losses_of_each_epoch_are_those_of_keras(by_both: dict[str, Found], name: str) -> None:
    found = by_both[name]
    rows = np.full(found.keras_batch_losses.shape[1], BATCH_SIZE)
    rows[-1] = ROWS % BATCH_SIZE

    keras = np.average(found.keras_batch_losses, axis=1, weights=rows)

    assert found.epoch_losses == pytest.approx(keras, abs=1e-4, rel=0)
    assert found.epoch_losses[-1] < found.epoch_losses[0] / 5  # it has learned


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_each_batch_is_that_of_keras(by_both: dict[str, Found], name: str) -> None:
    found = by_both[name]

    assert found.batch_losses.shape == (EPOCHS, ROWS // BATCH_SIZE)
    assert found.batch_losses == pytest.approx(found.keras_batch_losses[:, :-1], abs=1e-4, rel=0)


@pytest.mark.parametrize("name", CASES)
def test_our_weights_put_back_in_keras_predict_the_same(by_both: dict[str, Found], name: str) -> None:
    found = by_both[name]

    assert found.keras_probabilities == pytest.approx(found.probabilities, abs=1e-5, rel=0)
