"""`network.py`: the network in plain torch, under 60 lines."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import count
from typing import assert_never

from torch import nn

from core.spec.network import AlphaDropout, BatchNorm, Dropout, GaussianDropout, GaussianNoise, LayerNorm, RmsNorm
from worker.trainer.activations import activation
from worker.trainer.exports.outcome import Outcome
from worker.trainer.exports.steps import Activation, AnyNoise, Block, Linear, Noise, Norm, Step

MOST_LINES = 60  # fewer than this
WIDTH = 110  # characters a line of layers, where they are not too many

TITLE = '''"""The network of this job in plain torch: {inputs} -> {units} logits.

    from network import build
    from safetensors.torch import load_file

    network = build()
    network.load_state_dict(load_file("weights.safetensors"))
    network.eval()

The features of a row are those of preprocessing.json, in its order; `inputs` of score_numpy.py makes them.
"""'''

RESIDUAL = """
class Residual(nn.Module):
    def __init__(self, block, projection=None):
        super().__init__()
        self.block, self.projection = block, projection

    def forward(self, x):
        return (x if self.projection is None else self.projection(x)) + self.block(x)
"""
NOISE = """
class Noise(nn.Module):  # while training: adds to each value, or to its factor 1
    def __init__(self, stddev, of_factor):
        super().__init__()
        self.stddev, self.of_factor = stddev, of_factor

    def forward(self, x):
        noise = self.stddev * torch.randn_like(x) if self.training else 0
        return x * (1 + noise) if self.of_factor else x + noise
"""
EMBEDDED = """
class Network(nn.Sequential):
    def __init__(self, *layers, embeddings):
        super().__init__(*layers)
        self.embeddings = nn.ModuleList(nn.Embedding(*size) for size in embeddings)

    def forward(self, features, codes):  # (rows, {features}) float32, (rows, {embeddings}) int64: 0 is unknown
        x = torch.cat([features, *(table(codes[:, k]) for k, table in enumerate(self.embeddings))], 1)
        for name, layer in self.named_children():
            x = x if name == "embeddings" else layer(x)
        return x
"""
BUILD = '''
def build():
    return {network}(
{layers}
    )


def predict(network, *inputs):
    """{shape}"""
    with torch.no_grad():
        x = network(*inputs)
    return {output}
'''


def network_source(
    features: int, embeddings: Sequence[tuple[int, int]], steps: Sequence[Step], outcome: Outcome
) -> str:
    """`embeddings` are (vectors, dimension)."""
    parts = list(_modules(steps))
    if embeddings:
        sizes = ", ".join(map(str, embeddings))
        parts.append(f"embeddings=[{sizes}]")
    text = " ".join(f"{part}," for part in parts)
    classes = [
        *([RESIDUAL] if any(isinstance(step, Block) for step in steps) else []),
        *([NOISE] if "Noise(" in text else []),
        *([EMBEDDED.format(features=features, embeddings=len(embeddings))] if embeddings else []),
    ]
    inputs = f"(rows, {features})" + (f" and codes (rows, {len(embeddings)})" if embeddings else "")
    for width in count(WIDTH, WIDTH):
        build = BUILD.format(
            network="Network" if embeddings else "nn.Sequential",
            layers=_wrapped(parts, width),
            shape=_shape(outcome),
            output=_output(outcome),
        )
        title = TITLE.format(inputs=inputs, units=outcome.units)
        head = f"{title}\n\nimport torch\nfrom torch import nn"
        made = "\n\n\n".join(part.strip() for part in (head, *classes, build)) + "\n"
        if len(made.splitlines()) < MOST_LINES:
            return made
    raise AssertionError("`count` has no end")


def _wrapped(parts: list[str], width: int) -> str:
    """Layers side by side, none torn apart where it fits a line."""
    if width == WIDTH and len(parts) <= MOST_LINES // 4:
        lines = [f"{part}," for part in parts]
    else:
        lines = textwrap.wrap(" ".join(f"{part}," for part in parts), width, break_long_words=False)
    return "\n".join(f"        {line}" for line in lines)


def _modules(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case Linear():
                yield _linear(step)
            case Activation():
                yield f"nn.{activation(step.chosen) or nn.Identity()!r}"
            case Noise():
                yield _noise(step.chosen)
            case Norm():
                yield _norm(step)
            case Block():
                block = f"nn.Sequential({', '.join(_modules(step.steps))})"
                yield f"Residual({block}{'' if step.projection is None else ', ' + _linear(step.projection)})"
            case _:
                assert_never(step)


def _linear(step: Linear) -> str:
    return f"nn.Linear({step.inputs}, {step.units}{'' if step.bias else ', bias=False'})"


def _noise(chosen: AnyNoise) -> str:
    match chosen:
        case Dropout():
            return f"nn.Dropout({chosen.rate!r})"
        case AlphaDropout():
            return f"nn.AlphaDropout({chosen.rate!r})"
        case GaussianNoise():
            return f"Noise({chosen.stddev!r}, of_factor=False)"
        case GaussianDropout():
            return f"Noise({(chosen.rate / (1 - chosen.rate)) ** 0.5!r}, of_factor=True)"
        case _:
            assert_never(chosen)


def _norm(step: Norm) -> str:
    match step.chosen:
        case BatchNorm():
            return f"nn.BatchNorm1d({step.width}, eps={step.chosen.eps!r}, momentum={step.chosen.momentum!r})"
        case LayerNorm():
            return f"nn.LayerNorm({step.width}, eps={step.chosen.eps!r})"
        case RmsNorm():
            return f"nn.RMSNorm({step.width}, eps={step.chosen.eps!r})"
        case _:
            assert_never(step.chosen)


def _output(outcome: Outcome) -> str:
    applied = {"softmax": "x.softmax(1)", "sigmoid": "x.sigmoid()", "exp": "x.exp()", "linear": "x"}[outcome.activation]
    if outcome.form == "classes" and outcome.units == 1:
        return (
            "torch.cat([-x, x], 1)"
            if outcome.activation == "linear"
            else "torch.cat([1 - x.sigmoid(), x.sigmoid()], 1)"
        )
    if outcome.form == "quantiles":
        applied = f"{applied}.reshape(-1, {len(outcome.names)}, {len(outcome.quantiles)})"
    if outcome.scaling is None:
        return applied
    if len(outcome.scaling) == 1:
        return f"{applied} * {outcome.scaling[0].scale!r} + {outcome.scaling[0].center!r}"
    shape = "[:, None]" if outcome.form == "quantiles" else ""
    scale, center = ([getattr(one, name) for one in outcome.scaling] for name in ("scale", "center"))
    return f"{applied} * torch.tensor({scale}){shape} + torch.tensor({center}){shape}"


def _shape(outcome: Outcome) -> str:
    last = {"classes": "classes", "labels": "labels", "values": "targets", "quantiles": "targets, quantiles"}
    return f"{outcome.scores.capitalize()}, (rows, {last[outcome.form]})."
