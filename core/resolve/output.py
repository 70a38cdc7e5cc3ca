"""Which output layer and which loss go together, and which of them a task gets by itself.

Logits go to the loss; the activation of the output is applied in predictions. So a pair is legal when the loss takes
the logits of that activation for what they are.
"""

from dataclasses import dataclass

from core import errors
from core.resolve.target import Target
from core.spec.activations import Plain, Softmax
from core.spec.losses import AnyLoss, Auto, BinaryCrossEntropy, CrossEntropy, Mse, Quantile
from core.spec.metrics import Task
from core.spec.network import AnyLayer, Dense, Network, Output, OutputActivation
from core.spec.values import MAX_UNITS

DEFAULT_HIDDEN = [64, 64]

LEGAL: dict[Task, dict[OutputActivation, tuple[str, ...]]] = {
    "classification": {
        "softmax": ("cross_entropy", "focal"),
        "sigmoid": ("binary_cross_entropy", "focal"),
        "linear": ("hinge",),
    },
    "multilabel": {"sigmoid": ("binary_cross_entropy", "focal"), "linear": ("hinge",)},
    "regression": {
        "linear": ("mse", "mae", "huber", "log_cosh", "quantile"),
        "exp": ("poisson", "gamma"),
    },
}


@dataclass(frozen=True)
class Form:
    """An output layer that a target can have."""

    activation: OutputActivation
    units: int


def resolve_network(asked: Network, target: Target, loss: AnyLoss) -> tuple[Network, Output, AnyLoss]:
    """The layers with the output apart, and the loss.

    A last dense layer with softmax (or sigmoid, on a task of two classes or labels) is the output; otherwise one is
    made.
    """
    layers = _layers(asked)
    forms = _forms(target, loss)
    output, last = asked.output, asked.layers[-1] if asked.layers else None  # the widths of `hidden` are what they say
    if output is None and isinstance(last, Dense) and (activation := _as_output(last, forms)) is not None:
        said = last.model_dump(exclude={"type", "activation"})
        output, layers = Output.model_validate({**said, "activation": activation}), layers[:-1]
    if output is None:
        fitting = _fitting(target, loss, forms)
        output = Output(units=fitting.units, activation=fitting.activation)
    _output_fits(output, target, forms)
    return Network(layers=layers, output=output), output, _loss(loss, target, output)


def _layers(asked: Network) -> list[AnyLayer]:
    if asked.layers is not None:
        return list(asked.layers)
    activation = asked.activation or Plain(name="relu")
    hidden = asked.hidden if asked.hidden is not None else DEFAULT_HIDDEN
    return [Dense(type="dense", units=units, activation=activation) for units in hidden]


def _as_output(last: Dense, forms: list[Form]) -> OutputActivation | None:
    """The activation of a last dense layer that is an output by itself."""
    if isinstance(last.activation, Softmax):
        return last.activation.name
    if last.activation == Plain(name="sigmoid") and any(form.activation == "sigmoid" for form in forms):
        return "sigmoid"
    return None


def _forms(target: Target, loss: AnyLoss) -> list[Form]:
    """All output layers that this target can have."""
    outputs = len(target.columns)
    match target.task:
        case "classification":
            classes = len(target.classes or [])
            two = [Form("sigmoid", 1)] if classes == 2 and not target.is_spread else []
            margin = [Form("linear", 1 if two else classes)] if not target.is_spread else []
            return [Form("softmax", classes), *two, *margin]
        case "multilabel":
            return [Form("sigmoid", outputs), Form("linear", outputs)]
        case "regression":
            units = outputs * (len(loss.quantiles) if isinstance(loss, Quantile) else 1)
            if units > MAX_UNITS:
                raise errors.ResourcesExceeded(
                    f"{units:,} quantiles of all targets are more than the {MAX_UNITS:,} units of a layer.",
                    limit=MAX_UNITS,
                )
            return [Form("linear", units), Form("exp", outputs)]


def _fitting(target: Target, loss: AnyLoss, forms: list[Form]) -> Form:
    """The form for this loss; of a task of two classes, one unit unless the loss is of softmax."""
    legal = [form for form in forms if loss.name in LEGAL[target.task].get(form.activation, ())]
    if isinstance(loss, Auto):
        legal = [form for form in forms if form.activation != "exp"]
    one_unit = [form for form in legal if form.activation == "sigmoid"]
    return (one_unit or legal or forms)[0]


def _output_fits(output: Output, target: Target, forms: list[Form]) -> None:
    if Form(output.activation, output.units) not in forms:
        words = " or ".join(f"{form.units} units with {form.activation}" for form in forms)
        raise errors.IncompatibleOutput(
            f"The output layer of this {target.task} has {words}; the spec says {output.units} with "
            f"{output.activation}.",
            errors=[{"pointer": "/spec/network", "code": "incompatible_output", "message": f"Use {words}."}],
        )


def _loss(asked: AnyLoss, target: Target, output: Output) -> AnyLoss:
    legal = LEGAL[target.task]
    if asked.name in legal.get(output.activation, ()):
        return asked
    if isinstance(asked, Auto):
        match output.activation:
            case "softmax":
                return CrossEntropy(name="cross_entropy")
            case "sigmoid":
                return BinaryCrossEntropy(name="binary_cross_entropy")
            case "linear" if target.task == "regression":
                return Mse(name="mse")
            case _:
                pass
    fitting = ", ".join(f"{name} with {activation}" for activation, names in legal.items() for name in names)
    raise errors.IncompatibleLoss(
        f"The loss {asked.name} does not fit a {target.task} with a {output.activation} output. The legal pairs are: "
        f"{fitting}.",
        errors=[
            {
                "pointer": "/spec/training/loss",
                "code": "incompatible_loss",
                "message": f"Use one of {', '.join(legal.get(output.activation, ()))}.",
            }
        ],
    )
