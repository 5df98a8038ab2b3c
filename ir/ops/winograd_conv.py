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
from ._window import Ints, Pads, full_pads, out_size
from ._winograd import choose, combine, combine_points, combine_powers, matrices


def transformed(tile: Ints, kernel: Ints) -> Ints:
    """The elements of a transformed tile along each axis: tile + kernel - 1."""
    return tuple(m + r - 1 for m, r in zip(tile, kernel, strict=True))


@dataclass(frozen=True)
class WinogradWeight(Op):
    """``U = G w GT`` for each pair of channels: ``O I h w`` to ``O I a b``, the transformed tile's size.

    Held ``HWOI{b}i{b}o``, each element's matrix by itself; or, with ``by_channel``, ``OHWI{b}i{b}o``, so that all that a
    block of output channels needs stands together.
    """

    name = "winograd_weight"
    tile: Ints = (4, 4)
    block: int = 16
    by_channel: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        (w,) = types
        if w.rank != 4 or w.layout is not None:
            raise ShapeError(f"takes a row-major O I H W weight, not {w}")
        order = "OHWI" if self.by_channel else "HWOI"
        elements = transformed(self.tile, w.sizes[2:])
        return TensorType(w.dtype, (*w.shape[:2], *elements), Layout(f"{order}{self.block}i{self.block}o"))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (w,) = xs
        (_, gh, _), (_, gw, _) = (matrices(m, r) for m, r in zip(self.tile, w.shape[2:], strict=True))
        b = self.block
        outputs, channels, height, width = w.shape
        full = outputs % b == 0 and channels % b == 0
        blocks = (-(-outputs // b), -(-channels // b))

        def tap(ob: Any, cb: Any, c: Any, y: Any, x: Any, o: Any) -> Any:
            value = w(ob * b + o, cb * b + c, y, x)
            inside = k.tirx.all(ob * b + o < outputs, cb * b + c < channels)
            return value if full else k.guarded(inside, value, k.const(0, w.dtype))

        taps = k.te.compute((*blocks, b, height, width, b), tap, name="weight_taps")

        def down(ob: Any, cb: Any, c: Any, h: Any, x: Any, o: Any) -> Any:
            column = [taps(ob, cb, c, y, x, o) for y in range(height)]
            return choose(k, h, [combine(k, row, column, w.dtype) for row in gh])

        t = k.te.compute((*blocks, b, len(gh), width, b), down, name="weight_columns")

        def across(h: Any, i: Any, ob: Any, cb: Any, c: Any, o: Any) -> Any:
            line = [t(ob, cb, c, h, x, o) for x in range(width)]
            return choose(k, i, [combine(k, row, line, w.dtype) for row in gw])

        def held(*index: Any) -> Any:
            return across(*((*index[1:3], index[0], *index[3:]) if self.by_channel else index))

        return k.te.compute(outs[0].physical_shape, held, name="weight_tiles")


@dataclass(frozen=True)
class WinogradConv(Op):
    """A convolution of stride 1 on blocked data by F(tile, kernel), nested in two dimensions: the 1-D algorithm along each axis.

    Data ``N C H W`` in ``NCHW{b}c``, weight from ``winograd_weight`` with the same tile and block, optional bias ``O``.
    An axis whose kernel is 1 has tile 1 and is not transformed.
    """

    name = "winograd_conv"
    tile: Ints = (4, 4)
    kernel: Ints = (3, 3)
    pads: Pads = ()

    def infer(self, *types: TensorType) -> TensorType:
        x, u, *bias = types
        elements = transformed(self.tile, self.kernel)
        if x.layout is None or x.rank != 4 or u.rank != 4 or u.shape[2:] != elements:
            raise ShapeError(f"takes blocked data and an O I {' '.join(map(str, elements))} weight, not {x} and {u}")
        if x.shape[1] != u.shape[1] or (bias and bias[0].shape != u.shape[:1]):
            raise ShapeError(
                f"{x.shape[1]} channels of data do not fit weight {u}" + (f" and bias {bias[0]}" if bias else "")
            )
        sizes = zip(x.shape[2:], self.kernel, full_pads(self.pads, 2), strict=True)
        return TensorType(x.dtype, (x.shape[0], u.shape[0], *(out_size(s, r, 1, 1, p) for s, r, p in sizes)), x.layout)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Those of the direct form, so that rates compare."""
        window = inputs[1].sizes[1] * math.prod(self.kernel)
        return outputs[0].numel * (2 * window + (len(inputs) == 3))

    def tiles(self, out: TensorType) -> Ints:
        """Rows and columns of tiles of a result; the last ones may hang over."""
        return tuple(math.ceil(s / m) for s, m in zip(out.sizes[2:], self.tile, strict=True))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, u, *bias = xs
        te, dtype, (mh, mw) = k.te, x.dtype, self.tile
        (ath, _, bth), (atw, _, btw) = (matrices(m, r) for m, r in zip(self.tile, self.kernel, strict=True))
        ah, aw = len(bth), len(btw)
        n_, _, height, width = outs[0].sizes
        _, blocks, h_in, w_in, b = x.type.physical_shape
        rows, columns = self.tiles(outs[0])
        tiles = rows * columns
        out_blocks, ob = outs[0].physical_shape[1], outs[0].physical_shape[-1]
        (top, _), (left, _) = full_pads(self.pads, 2)

        def pad(n: Any, c: Any, h: Any, i: Any, v: Any) -> Any:
            inside = k.tirx.all(h >= top, h < h_in + top, i >= left, i < w_in + left)
            return k.guarded(inside, x.tensor(n, c, h - top, i - left, v), k.const(0, dtype))

        d = te.compute((n_, blocks, rows * mh + ah - mh, columns * mw + aw - mw, b), pad, name="pad")

        def down(n: Any, p: Any, c: Any, i: Any, j: Any, v: Any) -> Any:
            column = [d(n, c, (p // columns) * mh + q, (p % columns) * mw + j, v) for q in range(ah)]
            return choose(k, i, [combine_powers(k, row, column, dtype) for row in bth])

        t = te.compute((n_, tiles, blocks, ah, aw, b), down, name="input_columns")

        def across(i: Any, j: Any, n: Any, p: Any, c: Any, v: Any) -> Any:
            line = [t(n, p, c, i, q, v) for q in range(aw)]
            return choose(k, j, [combine_powers(k, row, line, dtype) for row in btw])

        v_ = te.compute((ah, aw, n_, tiles, blocks, b), across, name="input_tiles")
        rc, ri = k.reduce_axis(blocks, "rc"), k.reduce_axis(b, "ri")
        by_channel = is_by_channel(u.type)

        def product(i: Any, j: Any, n: Any, o: Any, p: Any, v: Any) -> Any:
            weight = u.tensor(*((o, i, j) if by_channel else (i, j, o)), rc, ri, v)
            return te.sum(v_(i, j, n, p, rc, ri) * weight, axis=[rc, ri])

        prod = te.compute((ah, aw, n_, out_blocks, tiles, ob), product, name="products")

        def back(n: Any, o: Any, p: Any, i: Any, j: Any, v: Any) -> Any:
            column = [prod(q, j, n, o, p, v) for q in range(ah)]
            return choose(k, i, [combine_points(k, row, column, dtype) for row in ath])

        s = te.compute((n_, out_blocks, tiles, mh, aw, ob), back, name="output_columns")

        def result(n: Any, o: Any, h: Any, w: Any, v: Any) -> Any:
            p = (h // mh) * columns + w // mw
            line = [s(n, o, p, h % mh, q, v) for q in range(aw)]
            return choose(k, w % mw, [combine_points(k, row, line, dtype) for row in atw])

        y = te.compute((n_, out_blocks, rows * mh, columns * mw, ob), result, name="conv")
        whole = k.operand(y, outs[0])
        if bias:
            ragged = bias[0].type.layout is None
            return k.compute(outs[0], lambda n, o, *i: whole(n, o, *i) + bias[0](o), "bias", guard=ragged)
        return y if (rows * mh, columns * mw) == (height, width) else k.compute(outs[0], lambda *i: whole(*i), "crop")


def is_by_channel(u: TensorType) -> bool:
    """Whether a transformed weight is held by blocks of output channels."""
    return u.layout is not None and u.layout.name.startswith("O")
