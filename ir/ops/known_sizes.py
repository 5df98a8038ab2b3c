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

    A single value is that of all elements. Divisors are powers of two, 1 where they are left out. Shape arithmetic that
    an ONNX model does on open sizes becomes this op, which becomes a constant where the sizes are known
    (``passes/fix_shapes.py``).
    """

    name = "known_sizes"
    rounds = False
    values: Sizes = ()
    shape: Sizes = ()
    divisors: Ints = ()
    dtype: str = "i64"

    def infer(self, *types: TensorType) -> TensorType:
        made = TensorType(self.dtype, self.shape)
        if types or (len(self.values) != 1 and made.numel != len(self.values)):
            raise ShapeError(f"takes no operands, and a value for each element of shape {list(self.shape)}")
        if len(self.divisors) not in (0, len(self.values)) or any(d < 1 or d & (d - 1) for d in self.divisors):
            raise ShapeError(f"divisors {list(self.divisors)} must be powers of two, one for each value")
        return made

    def array(self) -> np.ndarray:
        """The tensor, all of whose sizes must be known."""
        type = self.infer()
        check_made(type, "a tensor of sizes")
        pairs = zip(self.values, self._divisors, strict=True)
        numbers = [float(Fraction(int(v), d)) if type.is_float else int(v) // d for v, d in pairs]
        flat = np.array(numbers, type.numpy_dtype)
        return np.full(type.sizes, flat[0]) if len(numbers) == 1 else flat.reshape(type.sizes)

    @property
    def _divisors(self) -> Ints:
        return self.divisors or (1,) * len(self.values)

    def _number(self, k: TensorExpressions, value: Dim, divisor: int, made: TensorType) -> Any:
        """An element as an expression."""
        if isinstance(value, int):
            return k.const(float(Fraction(value, divisor)) if made.is_float else value // divisor, made.tvm_dtype)
        wide = "float64" if made.is_float else "int64"  # as ``array`` computes it
        number = k.const(value, wide)
        number = number * k.const(1 / divisor, wide) if made.is_float else number // divisor
        return number.astype(made.tvm_dtype)

    def known(self) -> np.ndarray | None:
        return self.array() if all(isinstance(v, int) for v in (*self.values, *self.shape)) else None

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        numbers = [self._number(k, v, d, outs[0]) for v, d in zip(self.values, self._divisors, strict=True)]
        if len(self.values) == 1 or not numbers:
            return k.compute(outs[0], lambda *_: (numbers or [k.const(0, outs[0].tvm_dtype)])[0], "known_sizes")

        def element(*i: Any) -> Any:
            at: Any = 0
            for j, d in zip(i, outs[0].shape, strict=True):
                at = at * d + j
            value = numbers[0]
            for place, number in enumerate(numbers[1:], 1):
                value = k.select(k.tirx.EQ(at, place), number, value)
            return value

        return k.compute(outs[0], element, "known_sizes")


@exports(KnownSizes)
def _export_known_sizes(op: KnownSizes, n: ExportNode) -> None:
    shape = n.ints(op.shape)
    spread = "Expand" if len(op.values) == 1 else "Reshape"
    made = n.node("Cast", [n.ints(op.values)], to=onnx_dtype(op.dtype))
    if any(d != 1 for d in op.divisors):
        made = n.node("Div", [made, n.constant(np.array(op.divisors, n.output_types[0].numpy_dtype), "divisors")])
    if op.shape or spread == "Reshape":
        n.node(spread, [made, shape], n.outputs)
    else:
        n.reshape(made, (), n.outputs)


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
            lambda i: i.astype(dtype) * k.const(self.step, dtype) + k.const(self.start, dtype),
            "range",
        )


@exports(Range)
def _export_range(op: Range, n: ExportNode) -> None:
    ends = (op.start, op.start + op.step * op.count, op.step)
    made = n.node("Range", [n.reshape(n.size(end), ()) for end in ends])
    n.node("Cast", [made], n.outputs, to=onnx_dtype(op.dtype))
