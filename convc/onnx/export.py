"""Writing graphs as ONNX models."""

from __future__ import annotations

import os

import onnx
from onnx import helper, numpy_helper

from convc.ir.builder import Builder
from convc.ir.counted import axis_of_trim, check_trimmed, is_trim
from convc.ir.errors import ModelFileError
from convc.ir.graph import Graph
from convc.ir.onnx_io import ExportNode, export, export_version, onnx_dtype
from convc.ir.types import TensorType

from ..runtime.files import write_aside

MAX_PROTO = (1 << 31) - 1


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The graph as an ONNX model of opset ``EXPORT_OPSET``, or a newer one that an op needs.

    Raises ``UnsupportedOpError`` for an op with no ONNX form.
    """
    check_trimmed(graph)
    names = Builder()
    names.reserve([v.name for v in graph.values()] + list(graph.output_names))
    nodes: list[onnx.NodeProto] = []
    initializers = [numpy_helper.from_array(c.array, name) for name, c in graph.constants.items()]
    # an output takes its public name where it can; an alias needs an Identity
    renamed: dict[str, str] = {}
    taken = {v.name for v in graph.inputs} | set(graph.constants)
    aliases = []
    for value, public in zip(graph.outputs, graph.output_names, strict=True):
        if value.name in taken or value.name in renamed:
            aliases.append((value, public))
        else:
            renamed[value.name] = public
    clashes = {
        n: names.fresh(n)
        for n in (v.name for v in graph.values())
        if n in renamed.values() and n not in renamed and n not in taken
    }

    def name(v: str) -> str:
        return renamed.get(v) or clashes.get(v, v)

    for node in graph.nodes:
        n = ExportNode(
            [name(v.name) for v in node.inputs],
            [name(v.name) for v in node.outputs],
            [v.type for v in node.inputs],
            [v.type for v in node.outputs],
            names.fresh,
        )
        export(node.op, n)
        nodes += n.nodes
        initializers += n.initializers
    nodes += [
        helper.make_node("Identity", [name(v.name)], [public], name=public)
        for v, public in aliases
        if name(v.name) != public
    ]
    inputs = [_info(v.name, v.type) for v in graph.inputs]
    outputs = []
    for v, public in zip(graph.outputs, graph.output_names, strict=True):
        outputs.append(_info(public, v.type))
        if (made_by := graph.producers.get(v.name)) and is_trim(made_by):
            dim = outputs[-1].type.tensor_type.shape.dim[axis_of_trim(made_by)]
            dim.dim_param = f"{public}_count"
    proto = helper.make_graph(nodes, graph.name or "main", inputs, outputs, initializers)
    opset, ir_version = export_version(nodes, [v.type for v in graph.values()])
    return helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="convc"
    )


def save_onnx(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the graph as an ONNX file, whole or not at all; raises ``ModelFileError`` when it cannot be written."""
    size = sum(c.type.nbytes for c in graph.constants.values())
    if size > MAX_PROTO:
        raise ModelFileError(f"the weights take {size} bytes; a single ONNX file holds at most {MAX_PROTO}")
    try:
        write_aside(path, to_onnx(graph).SerializeToString(deterministic=True))
    except (OSError, ValueError) as e:
        raise ModelFileError(f"cannot write '{path}': {getattr(e, 'strerror', None) or e}") from None


def _info(name: str, type: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_dtype(type.dtype), list(type.shape))
