"""`network.onnx`: raw columns in, predictions out."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np
from torch import Tensor

from core.spec.network import OutputActivation
from worker.trainer.exports.onnx_graph import BOOL, FLOAT, INT64, STRING, Graph, Value
from worker.trainer.exports.onnx_inputs import Inputs, read_inputs
from worker.trainer.exports.onnx_network import forward
from worker.trainer.exports.outcome import Outcome, said_of
from worker.trainer.exports.steps import Step
from worker.trainer.preprocessing import Preprocessing

EMBEDDING = "embeddings.{}.weight"


def onnx_bytes(
    preprocessing: Preprocessing, steps: Sequence[Step], weights: Mapping[str, Tensor], outcome: Outcome
) -> bytes:
    """The metadata `backpropd` say what goes in and what comes out."""
    graph = Graph([one.name for one in preprocessing.inputs])
    inputs = read_inputs(graph, preprocessing)
    logits = forward(graph, steps, weights, _first_layer_input(graph, inputs, weights))
    outputs = _outputs(graph, logits, outcome)
    return graph.finished(said_of(preprocessing, outcome) | {"inputs": inputs.described, "outputs": outputs})


def _first_layer_input(graph: Graph, inputs: Inputs, weights: Mapping[str, Tensor]) -> Value:
    pieces = [] if inputs.features is None else [inputs.features]
    for number, code in enumerate(inputs.codes):
        table = weights[EMBEDDING.format(number)].detach().cpu().numpy()
        vector = graph.node("Gather", graph.constant(table), code, axis=0)
        pieces.append(graph.node("Squeeze", vector, graph.constant([1], np.int64)))
    return graph.joined(pieces)


def _outputs(graph: Graph, logits: Value, outcome: Outcome) -> dict[str, str]:
    """What comes out, and under which name: a column may have taken one."""
    scores = _activated(graph, logits, outcome.activation)
    if outcome.form == "classes" and outcome.units == 1:
        other = graph.node("Neg", scores) if outcome.activation == "linear" else None
        other = other or graph.node("Sub", graph.constant(1), scores)
        scores = graph.joined([other, scores])
    if outcome.scaling is not None:
        shape = graph.constant([0, len(outcome.names), -1], np.int64)
        each = graph.node("Reshape", scores, shape)
        scale = [[[one.scale] for one in outcome.scaling]]
        center = [[[one.center] for one in outcome.scaling]]
        each = graph.node("Add", graph.node("Mul", each, graph.constant(scale)), graph.constant(center))
        scores = graph.node("Reshape", each, graph.constant([0, -1], np.int64))

    def named(name: str, value: Value, kind: int, *shape: int) -> dict[str, str]:
        return {name: graph.output(name, value, kind, shape)}

    match outcome.form:
        case "classes":
            said = _label(graph, scores, outcome)
            return named("label", *said) | named(outcome.scores, scores, FLOAT, len(outcome.classes))
        case "labels":
            above = graph.node("Greater", scores, graph.constant([outcome.thresholds]))
            width = len(outcome.names)
            return named("labels", above, BOOL, width) | named(outcome.scores, scores, FLOAT, width)
        case "values":
            return named("values", scores, FLOAT, len(outcome.names))
        case "quantiles":
            sizes = (len(outcome.names), len(outcome.quantiles))
            shaped = graph.node("Reshape", scores, graph.constant([0, *sizes], np.int64))
            return named("quantiles", shaped, FLOAT, *sizes)
        case _:
            assert_never(outcome.form)


def _label(graph: Graph, scores: Value, outcome: Outcome) -> tuple[Value, int]:
    """(rows,) the class itself, as the target has it."""
    if len(outcome.classes) == 2:
        second = graph.node("Gather", scores, graph.constant(1, np.int64), axis=1)
        place = graph.cast(graph.node("Greater", second, graph.constant(outcome.thresholds[0])), INT64)
    else:
        place = graph.node("ArgMax", scores, axis=1, keepdims=0)
    classes: list[Any] = outcome.classes
    if all(isinstance(one, bool) for one in classes):
        return graph.node("Gather", graph.constant(classes, np.bool_), place), BOOL
    if all(isinstance(one, int) for one in classes):
        return graph.node("Gather", graph.constant(classes, np.int64), place), INT64
    return graph.node("Gather", graph.texts([str(one) for one in classes]), place), STRING


def _activated(graph: Graph, logits: Value, activation: OutputActivation) -> Value:
    match activation:
        case "softmax":
            return graph.node("Softmax", logits, axis=1)
        case "sigmoid":
            return graph.node("Sigmoid", logits)
        case "exp":
            return graph.node("Exp", logits)
        case "linear":
            return logits
        case _:
            assert_never(activation)
