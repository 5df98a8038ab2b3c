"""Tensors of which only a first part counts, how much being known when the model runs."""

from __future__ import annotations

from dataclasses import dataclass

from ..counted import TRIM
from ..errors import ShapeError
from ..onnx_io import ExportNode, exports
from ..op import Op
from ..types import TensorType
from ._axes import axis_of


@dataclass(frozen=True)
class Trim(Op):
    """The first ``count`` elements along ``axis``, ``count`` being the second operand, int64 of shape 1.

    The type is that of the whole operand, the most that there can be. It stands before outputs alone, and is taken away
    before code is made (``counted.py``). In ONNX, where sizes may follow from data, it is nothing.
    """

    on_gpu = False
    name = TRIM
    axis: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, count = types
        axis_of(self.axis, x.rank)
        if count != TensorType("i64", (1,)):
            raise ShapeError(f"takes how many elements count as int64[1], not {count}")
        return x


@exports(Trim)
def _export_trim(op: Trim, n: ExportNode) -> None:
    n.node("Identity", n.inputs[:1], n.outputs)
