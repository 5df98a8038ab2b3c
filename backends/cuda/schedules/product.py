"""Convolutions and dense layers as one matrix product whose factors are read from the data on the fly (implicit GEMM).

``C[g, m, n] = sum over k of left[g, m, k] * right[g, k, n]``. For a convolution, g runs over its groups, m over the
output pixels of all images, n over the output channels of a group, and k over the taps of the window times the channels
of a group (Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te

from convc.ir.graph import Node
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._accumulate import accumulator, rounded
from convc.ir.types import TensorType

from .cost import Sizes, Tile

MOST_BYTES = 16
"""The widest load, store or copy of one thread, in bytes."""


@dataclass(frozen=True)
class Side:
    """How a factor, or the result, lies in memory.

    Neighbours in memory differ by one in the axis ``along`` (m, n or k). ``run`` of them are contiguous, beginning at
    each multiple of that number.
    """

    along: str
    run: int

    def vector(self, nbytes: int, most: int = MOST_BYTES) -> int:
        """How many elements of ``nbytes`` bytes one access may take: a power of two that divides the run."""
        return math.gcd(self.run, most // nbytes)


@dataclass(frozen=True)
class Index:
    """The index ``number * run + lane``, written so that TVM sees which expressions do not depend on the lane."""

    number: Any
    lane: Any = 0
    run: int = 1

    @property
    def value(self) -> Any:
        """The index as one expression."""
        return self.number * self.run + self.lane

    def unravel(self, sizes: Sequence[int]) -> list[Any]:
        """The position of this element in an array of these sizes, the last of which is a multiple of the run."""
        *outer, number = unravel(self.number, (*sizes[:-1], sizes[-1] // self.run))
        return [*outer, number * self.run + self.lane]

    def below(self, size: int) -> Any:
        """The condition that the index is less than a size."""
        return self.value < size if size % self.run else self.number < size // self.run


@dataclass(frozen=True)
class Product:
    """A node as a matrix product. Its operands are ``xs = [left, right, ...]``, in the node's order.

    ``run``: where the left operand is joined from several tensors as it is read, how many neighbouring channels come
    from one of them, else 0.
    """

    node: Node
    run: int = 0

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """The batch, m, n and k of the product."""

    @property
    @abstractmethod
    def sides(self) -> tuple[Side, Side, Side]:
        """How left, right and the result lie in memory."""

    @abstractmethod
    def left(self, k: TensorExpressions, x: Operand, g: Any, m: Any, i: Index) -> tuple[list[Any], Any]:
        """The element ``[g, m, i]`` of the left factor, and the conditions under which it is not padding."""

    @abstractmethod
    def right(self, k: TensorExpressions, w: Operand, g: Any, i: Index, n: Index) -> tuple[list[Any], Any]:
        """The element ``[g, i, n]`` of the right factor, and the conditions under which it is not padding."""

    @abstractmethod
    def place(self, index: Sequence[Any]) -> tuple[Any, Any, Any]:
        """The ``g, m, n`` of an element of the result, from its logical index."""

    @property
    def one_to_one(self) -> bool:
        """Whether every ``g, m, n`` is the place of an element of the result."""
        return True

    @property
    def dtype(self) -> str:
        """The dtype of the factors."""
        return self.node.inputs[0].type.dtype

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the factors."""
        return self.node.inputs[0].type.numpy_dtype.itemsize

    @property
    def vectors(self) -> tuple[int, int]:
        """How many elements of left, and of right, one load takes."""
        left, right, _ = self.sides
        return left.vector(self.itemsize) if left.along == "k" else 1, right.vector(self.itemsize)

    def finish(self, k: TensorExpressions, y: Operand, rest: Sequence[Operand], out: TensorType) -> Any:
        """The node's result from the sums, which have its shape and the accumulator's dtype."""
        return with_bias(k, y, rest, out)


