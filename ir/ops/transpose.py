"""Permutation of axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, boolean, f16, f32, i64, sample
from ..types import TensorType
from ._axes import Ints


@dataclass(frozen=True)
class Transpose(Op):
    """Axis ``a`` of the result is axis ``perm[a]`` of the operand; ONNX Transpose-21."""

    name = "transpose"
    moves_elements = True
    rounds = False
    injective = True
    perm: Ints = ()

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if sorted(self.perm) != list(range(x.rank)):
            raise ShapeError(f"perm {list(self.perm)} is no permutation of the {x.rank} axes")
        return TensorType(x.dtype, tuple(x.shape[a] for a in self.perm))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        inverse = sorted(range(len(self.perm)), key=self.perm.__getitem__)
        return k.compute(outs[0], lambda *i: xs[0](*(i[a] for a in inverse)), "transpose")

    def reads_any_layout(self) -> bool:
        return True

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((0, 2, 3, 1)), f32[2, 3, 4, 5])
        yield sample(cls((1, 0)), f16[3, 7])
        yield sample(cls((2, 0, 1)), i64[2, 3, 4])
        yield sample(cls((4, 3, 0, 1, 2)), boolean[2, 1, 3, 2, 4])
        yield sample(cls(()), f32[()])


@imports("Transpose", folds=True)
def _import_transpose(n: ImportNode) -> Any:
    rank = n.input(0).type.rank
    perm = n.attr("perm") or tuple(reversed(range(rank)))
    return n.input(0) if perm == tuple(range(rank)) else n.emit(Transpose(perm), n.input(0))


@exports(Transpose)
def _export_transpose(op: Transpose, n: ExportNode) -> None:
    n.node("Transpose", n.inputs, n.outputs, perm=op.perm or None)  # ONNX has no empty list of unknown type
