"""Convolutions, transposed convolutions, Gemm and MatMul as matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convc.ir.graph import Node
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._accumulate import rounded
from convc.ir.ops._transposed import Axis
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_transpose import ConvTranspose
from convc.ir.ops.gemm import Gemm
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.select_channels import SelectChannels, joins_channels, runs_of
from convc.ir.types import TensorType

from ...group import Group
from .cost import Sizes
from .product import Index, Product, Side, ravel, unravel


def product_of(group: Group) -> Product | None:
    """The product that the anchor of a group computes; ``None`` for other ops, empty data and blocked layouts."""
    node = group.anchor
    kinds: dict[type, type[Product]] = {
        Conv: ConvProduct,
        ConvTranspose: TransposedProduct,
        Gemm: GemmProduct,
        MatMul: MatMulProduct,
    }
    values = (*node.inputs, *node.outputs)
    if type(node.op) not in kinds or any(v.type.numel == 0 or is_blocked(v.type) for v in values):
        return None
    made = group.body.producers.get(node.inputs[0].name)
    return kinds[type(node.op)](node, channel_run(made) if made else 0)


def channel_run(node: Node) -> int:
    """How many neighbouring channels of a node inlined into the product are contiguous in one of its operands."""
    if not joins_channels(node):
        return 1
    sizes = [v.type.sizes[1] for v in node.inputs]
    channels = node.op.channels if isinstance(node.op, SelectChannels) else range(sum(sizes))
    runs = runs_of(channels, sizes)
    if any(r.step != 1 for r in runs):
        return 1
    return math.gcd(*sizes, *(n for r in runs for n in (r.start, r.first, r.count)))


def inner_axes(t: TensorType) -> list[int]:
    """The axes of a tensor that are longer than 1, innermost in memory first."""
    order = [axis for axis, _ in t.layout.dims] if t.layout else list(range(t.rank))
    return [axis for axis in reversed(order) if t.sizes[axis] > 1] or [t.rank - 1]


def is_blocked(t: TensorType) -> bool:
    """Whether the layout splits an axis."""
    return t.layout is not None and any(block for _, block in t.layout.dims)


@dataclass(frozen=True)
class ConvProduct(Product):
    """A convolution of any rank: k runs over the window, then over the channels of a group."""

    @property
    def op(self) -> Conv:
        op = self.node.op
        assert isinstance(op, Conv)
        return op

    @property
    def window(self) -> tuple[int, ...]:
        """The sizes that k runs over: taps, then channels of a group."""
        _, channels, *kernel = self.node.inputs[1].type.sizes
        return (*kernel, channels)

    @property
    def pixels(self) -> tuple[int, ...]:
        """The sizes that m runs over: images, then output positions."""
        n, _, *spatial = self.node.output.type.sizes
        return (n, *spatial)

    @property
    def outputs(self) -> int:
        """Output channels of a group."""
        return self.node.output.type.sizes[1] // self.op.group

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.op.group, math.prod(self.pixels), self.outputs, math.prod(self.window))

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        x, w = (inner_axes(v.type)[0] for v in self.node.inputs[:2])
        channels = self.window[-1]
        left = Side("k", math.gcd(channels, self.run)) if x == 1 else Side("m", 1)
        right = Side("n", self.outputs) if w == 0 else Side("k", channels if w == 1 else 1)
        return left, right, result_side(self.node.output.type, self.outputs)

    def left(self, k: TensorExpressions, x: Operand, g: Any, m: Any, i: Index) -> tuple[list[Any], Any]:
        n, *at = unravel(m, self.pixels)
        *taps, c = i.unravel(self.window)
        tests, position = [], []
        axes = zip(x.shape[2:], self.pixels[1:], self.window, at, taps, *self.op.geometry(len(at)), strict=False)
        for size, count, kernel, j, t, stride, (begin, _), dilation in axes:
            p = j * stride + t * dilation - begin
            position.append(p)
            tests += [p >= 0] if begin else []
            tests += [p < size] if (count - 1) * stride + (kernel - 1) * dilation - begin >= size else []
        return tests, x(n, g * self.window[-1] + c, *position)

    def right(self, k: TensorExpressions, w: Operand, g: Any, i: Index, n: Index) -> tuple[list[Any], Any]:
        *taps, c = i.unravel(self.window)
        return [], w(g * self.outputs + n.value, c, *taps)

    def place(self, index: Sequence[Any]) -> tuple[Any, Any, Any]:
        n, o, *at = index
        m = ravel((n, *at), self.pixels)
        return (0, m, o) if self.op.group == 1 else (o // self.outputs, m, o % self.outputs)


@dataclass(frozen=True)
class TransposedProduct(Product):
    """A transposed convolution by its phases, each a matrix product of its own for each group.

    Output positions that lie a whole number of strides apart meet the same taps, and their sums are a convolution of
    stride 1: a phase (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016).
    """

    @property
    def op(self) -> ConvTranspose:
        op = self.node.op
        assert isinstance(op, ConvTranspose)
        return op

    @property
    def axes(self) -> list[Axis]:
        return self.op.axes(*(v.type for v in self.node.inputs[:2]))

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(a.stride for a in self.axes)

    @property
    def phases(self) -> tuple[int, ...]:
        """The sizes that g runs over: groups, then phases along each axis."""
        return (self.op.group, *self.strides)

    @property
    def pixels(self) -> tuple[int, ...]:
        """The sizes that m runs over: images, then positions of a phase."""
        n, _, *spatial = self.node.output.type.sizes
        return (n, *(-(-size // s) for size, s in zip(spatial, self.strides, strict=True)))

    @property
    def window(self) -> tuple[int, ...]:
        """The sizes that k runs over: taps that meet a phase, then channels of a group."""
        return (*(a.taps for a in self.axes), self.node.inputs[1].type.sizes[0] // self.op.group)

    @property
    def outputs(self) -> int:
        """Output channels of a group."""
        return self.node.inputs[1].type.sizes[1]

    @property
    def sizes(self) -> Sizes:
        return Sizes(math.prod(self.phases), math.prod(self.pixels), self.outputs, math.prod(self.window))

    @property
    def one_to_one(self) -> bool:
        return all(size % s == 0 for size, s in zip(self.node.output.type.sizes[2:], self.strides, strict=True))

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        x, w = (inner_axes(v.type)[0] for v in self.node.inputs[:2])
        channels = self.window[-1]
        left = Side("k", math.gcd(channels, self.run)) if x == 1 else Side("m", 1)
        right = Side("n", self.outputs) if w == 1 else Side("k", channels if w == 0 else 1)
        return left, right, result_side(self.node.output.type, self.outputs)

    def left(self, k: TensorExpressions, x: Operand, g: Any, m: Any, i: Index) -> tuple[list[Any], Any]:
        group, *phase = unravel(g, self.phases)
        n, *at = unravel(m, self.pixels)
        *taps, c = i.unravel(self.window)
        tests, position = [], []
        for a, j, p, t in zip(self.axes, at, phase, taps, strict=True):
            _, first, met = zip(*map(a.phase, range(a.stride)), strict=True)
            source = j + pick(k, first, p) - a.dilation * a.step // a.stride * t
            position.append(source)
            tests += [source >= 0, source < a.size, pick(k, met, p)]
        return tests, x(n, group * self.window[-1] + c, *position)

    def right(self, k: TensorExpressions, w: Operand, g: Any, i: Index, n: Index) -> tuple[list[Any], Any]:
        group, *phase = unravel(g, self.phases)
        *taps, c = i.unravel(self.window)
        found = []
        for a, p, t in zip(self.axes, phase, taps, strict=True):
            first, _, _ = zip(*map(a.phase, range(a.stride)), strict=True)
            found.append(pick(k, first, p) + a.step * t)
        tests = [tap < a.kernel for a, tap in zip(self.axes, found, strict=True) if a.kernel % a.step]
        return tests, w(group * self.window[-1] + c, n.value, *found)

    def place(self, index: Sequence[Any]) -> tuple[Any, Any, Any]:
        n, o, *at = index
        phase = [i % s for i, s in zip(at, self.strides, strict=True)]
        m = ravel((n, *(i // s for i, s in zip(at, self.strides, strict=True))), self.pixels)
        if self.op.group == 1:
            return ravel(phase, self.strides), m, o
        return ravel((o // self.outputs, *phase), self.phases), m, o % self.outputs


def pick(k: TensorExpressions, table: Sequence[int], number: Any) -> Any:
    """The entry of a short table, as nested selects.

    It is written out because TVM takes ``(i % 2 + 1) % 2`` for ``i % 2`` when it simplifies indices.
    """
    entry = k.const(table[-1], "bool" if isinstance(table[-1], bool) else "int32")
    for i, value in reversed(list(enumerate(table[:-1]))):
        entry = entry if table[i:] == [value] * len(table[i:]) else k.select(number == i, k.like(value, entry), entry)
    return entry


def result_side(out: TensorType, outputs: int) -> Side:
    """How a result lies in memory whose channels are axis 1, ``outputs`` of them per group."""
    return Side("n", outputs) if inner_axes(out)[0] == 1 else Side("m", 1)


@dataclass(frozen=True)
class GemmProduct(Product):
    """``alpha * A @ B + beta * C``, where either matrix may be transposed."""

    @property
    def op(self) -> Gemm:
        op = self.node.op
        assert isinstance(op, Gemm)
        return op

    @property
    def sizes(self) -> Sizes:
        m, n = self.node.output.type.sizes
        return Sizes(1, m, n, self.node.inputs[0].type.sizes[0 if self.op.trans_a else 1])

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        _, _, n, k = self.sizes
        x, w = (inner_axes(v.type)[0] for v in self.node.inputs[:2])
        left = Side("k", math.gcd(k, self.run)) if x == (0 if self.op.trans_a else 1) else Side("m", 1)
        return left, Side("k", k) if w == (1 if self.op.trans_b else 0) else Side("n", n), Side("n", n)

    def left(self, k: TensorExpressions, x: Operand, g: Any, m: Any, i: Index) -> tuple[list[Any], Any]:
        return [], x(i.value, m) if self.op.trans_a else x(m, i.value)

    def right(self, k: TensorExpressions, w: Operand, g: Any, i: Index, n: Index) -> tuple[list[Any], Any]:
        return [], w(n.value, i.value) if self.op.trans_b else w(i.value, n.value)

    def place(self, index: Sequence[Any]) -> tuple[Any, Any, Any]:
        m, n = index
        return 0, m, n

    def finish(self, k: TensorExpressions, y: Operand, rest: Sequence[Operand], out: TensorType) -> Any:
        return self.op.scale_and_add(k, y, rest, out)


@dataclass(frozen=True)
class MatMulProduct(Product):
    """Stacks of matrices or vectors; all rows are one stack where they are multiplied by the same matrix."""

    @property
    def stack(self) -> tuple[int, ...]:
        """The sizes of the result before its matrix axes."""
        a, b = (v.type for v in self.node.inputs)
        sizes = self.node.output.type.sizes
        return sizes[: len(sizes) - (a.rank > 1) - (b.rank > 1)]

    @property
    def shared(self) -> bool:
        """Whether all rows are multiplied by the same matrix."""
        return math.prod(self.node.inputs[1].type.sizes[:-2]) == 1

    @property
    def sizes(self) -> Sizes:
        a, b = (v.type.sizes for v in self.node.inputs)
        rows = a[-2] if len(a) > 1 else 1
        batch, m = (1, math.prod(self.stack) * rows) if self.shared else (math.prod(self.stack), rows)
        return Sizes(batch, m, b[-1] if len(b) > 1 else 1, a[-1])

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        _, _, n, k = self.sizes
        a, b = (v.type for v in self.node.inputs)
        left = Side("k", math.gcd(k, self.run)) if inner_axes(a)[0] == a.rank - 1 else Side("m", 1)
        right = Side("n", n) if b.rank > 1 and inner_axes(b)[0] == b.rank - 1 else Side("k", k)
        return left, right, Side("n", n) if b.rank > 1 else Side("m", 1)

    def left(self, k: TensorExpressions, x: Operand, g: Any, m: Any, i: Index) -> tuple[list[Any], Any]:
        rows = x.shape[-2] if x.type.rank > 1 else 1
        stack, row = (m // rows, m % rows) if self.shared else (g, m)
        return [], x(*self._in_stack(x, stack), *[row] * (x.type.rank > 1), i.value)

    def right(self, k: TensorExpressions, w: Operand, g: Any, i: Index, n: Index) -> tuple[list[Any], Any]:
        return [], w(*self._in_stack(w, g), i.value, *[n.value] * (w.type.rank > 1))

    def _in_stack(self, x: Operand, number: Any) -> list[Any]:
        """The index, in an operand's stack, of the ``number``-th matrix of the result, by numpy's broadcasting."""
        sizes = x.shape[:-2]
        if not sizes:
            return []
        index = unravel(number, self.stack)[len(self.stack) - len(sizes) :] if self.stack else []
        return [0 if size == 1 else i for size, i in zip(sizes, index, strict=True)]

    def place(self, index: Sequence[Any]) -> tuple[Any, Any, Any]:
        a, b = (v.type for v in self.node.inputs)
        stack, matrix = list(index[: len(self.stack)]), list(index[len(self.stack) :])
        row = matrix.pop(0) if a.rank > 1 else 0
        column = matrix.pop(0) if b.rank > 1 else 0
        number = ravel(stack, self.stack) if stack else 0
        rows = a.sizes[-2] if a.rank > 1 else 1
        return (0, number * rows + row, column) if self.shared else (number, row, column)

    def finish(self, k: TensorExpressions, y: Operand, rest: Sequence[Operand], out: TensorType) -> Any:
        return rounded(k, y, out)
