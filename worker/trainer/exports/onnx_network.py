"""The layers as ONNX operators, in the order of the network; words without an operator are composed of others."""

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np
from torch import Tensor

from core.spec.activations import (
    AnyActivation,
    Celu,
    Elu,
    Gelu,
    Hardtanh,
    LeakyRelu,
    Plain,
    PlainName,
    Prelu,
    Rrelu,
    Shrink,
    Softplus,
    Threshold,
)
from core.spec.network import BatchNorm, LayerNorm, RmsNorm
from worker.trainer.exports.onnx_graph import Graph, Value
from worker.trainer.exports.steps import Activation, Block, Linear, Noise, Norm, Step

Weights = Mapping[str, Tensor]  # of the kept network, by the keys of `state_dict()`


def forward(graph: Graph, steps: Sequence[Step], weights: Weights, values: Value) -> Value:
    """(rows, inputs) -> (rows, units)"""
    for step in steps:
        match step:
            case Linear():
                values = _linear(graph, step, weights, values)
            case Activation():
                values = _activation(graph, step, weights, values)
            case Noise():
                pass
            case Norm():
                values = _norm(graph, step, weights, values)
            case Block():
                shortcut = values if step.projection is None else _linear(graph, step.projection, weights, values)
                values = graph.node("Add", shortcut, forward(graph, step.steps, weights, values))
            case _:
                assert_never(step)
    return values


def _weight(graph: Graph, weights: Weights, key: str) -> Value:
    return graph.constant(weights[key].detach().cpu().numpy())


def _linear(graph: Graph, step: Linear, weights: Weights, values: Value) -> Value:
    bias = [_weight(graph, weights, f"{step.key}.bias")] if step.bias else []
    return graph.node("Gemm", values, _weight(graph, weights, f"{step.key}.weight"), *bias, transB=1)


def _norm(graph: Graph, step: Norm, weights: Weights, values: Value) -> Value:
    scale = _weight(graph, weights, f"{step.key}.weight")
    match step.chosen:
        case BatchNorm(eps=eps):
            rest = [_weight(graph, weights, f"{step.key}.{name}") for name in ("bias", "running_mean", "running_var")]
            return graph.node("BatchNormalization", values, scale, *rest, epsilon=eps)
        case LayerNorm(eps=eps):
            bias = _weight(graph, weights, f"{step.key}.bias")
            return graph.node("LayerNormalization", values, scale, bias, axis=-1, epsilon=eps)
        case RmsNorm(eps=eps):
            square = graph.node("Mul", values, values)
            mean = graph.node("ReduceMean", square, graph.constant([1], np.int64), keepdims=1)
            root = graph.node("Sqrt", graph.node("Add", mean, graph.constant(eps)))
            return graph.node("Mul", graph.node("Div", values, root), scale)
        case _:
            assert_never(step.chosen)


def _activation(graph: Graph, step: Activation, weights: Weights, values: Value) -> Value:
    chosen: AnyActivation = step.chosen
    match chosen:
        case Plain(name=name):
            return _plain(graph, name, values)
        case LeakyRelu(name="leaky_relu"):
            return graph.node("LeakyRelu", values, alpha=chosen.negative_slope)
        case Prelu(name="prelu"):
            return graph.node("PRelu", values, _weight(graph, weights, f"{step.key}.weight"))
        case Rrelu(name="rrelu"):
            return graph.node("LeakyRelu", values, alpha=(chosen.lower + chosen.upper) / 2)
        case Elu(name="elu"):
            return graph.node("Elu", values, alpha=chosen.alpha)
        case Celu(name="celu"):
            return graph.node("Celu", values, alpha=chosen.alpha)
        case Gelu(name="gelu"):
            return graph.node("Gelu", values, approximate=chosen.approximate)
        case Softplus(name="softplus"):
            sharp = graph.node("Mul", values, graph.constant(chosen.beta))
            bent = graph.node("Div", graph.node("Softplus", sharp), graph.constant(chosen.beta))
            return graph.node("Where", graph.node("Greater", sharp, graph.constant(chosen.threshold)), values, bent)
        case Hardtanh(name="hardtanh"):
            return graph.node("Clip", values, graph.constant(chosen.min_val), graph.constant(chosen.max_val))
        case Shrink():
            return _shrink(graph, chosen, values)
        case Threshold(name="threshold"):
            above = graph.node("Greater", values, graph.constant(chosen.threshold))
            return graph.node("Where", above, values, graph.constant(chosen.value))
        case _:
            assert_never(chosen)


def _plain(graph: Graph, name: PlainName, values: Value) -> Value:
    match name:
        case "linear":
            return values
        case "relu":
            return graph.node("Relu", values)
        case "relu6":
            return graph.node("Clip", values, graph.constant(0), graph.constant(6))
        case "selu":
            return graph.node("Selu", values)
        case "silu":
            return graph.node("Mul", values, graph.node("Sigmoid", values))
        case "mish":
            return graph.node("Mul", values, graph.node("Tanh", graph.node("Softplus", values)))
        case "hardswish":
            return graph.node("HardSwish", values)
        case "tanh":
            return graph.node("Tanh", values)
        case "hardsigmoid":
            return graph.node("HardSigmoid", values, alpha=1 / 6, beta=0.5)
        case "sigmoid":
            return graph.node("Sigmoid", values)
        case "logsigmoid":
            return graph.node("Neg", graph.node("Softplus", graph.node("Neg", values)))
        case "softsign":
            return graph.node("Softsign", values)
        case "tanhshrink":
            return graph.node("Sub", values, graph.node("Tanh", values))
        case _:
            assert_never(name)


def _shrink(graph: Graph, chosen: Shrink, values: Value) -> Value:
    match chosen.name:
        case "hardshrink":
            return graph.node("Shrink", values, lambd=chosen.lambd, bias=0.0)
        case "softshrink":
            return graph.node("Shrink", values, lambd=chosen.lambd, bias=chosen.lambd)
        case _:
            assert_never(chosen.name)
