"""What a Keras layer is made of: initializers, regularizers, constraints and activations."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from core.importers.notes import Config, Notes, Path
from core.spec.activations import Activation
from core.spec.initializers import BiasInitializer, Initializer

INITIALIZER: TypeAdapter[Any] = TypeAdapter(Initializer)
BIAS_INITIALIZER: TypeAdapter[Any] = TypeAdapter(BiasInitializer)
ACTIVATION: TypeAdapter[Any] = TypeAdapter(Activation)

# By the word of Keras in small letters, without underscores: its own names are both `GlorotUniform` and
# `glorot_uniform`. Ours, and the options with the defaults of Keras.
INITIALIZERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "zeros": ("zeros", {}),
    "ones": ("ones", {}),
    "glorotuniform": ("glorot_uniform", {}),
    "glorotnormal": ("glorot_normal", {}),
    "heuniform": ("he_uniform", {}),
    "henormal": ("he_normal", {}),
    "lecununiform": ("lecun_uniform", {}),
    "lecunnormal": ("lecun_normal", {}),
    "constant": ("constant", {"value": 0.0}),
    "identity": ("identity", {"gain": 1.0}),
    "identityinitializer": ("identity", {"gain": 1.0}),
    "orthogonal": ("orthogonal", {"gain": 1.0}),
    "orthogonalinitializer": ("orthogonal", {"gain": 1.0}),
    "randomnormal": ("random_normal", {"mean": 0.0, "stddev": 0.05}),
    "truncatednormal": ("truncated_normal", {"mean": 0.0, "stddev": 0.05}),
    "randomuniform": ("random_uniform", {"minval": -0.05, "maxval": 0.05}),
    "variancescaling": (
        "variance_scaling",
        {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"},
    ),
}
# Those that Keras has without options, as ours are by default or with these.
ACTIVATIONS: Mapping[str, str | Mapping[str, Any]] = {
    "linear": "linear",
    "relu": "relu",
    "relu6": "relu6",
    "selu": "selu",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hardsigmoid",
    "hard_silu": "hardswish",
    "hard_swish": "hardswish",
    "log_sigmoid": "logsigmoid",
    "softsign": "softsign",
    "softplus": "softplus",
    "tanh_shrink": "tanhshrink",
    "hard_tanh": "hardtanh",
    "elu": {"name": "elu", "alpha": 1.0},
    "celu": {"name": "celu", "alpha": 1.0},
    "gelu": {"name": "gelu", "approximate": "none"},
    "leaky_relu": {"name": "leaky_relu", "negative_slope": 0.2},
    "hard_shrink": {"name": "hardshrink", "lambd": 0.5},
    "soft_shrink": {"name": "softshrink", "lambd": 0.5},
}
OF_OUTPUT = ("softmax", "exponential")
NO_ACTIVATION = "this activation has no counterpart here; docs/keras.md lists those that have."
SEED = "Random numbers come from `training.seed`, and from another generator than that of Keras."


def serialized(notes: Notes, value: Any, option: str, path: Path) -> tuple[str, Config] | None:
    """The name and options of an object as Keras writes it, a bare name among them; None where it is no such thing,
    or not Keras's own."""
    if isinstance(value, str):
        return value, Config(notes, {}, path, value[:64])
    if not isinstance(value, dict) or not isinstance(name := value.get("class_name"), str):
        notes.refuse(option, path, "must be a name, or an object with `class_name` and `config`.", "invalid_value")
        return None
    if not is_of_keras(value):
        notes.refuse(option, path, "only what Keras itself comes with can be read.", "not_of_keras")
        return None
    config, within = value.get("config"), (*path, "config")
    if isinstance(config, str):  # a function, by its name
        return config, Config(notes, {}, path, config[:64])
    if config is not None and not isinstance(config, dict):
        notes.refuse(option, within, "must be an object.", "invalid_value")
        return None
    return name, Config(notes, config or {}, within, name[:64])


def is_of_keras(value: Mapping[str, Any]) -> bool:
    """Whether it says that Keras comes with it, or does not say: a class of somebody else may have the same name."""
    module, registered = value.get("module"), value.get("registered_name")
    mine = module is None or (isinstance(module, str) and module.split(".")[0] in ("keras", "builtins"))
    return mine and (registered is None or (isinstance(registered, str) and ">" not in registered))


def initializer(config: Config, key: str, default: str, *, of_bias: bool = False) -> Any:
    """Of this key of a layer."""
    at = (*config.path, key)
    named = serialized(config.notes, config.take(key, default), f"{config.named}.{key}", at)
    if named is None:
        return default
    name, own = named
    known = INITIALIZERS.get(name.replace("_", "").lower())
    if known is None:
        config.refuse(key, "this initializer has no counterpart here.")
        return default
    ours, options = known
    found: dict[str, Any] = {"name": ours}
    for option, usual in options.items():
        value = own.mapped(option, usual) if isinstance(usual, str) else _number(own, option, usual)
        found[option] = value
    for axes in ("input_axes", "output_axes"):
        own.only(axes, why="of a matrix, the first axis is the inputs and the second the units.")
    own.ignored("seed", SEED)
    own.finish()
    if key in config.values:
        config.notes.say("mapped", f"{config.named}.{key}", at)
    config.notes.part(BIAS_INITIALIZER if of_bias else INITIALIZER, found, f"{config.named}.{key}", at)
    return found if options else ours


def _number(own: Config, option: str, usual: float) -> float:
    value = own.number(option, usual)
    own.mapped(option)
    return value


