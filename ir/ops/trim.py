"""The elements in use of a tensor that is as large as it could be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..data_sizes import TRIM
from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports
from ..op import Case, Op, f32, i64, sample
from ..sizes import Dim, bounds, no_less
from ..types import TensorType
from ._axes import axis_of


@dataclass(frozen=True)
class Trim(Op):
    """The first ``size`` elements along ``axis``, of at least as many (see ``data_sizes.py``)."""

    name = TRIM
    rounds = False
    injective = True
    moves_elements = True
    axis: int = 0
    size: Dim = 0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        axis = axis_of(self.axis, x.rank)
        if bounds(self.size)[0] < 0 or not no_less(x.shape[axis], self.size):
            raise ShapeError(f"cannot take {self.size} of the elements of {x} along axis {axis}")
        return x.with_shape([*x.shape[:axis], self.size, *x.shape[axis + 1 :]])

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        return k.compute(outs[0], lambda *i: xs[0](*i), "trim")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(0, 3), f32[5, 2])
        yield sample(cls(-1, 0), i64[2, 4])


@exports(Trim)
def _export_trim(op: Trim, n: ExportNode) -> None:
    ends = [n.ints([v], hint) for v, hint in ((0, "starts"), (op.size, "ends"), (op.axis, "axes"))]
    n.node("Slice", [n.inputs[0], *ends], n.outputs)
