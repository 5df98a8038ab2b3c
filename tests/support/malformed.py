"""Tiny ONNX models, valid and invalid, and checks of their errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convc import ConvcError

from . import models

WEIGHT = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")


def info(name: str, shape: Sequence[int | str] | None = (1, 3, 8, 8), dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op: str, inputs: str, outputs: str = "y", **attrs: Any) -> onnx.NodeProto:
    """A node from texts: ``node("Conv", "x w")``. It is called ``n1`` unless a name is given."""
    return helper.make_node(op, inputs.split(" ") if inputs else [], outputs.split(" "), **{"name": "n1", **attrs})


def model(
    *nodes: onnx.NodeProto, inputs: Any = None, outputs: str = "y", opset: int = 22, **graph: Any
) -> onnx.ModelProto:
    ports = [helper.make_empty_tensor_value_info(o) for o in outputs.split()]
    inputs = [info("x")] if inputs is None else inputs
    return models.model(nodes, inputs, ports, {"w": WEIGHT}, opset=opset, ir_version=10, **graph)


def raises(error: type[ConvcError], *parts: str) -> Any:
    """Expect an error of exactly this class, whose message contains these parts."""
    return pytest.raises(error, match="".join(f"(?=[\\s\\S]*{part})" for part in map(_quoted, parts)))


def _quoted(text: str) -> str:
    return "".join("\\" + c if c in ".^$*+?{}[]|()\\" else c for c in text)


RELU = model(node("Relu", "x"))


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def with_constants(*nodes: onnx.NodeProto, inputs: Any = None, **constants: Any) -> onnx.ModelProto:
    proto = model(*nodes, **({"inputs": inputs} if inputs else {}))
    proto.graph.initializer.extend(
        v if isinstance(v, TensorProto) else numpy_helper.from_array(v, k) for k, v in constants.items()
    )
    return proto


def nested(depth: int, calls: int = 1) -> onnx.ModelProto:
    """A chain of functions of ``calls`` levels, each of which calls the next."""
    proto = model(helper.make_node("F0", ["x"], ["y"], domain="d"))
    proto.opset_import.append(helper.make_opsetid("d", 1))
    opsets = [helper.make_opsetid("d", 1), helper.make_opsetid("", 22)]
    for i in range(depth):
        last = i == depth - 1
        values = ["a", *(f"t{k}" for k in range(calls - 1)), "b"]
        body = [
            helper.make_node("Identity" if last else f"F{i + 1}", [a], [b], domain="" if last else "d")
            for a, b in pairwise(values)
        ]
        proto.functions.append(helper.make_function("d", f"F{i}", ["a"], ["b"], body, opsets))
    return proto
