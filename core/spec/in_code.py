"""What `train.py`, the script that trains a job's network again in plain torch, does not do."""

from collections.abc import Iterator

from core.spec import TrainingSpec
from core.spec.schedules import PlateauRate

LOSSES = ("cross_entropy", "binary_cross_entropy", "mse", "mae", "huber")
OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop")


def not_in_code(spec: TrainingSpec) -> Iterator[tuple[str, str]]:
    """JSON Pointers into the resolved spec, each with a sentence; none where the script does all of it."""
    training = spec.training
    if training.loss.name not in LOSSES:
        yield "/training/loss", f"The script has no {training.loss.name}; it has {', '.join(LOSSES)}."
    if training.optimizer.name not in OPTIMIZERS:
        yield "/training/optimizer", f"The script has no {training.optimizer.name}; it has {', '.join(OPTIMIZERS)}."
    if isinstance(training.schedule, PlateauRate):
        yield "/training/schedule", "The script knows no rate that depends on what was measured."
    if spec.split.folds is not None:
        yield "/split/folds", "The script trains one network."
    if spec.sample_weight is not None:
        yield "/sample_weight", "In the script all rows count the same."
    for name in ("class_weights", "oversample", "ema_decay", "steps"):
        if getattr(training, name) is not None:
            yield f"/training/{name}", "The script does not do that."
    if training.refit:
        yield "/training/refit", "The script trains once."
    if training.precision != "float32":
        yield "/training/precision", "The script trains in float32."
