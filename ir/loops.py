"""Programs of loops and stores, for computations that tensor expressions cannot describe: recurrences, and loops whose
length depends on data.

As in ``lowering``, TVM is known only by the modules that are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .lowering import Operand, TensorExpressions
from .sizes import Dim, Dims
from .types import TensorType

LANES = 8
"""The number of iterations that a vector loop does at a time, if it divides the number of iterations."""


@dataclass(frozen=True)
class Memory:
    """A tensor that a program reads and writes. Its elements are read as ``dtype`` where that is given."""

    k: TensorExpressions
    buffer: Any
    dtype: str = ""

    def __call__(self, *index: Any) -> Any:
        """The element at an index."""
        value = self.k.tirx.BufferLoad(self.buffer, _indices(index))
        return value.astype(self.dtype) if self.dtype else value

    def store(self, value: Any, *index: Any) -> Any:
        """The statement that writes an element, its value converted to the tensor's dtype."""
        return self.k.tirx.BufferStore(self.buffer, value.astype(str(self.buffer.dtype)), _indices(index))


def _indices(index: Sequence[Any]) -> list[Any]:
    return list(index) or [0]


def loop_nest(
    k: TensorExpressions,
    outs: Sequence[TensorType],
    inputs: Sequence[Operand],
    body: Callable[[Sequence[Memory], Sequence[Memory]], Any],
    name: str,
) -> list[Operand]:
    """The tensors that the statement ``body(inputs, outs)`` writes.

    Tensors for intermediate results are among ``outs``.
    """
    tensors = [k.compute(x.type, lambda *i, x=x: x(*i)) if x.tensor is None else x.tensor for x in inputs]
    buffers = [
        [k.tirx.decl_buffer(t.shape, t.dtype, f"{name}_{what}{i}", layout=None) for i, t in enumerate(some)]
        for what, some in (("in", tensors), ("out", [_Shaped(k, t) for t in outs]))
    ]
    made = k.te.extern(
        [list(t.shape) for t in outs],
        tensors,
        lambda ins, results: body([Memory(k, b) for b in ins], [Memory(k, b) for b in results]),
        name,
        in_buffers=buffers[0],
        out_buffers=buffers[1],
    )
    made = made if isinstance(made, list) else [made]
    return [k.operand(tensor, t) for tensor, t in zip(made, outs, strict=True)]


class _Shaped:
    """The shape and dtype of a tensor that does not exist yet, under the names of the fields of TVM's tensors."""

    def __init__(self, k: TensorExpressions, type: TensorType) -> None:
        self.shape, self.dtype = list(type.shape), type.tvm_dtype


def block(k: TensorExpressions, *statements: Any) -> Any:
    """The statements in sequence."""
    return statements[0] if len(statements) == 1 else k.tirx.SeqStmt(list(statements))


def loop(k: TensorExpressions, extent: Any, body: Callable[[Any], Any], *, parallel: bool = False) -> Any:
    """The loop of ``body(i)`` for i from 0 to ``extent - 1``. ``extent`` is a number or an int32 expression."""
    kind = k.tirx.ForKind.PARALLEL if parallel else k.tirx.ForKind.SERIAL
    return _for(k, extent, kind, body)


def vector_loop(k: TensorExpressions, extent: Dim, body: Callable[[Any], Any]) -> Any:
    """The loop of ``body(i)`` for independent iterations, in vectors where the extent allows it."""
    if not isinstance(extent, int) or extent % LANES:
        return loop(k, extent, body)
    vectorized = k.tirx.ForKind.VECTORIZED
    return loop(k, extent // LANES, lambda o: _for(k, LANES, vectorized, lambda i: body(o * LANES + i)))


def when(k: TensorExpressions, condition: Any, yes: Any, no: Any = None) -> Any:
    """A conditional statement: the first where the condition holds, else the second."""
    return k.tirx.IfThenElse(condition, yes, no)


def _for(k: TensorExpressions, extent: Any, kind: Any, body: Callable[[Any], Any]) -> Any:
    var = k.tirx.Var("i", "int32")
    count = k.const(extent, "int32") if isinstance(extent, Dims) else extent
    return k.tirx.For(var, k.const(0, "int32"), count, kind, body(var))
