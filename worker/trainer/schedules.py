"""The learning rate of every step, as a factor on the optimizer's own: pure functions of the position.

Only `reduce_on_plateau` remembers something: a few numbers in the checkpoint. Tests hold each form against
`torch.optim.lr_scheduler`.
"""

import math
from dataclasses import dataclass
from typing import assert_never

from core.spec.metrics import lower_is_better
from core.spec.schedules import (
    AnySchedule,
    ConstantRate,
    CosineRate,
    CosineRestartsRate,
    ExponentialRate,
    InverseSqrtRate,
    MultiStepRate,
    OneCycleRate,
    PlateauRate,
    PolynomialRate,
    StepRate,
)


@dataclass
class Plateau:
    """What `reduce_on_plateau` remembers."""

    factor: float = 1.0
    best: float | None = None
    waited: int = 0
    cooling: int = 0

    def look(self, chosen: PlateauRate, metrics: dict[str, float]) -> None:
        """Learns of an epoch, and reduces where nothing has become better for long enough.

        A metric that its rows do not define is not better.
        """
        assert chosen.monitor is not None, "a resolved spec names it"
        value = metrics.get(chosen.monitor, math.nan)
        if not lower_is_better(chosen.monitor):
            value = -value
        if value < (math.inf if self.best is None else self.best - chosen.min_delta):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.cooling:
            self.cooling -= 1
            self.waited = 0
        if self.waited > chosen.patience:
            self.factor = max(self.factor * chosen.factor, chosen.min_factor)
            self.waited, self.cooling = 0, chosen.cooldown


@dataclass(frozen=True)
class Length:
    """How long a training is, in steps."""

    epoch: int  # steps of one epoch
    total: int  # steps of all


def factor(chosen: AnySchedule, step: int, length: Length, plateau: Plateau) -> float:
    """What the optimizer's rate is multiplied with at a step, the first being 0."""
    rise = chosen.warmup_epochs * length.epoch
    if step < rise:
        return min(1.0, chosen.warmup_factor + (1 - chosen.warmup_factor) * (step + 1) / rise)
    after = step - math.ceil(rise)
    total = max(1, length.total - math.ceil(rise))
    match chosen:
        case ConstantRate():
            return 1.0
        case StepRate():
            return math.pow(chosen.gamma, after // length.epoch // chosen.step_size)
        case MultiStepRate():
            return math.pow(chosen.gamma, sum(after // length.epoch >= milestone for milestone in chosen.milestones))
        case ExponentialRate():
            return math.pow(chosen.gamma, after // length.epoch)
        case PolynomialRate():
            left = math.pow(1 - min(after, total) / total, chosen.power)
            return chosen.final_factor + (1 - chosen.final_factor) * left
        case InverseSqrtRate():
            return 1 / math.sqrt(1 + after / (chosen.timescale * length.epoch))
        case CosineRate():
            return _cosine(min(after, total) / total, 1.0, chosen.final_factor)
        case CosineRestartsRate():
            return _cosine(_since_restart(after, chosen.t_0 * length.epoch, chosen.t_mult), 1.0, chosen.final_factor)
        case OneCycleRate():
            return _one_cycle(after, total, chosen)
        case PlateauRate():
            return plateau.factor
        case _:
            assert_never(chosen)


def _cosine(done: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _since_restart(step: int, cycle: int, growth: int) -> float:
    """How much of the present cycle is over, 0 to 1."""
    while growth > 1 and step >= cycle:
        step, cycle = step - cycle, cycle * growth
    return step % cycle / cycle


def _one_cycle(step: int, total: int, chosen: OneCycleRate) -> float:
    """From 1 / `div_factor` up to 1 and down to that / `final_div_factor`, as torch's OneCycleLR in two phases."""
    first, last = 1 / chosen.div_factor, 1 / chosen.div_factor / chosen.final_div_factor
    top = chosen.pct_start * total - 1
    if step <= top:
        done, start, end = step / top if top else 1.0, first, 1.0
    else:
        done, start, end = min(1.0, (step - top) / max(1e-9, total - 1 - top)), 1.0, last
    return _cosine(done, start, end) if chosen.anneal_strategy == "cos" else start + (end - start) * done
