"""A regression whose target is learned scaled and said in its own units."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.worker.factories import Listener, spec_for
from tests.worker.stored import order_of
from worker.trainer.examples import Examples
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS
from worker.trainer.metrics import measure
from worker.trainer.preprocessing import Affine
from worker.trainer.scaling import TargetScaling

ROWS = 200


def small_target(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two features, and numbers of about 1 that follow from them."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(ROWS, 2))
    return features, np.sin(features[:, 0]) + 0.3 * features[:, 1] + generator.normal(0, 0.1, ROWS)


def trained(folder: Path, targets: dict[str, NDArray[Any]], **parts: Any) -> tuple[Listener, dict[str, Any]]:
    """What was said, and everything by name: report, preprocessing, and the predictions of all rows by hand."""
    features, _ = small_target()
    training = {"epochs": 5, **parts.pop("training", {})}
    spec = {"target": [*targets] if len(targets) > 1 else next(iter(targets)), "task": "regression"}
    spec |= {"network": {"hidden": []}, "training": training, **parts}
    order = order_of(folder, {"a": features[:, 0], "b": features[:, 1], **targets}, spec)
    heard = Listener()
    train(order, heard)
    left = {name: json.loads((folder / ARTIFACTS / f"{name}.json").read_text()) for name in ("report", "preprocessing")}
    weights = load_file(folder / ARTIFACTS / "weights.safetensors")
    inputs = np.stack(
        [
            (features[:, place] - one["scaling"]["center"]) / one["scaling"]["scale"]
            for place, one in enumerate(left["preprocessing"]["inputs"])
        ],
        1,
    )
    left["predictions"] = inputs @ weights["0.weight"].T + weights["0.bias"]
    for place, one in enumerate(left["preprocessing"]["target"]["scaling"] or []):
        each = left["predictions"].shape[1] // len(targets)
        columns = slice(place * each, (place + 1) * each)
        left["predictions"][:, columns] = left["predictions"][:, columns] * one["scale"] + one["center"]
    return heard, left


def test_a_target_of_ten_thousands_trains_as_one_of_ones(tmp_path: Path) -> None:
    _, y = small_target()

    ones, _ = trained(tmp_path / "ones", {"y": y})
    many, _ = trained(tmp_path / "many", {"y": 30_000 * y + 50_000})

    for small, large in zip(ones.epochs, many.epochs, strict=True):
        assert large["train_loss"] == pytest.approx(small["train_loss"] * 30_000**2, rel=1e-4)
        assert large["valid_loss"] == pytest.approx(small["valid_loss"] * 30_000**2, rel=1e-4)
        assert large["valid_r2"] == pytest.approx(small["valid_r2"], abs=1e-4)
    assert many.epochs[-1]["valid_r2"] > many.epochs[0]["valid_r2"]


@pytest.mark.parametrize(("loss", "metric"), [("mse", "mse"), ("mae", "mae")])
def test_losses_are_in_the_units_of_the_target(tmp_path: Path, loss: str, metric: str) -> None:
    _, y = small_target()

    heard, _ = trained(tmp_path / "job", {"y": 500 * y + 90}, training={"loss": loss, "metrics": [metric]})

    for epoch in heard.epochs:
        assert epoch["valid_loss"] == pytest.approx(epoch[f"valid_{metric}"], rel=1e-5)
        assert epoch["train_loss"] == pytest.approx(epoch[f"train_{metric}"], rel=1e-5)


def test_the_weights_and_the_scaling_reproduce_what_is_reported(tmp_path: Path) -> None:
    _, y = small_target()
    y = (500 * y + 90).astype(np.float32)

    _, left = trained(tmp_path / "job", {"y": y})

    rows = left["report"]["rows"]["validation"]
    error = left["predictions"][rows, 0] - y[rows]
    assert left["report"]["validation"]["loss"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert left["report"]["validation"]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert left["report"]["validation"]["r2"] == pytest.approx(1 - (error**2).mean() / y[rows].var(), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "of_error"),
    [
        ({"name": "huber", "delta": 0.5}, lambda e: np.where(np.abs(e) <= 0.5, e**2 / 2, 0.5 * (np.abs(e) - 0.25))),
        ({"name": "log_cosh"}, lambda e: np.log(np.cosh(e))),
    ],
)
def test_losses_with_a_size_of_their_own_measure_it_in_deviations(
    tmp_path: Path, loss: dict[str, Any], of_error: Any
) -> None:
    _, y = small_target()
    y = (500 * y + 90).astype(np.float32)

    _, left = trained(tmp_path / "job", {"y": y}, training={"loss": loss})

    scale = left["preprocessing"]["target"]["scaling"][0]["scale"]
    rows = left["report"]["rows"]["validation"]
    expected = scale**2 * of_error((left["predictions"][rows, 0] - y[rows]) / scale).mean()
    assert left["report"]["validation"]["loss"] == pytest.approx(expected, rel=1e-4)


def test_quantiles_come_back_in_the_units_of_the_target(tmp_path: Path) -> None:
    _, y = small_target()
    y = (500 * y + 9000).astype(np.float32)
    loss = {"name": "quantile", "quantiles": [0.1, 0.5, 0.9]}

    _, left = trained(tmp_path / "job", {"y": y}, training={"loss": loss})

    rows = left["report"]["rows"]["validation"]
    error = y[rows, None] - left["predictions"][rows]
    levels = np.array([0.1, 0.5, 0.9])
    pinball = np.maximum(levels * error, (levels - 1) * error).mean()
    assert left["report"]["validation"]["loss"] == pytest.approx(pinball, rel=1e-5)
    assert left["report"]["validation"]["mae"] == pytest.approx(np.abs(error[:, 1]).mean(), rel=1e-5)


def test_without_scaling_the_loss_is_of_the_raw_numbers(tmp_path: Path) -> None:
    _, y = small_target()
    y = (5 * y + 3).astype(np.float32)

    _, left = trained(tmp_path / "job", {"y": y}, target_scale="none")

    assert left["preprocessing"]["target"]["scaling"] is None
    rows = left["report"]["rows"]["validation"]
    error = left["predictions"][rows, 0] - y[rows]
    assert left["report"]["validation"]["loss"] == pytest.approx((error**2).mean(), rel=1e-5)


def test_of_several_targets_each_loss_is_in_its_own_deviations_and_metrics_are_not(tmp_path: Path) -> None:
    _, y = small_target()
    targets = {"small": (y + 1).astype(np.float32), "large": (9000 * y).astype(np.float32)}

    _, left = trained(tmp_path / "job", targets)

    scale = np.array([one["scale"] for one in left["preprocessing"]["target"]["scaling"]])
    rows = left["report"]["rows"]["validation"]
    error = left["predictions"][rows] - np.stack([*targets.values()], 1)[rows]
    assert left["report"]["validation"]["loss"] == pytest.approx(((error / scale) ** 2).mean(), rel=1e-5)
    assert left["report"]["validation"]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_the_target_loss_is_compared_in_the_units_of_the_target(tmp_path: Path) -> None:
    _, y = small_target()
    endless = {"epochs": 200, "stop": {"target_loss": 400.0**2}}

    heard, _ = trained(tmp_path / "job", {"y": 1000 * y}, training=endless)

    assert heard.last.stop_reason == "target_reached"
    assert heard.epochs[-1]["train_loss"] <= 400.0**2 < heard.epochs[-2]["train_loss"]


def test_validation_rows_do_not_move_the_scaling(tmp_path: Path) -> None:
    _, y = small_target()
    _, left = trained(tmp_path / "tame", {"y": y})
    wild = y.copy()
    wild[left["report"]["rows"]["validation"]] = 1e6

    _, beside = trained(tmp_path / "wild", {"y": wild})

    assert beside["preprocessing"]["target"] == left["preprocessing"]["target"]


def test_a_target_that_never_varies_has_the_scale_one(tmp_path: Path) -> None:
    _, left = trained(tmp_path / "job", {"y": np.full(ROWS, 7.5)})

    assert left["preprocessing"]["target"]["scaling"] == [{"type": "affine", "center": 7.5, "scale": 1.0}]


def test_metrics_see_the_target_itself_and_not_what_scaling_left_of_it(tmp_path: Path) -> None:
    """Scaled and back, a 0 could become a little less, and the logarithm of `msle` would not be defined."""
    values = np.array([[0.0], [0.1], [1e6]] * 4, np.float32)
    scaling = TargetScaling([Affine(center=333_333.4, scale=471_404.5)], torch.device("cpu"))
    scaled = torch.from_numpy((values - np.float32(333_333.4)) / np.float32(471_404.5))
    rows = Examples(torch.empty(12, 0), scaled, unscaled_target=torch.from_numpy(values))
    spec = spec_for(units=1, activation="linear", task="regression", loss="mse")

    found = measure(["msle", "max_error"], spec, scaled.clamp(min=0), rows, scaling)

    assert found["msle"] > 0
    assert found["max_error"] == pytest.approx(333_333.4, rel=1e-5)