def penalties(config: Config, key: str) -> dict[str, float]:
    """`l1` and `l2` of a matrix; Keras adds the same to the loss."""
    value = config.take(key)
    if value is None:
        return {}
    at = (*config.path, key)
    if (named := serialized(config.notes, value, f"{config.named}.{key}", at)) is None:
        return {}
    name, own = named
    usual = {"l1": {"l1": 0.01}, "l2": {"l2": 0.01}, "l1l2": {"l1": 0.0, "l2": 0.0}}
    options = usual.get(name.replace("_", "").lower())
    if options is None:
        config.refuse(key, "of regularizers, `L1`, `L2` and `L1L2` have a counterpart here.")
        return {}
    if name.lower().replace("_", "") == "l1l2":  # both may be null
        own.values = {kind: number for kind, number in own.values.items() if number is not None}
    found = {kind: _number(own, kind, number) for kind, number in options.items()}
    own.skip("l1", "l2")
    own.finish()
    note = "`loss` and `val_loss` of Keras include it; here they do not, and `penalty` says it apart."
    config.notes.say("mapped_with_difference", f"{config.named}.{key}", at, note)
    return {kind: number for kind, number in found.items() if number}


def max_norm(config: Config, key: str) -> dict[str, float]:
    value = config.take(key)
    if value is None:
        return {}
    at = (*config.path, key)
    if (named := serialized(config.notes, value, f"{config.named}.{key}", at)) is None:
        return {}
    name, own = named
    if name.replace("_", "").lower() != "maxnorm":
        config.refuse(key, "of constraints, `MaxNorm` alone has a counterpart here.")
        return {}
    found = _number(own, "max_value", 2.0)
    own.only("axis", 0, [0], why="what is limited here is the weights into each unit, which is axis 0.")
    own.finish()
    config.notes.say("mapped", f"{config.named}.{key}", at)
    return {"max_norm": found}


def activation(notes: Notes, value: Any, option: str, path: Path) -> Any:
    """An activation by name, or a layer in its place; `softmax` and `exponential` as they are, for the output."""
    if value is None:
        return "linear"
    if (named := serialized(notes, value, option, path)) is None:
        return "linear"
    name, own = named
    if name in ACTIVATION_LAYERS:
        found: Any = activation_layer(name, own)
        own.finish()
    elif name in OF_OUTPUT or name == "Softmax":
        own.only("axis", -1, why="softmax is over the last axis.")
        plain_layer(own)
        own.finish()
        found = name.lower()
    else:
        own.finish()
        found = ACTIVATIONS.get(name)
        if found is None:
            notes.refuse(option, path, NO_ACTIVATION)
            return "linear"
        found = found if isinstance(found, str) else dict(found)
    notes.say("mapped", option, path)
    return found


ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "PReLU", "ELU")


def activation_layer(name: str, own: Config) -> Any:
    """What a layer that is an activation applies."""
    plain_layer(own)
    match name:
        case "ReLU":
            own.only("threshold", 0.0, why="no other threshold than 0 has a counterpart here.")
            most, slope = own.take("max_value"), own.number("negative_slope", 0.0)
            own.mapped("max_value"), own.mapped("negative_slope")
            if most is None:
                found: Any = {"name": "leaky_relu", "negative_slope": slope} if slope else "relu"
            elif slope:
                own.refuse("max_value", "has no counterpart together with a `negative_slope`.")
                return "relu"
            else:
                most = own.number("max_value", 6.0)
                found = "relu6" if most == 6 else {"name": "hardtanh", "min_val": 0.0, "max_val": most}
        case "LeakyReLU":
            found = {"name": "leaky_relu", "negative_slope": _number(own, "negative_slope", 0.3)}
        case "ELU":
            found = {"name": "elu", "alpha": _number(own, "alpha", 1.0)}
        case _:
            own.only("alpha_regularizer", why="penalties are on matrices of weights alone.")
            own.only("alpha_constraint", why="limits are on matrices of weights alone.")
            if own.take("shared_axes") not in ([1], [-1]):
                own.refuse("shared_axes", "here one slope is learned for all units, as `shared_axes=[1]` has it.")
            else:
                own.mapped("shared_axes")
            at = (*own.path, "alpha_initializer")
            named = serialized(own.notes, own.take("alpha_initializer", "zeros"), f"{own.named}.alpha_initializer", at)
            found = {"name": "prelu", "init": _slope(own, named)}
            if "alpha_initializer" in own.values:
                own.notes.say("mapped", f"{own.named}.alpha_initializer", at)
    own.notes.part(ACTIVATION, {"name": found} if isinstance(found, str) else found, own.named, own.path)
    return found


def _slope(own: Config, named: tuple[str, Config] | None) -> float:
    """What every slope begins as."""
    if named is None:
        return 0.0
    name, options = named
    plain = {"zeros": 0.0, "ones": 1.0}
    if name.lower() in plain:
        return plain[name.lower()]
    if name.lower() == "constant":
        return _number(options, "value", 0.0)
    own.refuse("alpha_initializer", "slopes begin as a constant here: `Zeros`, `Ones` or `Constant`.")
    return 0.0


def plain_layer(config: Config) -> None:
    """What every layer has."""
    config.skip("name", "batch_shape", "build_config")
    config.only("trainable", True, why="every layer is trained here.")
    precision(config)


def precision(config: Config) -> None:
    """float32 alone: that of the whole training is an option of it."""
    value = config.take("dtype")
    if isinstance(value, dict):
        own = value.get("config")
        value = own.get("name") if isinstance(own, dict) else value
    if value not in (None, "float32"):
        config.refuse("dtype", "weights are float32 here; `training.precision` of the spec sets how they multiply.")
