"""A network as Keras 3 writes one down: a `Sequential` of its own layers.

https://keras.io/guides/serialization_and_saving: every layer is `{module, class_name, config}`; what a config leaves
out has the default of Keras. Layers are named as Keras names them, so that their weights are found in a model that was
built by hand as well.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from core import errors
from core.spec.activations import (
    AnyActivation,
    Celu,
    Elu,
    Gelu,
    Hardtanh,
    LeakyRelu,
    Plain,
    Prelu,
    Rrelu,
    Shrink,
    Softmax,
    Softplus,
    Threshold,
)
from core.spec.initializers import AnyBiasInitializer, AnyInitializer
from core.spec.network import (
    ActivationLayer,
    AlphaDropout,
    AnyLayer,
    BatchNorm,
    Dense,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Output,
    OutputActivation,
    Residual,
    RmsNorm,
    Weighted,
)

Config = dict[str, Any]
Affine = tuple[Sequence[float], Sequence[float]]  # factor and constant of each unit

NAMES = {
    "hardswish": "hard_silu",
    "hardsigmoid": "hard_sigmoid",
    "logsigmoid": "log_sigmoid",
    "tanhshrink": "tanh_shrink",
    "hardtanh": "hard_tanh",
    "hardshrink": "hard_shrink",
    "softshrink": "soft_shrink",
}
OF_OUTPUT: dict[OutputActivation, str] = {
    "linear": "linear",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "exp": "exponential",
}
NO_BEND = 15.0  # of softplus: beyond this float32 knows no difference to a line


def keras_config(layers: Sequence[AnyLayer], output: Output, inputs: int, undone: Affine | None = None) -> Config:
    """`config.json` of the network, from its features to its predictions. Raises `NotInKeras`.

    `undone` takes the numbers of the output back to the units of their targets.
    """
    counted: Counter[str] = Counter()
    named = [_named("keras.layers", "InputLayer", {"batch_shape": [None, inputs], "name": "input_layer"})]
    for kind, config in _layers(layers, output, undone):
        word = snake_case(kind)
        name = f"{word}_{counted[word]}" if counted[word] else word
        counted[word] += 1
        named.append(_named("keras.layers", kind, {"name": name, **config}))
    config = {"name": "network", "layers": named, "build_input_shape": [None, inputs]}
    return _named("keras", "Sequential", config)


def snake_case(name: str) -> str:
    """As Keras makes a layer's name of its class: `LeakyReLU` is `leaky_re_lu`."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _named(module: str, kind: str, config: Config) -> Config:
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def _layers(layers: Sequence[AnyLayer], output: Output, undone: Affine | None) -> Iterator[tuple[str, Config]]:
    for layer in layers:
        match layer:
            case Dense(type="dense"):
                if isinstance(layer.activation, Softmax):
                    raise _refused("softmax in a layer that is not the output")
                kind, config = _activation(layer.activation)
                fused = config["activation"] if kind == "Activation" else "linear"
                yield "Dense", {"units": layer.units, "activation": fused, **_weighted(layer)}
                if kind != "Activation":
                    yield kind, config
            case ActivationLayer(type="activation"):
                yield _activation(layer.activation)
            case Dropout(type="dropout"):
                yield "Dropout", {"rate": layer.rate}
            case AlphaDropout(type="alpha_dropout"):
                yield "AlphaDropout", {"rate": layer.rate}
            case GaussianDropout(type="gaussian_dropout"):
                yield "GaussianDropout", {"rate": layer.rate}
            case GaussianNoise(type="gaussian_noise"):
                yield "GaussianNoise", {"stddev": layer.stddev}
            case BatchNorm(type="batch_norm"):
                yield "BatchNormalization", {"momentum": 1 - layer.momentum, "epsilon": layer.eps}
            case LayerNorm(type="layer_norm"):
                yield "LayerNormalization", {"epsilon": layer.eps}
            case RmsNorm(type="rms_norm"):
                yield "RMSNormalization", {"epsilon": layer.eps}
            case Residual(type="residual"):
                raise _refused("a residual block")
            case _:
                assert_never(layer)
    yield "Dense", {"units": output.units, "activation": OF_OUTPUT[output.activation], **_weighted(output)}
    if undone is not None:
        factors, constants = undone
        yield "Rescaling", {"scale": list(factors), "offset": list(constants)}


def _weighted(layer: Weighted) -> Config:
    found: Config = {
        "use_bias": layer.bias,
        "kernel_initializer": _initializer(layer.weight_initializer),
        "bias_initializer": _initializer(layer.bias_initializer),
    }
    if layer.l1 or layer.l2:
        found["kernel_regularizer"] = _named("keras.regularizers", "L1L2", {"l1": layer.l1, "l2": layer.l2})
    if layer.max_norm is not None:
        limit = {"max_value": layer.max_norm, "axis": 0}
        found["kernel_constraint"] = _named("keras.constraints", "MaxNorm", limit)
    return found


def _initializer(chosen: AnyInitializer | AnyBiasInitializer) -> Config:
    kind = "".join(word.capitalize() for word in chosen.name.split("_"))
    kind = {"Identity": "Identity", "Orthogonal": "Orthogonal"}.get(kind, kind)
    config = {name: getattr(chosen, name) for name in type(chosen).model_fields if name != "name"}
    return _named("keras.initializers", kind, config)


def _activation(chosen: AnyActivation) -> tuple[str, Config]:
    """The layer that applies it: `Activation` where a name says enough."""
    name = NAMES.get(chosen.name, chosen.name)
    plain = "Activation", {"activation": name}
    match chosen:
        case Plain():
            return plain
        case LeakyRelu():
            return "LeakyReLU", {"negative_slope": chosen.negative_slope}
        case Rrelu():  # what predictions use
            return "LeakyReLU", {"negative_slope": (chosen.lower + chosen.upper) / 2}
        case Prelu():
            begins = _named("keras.initializers", "Constant", {"value": chosen.init})
            return "PReLU", {"alpha_initializer": begins, "shared_axes": [1]}
        case Elu():
            return "ELU", {"alpha": chosen.alpha}
        case Celu(alpha=1.0) | Gelu(approximate="none") | Shrink(lambd=0.5) | Hardtanh(min_val=-1.0, max_val=1.0):
            return plain
        case Softplus(beta=1.0) if chosen.threshold >= NO_BEND:
            return plain
        case Hardtanh(min_val=0.0):
            return "ReLU", {"max_value": chosen.max_val}
        case Threshold(value=0.0) if chosen.threshold >= 0:
            return "ReLU", {"threshold": chosen.threshold}
        case _:
            raise _refused(f"the activation {chosen.name} with these options")


def _refused(what: str) -> errors.NotInKeras:
    return errors.NotInKeras(f"Keras has no counterpart of {what}; leave the Keras files out of `outputs`.")
