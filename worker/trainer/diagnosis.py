"""What goes wrong in a training, told from numbers that are at hand after each epoch: no pass of its own, no torch."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from core.spec import TrainingSpec
from core.spec.losses import Gamma, Poisson
from worker.trainer import causes
from worker.trainer.causes import Diagnosis
from worker.trainer.course import Course

if TYPE_CHECKING:
    from worker.trainer.vitals import Vitals

# In the order in which they explain each other: units that died make a plateau, and no plateau kills units.
CAUSES: tuple[Callable[[Course, TrainingSpec], Diagnosis | None], ...] = (
    causes.exploding_gradient,
    causes.dying_units,
    causes.vanishing_gradient,
    causes.learning_rate_too_high,
    causes.learning_rate_too_low,
    causes.overfitting,
    causes.plateau,
)
CODES = [cause.__name__ for cause in CAUSES]
WITHOUT_LOSS = 2  # the first of them do not ask how large the loss is


def diagnose(course: Course, spec: TrainingSpec, facts: dict[str, Any], felt: "Vitals | None") -> list[dict[str, Any]]:
    """What a finished epoch shows that was not said before, as events say it; `course` learns the epoch and that.

    What was said explains all that comes after it in `CAUSES`. `felt` is None where the epoch broke off.
    """
    unexplained = min((CODES.index(one["code"]) for one in course.diagnoses), default=len(CODES))
    if felt is not None and _are_numbers(facts, felt):
        course.learn(facts, felt)
        # The losses of counts have no zero: how much lower one is cannot be said in shares of it.
        fitting = WITHOUT_LOSS if isinstance(spec.training.loss, Poisson | Gamma) else len(CAUSES)
        looked_for = CAUSES[: min(unexplained, fitting)]
        found = next((one for cause in looked_for if (one := cause(course, spec)) is not None), None)
    else:
        found = causes.of_a_divergence(course, spec)
    if found is None or CODES.index(found.code) >= unexplained:
        return []
    course.diagnoses.append({"epoch": facts["epoch"], **asdict(found)})
    return course.diagnoses[-1:]


def _are_numbers(facts: dict[str, Any], felt: "Vitals") -> bool:
    losses = facts["train_loss"], facts.get("valid_loss", 0.0)
    return all(map(math.isfinite, (*losses, felt.gradient_norm, felt.weight_norm)))
