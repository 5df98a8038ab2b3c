"""Open sizes in kernels: names of their own, which become variables in the code.

The sizes of a kernel are *extents*: numbers that it takes as arguments. A group of a graph with open sizes is made
general before it is compiled: each open size of its operands and attributes gets a name of the kernel's own, and the
other sizes follow from these by inference. Kernels at different depths of a network are then the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convc.ir.assumptions import Assumptions
from convc.ir.builder import infer_types
from convc.ir.errors import ShapeError
from convc.ir.graph import Graph, Node, Value
from convc.ir.op import Op
from convc.ir.ops.average_pool import AveragePool
from convc.ir.ops.conv import Conv, is_depthwise
from convc.ir.ops.loop import Loop
from convc.ir.ops.max_pool import MaxPool
from convc.ir.ops.relayout import Relayout
from convc.ir.ops.winograd_conv import WinogradConv
from convc.ir.sizes import (
    Dim,
    Extreme,
    Named,
    Quotient,
    Size,
    at,
    bounds,
    expressions,
    largest,
    least,
    named,
    names,
    typical,
)
from convc.ir.types import TensorType


def generalised(body: Graph) -> tuple[Graph, tuple[Dim, ...]]:
    """A body with names of its own for its open sizes, and the size that each of these names stands for.

    Equal sizes have one name. Their typical values are rounded down to ``STEPS``, except for products of matrices and
    Winograd's algorithm. What inference asks of the sizes was answered for the graph that the body is from. Where each
    channel is computed by itself, the number of blocks of channels is open too.
    """
    if any(isinstance(n.op, Loop) for n in body.nodes):
        return body, ()  # no kernel: the kernels of its own body are made general, each by itself
    if (conv := _conv_of_any_size(body)) is not None:
        return conv
    if not any(isinstance(size, Size) for size in _sizes(body)):
        return _packing_of_any_weight(body)
    exact = any((n.op.contraction and not isinstance(n.op, Conv)) or isinstance(n.op, WinogradConv) for n in body.nodes)
    block = _block_of_channels(body)
    found: dict[Dim, Size] = {}

    def renamed(size: Size) -> Dim:
        if size not in found:
            found[size] = named(f"e{len(found)}", typical=max(typical(size), 0))
        return found[size]

    def channels(size: Dim) -> Dim:
        blocks = size // block
        if blocks not in found:
            found[blocks] = named(f"e{len(found)}", least=1, typical=BLOCKS)
        return found[blocks] * block

    def opened(t: TensorType) -> TensorType:
        shape = [renamed(d) if isinstance(d, Size) else d for d in t.shape]
        if block and t.layout is not None:
            axis = next(axis for axis, size in t.layout.dims if size)
            shape[axis] = channels(t.shape[axis])
        return t.with_shape(shape)

    def op_of(n: Node) -> Op:
        op = n.op.mapped(renamed)
        return replace(op, group=channels(op.group)) if block and isinstance(op, Conv) else op  # type: ignore[arg-type]

    made = _retyped(body, {v.name: opened(v.type) for v in body.inputs}, Assumptions(), op_of)
    return made if exact else _rounded(made), tuple(found)


def _conv_of_any_size(body: Graph) -> tuple[Graph, tuple[Dim, ...]] | None:
    """A body that is led by a convolution on blocks of channels, with names for the batch, the plane, the number of
    channels, and that of blocks of outputs; ``None`` for other bodies.

    What the results are combined with is blocked alike, or a number for each channel. The sizes of the body may be
    numbers: they are arguments all the same.
    """
    conv, *rest = body.nodes
    if not is_general_conv(conv) or not all(n.op.elementwise for n in rest):
        return None
    if any(v in conv.inputs for n in rest for v in n.inputs):
        return None  # its data, which also has the sizes of the results
    x, w = (v.type for v in conv.inputs[:2])
    out = conv.output.type
    assert out.layout is not None
    given: dict[str, Dim] = {}

    def extent(size: Dim, typical: int, least: int = 0) -> Dim:
        given[f"e{len(given)}"] = size
        return named(f"e{len(given) - 1}", least, typical=typical)

    count, high, wide = (extent(x.shape[axis], usual) for axis, usual in ((0, 1), (2, PLANE), (3, PLANE)))
    channels: Dim = x.shape[1]
    if x.layout is not None:
        block = x.layout.block(1)
        window = math.prod(w.sizes[2:])
        is_long = w.sizes[1] * window >= LONG_SUM
        channels = extent(w.sizes[1], -(-LONG_SUM // window) if is_long else 1, 1)
    block = out.layout.block(1)
    outputs = extent(w.sizes[0] // block, BLOCKS, 1) * block
    data = x.with_shape((count, channels, high, wide))
    weight = w.with_shape((outputs, channels, *w.shape[2:]))
    values = {conv.inputs[0].name: data, conv.inputs[1].name: weight}
    values |= {v.name: v.type.with_shape((outputs,)) for v in conv.inputs[2:]}
    assumed = Assumptions()
    with assumed.noted(""):
        (made,) = infer_types(conv.op, [Value(v.name, values[v.name]) for v in conv.inputs])
    for v in body.inputs:
        if v.name not in values:
            opened = _opened_like(v.type, out, made)
            if opened is None:
                return None
            values[v.name] = opened
    return _retyped(body, values, assumed), tuple(given.values())


PLANE = 56
"""The typical number of rows and columns of a plane that a convolution reads: its kernels are made for register tiles,
and for no plane."""


def is_conv_of_any_size(node: Node) -> bool:
    """Whether a node of a general body is a convolution whose numbers of blocks of channels were made open.

    Channels of which a graph does not say how many there are lie in no blocks.
    """
    out = node.output.type
    return (
        isinstance(node.op, Conv) and node.op.group == 1 and out.layout is not None and isinstance(out.shape[1], Size)
    )


def is_general_conv(node: Node) -> bool:
    """Whether a node is a convolution, of one group, on planes of more than a few pixels, whose channels fill blocks.

    Its data may be row-major. All its sizes but those of its window are arguments of its kernel, which is then the same
    at all depths of all networks.
    """
    op, out = node.op, node.output.type
    if not isinstance(op, Conv) or op.exact or op.group != 1 or out.layout is None or out.rank != 4:
        return False
    x, w = (v.type for v in node.inputs[:2])
    if x.layout is None and all(isinstance(d, int) for d in x.shape):
        return False  # a network has one such layer: its first
    if x.layout not in (None, out.layout) or out.layout.block(1) == 1 or out.layout.is_padded(out.shape):
        return False
    plane = math.prod(typical(d) for d in out.shape[2:])
    return plane >= FEW_PIXELS and not any(isinstance(d, Size) for d in (*w.shape, x.shape[1]))


FEW_PIXELS = 4
"""Planes of fewer pixels are too few to hide latencies: there the numbers of channels decide how code is made."""


def _opened_like(t: TensorType, out: TensorType, opened: TensorType) -> TensorType | None:
    """The type of another operand, with the sizes of the results ``out``, as they are when opened, in place of its own.

    ``None`` where its sizes are not theirs.
    """
    if t.is_single:
        return t
    if t.layout != out.layout or t.shape[1] != out.shape[1]:
        return None
    sizes = list(zip(t.shape, out.shape, opened.shape, strict=True))
    if any(d not in (1, wanted) for d, wanted, _ in sizes):
        return None
    return t.with_shape([size if d == wanted else d for d, wanted, size in sizes])


def _retyped(
    body: Graph, types: Mapping[str, TensorType], assumed: Assumptions, op_of: Callable[[Node], Op] = lambda n: n.op
) -> Graph:
    """The body with other types of its inputs, and other ops, of which ``op_of`` gives that of a node."""
    values = {v.name: Value(v.name, types[v.name]) for v in body.inputs}
    values |= {name: Value(name, c.type) for name, c in body.constants.items()}
    nodes = []
    for n in body.nodes:
        op, inputs = op_of(n), tuple(values[v.name] for v in n.inputs)
        with assumed.noted(""):
            made = infer_types(op, inputs)
        outputs = tuple(Value(v.name, t) for v, t in zip(n.outputs, made, strict=True))
        values |= {v.name: v for v in outputs}
        nodes.append(Node(op, inputs, outputs))
    ports = [tuple(values[v.name] for v in some) for some in (body.inputs, body.outputs)]
    return replace(body, inputs=ports[0], nodes=tuple(nodes), outputs=ports[1], assumptions=assumed.made)


def _packing_of_any_weight(body: Graph) -> tuple[Graph, tuple[Dim, ...]]:
    """A body that only packs a weight, with names for its numbers of blocks: it runs once, so that nothing is lost by
    one kernel for all weights. Other bodies stay as they are.
    """
    node, *others = body.nodes
    if others or not isinstance(node.op, Relayout):
        return body, ()
    x, packed = body.inputs[0].type, node.output.type
    layout = packed.layout
    if x.layout is not None or layout is None or layout.name[0] == "N":
        return body, ()
    shape: list[Dim] = list(x.shape)
    counts: list[Dim] = []
    for axis, block in layout.dims:
        if block and x.sizes[axis] % block == 0:
            shape[axis] = named(f"e{len(counts)}", least=1, typical=BLOCKS) * block
            counts.append(x.sizes[axis] // block)
    if not counts:
        return body, ()
    weight = Value(body.inputs[0].name, x.with_shape(shape))
    made = Value(node.output.name, packed.with_shape(shape))
    return replace(body, inputs=(weight,), nodes=(Node(node.op, (weight,), (made,)),), outputs=(made,)), tuple(counts)


BLOCKS = 4
"""The typical number of blocks of channels, where it is open."""
LONG_SUM = 1024
"""Sums of at least this many terms are computed in parts, so that rounding errors stay small."""


def _block_of_channels(body: Graph) -> int:
    """The size of the blocks of channels of a body that computes each channel by itself; 0 for other bodies."""
    if not all(n.op.elementwise or isinstance(n.op, MaxPool | AveragePool) or is_depthwise(n) for n in body.nodes):
        return 0
    layouts = [v.type.layout for v in body.inputs if v.type.rank]
    blocks = {tuple(size for _, size in layout.dims if size) if layout else () for layout in layouts}
    first, *others = blocks or {()}
    if others or len(first) != 1 or len(body.outputs) != 1:
        return 0
    held = [(v.type, next(axis for axis, size in v.type.layout.dims if size)) for v in body.inputs if v.type.layout]
    size, *different = {t.shape[axis] for t, axis in held}
    return 0 if different or not isinstance(size, int) or size % first[0] else first[0]


STEPS = (0, 1, 2, 4, 7, 14, 28, 56)
"""Planes of some of these many rows and columns stand for all larger ones that are smaller than the next, so that
kernels of planes that are scheduled alike are the same. Register tiles have at most 28 columns."""


def _rounded(body: Graph) -> Graph:
    """The body with the typical values of its sizes rounded down to ``STEPS``.

    This is done last: what inference assumes must not depend on it.
    """
    steps: dict[str, Dim] = {
        str(size): named(str(size), *bounds(size), max(step for step in STEPS if step <= typical(size)))
        for size in extents_of(body)
    }

    return with_named(body, steps)


def with_named(body: Graph, sizes: Mapping[str, Dim]) -> Graph:
    """A body with some of its named sizes replaced, in types and attributes. Nothing is inferred anew."""

    def moved(v: Value) -> Value:
        return Value(v.name, v.type.with_shape([at(d, sizes) for d in v.type.shape]))

    def moved_node(n: Node) -> Node:
        return Node(n.op.at(sizes), tuple(map(moved, n.inputs)), tuple(map(moved, n.outputs)))

    with Assumptions().noted(""):  # what is asked of sizes was answered before
        return replace(
            body,
            inputs=tuple(map(moved, body.inputs)),
            nodes=tuple(map(moved_node, body.nodes)),
            outputs=tuple(map(moved, body.outputs)),
        )


def extents_of(body: Graph) -> tuple[Size, ...]:
    """The named sizes of a general body, in the order in which its kernel takes them."""
    found: dict[str, Named] = {}
    for size in _sizes(body):
        for name in names(size):
            found.setdefault(name.name, name)
    return tuple(Size.of(found[name]) for name in sorted(found, key=lambda name: int(name[1:])))


def _sizes(body: Graph) -> list[Dim]:
    """The sizes in the types of a body's inputs and in the attributes of its nodes."""
    sizes: list[Dim] = [d for v in body.inputs for d in v.type.shape]

    def noted(size: Dim) -> Dim:
        sizes.append(size)
        return size

    for n in body.nodes:
        n.op.mapped(noted)
    return sizes


