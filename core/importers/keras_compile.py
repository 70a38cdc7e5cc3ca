"""From what `compile` was given to loss, output layer, optimizer and metrics."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from core.importers.keras_layers import Chain
from core.importers.keras_optimizer import read_optimizer
from core.importers.keras_parts import serialized
from core.importers.notes import Config, Notes, Path
from core.spec.losses import Loss
from core.spec.metrics import METRIC_SYNONYMS, METRICS, Task, metrics_of
from core.spec.network import Output

LOSS: TypeAdapter[Any] = TypeAdapter(Loss)
OUTPUT: TypeAdapter[Any] = TypeAdapter(Output)

# By the word of Keras in small letters, without underscores.
LOSSES = {
    "categoricalcrossentropy": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy",
    "binarycrossentropy": "binary_cross_entropy",
    "bce": "binary_cross_entropy",
    "categoricalfocalcrossentropy": "focal",
    "binaryfocalcrossentropy": "focal",
    "hinge": "hinge",
    "categoricalhinge": "hinge",
    "meansquarederror": "mse",
    "mse": "mse",
    "meanabsoluteerror": "mae",
    "mae": "mae",
    "huber": "huber",
    "logcosh": "log_cosh",
    "poisson": "poisson",
}
ONE_CLASS = (
    "categoricalcrossentropy",
    "sparsecategoricalcrossentropy",
    "categoricalfocalcrossentropy",
    "categoricalhinge",
)
# What the last layer must apply, so that the loss takes it for what it is.
TAKES = {
    "hinge": "linear",
    "mse": "linear",
    "mae": "linear",
    "huber": "linear",
    "log_cosh": "linear",
    "poisson": "exponential",
}
NO_EFFECT = "Changes nothing of what is learned."


def read_compile(notes: Notes, chain: Chain, config: Config, target: str | list[str]) -> dict[str, Any]:
    """The spec without what `fit` says: task, target, network and training."""
    training: dict[str, Any] = {}
    name, loss, from_logits = _loss(config)
    output = _output(notes, chain, name, from_logits, (*config.path, "loss"))
    task: Task = "regression"
    units: Any = 1
    if output is not None and loss is not None:
        training["loss"] = loss if len(loss) > 1 else loss["name"]
        task = _task(name, target)
        units = output["units"]
        if isinstance(units, int):  # else it was refused
            _targets_fit(notes, name, target, task, units)
    training |= read_optimizer(config)
    training |= _metrics(config, task, units)
    _rest(config)
    config.finish()
    spec: dict[str, Any] = {"task": task, "target": target}
    if task == "regression":
        spec["target_scale"] = "none"
        notes.say("mapped", "target", ("target",), "Not scaled, as in Keras: `target_scale` is `none`.")
    network = {"layers": [layer for layer, _ in chain.layers], "output": output}
    return {**spec, "network": network, "training": training}


def _rest(config: Config) -> None:
    config.only("loss_weights", why="a job has one loss.")
    config.only("weighted_metrics", [], why="metrics are weighted by the column `sample_weight` of the spec.")
    for key in ("run_eagerly", "steps_per_execution", "jit_compile", "auto_scale_loss"):
        config.ignored(key, NO_EFFECT)


# --- the loss and the layer before it --------------------------------------------------------------------------------


def _loss(config: Config) -> tuple[str, dict[str, Any] | None, bool]:
    """Its name in small letters, the loss of a spec, and whether it takes logits."""
    notes, at = config.notes, (*config.path, "loss")
    value = config.take("loss")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        config.refuse("loss", "is needed: say what `compile` was given.", "missing_field")
        return "", None, False
    if (named := serialized(notes, value, "loss", at)) is None:
        return "", None, False
    name, own = named[0].replace("_", "").lower().removesuffix("loss"), named[1]
    ours = LOSSES.get(name)
    if ours is None:
        config.refuse("loss", "this loss has no counterpart here; docs/keras.md lists those that have.")
        return name, None, False
    loss: dict[str, Any] = {"name": ours}
    own.skip("name")
    own.only("dtype", "float32", why="losses are float32 here.")
    why = "a loss is the mean over the rows here."
    own.only("reduction", "sum_over_batch_size", "mean", "mean_with_sample_weight", why=why)
    own.only("axis", -1, 1, why="classes are along the last axis.")
    from_logits = own.mapped("from_logits", False) is True
    if "crossentropy" in name or name == "bce":
        smoothing = own.number("label_smoothing", 0.0)
        if smoothing and ours == "focal":
            own.refuse("label_smoothing", "has no counterpart with a focal loss.")
        own.mapped("label_smoothing")
        if smoothing and ours != "focal":
            loss["label_smoothing"] = smoothing
        own.only("ignore_class", why="rows without a class are left out here.")
    if ours == "focal":
        loss["gamma"] = own.number("gamma", 2.0)
        own.mapped("gamma")
        own.only("apply_class_balancing", False, why="use `training.class_weights` of the spec.")
        if name == "categoricalfocalcrossentropy":
            own.differs(
                "alpha", 0.25, "Keras multiplies the whole loss with it; here nothing does, so `sgd` steps longer."
            )
        else:
            own.ignored("alpha", "Without `apply_class_balancing` it changes nothing.")
    if ours == "huber":
        loss["delta"] = own.number("delta", 1.0)
        if own.mapped("delta") is None:
            note = "Keras does not write it down, so 1 is taken: where it is another, say so in `compile`."
            own.differs("delta", 1.0, note)
    own.finish()
    notes.part(LOSS, loss, "loss", at)
    notes.say("mapped", "loss", at, f"`{ours}`")
    return name, loss, from_logits


def _output(notes: Notes, chain: Chain, loss: str, from_logits: bool, said: Path) -> dict[str, Any] | None:
    """Takes the last layer off the chain: here the output is apart, and the loss sees its logits."""
    applied = None
    if chain.layers and chain.layers[-1][0]["type"] == "activation":
        applied, at = chain.layers[-1]
        chain.layers.pop()
        if not chain.layers or chain.layers[-1][0].get("activation") != "linear":
            notes.refuse("model", at, "the last layer with weights must be `Dense`, with one activation behind it.")
            return None
    if not chain.layers or chain.layers[-1][0]["type"] != "dense":
        notes.refuse("model", ("model",), "the last layer must be `Dense`: it is the output.")
        return None
    dense, at = chain.layers.pop()
    activation = applied["activation"] if applied else dense["activation"]
    for layer, where in chain.layers:
        if layer.get("activation") in ("softmax", "exponential"):
            notes.refuse(f"activation {layer['activation']}", where, "belongs to the output layer only.")
    ours = _applied(notes, activation, loss, from_logits, at, said)
    if ours is None:
        return None
    output = {**{key: value for key, value in dense.items() if key != "type"}, "activation": ours}
    notes.part(OUTPUT, output, "Dense", (*at, "config"))
    return output


def _applied(notes: Notes, activation: Any, loss: str, from_logits: bool, at: Path, where: Path) -> str | None:
    """The activation of our output layer; None where the loss would take what it gets for something else."""
    ours = LOSSES.get(loss)
    if ours is None:
        return None  # which was refused already
    if ours in ("cross_entropy", "binary_cross_entropy", "focal"):
        expected = "softmax" if loss in ONE_CLASS else "sigmoid"
    else:
        expected = TAKES[ours]
    said = activation if isinstance(activation, str) else str(activation["name"])
    if from_logits and said == "linear":
        note = f"Keras predicts logits; here the logits go to the loss as well, and predictions apply {expected}."
        notes.say("mapped_with_difference", "loss.from_logits", where, note)
    elif from_logits or said != expected:
        logits = " with `from_logits`" if from_logits else ""
        or_logits = "" if expected in ("linear", "exponential") else ", or linear with `from_logits=True`"
        message = f"{said} before the loss `{loss}`{logits} has no counterpart: it takes {expected}{or_logits}."
        notes.refuse("output", (*at, "config"), message)
        return None
    else:
        notes.say("mapped", "output", (*at, "config"), "The last layer is `network.output`.")
    return {"exponential": "exp"}.get(expected, expected)


def _task(loss: str, target: str | list[str]) -> Task:
    ours = LOSSES[loss]
    if ours not in ("cross_entropy", "binary_cross_entropy", "focal", "hinge"):
        return "regression"
    several = not isinstance(target, str) and len(target) > 1
    return "multilabel" if several and loss not in ONE_CLASS else "classification"


def _targets_fit(notes: Notes, loss: str, target: str | list[str], task: Task, units: int) -> None:
    """One column each unit; of one class, the columns are its one-hot y, or there is one with the classes."""
    columns = 1 if isinstance(target, str) else len(target)
    if task == "classification":
        if columns == 1:
            notes.say("mapped", "target", ("target",), "One column with the classes in it.")
        elif loss == "sparsecategoricalcrossentropy":
            notes.refuse(
                "target", ("target",), "the sparse loss takes one column with the classes in it.", "target_mismatch"
            )
        elif columns != units:
            notes.refuse(
                "target", ("target",), f"{units} units need {units} one-hot columns, or one.", "target_mismatch"
            )
        else:
            notes.say("mapped", "target", ("target",), "The columns are one-hot: together they are one class.")
    elif columns != units:
        notes.refuse(
            "target", ("target",), f"{units} units predict as many columns, and {columns} are named.", "target_mismatch"
        )


# --- metrics ---------------------------------------------------------------------------------------------------------

WORDS = {name.replace("_", "").lower(): name for name in METRICS} | {
    theirs.replace("_", "").lower(): ours for theirs, ours in METRIC_SYNONYMS.items()
}
MEASURED_ELSE: Mapping[str, str] = {
    "roc_auc": "Exact here; Keras sums over 200 thresholds.",
    "average_precision": "Average precision; Keras sums over 200 thresholds.",
    "precision": "As scikit-learn has it, over all rows of a part.",
    "recall": "As scikit-learn has it, over all rows of a part.",
    "f1": "As scikit-learn has it, over all rows of a part.",
    "mape": "A share here, a percentage in Keras.",
}


def _metrics(config: Config, task: Task, units: Any) -> dict[str, Any]:
    value = config.take("metrics")
    if value is None:
        return {}
    if not isinstance(value, list):
        value = [value]
    classes = units if isinstance(units, int) else 2
    found: list[str] = []
    for position, one in enumerate(value):
        at = (*config.path, "metrics", position)
        if (named := serialized(config.notes, one, "metrics", at)) is None:
            continue
        name = _metric(*named)
        if name not in metrics_of(task, max(classes, 2)):
            config.notes.say("not_mapped", f"metrics.{named[0][:64]}", at, f"Not measured on a {task} here.")
            continue
        outcome, note = ("mapped_with_difference", MEASURED_ELSE[name]) if name in MEASURED_ELSE else ("mapped", "")
        config.notes.say(outcome, f"metrics.{named[0][:64]}", at, note)  # type: ignore[arg-type]
        found.append(name)
    return {"metrics": list(dict.fromkeys(found))} if found else {}


def _metric(name: str, own: Config) -> str:
    word = name.replace("_", "").lower()
    if word == "auc":
        return "average_precision" if own.take("curve", "ROC") == "PR" else "roc_auc"
    if word in ("topkcategoricalaccuracy", "sparsetopkcategoricalaccuracy"):
        return f"top_{own.take('k', 5)}_accuracy"
    return WORDS.get(word, "")
