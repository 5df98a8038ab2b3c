"""Triangular matrices and diagonals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph import Value
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, dtype_from_onnx, exports, imports, onnx_dtype
from ..op import Case, Op, boolean, f32, i32, i64, sample
from ..types import TensorType
from ._read_axes import is_read, numbers
from .binary import Sub
from .cast import Cast
from .compare import GreaterOrEqual, LessOrEqual
from .reshape import Reshape
from .where import Where


@dataclass(frozen=True)
class Trilu(Op):
    """The upper (or lower) triangle of each matrix in the last two axes, zero elsewhere; ONNX Trilu-14.

    ``k`` moves the diagonal that bounds the triangle, which belongs to it, up or, when negative, down.
    """

    name = "trilu"
    rounds = False
    injective = True
    upper: bool = True
    k: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.rank < 2:
            raise ShapeError(f"takes matrices, not rank {x.rank}")
        x.check_computed()
        return TensorType(x.dtype, x.shape)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs

        def element(*i: Any) -> Any:
            above = i[-1] - i[-2]
            return k.select(above >= self.k if self.upper else above <= self.k, x(*i), k.const(0, x.dtype))

        return k.compute(outs[0], element, "trilu")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[4, 5])
        yield sample(cls(upper=False, k=1), i64[2, 5, 4])
        yield sample(cls(k=-2), boolean[4, 4])
        yield sample(cls(upper=False, k=-7), f32[1, 3, 3])


@imports("Trilu", folds=True)
def _import_trilu(n: ImportNode) -> Any:
    if is_read(n, 1):
        return _triangle(n)
    diagonal = n.ints(1, "k") or (0,)
    return n.emit(Trilu(bool(n.attr("upper", 1)), diagonal[0]), n.input(0))


def _triangle(n: ImportNode) -> Value:
    """A triangle whose diagonal is computed at run time."""
    x = n.input(0)
    if x.type.rank < 2:
        raise n.error(f"takes matrices, not {x.type}")
    rows, columns = (numbers(n, size, axis, 2) for axis, size in enumerate(x.type.shape[-2:]))
    diagonal = n.emit(Cast("i64"), n.emit(Reshape(()), n.input(1)))
    above = n.emit(Sub(), columns, rows)
    kept = n.emit(GreaterOrEqual() if n.attr("upper", 1) else LessOrEqual(), above, diagonal)
    made: Value = n.emit(Where(), kept, x, n.constant(np.zeros((), x.type.numpy_dtype), "zero"))
    return made


@exports(Trilu)
def _export_trilu(op: Trilu, n: ExportNode) -> None:
    diagonal = n.constant(np.array(op.k, np.int64), "k")
    n.node("Trilu", [n.inputs[0], diagonal], n.outputs, upper=op.upper)


@dataclass(frozen=True)
class EyeLike(Op):
    """A matrix of the operand's shape with ones on diagonal ``k`` and zeros elsewhere; ONNX EyeLike-22."""

    name = "eye_like"
    injective = True
    dtype: str = "f32"
    k: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.rank != 2:
            raise ShapeError(f"takes a matrix, not rank {x.rank}")
        made = TensorType(self.dtype, x.shape)
        made.check_computed()
        return made

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        dtype = outs[0].tvm_dtype
        return k.compute(
            outs[0], lambda i, j: k.select(j - i == self.k, k.const(1, dtype), k.const(0, dtype)), "eye_like"
        )

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[3, 4])
        yield sample(cls("i64", -1), i32[4, 4])


@imports("EyeLike", folds=True)
def _import_eye_like(n: ImportNode) -> Any:
    x, code = n.input(0), n.attr("dtype")
    return n.emit(EyeLike(x.type.dtype if code is None else dtype_from_onnx(code), n.attr("k", 0)), x)


@exports(EyeLike)
def _export_eye_like(op: EyeLike, n: ExportNode) -> None:
    n.node("EyeLike", n.inputs, n.outputs, dtype=onnx_dtype(op.dtype), k=op.k)