@dataclass(frozen=True)
class Tiled:
    """A product as tensor expressions, its sizes rounded up to whole tiles and its sum split in ``splits`` parts.

    Its blocks: ``left`` and ``right`` are the factors, with zeros outside the data; ``product`` holds the sums (of each
    part); ``total`` adds up the parts, where there are several; ``tile`` is a copy, and ``result`` crops the padding.
    """

    product: Product
    tile: Tile
    splits: int = 1

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        p, tile, (batch, m, n, inner) = self.product, self.tile, self.product.sizes
        x, w, *rest = xs
        acc = accumulator(outs[0])
        part = tile.k * -(-inner // (tile.k * self.splits))
        rows, columns, depth = -(-m // tile.m) * tile.m, -(-n // tile.n) * tile.n, part * self.splits

        def zero_outside(tests: Sequence[Any], value: Any) -> Any:
            return k.guarded(k.tirx.all(*tests), value, k.const(0, x.dtype)) if tests else value

        def within(*pairs: tuple[Index, int, int]) -> list[Any]:
            return [i.below(size) for i, size, padded in pairs if padded > size]

        def left(g: Any, i: Any, j: Index) -> Any:
            tests, value = p.left(k, x, g, i, j)
            return zero_outside([*within((Index(i), m, rows), (j, inner, depth)), *tests], value)

        def right(g: Any, i: Index, j: Index) -> Any:
            tests, value = p.right(k, w, g, i, j)
            return zero_outside([*within((i, inner, depth), (j, n, columns)), *tests], value)

        transposed = p.sides[1].along == "k"  # neighbours in memory are neighbours in shared memory
        a = self.factor("left", (batch, rows, depth), left)
        if transposed:
            b = self.factor("right", (batch, columns, depth), lambda g, j, i: right(g, i, Index(j)))
        else:
            b = self.factor("right", (batch, depth, columns), lambda g, i, j: right(g, Index(i), j))
        r = k.reduce_axis(part, "k")

        def element(s: Any, g: Any, i: Any, j: Any) -> Any:
            at = s * part + r
            factor = b(g, j, at) if transposed else b(g, at, j)
            return te.sum(a(g, i, at).astype(acc.tvm_dtype) * factor.astype(acc.tvm_dtype), axis=r)

        c = te.compute((self.splits, batch, rows, columns), element, name="product")
        whole: Callable[..., Any] = lambda *i: c(0, *i)  # noqa: E731
        if self.splits > 1:
            s = k.reduce_axis(self.splits, "s")
            whole = te.compute((batch, rows, columns), lambda *i: te.sum(c(s, *i), axis=s), name="total")
        t = te.compute((batch, rows, columns), lambda *i: whole(*i), name="tile")
        y = k.operand(k.compute(acc, lambda *i: t(*p.place(i)), "result"), acc)
        return p.finish(k, y, rest, outs[0])

    def factor(self, name: str, shape: tuple[int, int, int], element: Callable[..., Any]) -> Callable[..., Any]:
        """A factor as a function of three indices. Its innermost axis is split by the vector that one load takes."""
        v = self.product.vectors[name == "right"]
        t = te.compute(
            (*shape[:2], shape[2] // v, v), lambda g, i, q, lane: element(g, i, Index(q, lane, v)), name=name
        )
        return lambda g, i, j: t(g, i, j // v, j % v)


def with_bias(k: TensorExpressions, y: Operand, bias: Sequence[Operand], out: TensorType) -> Any:
    """The sums plus a bias per channel (axis 1), rounded to the result's dtype."""
    if not bias:
        return rounded(k, y, out)
    wide = y.dtype
    return k.compute(out, lambda n, o, *i: (y(n, o, *i) + bias[0](o).astype(wide)).astype(out.tvm_dtype), "bias")


def unravel(index: Any, sizes: Sequence[int]) -> list[Any]:
    """The position of the ``index``-th element in an array of these sizes."""
    at = []
    for size in reversed(sizes[1:]):
        at.append(index % size)
        index = index // size
    return [index, *reversed(at)]


def ravel(position: Sequence[Any], sizes: Sequence[int]) -> Any:
    """The number of the element at a position; the inverse of ``unravel``."""
    index = position[0]
    for i, size in zip(position[1:], sizes[1:], strict=True):
        index = index * size + i
    return index
