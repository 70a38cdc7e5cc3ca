"""Each thing that goes wrong in a training, told from its course: what shows it, and what would mend it.

docs/diagnosis.md explains them. The thresholds lie between what healthy and sick trainings show; the figures beside
them are those of the trainings in tests/worker/pathologies.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from core.spec import TrainingSpec
from core.spec.losses import BinaryCrossEntropy, CrossEntropy, Focal
from core.spec.network import Dense, flat
from core.spec.optimizers import Lbfgs
from core.spec.schedules import CosineRestartsRate, PlateauRate
from worker.trainer import remedies
from worker.trainer.course import WINDOW, Course, Epoch, Opening
from worker.trainer.remedies import Patch

Code = Literal[
    "exploding_gradient",
    "dying_units",
    "vanishing_gradient",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "overfitting",
    "plateau",
]

STEEP = 10.0  # gradient / weights at the first step: healthy 0.02 to 1.4 where the target has a deviation near 1
ABSURD = 10.0  # a first entropy: certain of what is wrong, in most rows
AMPLIFIED = 10.0  # by which the layers together enlarge a signal: healthy near 1 (He et al. 2015)
DEAD, DEAD_IN_A_LAYER = 0.5, 0.9  # share of all hidden units, and of those of one layer: healthy 0.12 and 0.23
VANISHED = 1e-3  # share of the whole gradient that reaches the least matrix: healthy 0.01
LEAP = 0.1  # length of the first step / of the weights: healthy 0.003 to 0.04
RISEN = 1.5  # train_loss / loss of the first batch
SHORT = 0.002  # length of a step / of the weights: healthy first steps 0.003
CRAWL = 0.15  # lengths of themselves that the weights will have moved in all epochs: healthy 0.35
DECAYED = 0.01  # share of the highest rate so far
WORSE, GIVEN_BACK = 1.15, 0.25  # valid_loss / its best, and share of its gain that is lost: healthy 0.07, sick 0.88
UNMOVED = 0.8  # best valid_loss / that of the first epoch
FITTED = 0.7  # train_loss / that of the best epoch
STEADY = 0.5  # how much lower train_loss is / how far it went up and down
MOTIONLESS, STANDING = 0.99, 0.95  # train_loss / that of some epochs before
WANDERED = 2.0  # lengths of themselves that the weights moved in a window: healthy 1 where the loss stands
TREMBLING = 0.02  # change of train_loss from epoch to epoch / itself


@dataclass(frozen=True)
class Diagnosis:
    code: Code
    message: str
    evidence: dict[str, Any]  # the numbers that decided it
    patch: Patch  # of the resolved spec


# --- the network ------------------------------------------------------------------------------------------------------


def of_a_divergence(course: Course, spec: TrainingSpec) -> Diagnosis:
    """A loss that is no number: the gradient was too large from the start, or the steps were."""
    opening = course.opening
    if opening is None or not math.isfinite(opening.gradient_norm) or opening.steepness >= STEEP:
        return _exploding(course, spec, "The loss is no number any more")
    return _too_high(course, spec, "The loss is no number any more, though the first gradient was an ordinary one")


def exploding_gradient(course: Course, spec: TrainingSpec) -> Diagnosis | None:
    opening = course.opening
    if opening is None or len(course.recent) > 1 or _amplification(opening, spec) < AMPLIFIED:
        return None  # what it began as is known after one epoch
    absurd = isinstance(spec.training.loss, CrossEntropy | BinaryCrossEntropy | Focal) and opening.loss > ABSURD
    if opening.steepness < STEEP and not absurd:
        return None
    return _exploding(course, spec, "Each layer enlarges what goes through it")


def _exploding(course: Course, spec: TrainingSpec, what: str) -> Diagnosis:
    opening = course.opening
    amplified = 1.0 if opening is None else _amplification(opening, spec)
    evidence: dict[str, Any] = {"amplification": _short(amplified)}
    if opening is not None:
        evidence |= {
            "first_loss": _short(opening.loss),
            "first_gradient_norm": _short(opening.gradient_norm),
            "first_weight_norm": _short(opening.weight_norm),
            "layers": _per_layer(opening, "gradient_norm", "weight_norm"),
        }
    steep = (
        "" if opening is None else f" At the first step it was {opening.steepness:.0f} times as long as the weights."
    )
    return Diagnosis(
        "exploding_gradient",
        f"{what}: the gradient explodes.{steep}",
        evidence,
        remedies.of_an_exploding_gradient(spec, opening, begins_too_large=amplified >= AMPLIFIED),
    )


def _amplification(opening: Opening, spec: TrainingSpec) -> float:
    """By which the layers together enlarge the deviation of a signal; 1 where projections of blocks are among them."""
    units = [layer.units for layer in flat(spec.network.layers or []) if isinstance(layer, Dense)]
    units.append(spec.network.output.units if spec.network.output else 1)
    if len(units) != len(opening.layers):
        return 1.0
    gains = (layer["weight_norm"] / math.sqrt(2 * width) for layer, width in zip(opening.layers, units, strict=True))
    return float(math.prod(gains))


def dying_units(course: Course, spec: TrainingSpec) -> Diagnosis | None:
    """Units that say the same of every row learn nothing, and most do."""
    opening, last = course.opening, course.recent[-3:]
    if len(last) < 3 or opening is None or not all(map(_is_dead, last)):
        return None
    from_the_start = opening.dead_units >= DEAD
    if not from_the_start and (opening.update_ratio >= LEAP or _vanishes_at_first(opening)):
        return None  # killed by the first steps, or by rounding what is next to nothing
    now = last[-1]
    since = "since the first step" if from_the_start else "and they were not at the first step"
    return Diagnosis(
        "dying_units",
        f"{now.dead_units:.0%} of the hidden units say the same of every row, {since}: no gradient reaches them.",
        {
            "dead_units": _short(now.dead_units),
            "dead_units_of_worst_layer": _short(now.dead_in_a_layer),
            "first_dead_units": _short(opening.dead_units),
            "first_update_ratio": _short(opening.update_ratio),
        },
        remedies.of_dying_units(spec, from_the_start=from_the_start),
    )


def _is_dead(epoch: Epoch) -> bool:
    return epoch.dead_units >= DEAD or epoch.dead_in_a_layer >= DEAD_IN_A_LAYER


def vanishing_gradient(course: Course, spec: TrainingSpec) -> Diagnosis | None:
    """Some layer gets next to nothing of the gradient, and the loss stands."""
    opening, last = course.opening, course.recent[-3:]
    if len(last) < 3 or opening is None or max(one.least_gradient for one in last) >= VANISHED:
        return None
    if last[-1].train_loss < max(STANDING * last[0].train_loss, 0.5 * opening.loss):
        return None
    if opening.update_ratio >= LEAP and not _vanishes_at_first(opening):
        return None  # the first steps have flattened it: the rate is the cause
    return Diagnosis(
        "vanishing_gradient",
        f"Of the gradient, {last[-1].least_gradient:.0e} reaches the layer that gets least, and the loss stands.",
        {
            "least_gradient": _short(last[-1].least_gradient),
            "gradient_norm": _short(last[-1].gradient_norm),
            "train_loss": _short(last[-1].train_loss),
            "first_loss": _short(opening.loss),
            "layers": _per_layer(opening, "gradient_norm"),
        },
        remedies.of_a_vanishing_gradient(spec),
    )


def _vanishes_at_first(opening: Opening) -> bool:
    least: float = min(layer["gradient_norm"] for layer in opening.layers)
    return least < VANISHED * opening.gradient_norm


# --- the rate ---------------------------------------------------------------------------------------------------------


def learning_rate_too_high(course: Course, spec: TrainingSpec) -> Diagnosis | None:
    """Large steps, and a loss that they raise, or do not lower."""
    opening, last = course.opening, course.recent[-3:]
    if opening is None or len(last) < 2 or isinstance(spec.training.optimizer, Lbfgs):
        return None
    leaps = opening.update_ratio >= LEAP
    if not leaps and last[-1].moved < 1.0:
        return None
    if last[-2].train_loss > RISEN * opening.loss and last[-1].train_loss > opening.loss:
        return _too_high(course, spec, "The steps have made the loss higher than that of the untrained network")
    if leaps and len(last) == 3 and all(map(_is_dead, last)):
        return _too_high(course, spec, "The first steps have killed units")
    recent = course.recent[-6:] if leaps else course.recent
    if len(recent) in (6, WINDOW) and _wanders(recent) and _mean_loss(recent) > (0.2 if leaps else 0.5) * opening.loss:
        return _too_high(course, spec, "The steps are large and lead nowhere")
    return None


def _too_high(course: Course, spec: TrainingSpec, what: str) -> Diagnosis:
    opening, last = course.opening, course.recent[-1:]
    evidence: dict[str, Any] = {"learning_rate": spec.training.optimizer.learning_rate}
    if opening is not None:
        evidence |= {"first_update_ratio": _short(opening.update_ratio), "first_loss": _short(opening.loss)}
    for one in last:
        evidence |= {
            "train_loss": _short(one.train_loss),
            "moved": _short(one.moved),
            "dead_units": _short(one.dead_units),
        }
    step = "" if opening is None else f" The first one was {opening.update_ratio:.2g} times as long as the weights."
    return Diagnosis(
        "learning_rate_too_high",
        f"{what}: the learning rate is too high.{step}",
        evidence,
        remedies.of_a_high_rate(spec, opening),
    )


def learning_rate_too_low(course: Course, spec: TrainingSpec) -> Diagnosis | None:
    """The loss falls, but the weights hardly move in the epochs that there are; or the rate is gone too early."""
    opening, last, training = course.opening, course.recent[-5:], spec.training
    if opening is None or len(last) < 5 or isinstance(training.optimizer, Lbfgs):
        return None
    now = last[-1]
    at_the_end = course.moved + max(0, training.epochs - now.number) * now.moved
    if now.train_loss < 0.1 * opening.loss or now.gradient_norm < 0.1 * opening.gradient_norm:
        return None  # it has arrived
    if (
        now.learning_rate <= DECAYED * course.highest_rate
        and now.number <= training.epochs / 2
        and last[-3].learning_rate <= DECAYED * course.highest_rate
        and not isinstance(training.schedule, PlateauRate | CosineRestartsRate)
    ):
        message = (
            "The schedule has taken the learning rate away before half of the epochs; the gradient is still there."
        )
        return _too_low(message, course, opening, at_the_end, remedies.of_an_early_end(spec))
    if (
        at_the_end < CRAWL
        and max(opening.update_ratio, now.update_ratio) < SHORT  # else the epochs are too few
        and course.highest_rate >= 0.5 * training.optimizer.learning_rate  # not before a warm-up is over
        and now.train_loss > 0.3 * opening.loss
        and now.gradient_norm > 0.5 * opening.gradient_norm
        and _falls(last)
    ):
        message = (
            f"The loss falls, but in all {training.epochs} epochs the weights will have moved by "
            f"{at_the_end:.2g} of their length: the learning rate is too low."
        )
        return _too_low(message, course, opening, at_the_end, remedies.of_a_low_rate(spec, opening))
    return None


def _too_low(message: str, course: Course, opening: Opening, at_the_end: float, patch: Patch) -> Diagnosis:
    now = course.recent[-1]
    evidence = {
        "learning_rate": _short(now.learning_rate),
        "highest_learning_rate": _short(course.highest_rate),
        "update_ratio": _short(now.update_ratio),
        "moved": _short(course.moved),
        "moved_at_the_end": _short(at_the_end),
        "gradient_norm": _short(now.gradient_norm),
        "first_gradient_norm": _short(opening.gradient_norm),
        "train_loss": _short(now.train_loss),
        "first_loss": _short(opening.loss),
    }
    return Diagnosis("learning_rate_too_low", message, evidence, patch)


def _falls(epochs: Sequence[Epoch]) -> bool:
    """The loss, of validation rows if there are any: dropout does not shake that one."""
    losses = [one.train_loss if one.valid_loss is None else one.valid_loss for one in epochs]
    return sum(after <= before for before, after in pairwise(losses)) >= len(losses) - 2


# --- the rows ---------------------------------------------------------------------------------------------------------


def overfitting(course: Course, spec: TrainingSpec) -> Diagnosis | None:
    """The training rows are learned ever better, and what was gained on others is being lost (Prechelt 1998)."""
    best, first, opening, last = course.best, course.first_valid_loss, course.opening, course.recent[-5:]
    if best is None or best.valid_loss is None or first is None or opening is None or len(last) < 5:
        return None
    least, start, now, recent = (
        min(one.valid_loss or 0.0 for one in last),
        max(first, opening.loss),
        last[-1],
        course.recent[-10:],
    )
    lost = least >= max(WORSE * best.valid_loss, best.valid_loss + GIVEN_BACK * (start - best.valid_loss))
    never = best.valid_loss > UNMOVED * start and now.train_loss < 0.2 * start and now.number >= best.number + 5
    if not (lost or never) or now.train_loss > FITTED * min(best.train_loss, least):
        return None
    if recent[0].train_loss - now.train_loss < STEADY * _path(recent) and now.train_loss > 0.1 * opening.loss:
        return None  # it is thrown about, not led astray
    return Diagnosis(
        "overfitting",
        f"Since epoch {best.number} valid_loss has risen from {best.valid_loss:.3g} to {now.valid_loss:.3g}, while "
        f"train_loss fell from {best.train_loss:.3g} to {now.train_loss:.3g}.",
        {
            "since_epoch": best.number,
            "best_valid_loss": _short(best.valid_loss),
            "valid_loss": _short(now.valid_loss or 0.0),
            "train_loss_then": _short(best.train_loss),
            "train_loss": _short(now.train_loss),
        },
        remedies.of_overfitting(spec),
    )


def plateau(course: Course, spec: TrainingSpec) -> Diagnosis | None:
    """The loss stands: hovering above where smaller steps would take it, or where it began."""
    opening, recent = course.opening, course.recent
    if opening is None or len(recent) < WINDOW:
        return None
    mean = _mean_loss(recent)
    if mean > 0.01 * opening.loss and _wanders(recent):
        what, patch = "the steps are too large to go deeper", remedies.of_hovering(spec)
    elif mean > 0.7 * opening.loss and _change(recent) > MOTIONLESS:
        what, patch = "hardly below that of the untrained network", remedies.of_standing(spec)
    else:
        return None
    return Diagnosis(
        "plateau",
        f"Since epoch {recent[0].number} train_loss stands around {mean:.3g}: {what}.",
        {
            "since_epoch": recent[0].number,
            "mean_train_loss": _short(mean),
            "least_train_loss": _short(min(one.train_loss for one in recent)),
            "most_train_loss": _short(max(one.train_loss for one in recent)),
            "first_loss": _short(opening.loss),
            "moved": _short(sum(one.moved for one in recent)),
            "learning_rate": _short(recent[-1].learning_rate),
        },
        patch,
    )


def _wanders(recent: Sequence[Epoch]) -> bool:
    """The weights go a long way, and the loss stands and trembles."""
    if sum(one.moved for one in recent) < WANDERED * len(recent) / WINDOW:
        return False
    return _change(recent) > STANDING and _path(recent) / (len(recent) - 1) > TREMBLING * _mean_loss(recent)


def _change(epochs: Sequence[Epoch]) -> float:
    """The loss of the last third / that of the first."""
    third, before = len(epochs) // 3, _mean_loss(epochs[: len(epochs) // 3])
    return _mean_loss(epochs[-third:]) / before if before else 0.0


def _path(epochs: Sequence[Epoch]) -> float:
    """How far train_loss has gone, up and down."""
    return sum(abs(after.train_loss - before.train_loss) for before, after in pairwise(epochs))


def _mean_loss(epochs: Sequence[Epoch]) -> float:
    return sum(one.train_loss for one in epochs) / len(epochs)


def _per_layer(opening: Opening, *names: str) -> list[dict[str, Any]]:
    return [{"name": one["name"], **{name: _short(one[name]) for name in names}} for one in opening.layers]


def _short(value: float) -> float | None:
    """Four digits: evidence is read by people. JSON has no NaN."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
