"""Symbolic tensors, which ``forward`` computes with while the graph of a network is built."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from convc.ir.builder import Builder
from convc.ir.dtypes import dtype_names
from convc.ir.errors import GraphError, ShapeError
from convc.ir.graph import Constant, Initializer, Value
from convc.ir.op import Op
from convc.ir.ops.binary import Add, Div, Mul, Pow, Sub
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.unary import Neg
from convc.ir.types import TensorType


class Trace:
    """The state of one call of a network's ``forward``: the graph so far, the layers being called, the parameters
    found.
    """

    def __init__(self, builder: Builder, network: object, modules: Iterable[tuple[str, object]]) -> None:
        """``modules`` are those of the network, itself included, by path; they must live as long as the trace."""
        self.builder = builder
        self.paths: dict[int, str] = {}
        """The name of each module, by its ``id``. A shared module has the first of its names."""
        for path, module in modules:
            self.paths.setdefault(id(module), path)
        self.stack: list[object] = [network]
        """The modules being called, outermost first; after an error, those that led to it."""
        self.called: set[int] = set()
        self.parameters: dict[str, Value] = {}

    @contextmanager
    def calling(self, module: object) -> Iterator[None]:
        """A context for one call of a module."""
        depth = len(self.stack)
        self.stack.append(module)
        self.called.add(id(module))
        yield
        del self.stack[depth:]  # after an error the stack stays, to tell the layer

    def where(self) -> str:
        """The module being called, as errors name it."""
        module = self.stack[-1]
        path = self.paths.get(id(module), "")
        return f"layer '{path}' ({type(module).__name__})" if path else type(module).__name__

    def path(self, module: object) -> str:
        """The name of a module. Raises ``GraphError`` for a module that no attribute leads to."""
        if id(module) not in self.paths:
            raise GraphError(
                f"{type(module).__name__} is no part of {type(self.stack[0]).__name__}, so its parameters have no "
                "names: make it in __init__ and keep it in an attribute"
            )
        return self.paths[id(module)]

    def parameter(self, name: str, type: TensorType, source: np.ndarray | Initializer) -> Tensor:
        """The parameter of this name, made on the first call.

        Raises ``ShapeError`` when the type or the values do not fit.
        """
        if name not in self.parameters:
            if isinstance(source, Initializer):
                seed = zlib.crc32(name.encode()) if source.kind == "uniform" else 0
                constant = Constant(type, replace(source, seed=seed))
            elif source.shape != type.shape:
                raise ShapeError(
                    f"parameter '{name}' has shape {list(type.shape)}, but the weights set for it have "
                    f"{list(source.shape)}"
                )
            else:
                constant = Constant.of(source.astype(type.numpy_dtype, copy=False))
            self.parameters[name] = self.builder.constant(constant, name)
        value = self.parameters[name]
        if value.type != type:
            raise ShapeError(f"parameter '{name}' is {value.type} in one call of the layer and {type} in another")
        return Tensor(self, value)

    def emit(self, op: Op, *inputs: Value) -> tuple[Tensor, ...]:
        """Add a node that is named after the layer being called, and return its outputs."""
        layer = self.paths.get(id(self.stack[-1]), "")
        self.builder.emit(op, *inputs, names=[join(layer, op.name)])
        return tuple(Tensor(self, v) for v in self.builder.nodes[-1].outputs)


class Tensor:
    """A tensor with a type and no values yet.

    Arithmetic on it, also with numbers and arrays, adds nodes to the graph.
    """

    __array_ufunc__ = None  # so that ``array + tensor`` comes to ``__radd__``

    def __init__(self, trace: Trace, value: Value) -> None:
        self.trace = trace
        self.value = value

    @property
    def type(self) -> TensorType:
        return self.value.type

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes: integers, and expressions where they are open."""
        return self.value.type.shape

    @property
    def dtype(self) -> str:
        """The short name of the dtype, such as ``f32``."""
        return self.value.type.dtype

    def constant(self, data: Any) -> Tensor:
        """A number or an array as a tensor of this one's dtype."""
        try:
            given = np.asarray(data)
            array = given.astype(self.type.numpy_dtype)
        except (TypeError, ValueError) as e:
            raise GraphError(f"a {type(data).__name__} is no tensor, number or array: {e}") from None
        if not self.type.is_float and given.dtype.kind not in "iub":
            raise GraphError(
                f"a tensor of {dtype_names(self.dtype)} does not combine with {given.dtype} numbers: it would cut them "
                "off"
            )
        return Tensor(self.trace, self.trace.builder.constant(array))

    def reshape(self, *shape: int) -> Tensor:
        """The same elements in another shape, of which one size may be -1."""
        return apply(Reshape(shape, allowzero=0 in shape), self)

    def transpose(self, *axes: int) -> Tensor:
        """The axes in another order."""
        return apply(Transpose(axes), self)

    def __add__(self, other: Any) -> Tensor:
        return apply(Add(), self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply(Add(), other, self)

    def __sub__(self, other: Any) -> Tensor:
        return apply(Sub(), self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return apply(Sub(), other, self)

    def __mul__(self, other: Any) -> Tensor:
        return apply(Mul(), self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return apply(Mul(), other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return apply(Div(), self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply(Div(), other, self)

    def __pow__(self, other: Any) -> Tensor:
        return apply(Pow(), self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return apply(Pow(), other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return apply(MatMul(), self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply(MatMul(), other, self)

    def __neg__(self) -> Tensor:
        return apply(Neg(), self)

    def __bool__(self) -> bool:
        raise GraphError("a symbolic tensor has no values yet: forward can branch on its shape, not on what it holds")

    def __repr__(self) -> str:
        return f"<Tensor {self.value}>"


def apply_all(op: Op, *inputs: Any) -> tuple[Tensor, ...]:
    """Add any op of ``convc.ir.ops`` to the graph and return its outputs; numbers and arrays become constants.

    Raises ``ShapeError`` when the operands do not fit the op.
    """
    if not isinstance(op, Op):
        raise GraphError(f"apply takes an op, such as Relu(), not {op!r}")
    first = next((x for x in inputs if isinstance(x, Tensor)), None)
    if first is None:
        raise GraphError(f"{op.name} needs a symbolic tensor among its inputs")
    tensors = [x if isinstance(x, Tensor) else first.constant(x) for x in inputs]
    if any(t.trace is not first.trace for t in tensors):
        raise GraphError(f"{op.name}: a tensor kept from an earlier call of forward is used in a later one")
    return first.trace.emit(op, *(t.value for t in tensors))


def apply(op: Op, *inputs: Any) -> Tensor:
    """Add an op of one output to the graph, as ``apply_all`` does, and return the output."""
    return apply_all(op, *inputs)[0]


def tensors_of(made: Any) -> tuple[tuple[Tensor, ...], list[str]]:
    """The tensors that ``forward`` returned, and their names where it returned a mapping."""
    names = list(map(str, made)) if isinstance(made, Mapping) else []
    found = (made,) if isinstance(made, Tensor) else made.values() if isinstance(made, Mapping) else made
    tensors = tuple(found) if isinstance(found, Sequence) or names else ()
    if not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise GraphError(f"forward must return a tensor, or a tuple or dict of tensors, not {type(made).__name__}")
    return tensors, names


def join(*parts: str) -> str:
    """The parts that are not empty, joined by dots."""
    return ".".join(p for p in parts if p)
