"""What `reduce_on_plateau` makes of a metric that an epoch's rows do not define."""

from core.spec.schedules import PlateauRate
from worker.trainer.schedules import Plateau

CHOSEN = PlateauRate(name="reduce_on_plateau", monitor="train_roc_auc", factor=0.5, patience=1)


def test_an_undefined_metric_is_no_better_than_any() -> None:
    plateau = Plateau()

    for metrics in [{"train_roc_auc": 0.5}, {}, {}]:
        plateau.look(CHOSEN, metrics)

    assert (plateau.best, plateau.factor) == (-0.5, 0.5)


def test_the_first_metric_that_is_defined_is_the_best_so_far() -> None:
    plateau = Plateau()

    for metrics in [{}, {"train_roc_auc": 0.5}, {"train_roc_auc": 0.6}]:
        plateau.look(CHOSEN, metrics)

    assert (plateau.best, plateau.waited, plateau.factor) == (-0.6, 0, 1.0)