@dataclass
class Variables:
    """The variables of a kernel's extents, and expressions of them for sizes."""

    tirx: Any
    variables: dict[str, Any] = field(default_factory=dict)
    dtype: str = "int32"
    _made: dict[Size, Any] = field(default_factory=dict)

    def add(self, size: Size) -> Any:
        """The variable for a named size."""
        name = str(size)
        self.variables[name] = self.tirx.Var(name, "int32")
        return self.variables[name]

    def wide(self) -> Variables:
        """Expressions of 64 bits of the same variables, for numbers of bytes."""
        return Variables(self.tirx, {name: v.astype("int64") for name, v in self.variables.items()}, "int64")

    @contextmanager
    def used(self) -> Iterator[None]:
        """In this block, sizes become expressions of the variables where TVM takes them."""
        wide = self.wide()
        token = expressions.set(lambda size, dtype: (wide if "64" in dtype else self).of(size).astype(dtype))
        try:
            yield
        finally:
            expressions.reset(token)

    def of(self, size: Dim) -> Any:
        """The expression of a size."""
        if not isinstance(size, Size):
            return self.tirx.const(size, self.dtype)
        if size not in self._made:
            self._made[size] = self._sum(size)
        return self._made[size]

    def _sum(self, size: Size) -> Any:
        total: Any = None
        for monomial, c in size.terms:
            term: Any = None
            for atom in monomial:
                term = self._atom(atom) if term is None else term * self._atom(atom)
            if term is None:
                term = self.tirx.const(c, self.dtype)
            elif c != 1:
                term = term * c
            total = term if total is None else total + term
        return total

    def _atom(self, atom: Named | Quotient | Extreme) -> Any:
        if isinstance(atom, Named):
            return self.variables[atom.name]
        if isinstance(atom, Quotient):
            return self.tirx.floordiv(self.of(atom.numerator), self.of(atom.denominator))
        combine = self.tirx.max if atom.largest else self.tirx.min
        first, *others = map(self.of, atom.sizes)
        for other in others:
            first = combine(first, other)
        return first


