"""`network.keras` and `network.weights.h5`, which Keras 3 opens. Keras itself is not needed for it, nor imported.

A `.keras` file is a zip of `metadata.json`, `config.json` and `model.weights.h5`; in the last, tensors lie under
`layers/<layer>/vars/<number>`, where a layer is named after its class and counted (`keras.saving`, version 3).
"""

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from core.spec.activations import Prelu
from core.spec.in_keras import Affine, keras_config
from core.spec.network import AnyLayer, BatchNorm, Output, RmsNorm
from worker.trainer.exports.outcome import Outcome
from worker.trainer.exports.steps import Activation, Block, Linear, Norm, Step

WRITTEN_AS = "3.15.1"  # the version of Keras whose files these are like
SAME_MOMENT = (1980, 1, 1, 0, 0, 0)  # the same weights make the same bytes
WEIGHTS = "model.weights.h5"

Arrays = list[NDArray[np.float32]]


def config_of(layers: Sequence[AnyLayer], output: Output, inputs: int, outcome: Outcome) -> dict[str, Any]:
    return keras_config(layers, output, inputs, _undone(outcome))


def _undone(outcome: Outcome) -> Affine | None:
    """From what the network says to the units of the targets; the quantiles of a target are side by side."""
    if outcome.scaling is None:
        return None
    each = outcome.units // len(outcome.scaling)
    several = [one for one in outcome.scaling for _ in range(each)]
    return [one.scale for one in several], [one.center for one in several]


def weights_bytes(config: Mapping[str, Any], steps: Sequence[Step], weights: Mapping[str, Tensor]) -> bytes:
    """The file of `load_weights`: the tensors of each layer, in the order of Keras."""
    tensors = iter(list(_tensors(steps, weights)))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("vars").attrs["name"] = config["config"]["name"]
        for layer in config["config"]["layers"][1:]:
            name = layer["config"]["name"]
            variables = file.create_group(f"layers/{name}/vars")
            variables.attrs["name"] = name
            if layer["class_name"] in OF_WEIGHTS:
                for place, array in enumerate(next(tensors)):
                    variables.create_dataset(str(place), data=array)
    return buffer.getvalue()


OF_WEIGHTS = ("Dense", "BatchNormalization", "LayerNormalization", "RMSNormalization", "PReLU")


def _tensors(steps: Sequence[Step], weights: Mapping[str, Tensor]) -> Iterator[Arrays]:
    """Of each layer that has some."""

    def of(key: str, *names: str) -> Arrays:
        return [weights[f"{key}.{name}"].numpy() for name in names]

    for step in steps:
        match step:
            case Linear():
                yield [weights[f"{step.key}.weight"].numpy().T, *(of(step.key, "bias") if step.bias else [])]
            case Norm(chosen=BatchNorm()):
                yield of(step.key, "weight", "bias", "running_mean", "running_var")
            case Norm(chosen=RmsNorm()):
                yield of(step.key, "weight")
            case Norm():
                yield of(step.key, "weight", "bias")
            case Activation(chosen=Prelu()):
                yield of(step.key, "weight")
            case Block():
                raise ValueError("Keras's Sequential has no residual blocks")
            case _:
                pass


def keras_bytes(config: Mapping[str, Any], weights: bytes) -> bytes:
    """The file of `load_model`."""
    said = {"keras_version": WRITTEN_AS, "date_saved": "1980-01-01@00:00:00"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in {
            "metadata.json": json.dumps(said).encode(),
            "config.json": json.dumps(config).encode(),
            WEIGHTS: weights,
        }.items():
            file.writestr(zipfile.ZipInfo(name, SAME_MOMENT), content)
    return buffer.getvalue()


# --- what was written, read back --------------------------------------------------------------------------------------


def of_keras(file: Path, features: Tensor, outcome: Outcome) -> NDArray[np.float32]:
    """The scores by what stands in a `.keras` file: (rows, inputs) float32 in, in the shape of the outcome out."""
    with zipfile.ZipFile(file) as found:
        config, weights = json.loads(found.read("config.json")), found.read(WEIGHTS)
    return of_weights(config, weights, features, outcome)


def of_weights(config: Mapping[str, Any], weights: bytes, features: Tensor, outcome: Outcome) -> NDArray[np.float32]:
    """The same by a file of weights, with the layers of this config."""
    values = features
    with h5py.File(io.BytesIO(weights)) as file:
        for layer in config["config"]["layers"][1:]:
            variables = file[f"layers/{layer['config']['name']}/vars"]
            arrays = [torch.from_numpy(variables[str(place)][:]) for place in range(len(variables))]
            values = _applied(layer["class_name"], layer["config"], arrays, values)
    if outcome.form == "classes" and outcome.units == 1:
        values = torch.cat([-values if outcome.activation == "linear" else 1 - values, values], 1)
    if outcome.form == "quantiles":
        values = values.reshape(len(values), len(outcome.names), -1)
    scores: NDArray[np.float32] = values.numpy()
    return scores


def _applied(kind: str, config: Mapping[str, Any], arrays: list[Tensor], values: Tensor) -> Tensor:
    """A layer of Keras as its reference describes it (https://keras.io/api/layers)."""
    match kind:
        case "Dense":
            values = values @ arrays[0]
            values = values + arrays[1] if config["use_bias"] else values
            return NAMED[config["activation"]](values)
        case "Activation":
            return NAMED[config["activation"]](values)
        case "BatchNormalization":
            gamma, beta, mean, variance = arrays
            return functional.batch_norm(values, mean, variance, gamma, beta, False, 0.0, config["epsilon"])
        case "LayerNormalization":
            gamma, beta = arrays
            return functional.layer_norm(values, values.shape[1:], gamma, beta, config["epsilon"])
        case "RMSNormalization":
            return functional.rms_norm(values, values.shape[1:], arrays[0], config["epsilon"])
        case "PReLU":
            return torch.where(values > 0, values, arrays[0] * values)
        case "LeakyReLU":
            return functional.leaky_relu(values, config["negative_slope"])
        case "ELU":
            return functional.elu(values, config["alpha"])
        case "ReLU":
            least = config.get("threshold", 0.0)
            return torch.where(values >= least, values, 0.0).clamp(max=config.get("max_value", math.inf))
        case "Rescaling":
            return values * torch.tensor(config["scale"]) + torch.tensor(config["offset"])
        case "Dropout" | "AlphaDropout" | "GaussianDropout" | "GaussianNoise":
            return values
        case _:
            raise ValueError(f"no layer {kind} is ever written")


NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda values: values,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "silu": functional.silu,
    "mish": functional.mish,
    "hard_silu": functional.hardswish,
    "tanh": torch.tanh,
    "hard_sigmoid": functional.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": functional.logsigmoid,
    "softsign": functional.softsign,
    "tanh_shrink": functional.tanhshrink,
    "celu": functional.celu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "hard_tanh": functional.hardtanh,
    "hard_shrink": functional.hardshrink,
    "soft_shrink": functional.softshrink,
    "softmax": lambda values: values.softmax(1),
    "exponential": torch.exp,
}
