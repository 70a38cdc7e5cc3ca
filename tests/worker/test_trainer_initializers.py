"""What weights begin as, against Keras's definitions (https://keras.io/api/layers/initializers/)."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from core.spec.initializers import AnyBiasInitializer, AnyInitializer, BiasInitializer, Initializer
from core.spec.values import names_of
from worker.trainer.initializers import fill

FAN_IN, FAN_OUT = 400, 800
CUT_OFF = 2 / 0.87962566103423978  # where a scaled normal distribution ends, in its own deviations


def _fill(name: str, shape: tuple[int, ...] = (FAN_OUT, FAN_IN), seed: int = 0, **options: Any) -> Tensor:
    known: Any = Initializer if len(shape) == 2 else BiasInitializer
    chosen = TypeAdapter(known).validate_python({"name": name, **options})
    tensor = torch.full(shape, torch.nan)
    fill(tensor, chosen, torch.Generator().manual_seed(seed))
    return tensor


# The variance that Keras's page gives, and the limit: sqrt(3 variance) of a uniform distribution.
SCALED: list[tuple[str, dict[str, Any], float, bool]] = [
    ("glorot_uniform", {}, 2 / (FAN_IN + FAN_OUT), True),
    ("glorot_normal", {}, 2 / (FAN_IN + FAN_OUT), False),
    ("he_uniform", {}, 2 / FAN_IN, True),
    ("he_normal", {}, 2 / FAN_IN, False),
    ("lecun_uniform", {}, 1 / FAN_IN, True),
    ("lecun_normal", {}, 1 / FAN_IN, False),
    ("variance_scaling", {}, 1 / FAN_IN, False),
    ("variance_scaling", {"scale": 3.0, "mode": "fan_out"}, 3 / FAN_OUT, False),
    ("variance_scaling", {"mode": "fan_avg", "distribution": "uniform"}, 2 / (FAN_IN + FAN_OUT), True),
]


@pytest.mark.parametrize(("name", "options", "variance", "uniform"), SCALED, ids=[str(case[:2]) for case in SCALED])
def test_scaled_weights_have_the_variance_and_the_limit_of_their_fan(
    name: str, options: dict[str, Any], variance: float, uniform: bool
) -> None:
    weight = _fill(name, **options)

    deviation = math.sqrt(variance)
    limit = math.sqrt(3) * deviation if uniform else CUT_OFF * deviation
    assert weight.mean().item() == pytest.approx(0.0, abs=0.01 * deviation)
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert 0.99 * limit < weight.abs().max().item() <= limit * (1 + 1e-6)


def test_an_untruncated_normal_goes_beyond_two_deviations() -> None:
    weight = _fill("variance_scaling", distribution="untruncated_normal")

    deviation = 1 / math.sqrt(FAN_IN)
    beyond = (weight.abs() > 2 * deviation).double().mean().item()
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert beyond == pytest.approx(0.0455, abs=0.002)


def test_normals_and_uniforms_have_the_moments_that_are_asked_for() -> None:
    normal, cut = (_fill(name, mean=1.0, stddev=0.2) for name in ("random_normal", "truncated_normal"))
    uniform = _fill("random_uniform", minval=-1.0, maxval=3.0)

    assert (normal.mean().item(), normal.std().item()) == pytest.approx((1.0, 0.2), rel=0.01)
    assert (cut.mean().item(), cut.std().item()) == pytest.approx((1.0, 0.2 * 0.8796), rel=0.01)
    assert (cut - 1).abs().max().item() == pytest.approx(0.4, rel=0.01)
    assert (uniform.min().item(), uniform.max().item()) == pytest.approx((-1.0, 3.0), abs=0.001)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 40)])
def test_orthogonal_rows_or_columns_are_at_right_angles_and_of_the_gains_length(shape: tuple[int, int]) -> None:
    weight = _fill("orthogonal", shape, gain=1.5).double()

    products = weight @ weight.T if shape[0] <= shape[1] else weight.T @ weight
    torch.testing.assert_close(products, 2.25 * torch.eye(min(shape)).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_identity_has_its_gain_on_the_diagonal(shape: tuple[int, int]) -> None:
    weight = _fill("identity", shape, gain=2.0)

    assert weight.diagonal().tolist() == [2.0] * 3
    assert weight.abs().sum() == 6.0


def test_constants_are_constant() -> None:
    found = {name: _fill(name, (2, 3), **({"value": 0.5} if name == "constant" else {})) for name in CONSTANTS}

    assert {name: weight.unique().tolist() for name, weight in found.items()} == CONSTANTS


CONSTANTS = {"zeros": [0.0], "ones": [1.0], "constant": [0.5]}


@pytest.mark.parametrize("name", names_of(AnyInitializer))
def test_the_seed_alone_decides(name: str) -> None:
    first, second = _fill(name, (4, 4)), _fill(name, (4, 4))

    assert torch.equal(first, second)
    assert first.isfinite().all()
    if name not in (*CONSTANTS, "identity"):
        assert not torch.equal(first, _fill(name, (4, 4), seed=1))


@pytest.mark.parametrize("name", names_of(AnyBiasInitializer))
def test_every_initializer_of_biases_fills_a_vector(name: str) -> None:
    assert _fill(name, (100,)).isfinite().all()


@pytest.mark.parametrize("name", names_of(AnyInitializer))
def test_a_matrix_of_one_weight_can_begin_as_anything(name: str) -> None:
    assert _fill(name, (1, 1)).isfinite().all()