def size_of(expression: Any, tirx: Any) -> Dim:
    """The size that an integer expression of extents stands for.

    Raises ``ShapeError`` for an expression that is no size.
    """

    def quotient(a: Dim, b: Dim) -> Dim:
        return -a // -b if isinstance(b, int) and b < 0 else a // b

    operators: dict[type, Callable[[Dim, Dim], Dim]] = {
        tirx.Add: lambda a, b: a + b,
        tirx.Sub: lambda a, b: a - b,
        tirx.Mul: lambda a, b: a * b,
        tirx.FloorDiv: quotient,
        tirx.Div: quotient,
        tirx.FloorMod: lambda a, b: a % b,
        tirx.Min: least,
        tirx.Max: largest,
    }

    def visit(e: Any) -> Dim:
        if isinstance(e, int | np.integer):
            return int(e)
        if isinstance(e, tirx.IntImm):
            return int(e.value)
        if isinstance(e, tirx.Var):
            return named(e.name)
        if isinstance(e, tirx.Cast):
            return visit(e.value)
        if type(e) in operators:
            return operators[type(e)](visit(e.a), visit(e.b))
        raise ShapeError(f"the size {e} of working memory is open here; fix the sizes with shapes={{...}} (--shape)")

    with Assumptions().noted(""):
        return visit(expression)
