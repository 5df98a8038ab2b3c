"""ONNX models built from nodes, in the one way that all tests use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

node = helper.make_node


def port(name: str, what: Any) -> onnx.ValueInfoProto:
    """A tensor declaration from a shape, for float32, from a tuple ``(dtype, shape)``, or from an array like it.

    ``None`` declares neither shape nor dtype. A shape of ``None`` is not declared.
    """
    if what is None:
        return onnx.ValueInfoProto(name=name)
    if isinstance(what, np.ndarray | np.generic):
        what = what.dtype, what.shape
    typed = isinstance(what, tuple) and len(what) == 2 and isinstance(what[1], list | tuple | None)
    dtype, shape = what if typed else (TensorProto.FLOAT, what)
    code = dtype if isinstance(dtype, int) else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, code, shape)


def ports(some: str | Mapping[str, Any] | Sequence[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """Tensor declarations by name, as ``port`` takes them.

    Names that are separated by spaces declare nothing else.
    """
    if isinstance(some, str):
        some = dict.fromkeys(some.split())
    return [port(*item) for item in some.items()] if isinstance(some, Mapping) else list(some)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: str | Mapping[str, Any] | Sequence[onnx.ValueInfoProto],
    outputs: str | Mapping[str, Any] | Sequence[onnx.ValueInfoProto] = "y",
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 20,
    ir_version: int = 9,
    name: str = "g",
    **parts: Any,
) -> onnx.ModelProto:
    """A model of some nodes.

    ``weights`` are arrays, or finished tensors. ``parts`` are further parts of the graph. Domains of the nodes besides
    ONNX's own are imported in version 1.
    """
    held = [
        w if isinstance(w, TensorProto) else numpy_helper.from_array(np.asarray(w), n)
        for n, w in (weights or {}).items()
    ]
    graph = helper.make_graph(nodes, name, ports(inputs), ports(outputs), held, **parts)
    others = sorted({n.domain for n in nodes} - {"", "ai.onnx"})
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in others)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def one_node(
    op: str, inputs: Sequence[Any], *, free: int | None = None, outputs: int = 1, opset: int = 20, **attrs: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node, and its feeds.

    An input of ``None`` is left out. The first ``free`` of the others are inputs of the model, by default all, and the
    rest are weights.
    """
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    given = {n: np.asarray(x) for n, x in zip(names, inputs, strict=True) if n}
    fed = dict(list(given.items())[:free])
    made = node(op, names, [f"y{i}" for i in range(outputs)], name="n1", **attrs)
    weights = {n: x for n, x in given.items() if n not in fed}
    proto = model([made], fed, " ".join(made.output), weights, opset=opset, ir_version=8)
    return onnx.shape_inference.infer_shapes(proto), fed
