"""`train.py` of a job, run in an interpreter of its own on the CSV that was sent, comes to the weights of the job."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.spec import TrainingSpec
from core.spec.in_code import not_in_code
from tests.worker.factories import Listener, Read, order_for, read, table_text
from worker.ingest import csv_text
from worker.trainer.exports import numpy_functions
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS

TEXT = table_text(250)
PLAIN = {"epochs": 4, "batch_size": 32}
SPECS: dict[str, dict[str, Any]] = {
    "plain": {"target": "kind", "training": PLAIN},
    "with a test part, embeddings, and no dropout": {
        "target": "kind",
        "features": {"categories": {"encode": "embedding"}},
        "split": {"test": 0.2, "method": "random"},
        "training": {**PLAIN, "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}, "schedule": "one_cycle"},
    },
    "numbers": {
        "target": "height",
        "network": {
            "layers": [
                {"type": "dense", "units": 16, "activation": "selu", "weight_initializer": "lecun_normal", "l2": 0.01},
                {"type": "dropout", "rate": 0.2},
                {
                    "type": "residual",
                    "layers": [{"type": "layer_norm"}, {"type": "dense", "units": 8, "max_norm": 1.0}],
                },
                {"type": "dense", "units": 8, "weight_initializer": "orthogonal", "bias_initializer": "random_uniform"},
            ]
        },
        "training": {**PLAIN, "loss": {"name": "huber", "delta": 0.5}, "optimizer": "adamw", "clip_norm": 0.5},
    },
    "two classes": {
        "target": "wet",
        "network": {
            "layers": [
                {"type": "dense", "units": 12, "activation": {"name": "prelu", "init": 0.6}},
                {"type": "batch_norm"},
                {"type": "gaussian_noise", "stddev": 0.1},
            ]
        },
        "training": {**PLAIN, "batch_size": 40, "schedule": {"name": "cosine", "warmup_epochs": 1}, "accumulate": 2},
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table"), TEXT)


@pytest.mark.parametrize("name", SPECS)
def test_the_script_comes_to_the_weights_and_losses_of_the_job(tmp_path: Path, table: Read, name: str) -> None:
    heard = Listener()
    train(order_for(tmp_path / "job", table, SPECS[name]), heard)
    folder = tmp_path / "job" / ARTIFACTS
    (folder / "rows.csv").write_text(TEXT)

    done = subprocess.run(
        [sys.executable, "-I", "train.py", "rows.csv"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    said = re.findall(r"train_loss (\S+), valid_loss (\S+)", done.stdout)
    assert 0 < len(said) <= len(heard.epochs)
    for (train_loss, valid_loss), epoch in zip(said, heard.epochs, strict=False):
        assert float(train_loss) == pytest.approx(epoch["train_loss"], rel=1e-4)
        assert float(valid_loss) == pytest.approx(epoch["valid_loss"], rel=1e-4)
    apart = re.search(r"weights are (\S+) apart", done.stdout)
    assert apart is not None, done.stdout
    assert float(apart[1]) < 1e-5


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"loss": "focal"}, "/training/loss"),
        ({"optimizer": "lbfgs"}, "/training/optimizer"),
        ({"schedule": "reduce_on_plateau"}, "/training/schedule"),
        ({"class_weights": "balanced"}, "/training/class_weights"),
        ({"oversample": 0.5}, "/training/oversample"),
        ({"ema_decay": 0.9}, "/training/ema_decay"),
        ({"refit": True}, "/training/refit"),
        ({"precision": "bfloat16"}, "/training/precision"),
        ({"steps": 3}, "/training/steps"),
    ],
    ids=str,
)
def test_what_the_script_does_not_do_is_named_and_there_is_none(
    tmp_path: Path, table: Read, change: dict[str, Any], pointer: str
) -> None:
    order = order_for(tmp_path / "job", table, {"target": "kind", "training": {**PLAIN, "epochs": 2, **change}})

    train(order, Listener())

    assert [at for at, _ in not_in_code(order.spec)] == [pointer]
    assert not (tmp_path / "job" / ARTIFACTS / "train.py").exists()


def test_the_script_and_the_reader_of_tables_know_the_same_words_for_missing() -> None:
    assert ["", *csv_text.MISSING] == numpy_functions.MISSING
    assert set(numpy_functions.MISSING_NUMBER) == csv_text.PERHAPS_MISSING


def test_the_defaults_are_all_in_the_script() -> None:
    assert list(not_in_code(TrainingSpec.model_validate({"target": "y"}))) == [
        ("/training/loss", "The script has no auto; it has cross_entropy, binary_cross_entropy, mse, mae, huber.")
    ]
