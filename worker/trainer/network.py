"""From spec to torch: the module whose `state_dict()` users download, and the function that the loop calls."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.spec.activations import Softmax
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
    Residual,
    RmsNorm,
    Weighted,
)
from worker.trainer import layers
from worker.trainer.activations import activation

PROJECTION = Weighted(bias=False)
EMBEDDING_DEVIATION = 0.05  # of the vectors a category begins as: Keras's `uniform`

Step = Callable[[Tensor], Tensor]
Forward = Callable[[Tensor, Tensor | None], Tensor]


class Network(nn.Module):
    """Features, and codes of embedded categories, to logits.

    The layers are numbered as in an `nn.Sequential`: activations and dropouts are modules of their own, so the keys of
    `state_dict()` are `0.weight`, `0.bias`, `3.weight`, ..., and before them `embeddings.0.weight`, ....
    """

    def __init__(self, embeddings: Sequence[nn.Embedding], steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(embeddings)
        for position, step in enumerate(steps):
            self.add_module(str(position), step)

    @property
    def steps(self) -> list[nn.Module]:
        return [module for name, module in self.named_children() if name != "embeddings"]

    def forward(self, features: Tensor, codes: Tensor | None = None) -> Tensor:
        """(rows, features) and (rows, embeddings) -> (rows, units)."""
        values = embed(self.embeddings, features, codes)
        for step in self.steps:
            values = step(values)
        return values


def embed(embeddings: nn.ModuleList, features: Tensor, codes: Tensor | None) -> Tensor:
    """The input of the first layer: the features, then the vector of each embedded category."""
    if codes is None or not len(embeddings):
        return features
    vectors = [embedding(codes[:, place]) for place, embedding in enumerate(embeddings)]
    return torch.cat([features, *vectors], 1)


def build(
    chosen: Sequence[AnyLayer], output: Output, inputs: int, seed: int, embeddings: Sequence[tuple[int, int]] = ()
) -> Network:
    """The network of a resolved spec, with the weights it begins with: a function of the spec and the seed.

    `inputs` are features that are numbers; each of `embeddings` is (categories, dimension), and has one vector more,
    the first, for what training has never seen, where it stays 0, and for what is rare, from which it is learned.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = [_embedding(categories, dimension, generator) for categories, dimension in embeddings]
    width = inputs + sum(dimension for _, dimension in embeddings)
    steps = list(_modules(chosen, width, generator))
    last = layers.Linear(_width_after(chosen, width), output.units, output, generator)
    return Network(tables, [*steps, last])


def _modules(chosen: Sequence[AnyLayer], width: int, generator: torch.Generator) -> Iterator[nn.Module]:
    for layer in chosen:
        match layer:
            case Dense(type="dense"):
                yield layers.Linear(width, layer.units, layer, generator)
                if not isinstance(layer.activation, Softmax) and (applied := activation(layer.activation)) is not None:
                    yield applied
            case ActivationLayer(type="activation"):
                yield activation(layer.activation) or nn.Identity()
            case Dropout(type="dropout"):
                yield nn.Dropout(layer.rate)
            case AlphaDropout(type="alpha_dropout"):
                yield nn.AlphaDropout(layer.rate)
            case GaussianNoise(type="gaussian_noise"):
                yield layers.GaussianNoise(layer.stddev)
            case GaussianDropout(type="gaussian_dropout"):
                yield layers.GaussianDropout(layer.rate)
            case BatchNorm(type="batch_norm"):
                yield nn.BatchNorm1d(width, eps=layer.eps, momentum=layer.momentum)
            case LayerNorm(type="layer_norm"):
                yield nn.LayerNorm(width, eps=layer.eps)
            case RmsNorm(type="rms_norm"):
                yield layers.RmsNorm(width, eps=layer.eps)
            case Residual(type="residual"):
                block = nn.Sequential(*_modules(layer.layers, width, generator))
                after = _width_after(layer.layers, width)
                projection = layers.Linear(width, after, PROJECTION, generator) if after != width else None
                yield layers.Residual(block, projection)
            case _:
                assert_never(layer)
        width = _width_after([layer], width)


def _width_after(chosen: Sequence[AnyLayer], width: int) -> int:
    for layer in chosen:
        if isinstance(layer, Dense):
            width = layer.units
        elif isinstance(layer, Residual):
            width = _width_after(layer.layers, width)
    return width


def _embedding(categories: int, dimension: int, generator: torch.Generator) -> nn.Embedding:
    embedding = nn.Embedding(categories + 1, dimension)
    with torch.no_grad():
        embedding.weight.uniform_(-EMBEDDING_DEVIATION, EMBEDDING_DEVIATION, generator=generator)
        embedding.weight[0] = 0.0
    return embedding


# --- the same without calling modules -----------------------------------------------------------------------------


def as_function(network: Network) -> Forward:
    """The same forward pass without the cost of calling modules: a quarter of a small network's step.

    The tensors are the module's own; dropout and batch norm follow `network.train()` and `network.eval()`.
    """
    steps = [_step(module) for module in network.steps]
    embeddings = network.embeddings

    def forward(features: Tensor, codes: Tensor | None) -> Tensor:
        values = features if codes is None else embed(embeddings, features, codes)
        for step in steps:
            values = step(values)
        return values

    return forward


def _step(module: nn.Module) -> Step:
    match module:
        case nn.Linear():
            return partial(functional.linear, weight=module.weight, bias=module.bias)
        case nn.ReLU():
            return torch.relu
        case nn.Tanh():
            return torch.tanh
        case nn.Sigmoid():
            return torch.sigmoid
        case _:
            return module
