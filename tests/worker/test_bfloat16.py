"""Matrices in 16 bits, all else in 32: every loss, rows that count differently, and RMS norm."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.spec.network import OutputActivation
from tests.worker.drawn_tables import FEATURES, KINDS, WEIGHT, Kind
from tests.worker.factories import Listener, Read, order_for, read
from worker.trainer import layers
from worker.trainer.main import train
from worker.trainer.precision import autocast

CHOSEN = [kind for kind in KINDS if kind.name in ("seven", "two", "shares", "labels", "positive")]
PAIRS = [(kind, form, loss) for kind in CHOSEN for form in kind.forms for loss in kind.losses(form) if loss != "auto"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Read]:
    folder = tmp_path_factory.mktemp("tables")
    return {kind.name: read(folder / kind.name, kind.text) for kind in CHOSEN}


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize(("kind", "form", "loss"), PAIRS, ids=lambda one: getattr(one, "name", one))
def test_every_loss_is_nearly_that_of_32_bits(
    tmp_path: Path, tables: dict[str, Read], kind: Kind, form: OutputActivation, loss: str, weight: str | None
) -> None:
    spec: dict[str, Any] = {
        "target": kind.target,
        "task": kind.task,
        "sample_weight": weight,
        "features": {"include": FEATURES},
        "network": {"hidden": [16], "output": {"units": kind.forms[form], "activation": form}},
    }

    found = {}
    for precision in ("float32", "bfloat16"):
        heard = Listener()
        training = {"loss": loss, "epochs": 2, "precision": precision}
        train(order_for(tmp_path / precision, tables[kind.name], {**spec, "training": training}), heard)
        found[precision] = [epoch["train_loss"] for epoch in heard.epochs]

    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02, abs=0.01)
    assert found["bfloat16"] != found["float32"]


def test_rms_norm_is_computed_in_32_bits() -> None:
    norm = layers.RmsNorm(8)
    values = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()

    with autocast("bfloat16", torch.device("cpu")):
        found = norm(values)

    assert found.dtype == torch.float32
    assert torch.equal(found, norm(values.float()))
