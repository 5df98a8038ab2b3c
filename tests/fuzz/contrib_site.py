"""A graph of an ONNX file whose nodes are rewritten, for the variants of the fuzzer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"


class Site:
    """A graph whose nodes are rewritten, and the nodes that are made in place of one of them."""

    def __init__(self, graph: onnx.GraphProto, rng: random.Random, constants: dict[str, onnx.TensorProto]) -> None:
        self.rng = rng
        self.constants = constants
        self.weights: list[onnx.TensorProto] = []
        self.prefix = f"contrib_{graph.name}"
        self.count = 0
        self.producers = {o: n for n in map(_copy, graph.node) for o in n.output}
        self.types = {v.name: v.type.tensor_type for v in (*graph.input, *graph.output, *graph.value_info)}
        self.made: list[onnx.NodeProto] = []

    # -- what is there ------------------------------------------------------------------------------------------------

    def shape(self, name: str) -> list[int] | None:
        """The shape of a value, where it is known."""
        if name in self.constants:
            return list(self.constants[name].dims)
        return [d.dim_value for d in self.types[name].shape.dim] if name in self.types else None

    def dtype(self, name: str) -> int:
        """The dtype of a value by ONNX's number, or 0 where it is not known."""
        if name in self.constants:
            return self.constants[name].data_type
        return self.types[name].elem_type if name in self.types else 0

    def constant(self, name: str) -> np.ndarray | None:
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def maker(self, name: str, *op_types: str) -> onnx.NodeProto | None:
        """The node of one of these operators that makes a value, or ``None``."""
        n = self.producers.get(name)
        return n if n is not None and n.op_type in op_types and not n.domain else None

    # -- what is made -------------------------------------------------------------------------------------------------

    def fresh(self) -> str:
        self.count += 1
        return f"{self.prefix}_{self.count}"

    def weight(self, array: np.ndarray) -> str:
        tensor = numpy_helper.from_array(array, self.fresh())
        self.weights.append(tensor)
        self.constants[tensor.name] = tensor
        return tensor.name

    def zeros(self, shape: Sequence[int], dtype: int) -> str:
        """Zeros below zero, which change nothing that they are added to, not even the sign of a zero."""
        return self.weight(np.full(shape, -0.0, helper.tensor_dtype_to_np_dtype(dtype)))

    def add(self, op: str, inputs: Sequence[str], output: str = "", domain: str = "", **attrs: Any) -> str:
        """Make a node, and return the name of its result."""
        output = output or self.fresh()
        self.made.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attrs))
        return output

    def put(self, op: str, inputs: Sequence[str], n: onnx.NodeProto, **attrs: Any) -> bool:
        """Make a node of ONNX Runtime's own operator with the results of the node that it replaces."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.made.append(helper.make_node(op, inputs, n.output, name=n.name, domain=MICROSOFT, **attrs))
        return True

    def channels_last(self, x: str) -> str:
        rank = len(self.shape(x) or ())
        return self.add("Transpose", [x], perm=[0, *range(2, rank), 1])

    def put_channels_last(self, op: str, inputs: Sequence[str], n: onnx.NodeProto, rank: int, **attrs: Any) -> bool:
        """As ``put``, for an operator whose result has its channels last."""
        last = self.add(op, inputs, domain=MICROSOFT, **attrs)
        self.add("Transpose", [last], n.output[0], perm=[0, rank - 1, *range(1, rank - 1)])
        return True


def _copy(n: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(n)
    return made


def attributes(n: onnx.NodeProto, *names: str) -> dict[str, Any]:
    """The attributes of these names that the node has."""
    return {a.name: helper.get_attribute_value(a) for a in n.attribute if a.name in names}


def given(n: onnx.NodeProto, i: int) -> str:
    """The name of an input, or an empty text where it is left out."""
    return n.input[i] if i < len(n.input) else ""
