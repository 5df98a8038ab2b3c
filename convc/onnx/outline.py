"""The nodes of an ONNX model that cannot be imported as it is, such as one of open sizes, as far as the file tells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
from onnx import shape_inference

from convc.ir.dtypes import described, numpy_dtype
from convc.ir.errors import ConvcError
from convc.ir.onnx_io import dtype_from_onnx
from convc.ir.summary import Layer, Summary

from .ports import chosen_outputs
from .scope import needed, reads, subgraphs


def outline(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], outputs: Sequence[str] = ()) -> Summary:
    """The nodes that the outputs need, each with its operator and the types of its outputs, which ONNX's shape
    inference gives as far as it can, and the parameters that it is the first to read.

    ``shapes`` are those of inputs that the caller gives. Nothing is computed, and FLOPs are not known.
    """
    types = _types(model, shapes)
    weights = {t.name: t for t in model.graph.initializer}
    weights |= {n.output[0]: t for n in model.graph.node if n.op_type == "Constant" for t in _held(n)}
    counted: set[str] = set()
    layers = []
    for i in needed(model.graph.node, chosen_outputs(model, outputs))[0]:
        node = model.graph.node[i]
        if node.op_type == "Constant":
            continue
        names = [name for name in reads(node) if name in weights and name not in counted]
        counted.update(names)
        new = [t for t in (*(weights[name] for name in names), *_held(node)) if t.dims]
        sizes = [math.prod(t.dims) for t in new]
        nbytes = sum(size * _itemsize(t) for size, t in zip(sizes, new, strict=True))
        made = [types.get(name, "?") for name in node.output if name]
        layers.append(Layer(next(iter(node.output), node.name), node.op_type, " ".join(made), sum(sizes), None, nbytes))
    return Summary(tuple(layers))


def _held(node: onnx.NodeProto) -> list[onnx.TensorProto]:
    """The tensors that a node holds as attributes, or in its subgraphs."""
    found = [a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    for graph in subgraphs(node):
        found += [*graph.initializer, *(t for inner in graph.node for t in _held(inner))]
    return found


def _types(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The types of values by name, as text."""
    known = onnx.ModelProto()
    known.CopyFrom(model)
    for info in known.graph.input:
        if info.name in shapes and info.type.WhichOneof("value") == "tensor_type":
            del info.type.tensor_type.shape.dim[:]
            for size in shapes[info.name]:
                info.type.tensor_type.shape.dim.add().dim_value = size
    try:
        known = shape_inference.infer_shapes(known, data_prop=True)
    except Exception:  # onnx raises errors of its own for what it cannot follow, and for models beyond 2 GB
        known = model
    graph = known.graph
    return {v.name: _text(v) for v in (*graph.input, *graph.value_info, *graph.output)}


def _text(info: onnx.ValueInfoProto) -> str:
    tensor = info.type.tensor_type
    try:
        dtype = str(numpy_dtype(dtype_from_onnx(tensor.elem_type)))
    except ConvcError:
        return "?"
    sizes = [
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or "?" for d in tensor.shape.dim
    ]
    return described(dtype, sizes if tensor.HasField("shape") else ["..."])


def _itemsize(tensor: onnx.TensorProto) -> int:
    try:
        return numpy_dtype(dtype_from_onnx(tensor.data_type)).itemsize
    except ConvcError:
        return 0
