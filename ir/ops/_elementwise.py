"""The base class of elementwise ops: each output element follows from the input elements at its broadcast index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ..dtypes import DTYPES, FLOATS, dtype_names
from ..errors import ShapeError, plural
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..op import Op
from ..types import TensorType, broadcast


class Elementwise(Op):
    """``y[i] = scalar(x0[i], x1[i], ...)`` with numpy's broadcasting; operands share one dtype out of ``dtypes``."""

    elementwise = True
    injective = True
    arity: ClassVar[int] = 1
    dtypes: ClassVar[tuple[str, ...]] = FLOATS
    result: ClassVar[str | None] = None
    """The dtype of the result, where it is not that of the operands."""
    cost: ClassVar[int] = 1
    """Floating-point operations per element."""

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        """The output element as a scalar expression."""
        raise NotImplementedError(self.name)

    def infer(self, *types: TensorType) -> TensorType:
        if len(types) != self.arity:
            raise ShapeError(f"takes {plural(self.arity, 'operand')}, not {len(types)}")
        self.check_dtypes(*types)
        shape = broadcast(*(t.shape for t in types))
        return TensorType(self.result or types[-1].dtype, shape, joint_layout(types, shape))

    def check_dtypes(self, *types: TensorType) -> None:
        """Raises ``ShapeError`` unless all operands have one dtype that the op takes."""
        if len({t.dtype for t in types}) != 1:
            raise ShapeError("operands differ in dtype: " + dtype_names(*(t.dtype for t in types)))
        if types[0].dtype not in self.dtypes:
            raise ShapeError(f"does not take {dtype_names(types[0].dtype)}; it takes {dtype_names(*self.dtypes)}")

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        # an unpadded operand that has more than one channel must not be read in the padding of the result
        short = any(x.type.layout != outs[0].layout and set(x.shape) - {1} for x in xs)
        padded = all(x.type.layout == outs[0].layout for x in xs)
        zero = padded and k.is_zero(self.scalar(k, *(k.const(0, x.dtype) for x in xs)))

        def read(x: Operand, index: Sequence[Any]) -> Any:
            # a channel that shares its block with padding must not be mistaken for one that is broadcast over a block
            alike = (x.type.shape, x.type.layout) == (outs[0].shape, outs[0].layout)
            return x(*index) if alike else x.at(index)

        element = lambda *i: self.scalar(k, *(read(x, i) for x in xs))  # noqa: E731
        return k.compute(outs[0], element, self.name, mask=not zero, guard=short)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return self.cost * outputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return max((t.rank for t in inputs), default=0) == layout.rank


ALL_DTYPES = DTYPES


def joint_layout(types: Sequence[TensorType], shape: Sequence[object]) -> Layout | None:
    """The layout that all operands of the full shape have in common. Operands that are broadcast may be row-major.

    Raises ``ShapeError`` when layouts disagree.
    """
    layouts = {t.layout for t in types if t.shape == tuple(shape)}
    if len(layouts) > 1:
        raise ShapeError("operands differ in layout: " + ", ".join(str(t) for t in types))
    layout = next(iter(layouts), None)
    if any(t.layout not in (None, layout) for t in types) or (layout and layout.rank != len(shape)):
        raise ShapeError("operands differ in layout: " + ", ".join(str(t) for t in types))
    return layout


def infinity(k: TensorExpressions, dtype: str, sign: int = 1) -> Any:
    """The largest (``sign=1``) or smallest (``sign=-1``) value of a TVM dtype, which is infinite for floats."""
    if dtype.startswith(("float", "bfloat")):
        return k.const(sign * math.inf, dtype)
    if dtype == "bool":
        return k.const(sign > 0, dtype)
    return k.tirx.max_value(dtype) if sign > 0 else k.tirx.min_value(dtype)
