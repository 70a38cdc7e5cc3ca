"""From what `fit` was given, callbacks among it, to split, epochs, and when to stop."""

from typing import Any

from core.importers.keras_parts import is_of_keras
from core.importers.notes import Config, Path
from core.spec.metrics import MONITOR_SYNONYMS, MONITORS, lower_is_better

KEPT = "`weights.safetensors` is of the epoch with the best `monitor`; `last.safetensors` has those Keras ends with."
NOT_HERE = {
    "ModelCheckpoint": "Jobs keep their best weights, and checkpoints, by themselves.",
    "BackupAndRestore": "Jobs go on from their checkpoints by themselves.",
    "CSVLogger": "Every loss is in the job's events, and in `metrics.csv`.",
    "TensorBoard": "Every loss is in the job's events, and in `metrics.csv`.",
    "History": "Every loss is in the job's events, and in `metrics.csv`.",
    "ProgbarLogger": "Every loss is in the job's events, and in `metrics.csv`.",
}


def read_fit(config: Config, learning_rate: float) -> dict[str, Any]:
    """`split`, and what `fit` says of `training`."""
    training: dict[str, Any] = {
        "batch_size": 32 if config.values.get("batch_size") is None else config.values["batch_size"],
        "epochs": config.differs("epochs", 1, KEPT),
    }
    config.mapped("batch_size")
    share = config.number("validation_split", 0.0)
    note = "The last rows, which Keras takes before it shuffles." if share else "No rows validate, as in Keras."
    config.mapped("validation_split", note=note)
    split = {"method": "last", "validation": share} if share else {"validation": 0.0}
    config.only("shuffle", True, why="the training rows are shuffled in each epoch here.")
    config.only("validation_data", why="name its dataset as `validation_dataset_id` of the job.")
    config.only("sample_weight", why="name its column as `sample_weight` of the spec.")
    config.only("initial_epoch", 0, why="a job begins at the first epoch; `start_from` goes on from an earlier one.")
    config.only("steps_per_epoch", why="an epoch is all training rows here.")
    config.only("validation_steps", why="all validation rows are measured here.")
    config.only("validation_freq", 1, why="every epoch is measured here.")
    config.ignored("validation_batch_size", "Changes nothing of what is learned.")
    for key in ("verbose", "workers", "use_multiprocessing", "max_queue_size"):
        config.ignored(key, "Changes nothing of what is learned.")
    for key in ("x", "y"):
        config.only(key, why="rows are a dataset of their own: `POST /v1/datasets`.")
    if (weights := config.take("class_weight")) is not None:
        training["class_weights"] = weights
        note = "Keys are the classes; weights are divided by their mean over the training rows, in Keras not."
        config.notes.say("mapped_with_difference", "fit.class_weight", (*config.path, "class_weight"), note)
    training |= _callbacks(config, learning_rate)
    config.finish()
    return {"split": split, "training": training}


def _callbacks(config: Config, learning_rate: float) -> dict[str, Any]:
    value = config.take("callbacks")
    if value is None:
        return {}
    if not isinstance(value, list):
        config.refuse("callbacks", "must be a list.", "invalid_value")
        return {}
    found: dict[str, Any] = {}
    for position, one in enumerate(value):
        at: Path = (*config.path, "callbacks", position)
        name = one.get("class_name") if isinstance(one, dict) else one
        if not isinstance(name, str) or (isinstance(one, dict) and not is_of_keras(one)):
            config.notes.refuse(
                "callbacks", at, "must be a callback of Keras, with `class_name` and `config`.", "invalid_value"
            )
            continue
        own = _config_of(config, one, at, name)
        match name:
            case "EarlyStopping" if "stop" not in found:
                found["stop"] = _early_stopping(own)
            case "ReduceLROnPlateau" if "schedule" not in found:
                found["schedule"] = _plateau(own, learning_rate)
            case "EarlyStopping" | "ReduceLROnPlateau":
                config.notes.refuse(name, at, "one of them is taken here.")
                continue
            case "TerminateOnNaN":
                config.notes.say("mapped", name, at, "A loss that is no number ends every job.")
            case _ if name in NOT_HERE:
                config.notes.say("not_mapped", name, at, NOT_HERE[name])
                continue
            case _:
                config.notes.refuse(name[:64], at, "this callback has no counterpart here.")
                continue
        own.finish()
    return found


def _config_of(config: Config, one: Any, at: Path, name: str) -> Config:
    """Of callbacks Keras writes no config: its options stand in `config`, or beside the name."""
    if not isinstance(one, dict):
        return Config(config.notes, {}, at, name)
    if isinstance(one.get("config"), dict):
        return Config(config.notes, one["config"], (*at, "config"), name)
    beside = {key: value for key, value in one.items() if key not in ("class_name", "module", "registered_name")}
    return Config(config.notes, beside, at, name)


def _early_stopping(own: Config) -> dict[str, Any]:
    _quiet(own)
    found: dict[str, Any] = {"monitor": _monitor(own), "min_delta": abs(own.number("min_delta", 0.0))}
    own.mapped("min_delta")
    patience = own.mapped("patience", 0, "0 is 1: the first epoch without anything better ends both.")
    found["patience"] = 1 if patience == 0 else patience
    own.only("baseline", why="has no counterpart here.")
    if own.take("restore_best_weights", False) is True:
        own.notes.say("mapped", f"{own.named}.restore_best_weights", (*own.path, "restore_best_weights"))
    else:
        own.differs("restore_best_weights", False, KEPT)
    found["start_from_epoch"] = own.mapped("start_from_epoch", 0)
    return found


def _plateau(own: Config, learning_rate: float) -> dict[str, Any]:
    _quiet(own)
    found: dict[str, Any] = {"name": "reduce_on_plateau", "monitor": _monitor(own)}
    for theirs, ours, usual in (("factor", "factor", 0.1), ("min_delta", "min_delta", 1e-4)):
        found[ours] = own.number(theirs, usual)
        own.mapped(theirs)
    for count, often in (("patience", 10), ("cooldown", 0)):
        found[count] = own.mapped(count, often)
    least = own.number("min_lr", 0.0)
    own.mapped("min_lr", note="`min_factor`: its share of the learning rate.")
    found["min_factor"] = least / learning_rate if learning_rate > 0 else 0.0
    return found


def _quiet(own: Config) -> None:
    own.ignored("verbose", "Changes nothing of what is learned.")


def _monitor(own: Config) -> str:
    said = own.mapped("monitor", "val_loss")
    ours = MONITOR_SYNONYMS.get(said, said) if isinstance(said, str) else ""
    if ours not in MONITORS:
        own.refuse("monitor", "is not measured here.")
        ours = "valid_loss"
    mode = own.take("mode", "auto")
    if mode not in ("auto", "min" if lower_is_better(ours) else "max"):
        own.refuse(
            "mode", "is the other way here: a loss or an error is better where it is lower, a score where it is higher."
        )
    elif "mode" in own.values:
        own.notes.say("mapped", f"{own.named}.mode", (*own.path, "mode"))
    return ours
