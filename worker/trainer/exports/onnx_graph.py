"""An ONNX graph in the making: nodes and constants, each under a name of its own."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

# The newest that both have: operators of 2023, which onnxruntime knows since 1.17, and tree-free `ai.onnx.ml`.
OPSET, ML_OPSET, IR_VERSION = 20, 3, 9
FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL

Value = str  # the name of a tensor


class Graph:
    """`taken` are names that others give: of columns, which may be any text."""

    def __init__(self, taken: Sequence[str]) -> None:
        self._file = onnx.ModelProto(ir_version=IR_VERSION, producer_name="backpropd")
        self._file.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)])
        self._graph = self._file.graph  # filled in place: `helper.make_graph` would copy all weights, twice
        self._graph.name = "backpropd"
        self._taken = set(taken)
        self._prefix = "."
        while any(name.startswith(self._prefix) for name in taken):
            self._prefix += "."
        self._count = 0
        self._known: dict[tuple[str, tuple[int, ...], bytes], Value] = {}

    def free(self, name: str) -> str:
        """This name, or one like it that nobody has taken."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def input(self, name: str, kind: int, width: int) -> Value:
        """(rows, width)"""
        self._graph.input.append(helper.make_tensor_value_info(name, kind, ["rows", width]))
        return name

    def output(self, name: str, value: Value, kind: int, shape: Sequence[int]) -> str:
        """(rows, *shape), under this name or one like it; returns that."""
        name = self.free(name)
        self._graph.node.append(helper.make_node("Identity", [value], [name]))
        self._graph.output.append(helper.make_tensor_value_info(name, kind, ["rows", *shape]))
        return name

    def constant(self, values: Any, kind: Any = np.float32) -> Value:
        """A tensor that is part of the graph; equal small ones are the same."""
        array: NDArray[Any] = np.asarray(values, kind)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 else None
        if key is not None and key in self._known:
            return self._known[key]
        name = self._name()
        self._graph.initializer.add(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            raw_data=array.tobytes(),
        )
        if key is not None:
            self._known[key] = name
        return name

    def texts(self, values: Sequence[str]) -> Value:
        name = self._name()
        encoded = [value.encode() for value in values]
        self._graph.initializer.add(name=name, data_type=STRING, dims=[len(values)], string_data=encoded)
        return name

    def node(self, operator: str, *inputs: Value, domain: str = "", **attributes: Any) -> Value:
        name = self._name()
        self._graph.node.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def cast(self, value: Value, kind: int) -> Value:
        return self.node("Cast", value, to=kind)

    def joined(self, values: Sequence[Value]) -> Value:
        """Columns beside each other."""
        return values[0] if len(values) == 1 else self.node("Concat", *values, axis=1)

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    def finished(self, metadata: Any) -> bytes:
        """The file, with metadata as JSON."""
        text = json.dumps(metadata, ensure_ascii=False, sort_keys=True)
        helper.set_model_props(self._file, {"backpropd": text})
        data: bytes = self._file.SerializeToString(deterministic=True)
        return data
