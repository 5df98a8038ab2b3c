"""The arguments of an op's ``compute``: tensor expressions over logical indices, whatever the layout in memory.

This file knows TVM only by the modules that are handed in, so that ``ir`` can be imported without TVM.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .sizes import MOST, Dim, Dims, Size, expression
from .types import TensorType

ONCE = "convc.once"
"""The annotation of a tensor that is not computed again wherever it is read."""
WIDE = ("int32", "int64", "uint32", "uint64")
"""The integers that TVM and LLVM take never to overflow."""


@dataclass(frozen=True)
class Operand:
    """A tensor and its type. A call with a logical index gives the element at that index.

    A tensor without elements gives 0, since its reads are never carried out, and code has no index for sizes whose
    product leaves 31 bits.
    """

    k: TensorExpressions
    tensor: Any
    type: TensorType

    def __call__(self, *index: Any) -> Any:
        if 0 in self.type.shape:
            return self.k.const(0, self.type.tvm_dtype)
        if self.type.layout is None:
            return self.tensor(*index) if index else self.tensor()
        return self.tensor(*(self.k.simplify(i) for i in self.type.layout.physical_index(index)))

    def at(self, index: Sequence[Any]) -> Any:
        """The element that belongs to ``index`` of a result to which this operand is broadcast, by numpy's rule."""
        tail = index[len(index) - self.type.rank :]
        return self(*(0 if size == 1 else i for size, i in zip(self.type.shape, tail, strict=True)))

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    @property
    def is_computed(self) -> bool:
        """Whether it is computed in the same kernel, and not an argument of it."""
        return isinstance(getattr(self.tensor, "op", None), self.k.te.ComputeOp)

    @property
    def dtype(self) -> str:
        """The dtype's name in TVM."""
        return self.type.tvm_dtype


class TensorExpressions:
    """TVM's namespaces of tensor expressions as ops use them: ``te``, ``tirx`` (scalar expressions), ``topi``; and
    helpers.
    """

    def __init__(
        self,
        te: Any,
        tirx: Any,
        topi: Any,
        analyzer: Any,
        make_range: Callable[[int, Dim], Any],
        kept: Callable[[Any], Any],
    ) -> None:
        """``kept`` gives an element in a form that TVM does not simplify to one of another value."""
        self._kept = kept
        self.te = te
        self.tirx = tirx
        self.topi = topi
        self._analyzer = analyzer
        self._range = make_range
        self._names = 0

    def simplify(self, expr: Any) -> Any:
        """An index expression, simplified by the known ranges of its variables."""
        return expr if isinstance(expr, Dims) else self._analyzer.simplify(expr)

    def _bind(self, var: Any, extent: Dim) -> None:
        self._analyzer.bind(var, self._range(0, extent))

    def reduce_axis(self, extent: Dim, name: str = "r") -> Any:
        """A reduction axis over ``[0, extent)``. An extent beyond int32 belongs to a tensor without elements."""
        extent = extent if isinstance(extent, Size) else min(extent, MOST)
        axis = self.te.reduce_axis((0, extent), name)
        self._bind(axis.var, extent)
        return axis

    def const(self, value: float | Size, dtype: str) -> Any:
        """A scalar constant of a TVM dtype, which may be infinite; an open size is an expression of this dtype."""
        return expression(value, dtype) if isinstance(value, Size) else self.tirx.const(value, dtype)

    def like(self, value: float | Size, expr: Any) -> Any:
        """A scalar constant of the dtype that a scalar expression has."""
        return self.const(value, self.dtype(expr))

    def dtype(self, expr: Any) -> str:
        """The TVM dtype of a scalar expression."""
        return str(expr.ty.dtype)

    def intrinsic(self, name: str, *xs: Any, dtype: str = "float32") -> Any:
        """A call of a scalar function that the backend implements in vector instructions: see ``ops/_math.py``."""
        return self.tirx.call_intrin(dtype, f"convc.{name}", *xs)

    def wrapping(self, name: str, a: Any, b: Any) -> Any:
        """The sum (``add``), difference (``sub``) or product (``mul``) of elements of data; integers wrap around.

        The operators are for indices: TVM and LLVM take wide integers that they combine never to overflow. On CPUs a
        pass (``backends/overflow.py``) makes those of all ops wrap that are made of data.
        """
        if self.dtype(a) in WIDE:
            return self.intrinsic(f"wrap_{name}", a, b, dtype=self.dtype(a))
        return {"add": operator.add, "sub": operator.sub, "mul": operator.mul}[name](a, b)

    def compute(
        self,
        out: TensorType,
        element: Callable[..., Any],
        name: str = "",
        *,
        mask: bool = False,
        guard: bool = False,
        once: bool = False,
    ) -> Any:
        """The tensor of type ``out`` whose element at a logical index is ``element(*index)``.

        ``mask`` writes zeros into the padding of the layout; it is not needed where ``element`` gives zero for zero
        inputs. With ``guard``, ``element`` is not evaluated in the padding: this is for operands without padding, which
        end where the padding begins. With ``once``, each element is computed once, and not again wherever it is read.
        """
        masked = (mask or guard) and out.layout is not None and out.layout.is_padded(out.shape)
        choose = self.guarded if guard else self.select

        def body(*position: Any) -> Any:
            for var, extent in zip(position, out.extents, strict=True):
                self._bind(var, extent)
            index = position if out.layout is None else out.layout.logical_index(position)
            value = self._kept(element(*index))
            if not masked or out.layout is None:
                return value
            inside = [
                i < size
                for i, size, axis in zip(index, out.shape, range(out.rank), strict=True)
                if size % out.layout.block(axis)
            ]
            return choose(self.tirx.all(*inside), value, self.const(0, out.tvm_dtype))

        self._names += 1
        attrs = {ONCE: True} if once else None
        return self.te.compute(out.extents, body, name=name or f"t{self._names}", attrs=attrs)

    def is_zero(self, expr: Any) -> bool:
        """Whether a scalar expression folds to the constant zero."""
        return getattr(expr, "value", None) == 0

    def operand(self, tensor: Any, type: TensorType) -> Operand:
        """An intermediate tensor as an operand, which is read by logical indices too."""
        return Operand(self, tensor, type)

    def select(self, condition: Any, yes: Any, no: Any) -> Any:
        """``yes`` where the condition holds, else ``no``; both are evaluated, so neither may read out of bounds."""
        return self.tirx.Select(condition, yes, no)

    def guarded(self, condition: Any, yes: Any, no: Any) -> Any:
        """``yes`` where the condition holds, else ``no``.

        ``yes`` is evaluated only where the condition holds, so it may read beyond a border elsewhere.
        """
        return self.tirx.if_then_else(condition, yes, no)
