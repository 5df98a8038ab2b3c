"""Evaluate ops on arrays at compile time, with onnx's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import ConvcError, UnsupportedOpError
from .onnx_io import ExportNode, export, onnx_dtype
from .onnx_versions import EXPORT_IR_VERSION, export_version
from .op import Op
from .types import TensorType, type_of

if TYPE_CHECKING:
    import onnx


def evaluate(op: Op, inputs: Sequence[np.ndarray], outputs: Sequence[TensorType]) -> list[np.ndarray]:
    """The op's outputs on these arrays. Raises ``UnsupportedOpError`` for an op that has no ONNX form."""
    from onnx import helper

    names = [f"i{i}" for i in range(len(inputs))]
    results = [f"o{i}" for i in range(len(outputs))]
    count = iter(range(1 << 30))
    n = ExportNode(names, results, [type_of(x) for x in inputs], outputs, lambda hint: f"t{next(count)}")
    export(op, n)
    graph = helper.make_graph(
        n.nodes,
        "fold",
        [_info(s, type_of(x)) for s, x in zip(names, inputs, strict=True)],
        [_info(s, t) for s, t in zip(results, outputs, strict=True)],
        n.initializers,
    )
    opset, _ = export_version(n.nodes, [*n.input_types, *outputs])
    made = run_reference(graph, [helper.make_opsetid("", opset)], dict(zip(names, inputs, strict=True)))
    return [m.astype(t.numpy_dtype, copy=False).reshape(t.sizes) for m, t in zip(made, outputs, strict=True)]


def run_reference(
    graph: onnx.GraphProto, opsets: Sequence[onnx.OperatorSetIdProto], feeds: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The outputs of an ONNX graph, computed by onnx's reference evaluator.

    Raises ``UnsupportedOpError`` when it fails.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    model = helper.make_model(graph, opset_imports=list(opsets), ir_version=EXPORT_IR_VERSION)
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(model).run(None, dict(feeds))
        return [np.asarray(m) for m in made]
    except ConvcError:
        raise
    except Exception as e:  # the reference raises whatever numpy does
        raise UnsupportedOpError(
            f"{graph.node[0].op_type} could not be evaluated at compile time: {type(e).__name__}: {e}"
        ) from e


def _info(name: str, type: TensorType) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, onnx_dtype(type.dtype), list(type.stated))
