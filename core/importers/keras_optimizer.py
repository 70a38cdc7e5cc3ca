"""From a Keras optimizer to that of a spec, and to what of its options stands elsewhere there."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from core.importers.keras_parts import serialized
from core.importers.notes import Config
from core.spec.optimizers import Optimizer

OPTIMIZER: TypeAdapter[Any] = TypeAdapter(Optimizer)

# The learning rate of Keras by default; ours is not always the same.
RATES: Mapping[str, float] = {"sgd": 0.01} | dict.fromkeys(
    ("adam", "adamw", "nadam", "adamax", "adagrad", "adadelta", "rmsprop", "adafactor"), 0.001
)
EPSILON: Mapping[str, str] = {
    "adam": "Keras adds it before the bias of the squares is corrected, torch after.",
    "adamw": "Keras adds it before the bias of the squares is corrected, torch after.",
    "adamax": "Keras adds it to the largest gradient so far, torch to each gradient before it is compared.",
    "adagrad": "Keras adds it under the root, torch to the root.",
    "rmsprop": "Keras adds it under the root, torch to the root.",
}


def read_optimizer(config: Config) -> dict[str, Any]:
    """The part of `training` that it says."""
    at = (*config.path, "optimizer")
    if (named := serialized(config.notes, config.take("optimizer", "rmsprop"), "optimizer", at)) is None:
        return {}
    name, own = named[0].lower().replace("_", ""), named[1]
    if name not in RATES:
        config.refuse("optimizer", "this optimizer has no counterpart here; docs/keras.md lists those that have.")
        return {}
    own.skip("name")
    chosen: dict[str, Any] = {"name": name, "learning_rate": _rate(own, RATES[name])}
    match name:
        case "sgd":
            chosen["momentum"] = _number(own, "momentum", 0.0)
            chosen["nesterov"] = own.mapped("nesterov", False) is True and chosen["momentum"] > 0
        case "adam" | "adamw" | "nadam" | "adamax":
            chosen["betas"] = [_number(own, "beta_1", 0.9), _number(own, "beta_2", 0.999)]
            if name in ("adam", "adamw"):
                chosen["amsgrad"] = own.mapped("amsgrad", False)
            if name == "nadam":
                chosen["momentum_decay"] = 1.0  # 0.96 to the power of the step, as Keras has it
        case "adagrad":
            chosen["initial_accumulator_value"] = _number(own, "initial_accumulator_value", 0.1)
        case "adadelta":
            chosen["rho"] = _number(own, "rho", 0.95)
        case "rmsprop":
            chosen["alpha"] = _number(own, "rho", 0.9)
            chosen["momentum"] = _number(own, "momentum", 0.0)
            chosen["centered"] = own.mapped("centered", False)
        case _:
            _adafactor(own, chosen)
    if name not in ("adafactor", "sgd"):
        chosen["eps"] = own.number("epsilon", 1e-7)
        if name in EPSILON:
            own.differs("epsilon", 1e-7, EPSILON[name])
        else:
            own.mapped("epsilon")
    _weight_decay(own, chosen)
    training = {"optimizer": chosen, **_around(own)}
    own.finish()
    config.notes.part(OPTIMIZER, chosen, "optimizer", at)
    config.notes.say("mapped", "optimizer", at, f"`{chosen['name']}`")
    return training


def _rate(own: Config, usual: float) -> float:
    if isinstance(own.values.get("learning_rate"), dict):
        own.take("learning_rate")
        message = "a schedule of Keras counts steps, those here epochs: import a number, then say `training.schedule`."
        own.refuse("learning_rate", message)
        return usual
    return _number(own, "learning_rate", usual)


def _number(own: Config, key: str, usual: float) -> float:
    value = own.number(key, usual)
    own.mapped(key)
    return value


def _adafactor(own: Config, chosen: dict[str, Any]) -> None:
    chosen["beta2_decay"] = _number(own, "beta_2_decay", -0.8)
    chosen["d"] = _number(own, "clip_threshold", 1.0)
    own.differs("epsilon_1", 1e-30, "Squares are kept above 1.4e-14 here.")
    own.only("epsilon_2", 0.001, why="is 0.001 here.")
    own.only("relative_step", True, why="steps are relative here.")


def _weight_decay(own: Config, chosen: dict[str, Any]) -> None:
    """Keras takes it from the weights, apart from the gradient, whatever the optimizer."""
    usual = 0.004 if chosen["name"] == "adamw" else None
    if own.values.get("weight_decay", usual) is None:
        own.take("weight_decay")
        if chosen["name"] == "adamw":
            chosen["weight_decay"] = 0.0
        return
    decay = own.number("weight_decay", usual or 0.0)
    own.take("weight_decay")
    match chosen["name"]:
        case "adam" | "adamw":
            chosen["name"] = "adamw"
        case "sgd" if chosen["momentum"] == 0:
            pass  # the same number, as a penalty in the gradient
        case _ if decay:
            own.refuse("weight_decay", "apart from the gradient, only `Adam`, `AdamW` and plain `SGD` have it here.")
            return
    chosen["weight_decay"] = decay
    own.notes.say("mapped", f"{own.named}.weight_decay", (*own.path, "weight_decay"), f"`{chosen['name']}`")


def _around(own: Config) -> dict[str, Any]:
    """What stands beside the optimizer in a spec."""
    found: dict[str, Any] = {}
    own.only("clipnorm", why="limits each matrix by itself; `global_clipnorm` has a counterpart here.")
    for theirs, ours in {"global_clipnorm": "clip_norm", "clipvalue": "clip_value"}.items():
        if own.values.get(theirs) is not None:
            found[ours] = _number(own, theirs, 1.0)
        own.take(theirs)
    if own.values.get("use_ema") is True:
        found["ema_decay"] = own.number("ema_momentum", 0.99)
        own.mapped("ema_momentum")
        own.differs("use_ema", True, "The average is measured and kept after every epoch; in Keras, at the end.")
        own.only("ema_overwrite_frequency", why="the average does not replace the weights while training.")
    else:
        own.only("use_ema", False, why="must be true or false.")
        for key in ("ema_momentum", "ema_overwrite_frequency"):
            own.ignored(key, "Without `use_ema` it changes nothing.")
    own.only("loss_scale_factor", why="has no counterpart here.")
    if own.values.get("gradient_accumulation_steps") is not None:
        found["accumulate"] = own.differs(
            "gradient_accumulation_steps", 1, "The last update of an epoch takes the batches that are left."
        )
    own.take("gradient_accumulation_steps")
    return found
