"""Write graphs as ONNX models."""

from __future__ import annotations

import os
from typing import Any

import onnx
from google.protobuf.message import EncodeError
from onnx import defs, helper, numpy_helper

from convc.ir.builder import Builder
from convc.ir.data_sizes import check_trimmed, defined
from convc.ir.dtypes import INTEGERS
from convc.ir.errors import ModelFileError, UnsupportedOpError
from convc.ir.graph import Graph
from convc.ir.onnx_io import ExportNode, export, onnx_dtype
from convc.ir.onnx_versions import EXPORT_OPSET, all_nodes, export_version
from convc.ir.ops.while_loop import read_size
from convc.ir.types import TensorType

from ..runtime.files import write_aside

MAX_PROTO = (1 << 31) - 1


_RUN_BY_ONNXRUNTIME = {"RoiAlign": 21, "MaxRoiPool": 21}
"""The newest opset whose form of an operator ONNX Runtime has a kernel for, where it lacks that of ``EXPORT_OPSET``."""
_BY_FUNCTION_BODY = frozenset(
    ["Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Selu", "Softplus", "Softsign", "ThresholdedRelu"]
)
"""Operators that ONNX Runtime has no kernels for in float64 and integers, and runs by ONNX's function body instead.

The bodies are of opset 18, and run in models of this opset alone.
"""


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The graph as an ONNX model of opset ``EXPORT_OPSET``, or a newer one that an op needs, or an older one that says
    the same where ONNX Runtime runs only that.

    Raises ``UnsupportedOpError`` for an op with no ONNX form.
    """
    check_trimmed(graph)
    names = Builder()
    names.reserve([v.name for v in graph.values()] + list(graph.output_names))
    nodes: list[onnx.NodeProto] = []
    runs_at = EXPORT_OPSET
    initializers = [numpy_helper.from_array(c.array, name) for name, c in graph.constants.items()]
    # a value takes the public name of the output where it can; a second name for a value needs an Identity
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

    read = {size.name: (node, i) for node in graph.nodes for i, size in enumerate(defined(node))}

    def measured(size: str, n: ExportNode) -> str:
        if size in read:
            node, i = read[size]
            return read_size(n, {v.name: name(v.name) for v in node.outputs}, node, i)
        for v in graph.inputs:
            if size in (found := list(v.type.stated)):
                axis = found.index(size)
                return n.node("Shape", [v.name], start=axis, end=axis + 1)
        raise UnsupportedOpError(f"size {size} is the size of no input, so that no ONNX node can give it")

    for node in graph.nodes:
        n = ExportNode(
            [name(v.name) for v in node.inputs],
            [name(v.name) for v in node.outputs],
            [v.type for v in node.inputs],
            [v.type for v in node.outputs],
            names.fresh,
            [graph.constant_of(v) for v in node.inputs],
            measured,
        )
        export(node.op, n)
        runs_at = min([runs_at, *(_runs_at(made.op_type, n) for made in n.nodes)])
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
    proto = helper.make_graph(nodes, graph.name or "main", inputs, outputs, initializers)
    opset, ir_version = export_version(nodes, [v.type for v in graph.values()])
    others = sorted({n.domain for n in all_nodes(nodes)} - {""})  # of ops from outside, whose versions nobody counts
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in others)]
    model = helper.make_model(proto, opset_imports=imports, ir_version=ir_version, producer_name="convc")
    if runs_at < opset and not others and _says_the_same(model, runs_at):
        model.opset_import[0].version = runs_at
    return model


def _runs_at(op_type: str, n: ExportNode) -> int:
    """The newest opset up to ``EXPORT_OPSET`` in which ONNX Runtime runs an operator that an op is written with."""
    if op_type in _BY_FUNCTION_BODY and n.input_types[0].dtype in ("f64", *INTEGERS):
        return 18
    return _RUN_BY_ONNXRUNTIME.get(op_type, EXPORT_OPSET)


def _says_the_same(model: onnx.ModelProto, opset: int) -> bool:
    """Whether a model means the same in an older opset, in which its operators may differ only by the dtypes that they
    take.
    """
    now = model.opset_import[0].version
    try:
        if any(_meaning(name, opset) != _meaning(name, now) for name in {node.op_type for node in model.graph.node}):
            return False
        older = onnx.ModelProto()
        older.CopyFrom(model)
        older.opset_import[0].version = opset
        onnx.shape_inference.infer_shapes(older, check_type=True, strict_mode=True)
    except (defs.SchemaError, onnx.shape_inference.InferenceError, EncodeError, ValueError):
        return False
    return True


def _meaning(op_type: str, opset: int) -> tuple[Any, ...]:
    """What ONNX's schemas say of an operator besides the dtypes that it takes."""
    schema: Any = defs.get_schema(op_type, opset, "")
    attributes = sorted((a.name, a.type.name, a.description, str(a.default_value)) for a in schema.attributes.values())
    return schema.doc, attributes, [(f.name, f.option.name) for f in (*schema.inputs, *schema.outputs)]


def save_onnx(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the graph as an ONNX file, completely or not at all.

    Raises ``ModelFileError`` when it cannot be written.
    """
    size = sum(c.type.nbytes for c in graph.constants.values())
    if size > MAX_PROTO:
        raise ModelFileError(f"the weights take {size} bytes; a single ONNX file holds at most {MAX_PROTO}")
    try:
        write_aside(path, to_onnx(graph).SerializeToString(deterministic=True))
    except (OSError, ValueError) as e:
        raise ModelFileError(f"cannot write '{path}': {getattr(e, 'strerror', None) or e}") from None


def _info(name: str, type: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_dtype(type.dtype), list(type.stated))
