"""The opset and the IR version of the ONNX models that convc writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from .types import TensorType

if TYPE_CHECKING:  # loaded only where a model is written
    import onnx

EXPORT_OPSET = 22
"""The opset that convc writes unless an op needs a newer one: the first in which AveragePool, MaxPool and LpPool all
take float16 and dilations.
"""
EXPORT_IR_VERSION = 10


_DTYPE_OPSETS = {"f4e2m1": 23, "f8e8m0": 24, "i2": 25, "u2": 25}
"""The first opset that has each of the dtypes that ``EXPORT_OPSET`` lacks."""


def export_version(nodes: Iterable[onnx.NodeProto], types: Iterable[TensorType]) -> tuple[int, int]:
    """The opset and the IR version that a model needs which holds these nodes, as convc writes them, and tensors of
    these types.
    """
    from onnx import helper

    operators = (_introduced(n.op_type) for n in all_nodes(nodes) if not n.domain)
    opset = max([EXPORT_OPSET, *operators, *(_DTYPE_OPSETS.get(t.dtype, 1) for t in types)])
    least = helper.find_min_ir_version_for([helper.make_opsetid("", opset)], ignore_unknown=True)
    return opset, max(EXPORT_IR_VERSION, least)


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their subgraphs."""
    for n in nodes:
        yield n
        for a in n.attribute:
            yield from all_nodes(a.g.node)


@lru_cache(maxsize=1024)
def _introduced(op_type: str) -> int:
    """The first opset that has an operator."""
    from onnx import defs

    history = defs.get_all_schemas_with_history()
    return min((s.since_version for s in history if s.name == op_type and not s.domain), default=1)
