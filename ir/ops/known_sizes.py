"""Tensors that follow from sizes alone: the results of shape arithmetic, and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..limits import check_made
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports, onnx_dtype
from ..op import Op
from ..sizes import Dim, Sizes
from ..types import TensorType
from ._axes import Ints


@dataclass(frozen=True)
class KnownSizes(Op):
    """A tensor of shape ``shape`` whose element ``i``, in row-major order, is ``values[i] / divisors[i]``.

    Divisors are powers of two, 1 where they are left out. Shape arithmetic that an ONNX model does on open sizes
    becomes this op; where the sizes are known it becomes a constant (``passes/fix_shapes.py``).
    """

    name = "known_sizes"
    rounds = False
    values: Sizes = ()
    shape: Ints = ()
    divisors: Ints = ()
    dtype: str = "i64"

    def infer(self, *types: TensorType) -> TensorType:
        made = TensorType(self.dtype, self.shape)
        if types or made.numel != len(self.values) or len(self.divisors) not in (0, len(self.values)):
            raise ShapeError(f"takes no operands, and {made.numel} values for shape {list(self.shape)}")
        if any(d < 1 or d & (d - 1) for d in self.divisors):
            raise ShapeError(f"divisors {list(self.divisors)} must be powers of two")
        return made

    def array(self) -> np.ndarray:
        """The tensor, all of whose sizes must be known."""
        divisors = self.divisors or (1,) * len(self.values)
        type = self.infer()
        pairs = zip(self.values, divisors, strict=True)
        numbers = [float(Fraction(int(v), d)) if type.is_float else int(v) // d for v, d in pairs]
        return np.array(numbers, type.numpy_dtype).reshape(self.shape)

    def known(self) -> np.ndarray | None:
        return self.array() if all(isinstance(v, int) for v in self.values) else None

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        numbers = self.array().reshape(-1).tolist()

        def element(*i: Any) -> Any:
            at: Any = 0
            for j, d in zip(i, self.shape, strict=True):
                at = at * d + j
            value = k.const(numbers[0], outs[0].tvm_dtype) if numbers else k.const(0, outs[0].tvm_dtype)
            for place, number in enumerate(numbers[1:], 1):
                value = k.select(k.tirx.EQ(at, place), k.const(number, outs[0].tvm_dtype), value)
            return value

        return k.compute(outs[0], element, "known_sizes")


@exports(KnownSizes)
def _export_known_sizes(op: KnownSizes, n: ExportNode) -> None:
    whole = n.reshape(n.ints(op.values), op.shape)
    divided = n.output_types[0].is_float and any(d != 1 for d in op.divisors)
    if not divided:
        n.node("Cast", [whole], n.outputs, to=onnx_dtype(op.dtype))
        return
    divisors = n.constant(np.array(op.divisors, n.output_types[0].numpy_dtype).reshape(op.shape), "divisors")
    n.node("Div", [n.node("Cast", [whole], to=onnx_dtype(op.dtype)), divisors], n.outputs)


@dataclass(frozen=True)
class Range(Op):
    """``count`` integers from ``start`` on, in steps of ``step``; ONNX Range-11 of sizes."""

    name = "range"
    rounds = False
    count: Dim
    start: Dim = 0
    step: int = 1
    dtype: str = "i64"

    def infer(self, *types: TensorType) -> TensorType:
        if types or self.dtype not in ("i16", "i32", "i64") or self.count < 0:
            raise ShapeError(
                f"takes no operands, and makes a number of integers that is not negative, not {self.count}"
            )
        return TensorType(self.dtype, (self.count,))

    def known(self) -> np.ndarray | None:
        if not isinstance(self.count, int) or not isinstance(self.start, int):
            return None
        check_made(self.infer(), "a range")
        return (self.start + self.step * np.arange(self.count)).astype(self.infer().numpy_dtype)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        dtype = outs[0].tvm_dtype
        return k.compute(
            outs[0],
            lambda i: i.astype(dtype) * k.const(self.step, dtype) + k.const(int(self.start), dtype),
            "range",
        )


@exports(Range)
def _export_range(op: Range, n: ExportNode) -> None:
    ends = (op.start, op.start + op.step * op.count, op.step)
    made = n.node("Range", [n.reshape(n.size(end), ()) for end in ends])
    n.node("Cast", [made], n.outputs, to=onnx_dtype(op.dtype))
