"""Evaluation of ONNX nodes with constant inputs while importing, by onnx's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from convc.ir.errors import ConvcError, UnsupportedOpError
from convc.ir.evaluate import run_reference
from convc.ir.graph import Value
from convc.ir.limits import Folding
from convc.ir.onnx_io import CALL_OPSET, ImportNode, is_folded
from convc.ir.types import type_of

from .bounds import folded_bytes
from .shape_arithmetic import compute_sizes
from .tensors import read_tensor
from .wire import Outside

FOLD_LIMIT = 1 << 28
"""Constants of more bytes than this are not computed while importing."""
ONLY_FOLDED = frozenset(["Constant", "Shape", "Size"])
"""ONNX operators that are only ever computed while importing.

Operators that ops import too say so by ``imports(..., folds=True)``.
"""


def fold(n: ImportNode, opsets: Mapping[str, int], outside: Outside, folding: Folding) -> list[Value] | None:
    """The outputs of a node as constants or as tensors of sizes, when it is ``Shape`` or ``Size`` or reads only such
    tensors; else ``None``.

    ``outside`` holds what is not in the model's own message. ``folding`` counts the bytes; ``LimitError`` is raised
    when they exceed a limit.
    """
    proto = n.proto
    if (sizes := compute_sizes(n)) is not None:
        return sizes
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in proto.attribute) or not (
        is_folded(n.operator) or n.operator in ONLY_FOLDED
    ):
        return None
    if proto.op_type == "Constant" and (value := next((a.t for a in proto.attribute if a.name == "value"), None)):
        return [n.constant(read_tensor(value, outside), proto.output[0])]
    present = {name: v for name, v in zip(proto.input, n.inputs, strict=True) if v is not None}
    arrays = {name: n.builder.constant_of(v) for name, v in present.items()}
    if any(a is None for a in arrays.values()):
        return None
    if (size := folded_bytes(n)) > FOLD_LIMIT:
        if n.operator in ONLY_FOLDED:
            raise n.unsupported(f"its result has {size} bytes, and the importer computes at most {FOLD_LIMIT}")
        return None
    feeds = {name: a for name, a in arrays.items() if a is not None}
    folding.add(n.describe(), sum(a.nbytes for a in feeds.values()), size)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in feeds.items()
    ]
    opset = opsets.get("", 1)
    if n.operator != proto.op_type:  # what folds in another domain is ONNX's operator in its newest opset
        same = onnx.NodeProto()
        same.CopyFrom(proto)
        same.domain, proto, opset = "", same, CALL_OPSET
    outputs = [onnx.ValueInfoProto(name=o) for o in proto.output if o]
    graph = helper.make_graph([proto], "fold", infos, outputs)
    try:
        results = iter(run_reference(graph, [helper.make_opsetid("", opset)], feeds))
        return [
            n.constant(_plain(next(results)), o) if o else n.constant(np.zeros(0, np.float32)) for o in proto.output
        ]
    except ConvcError as e:
        if n.attr("value_string") or n.attr("value_strings"):
            raise n.unsupported("string tensors are not supported") from e
        if n.operator in ONLY_FOLDED:
            raise n.error("its attributes make no tensor: it needs exactly one that begins with 'value'") from e
        return None  # the op's importer raises a better error, or compiles the node


def _plain(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        raise UnsupportedOpError("string tensors are not supported")
    type_of(array)
    return array
