"""What a job takes over from the earlier one whose network it trains on, and whether the two fit."""

from collections.abc import Sequence
from typing import Any

from core import errors
from core.spec import TrainingSpec
from core.spec.activations import Prelu
from core.spec.features import Features
from core.spec.losses import Auto
from core.spec.network import ActivationLayer, AnyLayer, BatchNorm, Dense, LayerNorm, Network, Residual, RmsNorm
from core.start import Start


def taken_over(spec: TrainingSpec, start: Start) -> TrainingSpec:
    """The spec as sent, where what it does not say of task, network and loss is as it was in the earlier job.

    So are all features where its preprocessing is kept.
    """
    earlier, changed = start.spec, dict[str, Any]()
    if spec.task == "auto":
        changed["task"] = earlier.task
    if spec.target_scale == "auto":
        changed["target_scale"] = earlier.target_scale
    if spec.network == Network():
        changed["network"] = earlier.network
    if isinstance(spec.training.loss, Auto):
        changed["training"] = spec.training.model_copy(update={"loss": earlier.training.loss})
    if start.preprocessing == "keep":
        if spec.features not in (Features(), earlier.features):
            raise _mismatch(
                "/spec/features", "Its features are kept: leave `features` out, or say `preprocessing: refit`."
            )
        if spec.target_scale not in ("auto", earlier.target_scale):
            raise _mismatch(
                "/spec/target_scale", "Its scaling of the target is kept: leave it out, or say `preprocessing: refit`."
            )
        changed["features"] = earlier.features
    return spec.model_copy(update=changed)


def fits(resolved: TrainingSpec, start: Start) -> None:
    """Raises `StartMismatch` where the weights of the earlier job have no place in this network."""
    earlier = start.spec
    if resolved.task != earlier.task:
        raise _mismatch("/spec/task", f"It was a {earlier.task}, and this is a {resolved.task}.")
    here, there = _shape(resolved), _shape(earlier)
    if here != there:
        raise _mismatch("/spec/network", f"Its layers with weights are {', '.join(there)}; here: {', '.join(here)}.")
    if start.preprocessing == "keep" and resolved.features.include != earlier.features.include:
        gone = sorted(set(earlier.features.include or []) - set(resolved.features.include or []))
        raise _mismatch("/dataset_id", "A column that it learned from is empty in this dataset.", columns=gone)


def _shape(spec: TrainingSpec) -> list[str]:
    """The layers that have weights, in words."""
    output = [f"output {spec.network.output.units}"] if spec.network.output else []
    return [*_words(spec.network.layers or []), *output]


def _words(layers: Sequence[AnyLayer]) -> list[str]:
    found: list[str] = []
    for layer in layers:
        match layer:
            case Dense():
                found.append(f"dense {layer.units}{'' if layer.bias else ' without bias'}")
                found += ["prelu"] if isinstance(layer.activation, Prelu) else []
            case ActivationLayer(activation=Prelu()):
                found.append("prelu")
            case BatchNorm() | LayerNorm() | RmsNorm():
                found.append(layer.type)
            case Residual():
                found.append(f"residual ({', '.join(_words(layer.layers))})")
            case _:
                pass
    return found


def _mismatch(pointer: str, message: str, **facts: Any) -> errors.StartMismatch:
    found = {"pointer": pointer, "code": errors.StartMismatch.code, "message": message}
    return errors.StartMismatch(f"{errors.StartMismatch.title()} {message}", errors=[found], **facts)


def classes_known(values: Sequence[Any], start: Start) -> list[Any]:
    """The classes of the earlier job, whose order is that of its outputs. Raises where this target has others."""
    known = list(start.outputs["classes"])
    kinds = {(type(value), value) for value in known}
    new = sum((type(value), value) not in kinds for value in values)
    if new:
        raise _mismatch("/spec/target", f"The target has {new} classes that it does not know.", new_classes=new)
    return known
