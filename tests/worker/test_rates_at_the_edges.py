"""Rates where a schedule is as short or as long as it can be."""

import time

import pytest

from core.spec.schedules import ConstantRate, CosineRestartsRate, OneCycleRate
from worker.trainer.schedules import Length, Plateau, factor


@pytest.mark.parametrize("warmup_epochs", [1e-300, 0.01, 0.1, 0.25, 0.5, 1.0, 2.3])
def test_a_warm_up_never_goes_beyond_the_rate(warmup_epochs: float) -> None:
    chosen = ConstantRate(name="constant", warmup_epochs=warmup_epochs)

    rates = [factor(chosen, step, Length(epoch=10, total=50), Plateau()) for step in range(50)]

    assert rates == sorted(rates)
    assert rates[0] > 0
    assert max(rates) == 1.0


@pytest.mark.parametrize("total", range(1, 12))
@pytest.mark.parametrize("pct_start", [0.1, 0.3, 0.5, 0.9])
def test_one_cycle_has_a_rate_for_every_step_of_a_short_training(total: int, pct_start: float) -> None:
    chosen = OneCycleRate(name="one_cycle", pct_start=pct_start)

    rates = [factor(chosen, step, Length(epoch=1, total=total), Plateau()) for step in range(total)]

    assert all(0 < rate <= 1 for rate in rates)


def test_a_restart_after_a_hundred_thousand_epochs_takes_no_time() -> None:
    chosen = CosineRestartsRate(name="cosine_restarts", t_0=1)
    started = time.process_time()

    rates = [factor(chosen, step, Length(epoch=2, total=200_000), Plateau()) for step in range(199_000, 200_000)]

    assert time.process_time() - started < 1.0
    assert rates == pytest.approx([1.0, 0.5] * 500)
