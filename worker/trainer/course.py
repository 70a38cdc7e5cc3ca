"""How a training has gone so far: the first step, the last epochs, the best one. Part of its checkpoint, so that a job
that goes on after a rescue knows what an uninterrupted one knows.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.trainer.vitals import Vitals

WINDOW = 15  # epochs that are looked at together


@dataclass(slots=True)
class Opening:
    """The first step: what the network began as."""

    loss: float
    gradient_norm: float
    weight_norm: float
    update_ratio: float
    dead_units: float
    layers: list[dict[str, Any]]

    @property
    def steepness(self) -> float:
        return self.gradient_norm / self.weight_norm if self.weight_norm else 0.0


@dataclass(slots=True)
class Epoch:
    """As much of an epoch as is remembered."""

    number: int
    train_loss: float
    valid_loss: float | None
    learning_rate: float
    gradient_norm: float
    least_gradient: float  # of one matrix, as a share of the whole gradient
    dead_units: float
    dead_in_a_layer: float  # the largest share
    update_ratio: float  # of its last step
    moved: float  # lengths of themselves that the weights moved, as if each step was like the last


@dataclass
class Course:
    opening: Opening | None = None
    recent: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None  # by valid_loss
    first_valid_loss: float | None = None
    highest_rate: float = 0.0
    moved: float = 0.0
    steps: int = 0
    diagnoses: list[dict[str, Any]] = field(default_factory=list)  # as they were said

    def begin(self, loss: float, felt: "Vitals") -> None:
        """Remembers the first step; those after it change nothing."""
        if self.opening is None:
            self.opening = Opening(loss=loss, **asdict(felt))

    def learn(self, facts: dict[str, Any], felt: "Vitals") -> None:
        """Remembers an epoch whose numbers are numbers."""
        whole = felt.gradient_norm
        dead = [layer.dead_units for layer in felt.layers if layer.dead_units is not None]
        now = Epoch(
            number=facts["epoch"],
            train_loss=facts["train_loss"],
            valid_loss=facts.get("valid_loss"),
            learning_rate=facts["learning_rate"],
            gradient_norm=whole,
            least_gradient=min([layer.gradient_norm for layer in felt.layers]) / whole if whole else 1.0,
            dead_units=felt.dead_units,
            dead_in_a_layer=max(dead, default=0.0),
            update_ratio=felt.update_ratio,
            moved=felt.update_ratio * (facts["step"] - self.steps),
        )
        self.recent = [*self.recent[1 - WINDOW :], now]
        self.steps = facts["step"]
        self.moved += now.moved
        self.highest_rate = max(self.highest_rate, now.learning_rate)
        if now.valid_loss is not None:
            if self.best is None or self.best.valid_loss is None or now.valid_loss < self.best.valid_loss:
                self.best = now
            if self.first_valid_loss is None:
                self.first_valid_loss = now.valid_loss


def course_of(facts: dict[str, Any]) -> Course:
    """The course whose `asdict` these facts are."""
    opening, best = facts["opening"], facts["best"]
    return Course(
        **facts
        | {
            "opening": opening and Opening(**opening),
            "best": best and Epoch(**best),
            "recent": [Epoch(**one) for one in facts["recent"]],
        }
    )
