"""What to change in a spec, by what was found: JSON Patches (RFC 6902) of the resolved spec.

`add` at a member of an object sets it, whether it was sent or not; so a clone may apply them to the spec as sent.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from jsonpatch import JsonPatch

from core.spec import TrainingSpec
from core.spec.initializers import ZEROS, Orthogonal, PlainInitializer, VarianceScaling
from core.spec.network import (
    MAX_LAYERS,
    ActivationLayer,
    AnyLayer,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Residual,
    RmsNorm,
    Weighted,
)
from core.spec.optimizers import Sgd
from core.spec.schedules import ConstantRate
from worker.trainer.course import Opening

Patch = list[dict[str, Any]]

FIRST_STEP = 0.01  # of the length of the weights: what a good rate begins with
SATURATING = ("sigmoid", "tanh", "hardsigmoid", "softsign", "logsigmoid", "hardtanh", "tanhshrink", "relu6")
DYING = ("relu", "relu6", "threshold", "hardshrink", "softshrink", "hardsigmoid", "hardtanh")
DROPOUT, MORE_DROPOUT = 0.3, 0.5
L2 = 0.01
PATIENCE = 20  # epochs
DEEP = 10  # dense layers, from where on good initial weights alone do not do
WIDE = 512  # units
HIDDEN = {"type": "dense", "units": 64, "activation": "relu", "weight_initializer": "he_uniform"}
MOST_OPERATIONS = 100  # that a clone accepts


def of_an_exploding_gradient(spec: TrainingSpec, opening: Opening | None, *, begins_too_large: bool) -> Patch:
    """Initial weights that keep a signal's size (He et al. 2015); where they are not to blame, clipping (Pascanu et al.
    2013), and a rate that fits the clipped step."""
    if begins_too_large or opening is None:
        return _in_few(spec, [*_initialized(spec), *_clipped(spec)])
    return [*_clipped(spec), *_rate(FIRST_STEP * opening.weight_norm)]


def of_dying_units(spec: TrainingSpec, *, from_the_start: bool) -> Patch:
    """An activation that passes something on below 0 (Maas et al. 2013), from biases of 0; or smaller steps."""
    changed = _with_activation(spec, DYING, "leaky_relu")
    if from_the_start:
        return _in_few(spec, [*changed, *_initialized(spec)])
    return _in_few(spec, [*changed, *_rate(spec.training.optimizer.learning_rate / 10)])


def of_a_vanishing_gradient(spec: TrainingSpec) -> Patch:
    """Activations that do not flatten (Glorot et al. 2011), weights scaled for them (He et al. 2015), batch norm in
    very deep networks (Ioffe and Szegedy 2015); and clipping, for the rate was chosen where hardly any gradient came.
    """
    unflattened = _with_activation(spec, SATURATING, "relu")
    return _in_few(spec, [*unflattened, *_initialized(spec), *_clipped(spec), *_with_batch_norm(spec)])


def of_a_high_rate(spec: TrainingSpec, opening: Opening | None) -> Patch:
    """The rate with which the first step would have been a hundredth of the weights; at most a third of what it was."""
    rate = spec.training.optimizer.learning_rate
    ratio = opening.update_ratio if opening is not None else 0.0
    return _rate(rate * (min(0.3, FIRST_STEP / ratio) if ratio else 0.1))


def of_a_low_rate(spec: TrainingSpec, opening: Opening) -> Patch:
    """The rate with which a step is a hundredth of the weights; at least three times what it was."""
    rate = spec.training.optimizer.learning_rate
    factor = FIRST_STEP / opening.update_ratio if opening.update_ratio else 10.0
    return _rate(rate * max(3.0, factor))


def of_an_early_end(spec: TrainingSpec) -> Patch:
    """A schedule that ends with the training (Loshchilov and Hutter 2017)."""
    return _schedule(spec, {"name": "cosine"})


def of_overfitting(spec: TrainingSpec) -> Patch:
    """Small weights (Krogh and Hertz 1992), dropout (Srivastava et al. 2014), and an end in time (Prechelt 1998)."""
    dense = _dense(spec)
    output = [("/network/output", spec.network.output)] if spec.network.output and not dense else []
    small = [_add(f"{place}/l2", L2) for place, layer in (*dense, *output) if layer.l2 < L2]
    patience = [_add("/training/stop/patience", PATIENCE)] if spec.training.stop.patience is None else []
    narrow = [_add(f"{place}/units", max(1, layer.units // 2)) for place, layer in dense]
    return _in_few(spec, [*small, *_with_dropout(spec), *patience] or narrow)  # narrow where all that is done already


def of_hovering(spec: TrainingSpec) -> Patch:
    """Smaller steps once nothing becomes better; where the schedule is another already, smaller ones from the start."""
    if isinstance(spec.training.schedule, ConstantRate):
        return _schedule(spec, {"name": "reduce_on_plateau", "factor": 0.3, "patience": 4})
    return _rate(spec.training.optimizer.learning_rate / 3)


def of_standing(spec: TrainingSpec) -> Patch:
    """What holds the network down is taken away: penalties, a lack of hidden layers, steps that do not leave a saddle
    (Dauphin et al. 2014), and else a lack of units."""
    layers, optimizer = spec.network.layers or [], spec.training.optimizer
    dense = _dense(spec)
    patch = [_add(f"{place}/{name}", 0.0) for place, layer in dense for name in ("l1", "l2") if getattr(layer, name)]
    if getattr(optimizer, "weight_decay", 0.0) > L2:
        patch.append(_add("/training/optimizer/weight_decay", 0.0))
    if not dense:
        patch += [_add(f"/network/layers/{len(layers)}", HIDDEN)] * 2
    elif isinstance(optimizer, Sgd):
        patch.append(_add("/training/optimizer", {"name": "adam", "learning_rate": 0.001}))
    wider = [_add(f"{place}/units", 2 * layer.units) for place, layer in dense if layer.units < WIDE]
    return _in_few(spec, patch or wider or _rate(3 * optimizer.learning_rate))


# --- the parts --------------------------------------------------------------------------------------------------------


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _in_few(spec: TrainingSpec, patch: Patch) -> Patch:
    """The network as a whole, where too many of its layers change."""
    if len(patch) <= MOST_OPERATIONS:
        return patch
    network = JsonPatch(patch).apply(spec.model_dump(mode="json"))["network"]
    return [_add("/network", network), *(one for one in patch if not one["path"].startswith("/network"))]


def _rate(rate: float) -> Patch:
    return [_add("/training/optimizer/learning_rate", min(10.0, max(1e-12, float(f"{rate:.1g}"))))]


def _schedule(spec: TrainingSpec, schedule: dict[str, Any]) -> Patch:
    chosen = spec.training.schedule
    return [_add("/training/schedule", {**schedule, "warmup_epochs": chosen.warmup_epochs})]


def _clipped(spec: TrainingSpec) -> Patch:
    unset = [_add("/training/clip_value", None)] if spec.training.clip_value is not None else []
    return [*unset, _add("/training/clip_norm", min(1.0, spec.training.clip_norm or 1.0))]


def _layers(spec: TrainingSpec) -> Iterator[tuple[str, AnyLayer]]:
    """Each layer with its place in the spec, those of residual blocks among them."""
    for position, layer in enumerate(spec.network.layers or []):
        place = f"/network/layers/{position}"
        if isinstance(layer, Residual):
            yield from ((f"{place}/layers/{inner}", one) for inner, one in enumerate(layer.layers))
        else:
            yield place, layer


def _dense(spec: TrainingSpec) -> list[tuple[str, Dense]]:
    return [(place, layer) for place, layer in _layers(spec) if isinstance(layer, Dense)]


def _with_activation(spec: TrainingSpec, unfit: Sequence[str], better: str) -> Patch:
    return [
        _add(f"{place}/activation", better)
        for place, layer in _layers(spec)
        if isinstance(layer, Dense | ActivationLayer) and layer.activation.name in unfit
    ]


def _initialized(spec: TrainingSpec) -> Patch:
    """Weights by He and biases of 0; of the output too, where its own do not follow from its width."""
    patch: Patch = []
    for place, layer in _dense(spec):
        patch += [_add(f"{place}/weight_initializer", "he_uniform"), *_without_bias(place, layer)]
    output = spec.network.output
    if output is not None and not _is_scaled(output):
        patch.append(_add("/network/output/weight_initializer", "glorot_uniform"))
    return patch + (_without_bias("/network/output", output) if output is not None else [])


def _without_bias(place: str, layer: Weighted) -> Patch:
    return [] if layer.bias_initializer == ZEROS else [_add(f"{place}/bias_initializer", "zeros")]


def _is_scaled(layer: Weighted) -> bool:
    match layer.weight_initializer:
        case PlainInitializer(name=name):
            return name not in ("zeros", "ones")
        case VarianceScaling(scale=scale) | Orthogonal(gain=scale):
            return 0.1 <= scale <= 3
        case _:
            return False


def _with_batch_norm(spec: TrainingSpec) -> Patch:
    """After each dense layer of a very deep network that has none."""
    layers = spec.network.layers or []
    dense = [position for position, layer in enumerate(layers) if isinstance(layer, Dense)]
    if len(dense) < DEEP or any(isinstance(layer, BatchNorm | LayerNorm | RmsNorm) for _, layer in _layers(spec)):
        return []
    return _inserted(spec, {"type": "batch_norm"}, [position + 1 for position in dense])


def _with_dropout(spec: TrainingSpec) -> Patch:
    """More of it where there is some; else before each matrix of weights but the first."""
    layers = spec.network.layers or []
    present = [(place, layer) for place, layer in _layers(spec) if isinstance(layer, Dropout)]
    if present:
        return [_add(f"{place}/rate", MORE_DROPOUT) for place, layer in present if layer.rate < MORE_DROPOUT]
    blocks = [position for position, layer in enumerate(layers) if isinstance(layer, Dense | Residual)]
    if not blocks:
        return []  # one matrix: nothing is between it and the inputs
    return _inserted(spec, {"type": "dropout", "rate": DROPOUT}, [*blocks[1:], len(layers)])


def _inserted(spec: TrainingSpec, layer: dict[str, Any], before: Sequence[int]) -> Patch:
    """From the last place to the first, so that no insertion moves the next; as many as there is room for."""
    room = MAX_LAYERS - len(spec.network.layers or [])
    return [_add(f"/network/layers/{position}", layer) for position in sorted(before, reverse=True)[:room]]
