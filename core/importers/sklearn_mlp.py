"""`get_params()` of scikit-learn's `MLPClassifier` or `MLPRegressor` to a spec.

Where the loss there is a multiple of ours, `alpha` and the rate of `sgd` are changed by the same factor, so that the
weights move alike; `adam` does not feel it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import TypeAdapter

from core.importers.notes import Config, Imported, Notes
from core.spec.network import Layer, Output
from core.spec.optimizers import Optimizer

Estimator = Literal["MLPClassifier", "MLPRegressor"]
LAYER: TypeAdapter[Any] = TypeAdapter(Layer)
OUTPUT: TypeAdapter[Any] = TypeAdapter(Output)
OPTIMIZER: TypeAdapter[Any] = TypeAdapter(Optimizer)
ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
BATCH = 200  # rows of a batch, where it is `auto`
NO_EFFECT = "Changes nothing of what is learned."


def from_sklearn(
    estimator: Estimator, params: Mapping[str, Any], target: str | list[str], classes: int | None = None
) -> Imported:
    """`classes` of the target, where they are known, give the output layer its `alpha` too.

    Raises `ModelNotMappable` with all that has no counterpart, or would silently train another network.
    """
    notes = Notes()
    config = Config(notes, params, ("params",), estimator)
    outputs = 1 if isinstance(target, str) else len(target)
    classifies = estimator == "MLPClassifier"
    # What ours is of their loss: halves of squares there, and sums over the outputs.
    factor = 1.0 / outputs if classifies else 2.0 / outputs
    loss, exponential = _loss(config, classifies)
    if exponential:
        factor = 1.0 / outputs
    batch = _batch(config)
    penalty = _penalty(config, batch, factor)
    network = _network(config, penalty, _units(classifies, outputs, classes), "exp" if exponential else None)
    rate = config.number("learning_rate_init", 0.001)
    config.mapped("learning_rate_init")
    optimizer = _optimizer(config, rate, factor)
    notes.part(OPTIMIZER, optimizer, "solver", ("params", "solver"))
    epochs = config.differs("max_iter", 200, "Kept are the weights of the best epoch, there those of the last one.")
    training: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "batch_size": batch, "epochs": epochs}
    split = _stopping(config, training, classifies)
    if isinstance(seed := config.mapped("random_state", None, "Numbers are drawn by another generator."), int):
        training["seed"] = seed
    elif seed is not None:
        config.refuse("random_state", "must be a number.", "invalid_value")
    config.only("shuffle", True, why="the training rows are shuffled in each epoch here.")
    config.only("warm_start", False, why="`start_from` of a job goes on from an earlier one.")
    config.ignored("verbose", NO_EFFECT)
    for unused in ("power_t", "max_fun", "momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon"):
        if unused in config.left:
            config.ignored(unused, "Of another solver or schedule than the one that is chosen.")
    config.finish()
    note = "There is no scaling in the estimator, so there is none."
    notes.say("mapped", "features", ("params",), note)
    spec: dict[str, Any] = {
        "target": target,
        "features": {kind: {"scale": "none"} for kind in ("numbers", "vectors", "datetimes")},
        "split": split,
        "network": network,
        "training": training,
    }
    if classifies:
        spec["task"] = "multilabel" if outputs > 1 else "classification"
    else:
        spec |= {"task": "regression", "target_scale": "none"}
    return notes.imported(spec)


def _loss(config: Config, classifies: bool) -> tuple[str, bool]:
    """The loss of the spec, and whether the network predicts a logarithm."""
    if classifies:
        config.only("loss", "log_loss", why="a classifier has the logarithmic loss.")
        return "auto", False
    said = config.mapped("loss", "squared_error")
    if said not in ("squared_error", "poisson"):
        config.refuse("loss", "`squared_error` and `poisson` have a counterpart here.")
    return ("poisson", True) if said == "poisson" else ("mse", False)


def _batch(config: Config) -> int:
    said = config.mapped("batch_size", "auto", "`auto` is 200 rows, or all where there are fewer.")
    if said in ("auto", None):
        return BATCH
    if isinstance(said, bool) or not isinstance(said, int) or said < 1:
        config.refuse("batch_size", "must be `auto` or a number of rows.", "invalid_value")
        return BATCH
    return said


def _penalty(config: Config, batch: int, factor: float) -> float:
    """scikit-learn adds alpha / 2 times the squares, divided by the rows of the batch; we add `l2` times them."""
    alpha = config.number("alpha", 0.0001)
    if alpha and config.values.get("solver") == "lbfgs":
        config.take("alpha")
        config.refuse("alpha", "with `lbfgs` it is divided by all rows: say 0 here, and `l2` in the spec.")
        return 0.0
    note = f"`l2` of each layer: {alpha:g} / 2 / {batch} rows of a batch; there by those of each."
    config.differs("alpha", 0.0001, note)
    return alpha / 2 / batch * factor


def _units(classifies: bool, outputs: int, classes: int | None) -> tuple[int, str] | None:
    """Of the output layer, and what it applies; None where the classes are to be counted."""
    if not classifies:
        return outputs, "linear"
    if outputs > 1:
        return outputs, "sigmoid"
    if classes is None:
        return None
    return (1, "sigmoid") if classes == 2 else (classes, "softmax")


def _network(config: Config, penalty: float, last: tuple[int, str] | None, applied: str | None) -> dict[str, Any]:
    widths = config.mapped("hidden_layer_sizes", [100])
    widths = [widths] if isinstance(widths, int) and not isinstance(widths, bool) else widths
    name = config.mapped("activation", "relu")
    if not isinstance(name, str) or name not in ACTIVATIONS:
        config.refuse("activation", f"must be one of {', '.join(ACTIVATIONS)}.", "invalid_value")
        name = "relu"
    if not isinstance(widths, list):
        config.refuse("hidden_layer_sizes", "must be a list of numbers.", "invalid_value")
        widths = []
    begins: Any = "glorot_uniform"
    if name == "logistic":  # a third of the variance
        begins = {"name": "variance_scaling", "scale": 1 / 3, "mode": "fan_avg", "distribution": "uniform"}
    weighted: dict[str, Any] = {"weight_initializer": begins} | ({"l2": penalty} if penalty else {})
    layers = [{"type": "dense", "units": units, "activation": ACTIVATIONS[name], **weighted} for units in widths]
    at = (*config.path, "hidden_layer_sizes")
    for position, layer in enumerate(layers):
        config.notes.part(LAYER, layer, "hidden_layer_sizes", (*at, position))
    note = "Weights begin alike; constants begin at 0 here, there as small as weights."
    config.notes.say("mapped_with_difference", "initial weights", ("params",), note)
    if last is None:
        if penalty:
            note = "The output layer has none: say `classes` for that."
            config.notes.say("mapped_with_difference", "MLPClassifier.alpha", (*config.path, "alpha"), note)
        return {"layers": layers}
    output = {"units": last[0], "activation": applied or last[1], **weighted}
    config.notes.part(OUTPUT, output, "output", ("target",))
    return {"layers": layers, "output": output}


def _optimizer(config: Config, rate: float, factor: float) -> dict[str, Any]:
    solver = config.mapped("solver", "adam")
    match solver:
        case "adam":
            betas = [config.number("beta_1", 0.9), config.number("beta_2", 0.999)]
            config.mapped("beta_1"), config.mapped("beta_2")
            eps = config.number("epsilon", 1e-8)
            note = "scikit-learn adds it before the bias of the squares is corrected, torch after."
            config.differs("epsilon", 1e-8, note)
            return {"name": "adam", "learning_rate": rate, "betas": betas, "eps": eps}
        case "sgd":
            momentum = config.number("momentum", 0.9)
            config.mapped("momentum")
            nesterov = config.mapped("nesterovs_momentum", True) is True and momentum > 0
            if factor != 1:
                note = f"{rate / factor:g}: the gradient here is {factor:g} times that of scikit-learn."
                config.notes.say("mapped", "learning_rate_init", ("params", "learning_rate_init"), note)
            return {"name": "sgd", "learning_rate": rate / factor, "momentum": momentum, "nesterov": nesterov}
        case "lbfgs":
            note = "All rows in each step; `epochs` of 20 iterations each, with the line search of torch."
            config.notes.say("mapped_with_difference", "solver", ("params", "solver"), note)
            return {"name": "lbfgs", "max_iter": 20, "tolerance_grad": config.number("tol", 1e-4)}
        case _:
            config.refuse("solver", "must be adam, sgd or lbfgs.", "invalid_value")
            return {"name": "adam"}


def _stopping(config: Config, training: dict[str, Any], classifies: bool) -> dict[str, Any]:
    """Puts `stop` and `schedule` into the training; returns the split."""
    early = config.mapped("early_stopping", False) is True
    patience, tolerance = config.mapped("n_iter_no_change", 10), config.number("tol", 1e-4)
    config.mapped("tol")
    solver, moves = training["optimizer"]["name"], config.values.get("learning_rate")
    if solver == "sgd":
        moves = config.mapped("learning_rate", "constant")
    else:
        config.ignored("learning_rate", "Of `sgd` alone.")
    stop: dict[str, Any] = {"monitor": "train_loss", "patience": patience, "min_delta": tolerance}
    split: dict[str, Any] = {"validation": 0.0}
    if solver == "lbfgs":
        epochs = training["epochs"]
        training["epochs"] = max(1, -(-epochs // 20)) if isinstance(epochs, int) else epochs
        if early:
            config.ignored("early_stopping", "`lbfgs` has none.")
        config.ignored("validation_fraction", "`lbfgs` has none.")
        return split
    if early:
        score = "accuracy" if classifies else "r2"
        stop["monitor"], training["metrics"] = f"valid_{score}", [score]
        split = {"validation": config.number("validation_fraction", 0.1)}
        config.mapped("validation_fraction")
    else:
        config.ignored("validation_fraction", "Without `early_stopping` no rows validate.")
        note = "`train_loss` has no penalty in it here."
        config.notes.say("mapped_with_difference", "n_iter_no_change", (*config.path, "n_iter_no_change"), note)
    if solver == "sgd" and moves == "adaptive":
        note = "The rate is divided by 5 as there; training ends with `max_iter`, not when the rate is 1e-6."
        config.notes.say("mapped_with_difference", "learning_rate", (*config.path, "learning_rate"), note)
        rate = training["optimizer"]["learning_rate"]
        training["schedule"] = {
            "name": "reduce_on_plateau",
            "monitor": stop["monitor"],
            "factor": 0.2,
            "patience": patience,
            "min_delta": tolerance,
            "min_factor": min(1.0, 1e-6 / rate) if rate > 0 else 0.0,
        }
        stop = {"monitor": stop["monitor"]}
    elif solver == "sgd" and moves not in (None, "constant"):
        config.refuse("learning_rate", "`constant` and `adaptive` have a counterpart here.")
    training["stop"] = stop
    return split
