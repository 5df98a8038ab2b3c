"""Convolution by Winograd's minimal filtering, and the transform of its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..op import Op
from ..types import TensorType
from ._window import Pads, full_pads, out_size
from ._winograd import choose, combine, matrices

KERNEL = 3


@dataclass(frozen=True)
class WinogradWeight(Op):
    """``U = G w GT`` for each pair of channels: ``O I 3 3`` to ``O I a a``, a = tile + 2, held ``HWOI{b}i{b}o``."""

    name = "winograd_weight"
    tile: int = 4
    block: int = 16

    def infer(self, *types: TensorType) -> TensorType:
        (w,) = types
        if w.rank != 4 or w.shape[2:] != (KERNEL, KERNEL) or w.layout is not None:
            raise ShapeError(f"takes a row-major O I 3 3 weight, not {w}")
        a = self.tile + KERNEL - 1
        return TensorType(w.dtype, (*w.shape[:2], a, a), Layout(f"HWOI{self.block}i{self.block}o"))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (w,) = xs
        _, g, _ = matrices(self.tile)
        a, b = self.tile + KERNEL - 1, self.block
        outputs, channels = w.shape[:2]
        shape = outs[0].physical_shape

        def tap(ob: Any, cb: Any, c: Any, y: Any, x: Any, o: Any) -> Any:
            at, value = (ob * b + o, cb * b + c), w(ob * b + o, cb * b + c, y, x)
            full = outputs % b == 0 and channels % b == 0
            inside = k.tirx.all(at[0] < outputs, at[1] < channels)
            return value if full else k.guarded(inside, value, k.const(0, w.dtype))

        taps = k.te.compute((*shape[2:5], KERNEL, KERNEL, b), tap, name="weight_taps")

        def down(ob: Any, cb: Any, c: Any, h: Any, x: Any, o: Any) -> Any:
            column = [taps(ob, cb, c, y, x, o) for y in range(KERNEL)]
            return choose(k, h, [combine(k, row, column, w.dtype) for row in g])

        t = k.te.compute((*shape[2:5], a, KERNEL, b), down, name="weight_columns")

        def across(h: Any, i: Any, ob: Any, cb: Any, c: Any, o: Any) -> Any:
            line = [t(ob, cb, c, h, x, o) for x in range(KERNEL)]
            return choose(k, i, [combine(k, row, line, w.dtype) for row in g])

        return k.te.compute(shape, across, name="weight_tiles")


@dataclass(frozen=True)
class WinogradConv(Op):
    """A 3x3 convolution of stride 1 on blocked data, with transformed weights, by F(tile x tile, 3 x 3).

    Data ``N C H W`` in ``NCHW{b}c``, weight from ``winograd_weight`` with the same tile and block, optional bias ``O``.
    """

    name = "winograd_conv"
    tile: int = 4
    pads: Pads = ()

    def infer(self, *types: TensorType) -> TensorType:
        x, u, *bias = types
        a = self.tile + KERNEL - 1
        if x.layout is None or x.rank != 4 or u.rank != 4 or u.shape[2:] != (a, a):
            raise ShapeError(f"takes blocked data and an O I {a} {a} weight, not {x} and {u}")
        if x.shape[1] != u.shape[1] or (bias and bias[0].shape != u.shape[:1]):
            raise ShapeError(
                f"{x.shape[1]} channels of data do not fit weight {u}" + (f" and bias {bias[0]}" if bias else "")
            )
        spatial = [out_size(s, KERNEL, 1, 1, p) for s, p in zip(x.shape[2:], full_pads(self.pads, 2), strict=True)]
        return TensorType(x.dtype, (x.shape[0], u.shape[0], *spatial), x.layout)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Those of the direct form, so that rates compare."""
        return 2 * outputs[0].numel * inputs[1].sizes[1] * KERNEL * KERNEL + (
            outputs[0].numel if len(inputs) == 3 else 0
        )

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, u, *bias = xs
        te, dtype, m = k.te, x.dtype, self.tile
        a = m + KERNEL - 1
        at, _, bt = matrices(m)
        n_, _, height, width = outs[0].sizes
        _, blocks, h_in, w_in, b = x.type.physical_shape
        rows, columns = math.ceil(height / m), math.ceil(width / m)
        tiles = rows * columns
        out_blocks, ob = outs[0].physical_shape[1], outs[0].physical_shape[-1]
        (top, _), (left, _) = full_pads(self.pads, 2)

        def pad(n: Any, c: Any, h: Any, i: Any, v: Any) -> Any:
            inside = k.tirx.all(h >= top, h < h_in + top, i >= left, i < w_in + left)
            return k.guarded(inside, x.tensor(n, c, h - top, i - left, v), k.const(0, dtype))

        d = te.compute((n_, blocks, rows * m + 2, columns * m + 2, b), pad, name="pad")

        def down(n: Any, p: Any, c: Any, i: Any, j: Any, v: Any) -> Any:
            y, z = (p // columns) * m, (p % columns) * m
            return choose(
                k, i, [combine(k, bt[r], [d(n, c, y + q, z + j, v) for q in range(a)], dtype) for r in range(a)]
            )

        t = te.compute((n_, tiles, blocks, a, a, b), down, name="input_columns")

        def across(i: Any, j: Any, n: Any, p: Any, c: Any, v: Any) -> Any:
            return choose(k, j, [combine(k, bt[r], [t(n, p, c, i, q, v) for q in range(a)], dtype) for r in range(a)])

        v_ = te.compute((a, a, n_, tiles, blocks, b), across, name="input_tiles")
        rc, ri = k.reduce_axis(blocks, "rc"), k.reduce_axis(b, "ri")

        def product(i: Any, j: Any, n: Any, o: Any, p: Any, v: Any) -> Any:
            return te.sum(v_(i, j, n, p, rc, ri) * u.tensor(i, j, o, rc, ri, v), axis=[rc, ri])

        prod = te.compute((a, a, n_, out_blocks, tiles, ob), product, name="products")

        def back(n: Any, o: Any, p: Any, i: Any, j: Any, v: Any) -> Any:
            return choose(
                k, i, [combine(k, at[r], [prod(q, j, n, o, p, v) for q in range(a)], dtype) for r in range(m)]
            )

        s = te.compute((n_, out_blocks, tiles, m, a, ob), back, name="output_columns")

        def result(n: Any, o: Any, h: Any, w: Any, v: Any) -> Any:
            p = (h // m) * columns + w // m
            return choose(
                k, w % m, [combine(k, at[r], [s(n, o, p, h % m, q, v) for q in range(a)], dtype) for r in range(m)]
            )

        y = te.compute((n_, out_blocks, rows * m, columns * m, ob), result, name="conv")
        whole = k.operand(y, outs[0])
        if bias:
            ragged = bias[0].type.layout is None
            return k.compute(outs[0], lambda n, o, *i: whole(n, o, *i) + bias[0](o), "bias", guard=ragged)
        return y if (rows * m, columns * m) == (height, width) else k.compute(outs[0], lambda *i: whole(*i), "crop")
