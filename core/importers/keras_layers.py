"""From the layers of a Keras model to those of a spec, the last one apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from core.importers.keras_parts import (
    ACTIVATION_LAYERS,
    SEED,
    activation,
    activation_layer,
    initializer,
    is_of_keras,
    max_norm,
    penalties,
    plain_layer,
)
from core.importers.notes import Config, Notes, Path
from core.spec.network import Layer
from core.spec.values import MAX_UNITS

LAYER: TypeAdapter[Any] = TypeAdapter(Layer)
MAX_NESTED = 8  # models in models
MOMENTUM = "Keras keeps this share of the running mean and variance, torch gives 1 - this to the newest batch"
VARIANCE = "; the running variance is that of Bessel's correction here, and not in Keras."


@dataclass
class Chain:
    """The layers in order, as Keras has them."""

    layers: list[tuple[dict[str, Any], Path]] = field(default_factory=list)  # of a spec, and where each came from
    scales: bool = False  # numbers are standardised first
    inputs: int | None = None

    @property
    def last(self) -> tuple[dict[str, Any], Path] | None:
        return self.layers[-1] if self.layers else None


def read_layers(notes: Notes, model: Mapping[str, Any], path: Path) -> Chain:
    """All layers, those of models within the model among them."""
    found = Chain()
    for own, at in _layers(notes, model, path, 0):
        _read(notes, found, own, at)
    return found


def _layers(notes: Notes, model: Mapping[str, Any], path: Path, depth: int) -> Iterator[tuple[dict[str, Any], Path]]:
    kind, config = model.get("class_name"), model.get("config")
    if kind not in ("Sequential", "Functional") or not is_of_keras(model):
        notes.refuse(
            "model", path, "a `Sequential` or `Functional` model of Keras 3 is read here, as `to_json()` says it."
        )
        return
    own = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(own, list) or depth > MAX_NESTED:
        notes.refuse("model.config", (*path, "config", "layers"), "must be a list of layers.", "invalid_value")
        return
    assert isinstance(config, dict)
    whole = Config(notes, config, (*path, "config"), str(kind))
    whole.skip("layers", "build_input_shape", "input_layers", "output_layers")
    plain_layer(whole)
    whole.finish()
    before: str | None = None
    for position, layer in enumerate(own):
        at = (*path, "config", "layers", position)
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            notes.refuse("layer", at, "must be an object with `class_name` and `config`.", "invalid_value")
            continue
        if kind == "Functional":
            if not _follows(layer, before):
                notes.refuse("inbound_nodes", at, "only models of one layer after the other have a counterpart here.")
                continue
            before = str(layer.get("name"))
        if layer.get("class_name") in ("Sequential", "Functional"):
            yield from _layers(notes, layer, at, depth + 1)
        else:
            yield layer, at


def _follows(layer: Mapping[str, Any], before: str | None) -> bool:
    """Whether its one input is what came out of the layer before, or it is the first."""
    nodes = layer.get("inbound_nodes")
    if before is None:
        return nodes == []
    if not isinstance(nodes, list) or len(nodes) != 1 or not isinstance(nodes[0], dict):
        return False
    arguments = nodes[0].get("args")
    if not isinstance(arguments, list) or len(arguments) != 1 or not isinstance(arguments[0], dict):
        return False
    config = arguments[0].get("config")
    return isinstance(config, dict) and config.get("keras_history") == [before, 0, 0]


def _read(notes: Notes, found: Chain, layer: Mapping[str, Any], path: Path) -> None:
    name = layer.get("class_name")
    at = (*path, "config")
    if not isinstance(name, str) or not is_of_keras(layer):
        notes.refuse("layer", path, "only layers that Keras itself comes with can be read.", "not_of_keras")
        return
    own = Config(notes, layer["config"], at, name[:64])
    part: dict[str, Any] | None = None
    match name:
        case "InputLayer":
            _input(found, own)
        case "Normalization":
            _normalization(found, own)
        case "Flatten" | "Identity":
            plain_layer(own)
            own.ignored("data_format", "Rows have one dimension, so it changes nothing.")
            notes.say("mapped", name, path, "Rows have one dimension, so it changes nothing.")
        case "Dense":
            part = _dense(own)
        case "Activation":
            plain_layer(own)
            part = _activation(activation(notes, own.take("activation"), f"{name}.activation", (*at, "activation")))
        case "Softmax":
            plain_layer(own)
            own.only("axis", -1, 1, [-1], why="softmax is over the last axis.")
            part = _activation("softmax")
        case _ if name in ACTIVATION_LAYERS:
            part = _activation(activation_layer(name, own))
        case "Dropout" | "AlphaDropout" | "GaussianDropout":
            part = _noise(own, name, "rate", 0.5)
        case "GaussianNoise":
            part = _noise(own, name, "stddev", 1.0)
        case "BatchNormalization":
            part = _batch_norm(own)
        case "LayerNormalization" | "RMSNormalization":
            part = _norm(own, name)
        case _:
            notes.refuse(name[:64], path, "this layer has no counterpart here; docs/keras.md lists those that have.")
            return
    own.finish()
    if part is not None:
        applied = part.get("activation")
        if part["type"] == "dense" or applied not in ("softmax", "exponential"):
            checked = {**part, "activation": "linear"} if applied == "exponential" else part
            notes.part(LAYER, checked, name, at)
        found.layers.append((part, path))


def _input(found: Chain, own: Config) -> None:
    shape = own.take("batch_shape", own.take("shape"))
    own.skip("batch_shape", "shape", "batch_size", "name", "input_tensor")
    own.only("dtype", "float32", why="inputs are float32 here.")
    for flag in ("sparse", "ragged", "optional"):
        own.only(flag, False, why="rows are dense here.")
    if not isinstance(shape, list) or len(shape) not in (1, 2) or not _is_width(shape[-1]):
        own.refuse("batch_shape", "rows of one dimension are read here: `(None, inputs)`.")
        return
    found.inputs = shape[-1]
    note = f"The features must come to {found.inputs} inputs: a plan (`POST /v1/jobs/plan`) says how many they are."
    own.notes.say("mapped", "InputLayer.batch_shape", (*own.path, "batch_shape"), note)


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_UNITS


def _normalization(found: Chain, own: Config) -> None:
    plain_layer(own)
    own.only("axis", -1, [-1], why="each input is standardised by itself here, as axis -1 has it.")
    own.only("invert", False, why="inputs are standardised here, and not the other way.")
    for given in ("mean", "variance"):
        if own.take(given) is not None:
            own.refuse(given, "is computed from the training rows here, and cannot be given.")
    if found.layers:
        own.notes.refuse("Normalization", own.path, "can only be the first layer: it is part of the preprocessing.")
    found.scales = True
    note = "Numbers are standardised by mean and deviation of the training rows; `adapt()` has used those it was given."
    own.notes.say("mapped_with_difference", "Normalization", own.path, note)


def _dense(own: Config) -> dict[str, Any]:
    plain_layer(own)
    part: dict[str, Any] = {"type": "dense", "units": own.mapped("units")}
    at = (*own.path, "activation")
    part["activation"] = activation(own.notes, own.take("activation"), f"{own.named}.activation", at)
    part["bias"] = own.mapped("use_bias", True)
    part["weight_initializer"] = initializer(own, "kernel_initializer", "glorot_uniform")
    part["bias_initializer"] = initializer(own, "bias_initializer", "zeros", of_bias=True)
    part |= penalties(own, "kernel_regularizer") | max_norm(own, "kernel_constraint")
    for key in ("bias_regularizer", "activity_regularizer"):
        own.only(key, why="penalties are on matrices of weights alone.")
    own.only("bias_constraint", why="limits are on matrices of weights alone.")
    for key in ("lora_rank", "lora_alpha", "quantization_config", "quantization_mode"):
        own.only(key, why="has no counterpart here.")
    return part


def _activation(found: Any) -> dict[str, Any] | None:
    return None if found == "linear" else {"type": "activation", "activation": found}


def _noise(own: Config, name: str, key: str, usual: float) -> dict[str, Any]:
    plain_layer(own)
    value = own.number(key, usual)
    own.mapped(key)
    own.ignored("seed", SEED)
    own.only("noise_shape", why="each value is drawn by itself here.")
    words = {"Dropout": "dropout", "AlphaDropout": "alpha_dropout", "GaussianDropout": "gaussian_dropout"}
    if name == "AlphaDropout":
        note = "Both set what is dropped to the least value of selu, and scale the rest."
        own.notes.say("mapped", name, own.path, note)
    return {"type": words.get(name, "gaussian_noise"), key: value}


def _norm(own: Config, name: str) -> dict[str, Any]:
    plain_layer(own)
    own.only("axis", -1, [-1], 1, [1], why="rows are normalised over all their values here.")
    own.only("rms_scaling", False, why="`RMSNormalization` has a counterpart here.")
    _affine(own)
    usual = 1e-6 if name == "RMSNormalization" else 1e-3
    found = own.number("epsilon", usual)
    own.mapped("epsilon")
    return {"type": "rms_norm" if name == "RMSNormalization" else "layer_norm", "eps": found}


def _batch_norm(own: Config) -> dict[str, Any]:
    plain_layer(own)
    own.only("axis", -1, [-1], 1, [1], why="each unit is normalised by itself here.")
    _affine(own)
    for key, word in (("moving_mean_initializer", "zeros"), ("moving_variance_initializer", "ones")):
        _begins_as(own, key, word)
    own.only("synchronized", False, why="a job trains on one machine.")
    own.only("renorm", False, why="has no counterpart here.")
    for key in ("renorm_clipping", "renorm_momentum"):
        own.ignored(key, "Without `renorm` it changes nothing.")
    kept = own.number("momentum", 0.99)
    momentum = round(1 - kept, 12)
    own.differs("momentum", 0.99, f"{MOMENTUM}: {kept} there is {momentum} here{VARIANCE}")
    eps = own.number("epsilon", 1e-3)
    own.mapped("epsilon")
    return {"type": "batch_norm", "momentum": momentum, "eps": eps}


def _affine(own: Config) -> None:
    """Learned factors and constants, which begin as 1 and 0."""
    for key in ("center", "scale"):
        own.only(key, True, why="factors and constants are always learned here.")
    for key in ("beta_regularizer", "gamma_regularizer"):
        own.only(key, why="penalties are on matrices of weights alone.")
    for key in ("beta_constraint", "gamma_constraint"):
        own.only(key, why="limits are on matrices of weights alone.")
    _begins_as(own, "beta_initializer", "zeros")
    _begins_as(own, "gamma_initializer", "ones")


def _begins_as(own: Config, key: str, word: str) -> None:
    value = own.take(key, word)
    name = value.get("class_name") if isinstance(value, dict) else value
    if not isinstance(name, str) or name.lower() != word:
        own.refuse(key, f"begins as {word} here.")
    elif key in own.values:
        own.notes.say("mapped", f"{own.named}.{key}", (*own.path, key))
