"""Products of 8-bit integers in the form the processor multiplies fastest: four bytes at a time, or as float32.

Every whole number up to 2**24 is a float32. A sum of products whose terms cannot add up to more is therefore exact in
float32, in whatever order it is taken, and the schedules for float32 serve integers too. The bound is taken from the
weights. A convolution with too many channels for it is split into several of fewer channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from convc.ir.builder import Builder
from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.binary import Add, Sub
from convc.ir.ops.cast import Cast
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_bytes import ConvBytes
from convc.ir.ops.conv_integer import ConvInteger
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.slice import Slice
from convc.ir.rewrite import rebuild

from ..machine import Machine

EXACT = 1 << 24
"""Every whole number up to this one is a float32."""
STEP = 16
"""Convolutions are split at multiples of this many channels."""
BITS = {"i8": (-128, 127), "u8": (0, 255)}
"""The range of each 8-bit dtype."""


class Whole(NamedTuple):
    """A float32 tensor of whole numbers between ``low`` and ``high``."""

    value: Value
    low: int
    high: int


class Term(NamedTuple):
    """A float32 tensor of whole numbers whose magnitude is at most ``bound``."""

    value: Value
    bound: int


def integer_products(graph: Graph, machine: Machine) -> Graph:
    """Rewrite products of 8-bit integers to ``conv_bytes``, or to exact float32 convolutions and matrix products.

    ``conv_integer -> conv_bytes`` where the processor has an instruction for it and the operands fit; otherwise
    ``conv_integer -> cast(conv)``, and ``cast(add(cast(conv), bias)) -> add(conv, bias)`` where that is the same
    number.
    """
    return rebuild(graph, _Rewriter(machine).visit)


class _Rewriter:
    """The state of one run of the pass: what is known of the int32 values made so far, by name."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sums: dict[str, tuple[Term, ...]] = {}
        """The float32 terms of int32 values that are sums of such terms."""
        self.whole: dict[str, Whole] = {}
        """The float32 form of int32 values that were 8-bit integers, or are the difference of two."""
        self.offsets: dict[str, tuple[Value, np.ndarray]] = {}
        """Int32 values that are the sum of another value and constants."""

    def visit(self, b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if isinstance(node.op, ConvInteger):
            four = self.conv_bytes(b, node.op, inputs) if self.machine.dot4 else None
            return [four] if four else self.integer(b, node, self.conv(b, node.op, inputs))
        if isinstance(node.op, MatMul) and node.output.type.dtype == "i32":
            return self.integer(b, node, self.matmul(b, node, inputs))
        if isinstance(node.op, Cast):
            return self.cast(b, node.op, node, inputs[0])
        if isinstance(node.op, Add) and (joined := self.joined(b, inputs)):
            return [joined]
        made = b.again(node, inputs)
        if isinstance(node.op, Sub) and node.output.type.dtype == "i32":
            self.subtract(b, made[0], inputs)
        if isinstance(node.op, Add) and node.output.type.dtype == "i32":
            self.add(b, made[0], inputs)
        return made

    def integer(self, b: Builder, node: Node, terms: Sequence[Term]) -> Sequence[Value] | None:
        """The int32 sum of the terms, in place of a node that makes int32; ``None`` when there are no terms."""
        if not terms:
            return None
        total, *rest = (b.emit(Cast("i32"), t.value) for t in terms)
        for term in rest:
            total = b.emit(Add(), total, term)
        self.sums[total.name] = tuple(terms)
        return [total]

    def conv_bytes(self, b: Builder, op: ConvInteger, inputs: Sequence[Value]) -> Value | None:
        """A convolution of images in one group as one of bytes; ``None`` where its operands do not fit.

        The instruction takes unsigned data and signed weights. ``sum (x - z) w = sum x w - z sum w``, with the data
        padded with z.
        """
        x, w, x_zero, w_zero = inputs
        weight, zero, shift = (b.constant_of(v) for v in (w, w_zero, x_zero))
        if weight is None or zero is None or shift is None or x.type.rank != 4 or op.group != 1 or not weight.size:
            return None
        if not isinstance(x.type.shape[1], int):
            return None  # how many fours of channels there are would be assumed
        whole = _shifted(weight, zero)
        low, high = BITS["i8"]
        if whole.min(initial=0) < low or whole.max(initial=0) > high:
            return None
        lift = -BITS[x.type.dtype][0]
        if lift:
            wide = b.emit(Add(), b.emit(Cast("i32"), x), b.constant(np.array(lift, np.int32)))
            x = b.emit(Cast("u8"), wide)
        z = int(shift.reshape(-1)[0]) + lift
        products: Value = b.emit(
            ConvBytes(op.strides, op.pads, op.dilations, zero=z), x, b.constant(_packed(whole), f"{w.name}.bytes")
        )
        offset = (-z * whole.sum(axis=(1, 2, 3)).reshape(-1, 1, 1)).astype(np.int32)
        if not offset.any():
            return products
        made: Value = b.emit(Add(), products, b.constant(offset, f"{w.name}.offset"))
        self.offsets[made.name] = (products, offset)
        return made

    def conv(self, b: Builder, op: ConvInteger, inputs: Sequence[Value]) -> list[Term]:
        """A convolution as float32 convolutions of ranges of its channels; an empty list if those are not exact."""
        x, w, x_zero, w_zero = inputs
        weight, zero = b.constant_of(w), b.constant_of(w_zero)
        if weight is None or zero is None or x.type.rank > 5:
            return []
        whole = _shifted(weight, zero)
        data = _less(b, Whole(b.emit(Cast("f32"), x), *BITS[x.type.dtype]), _constant(b, x_zero, BITS[x.type.dtype]))
        largest = np.concatenate(_largest(whole, data).sum(axis=tuple(range(3, whole.ndim + 1))))
        cuts = list(_cuts(largest)) if op.group == 1 else [(0, largest.shape[1])]
        bounds = [int(largest[:, low:high].sum(1).max(initial=0)) for low, high in cuts]
        if not cuts or cuts[-1][1] < largest.shape[1] or max(bounds) > EXACT:
            return []
        plain = Conv(op.strides, op.pads, op.dilations, op.group, exact=True)
        terms = []
        for (low, high), bound in zip(cuts, bounds, strict=True):
            part = data.value if len(cuts) == 1 else b.emit(Slice((1,), (low,), (high,)), data.value)
            held = b.constant(whole[:, low:high].astype(np.float32), f"{w.name}.float")
            terms.append(Term(b.emit(plain, part, held), bound))
        return terms

    def matmul(self, b: Builder, node: Node, inputs: Sequence[Value]) -> list[Term]:
        """A product by a constant matrix as one float32 product; an empty list where that would not be exact."""
        x, w = inputs
        weight = b.constant_of(w)
        if x.name not in self.whole or weight is None or weight.ndim < 2:
            return []
        data = self.whole[x.name]
        bound = int(_largest(weight.astype(np.int64), data).sum(axis=-2).max(initial=0))
        if bound > EXACT:
            return []
        held = b.constant(weight.astype(np.float32), f"{w.name}.float")
        return [Term(b.emit(node.op, data.value, held), bound)]

    def cast(self, b: Builder, op: Cast, node: Node, x: Value) -> Sequence[Value] | None:
        if op.to == "i32" and x.type.dtype in BITS:
            made = b.reinfer(node, [x])
            self.whole[made[0].name] = Whole(b.emit(Cast("f32"), x), *BITS[x.type.dtype])
            return made
        if op.to != "f32" or x.name not in self.sums:
            return None
        terms = _merged(b, self.sums[x.name])
        if len(terms) > 2:
            return None  # adding three terms would round twice
        return [terms[0].value if len(terms) == 1 else b.emit(Add(), terms[0].value, terms[1].value)]

    def joined(self, b: Builder, inputs: Sequence[Value]) -> Value | None:
        """``(x + a) + b`` as ``x + (a + b)`` for the offset of a convolution and a constant bias."""
        for v, other in (inputs, inputs[::-1]):
            known = b.constant_of(other)
            if v.name in self.offsets and known is not None and known.ndim <= v.type.rank:
                x, offset = self.offsets[v.name]
                total: Value = b.emit(Add(), x, b.constant(offset + known, other.name))
                return total if total.type == v.type else None
        return None

    def subtract(self, b: Builder, difference: Value, inputs: Sequence[Value]) -> None:
        """Record the float32 form of an int32 difference when those of its operands are known."""
        known = []
        for v in inputs:
            array = b.constant_of(v)
            if v.name in self.whole:
                known.append(self.whole[v.name])
            elif array is not None and array.size:
                known.append(_constant(b, v, (int(array.min()), int(array.max()))))
            else:
                return
        less = _less(b, *known)
        if less.high - less.low <= 2 * max(high - low for low, high in BITS.values()):
            self.whole[difference.name] = less

    def add(self, b: Builder, total: Value, inputs: Sequence[Value]) -> None:
        """Record the terms of an int32 sum when those of its operands are known."""
        terms: list[Term] = []
        for v in inputs:
            known = b.constant_of(v)
            if v.name in self.sums:
                terms += self.sums[v.name]
            elif known is not None and np.abs(known.astype(np.int64)).max(initial=0) <= EXACT:
                bound = int(np.abs(known.astype(np.int64)).max(initial=0))
                terms.append(Term(b.constant(known.astype(np.float32), f"{v.name}.float"), bound))
            else:
                return
        if sum(t.bound for t in terms) < 1 << 31:
            self.sums[total.name] = tuple(terms)


def _shifted(weight: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """A weight minus its zero point, of which there may be one per output."""
    columns = zero.reshape(-1, *[1] * (weight.ndim - 1)) if zero.size > 1 else zero.reshape(())
    difference: np.ndarray = weight.astype(np.int64) - columns.astype(np.int64)
    return difference


def _packed(weight: np.ndarray) -> np.ndarray:
    """The weights of four input channels in each int32, the first channel in its low bits."""
    outputs, channels, *window = weight.shape
    full = np.zeros((outputs, -(-channels // 4) * 4, *window), np.uint8)
    full[:, :channels] = weight.astype(np.int8).view(np.uint8)
    parts = full.reshape(outputs, -1, 4, *window).astype(np.uint32)
    return (parts[:, :, 0] | parts[:, :, 1] << 8 | parts[:, :, 2] << 16 | parts[:, :, 3] << 24).view(np.int32)


def _constant(b: Builder, v: Value, bits: tuple[int, int]) -> Whole:
    """A value as float32, with the range of its elements if it is constant, else ``bits``."""
    array = b.constant_of(v)
    if array is None or not array.size:
        return Whole(b.emit(Cast("f32"), v), *bits)
    return Whole(b.constant(array.astype(np.float32), f"{v.name}.float"), int(array.min()), int(array.max()))


def _less(b: Builder, x: Whole, y: Whole) -> Whole:
    """The difference of two values."""
    if (y.low, y.high) == (0, 0) and y.value.type.is_single and y.value.type.rank <= x.value.type.rank:
        return x
    return Whole(b.emit(Sub(), x.value, y.value), x.low - y.high, x.high - y.low)


def _largest(weight: np.ndarray, x: Whole) -> np.ndarray:
    """The most each weight can add to a sum, upwards and downwards, stacked along a new first axis."""
    low, high = min(x.low, 0), max(x.high, 0)  # the range includes 0, which padding is
    up = np.maximum(weight * high, weight * low)
    down = np.maximum(-weight * high, -weight * low)
    return np.stack([up, down])


def _cuts(largest: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of input channels whose sums stay exact, where ``largest[o, c]`` is what channel c can add to a sum.

    It stops before the first range of ``STEP`` channels whose sum would not be exact.
    """
    channels, low = largest.shape[1], 0
    while low < channels:
        reached = np.cumsum(largest[:, low:], axis=1).max(axis=0, initial=0)
        fit = int(np.searchsorted(reached, EXACT, side="right"))
        high = channels if low + fit >= channels else low + fit // STEP * STEP
        if high == low:
            return
        yield low, high
        low = high


def _merged(b: Builder, terms: Sequence[Term]) -> list[Term]:
    """The terms with those added up whose sum is exact."""
    merged: list[Term] = []
    for term in sorted(terms, key=lambda t: (-t.value.type.rank, t.bound)):
        for i, other in enumerate(merged):
            if other.bound + term.bound <= EXACT:
                merged[i] = Term(b.emit(Add(), other.value, term.value), other.bound + term.bound)
                break
        else:
            merged.append(term)
    return merged
