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
from ..sizes import Dim
from ..types import TensorType
from ._axes import size_of
from ._window import Ints, Pads, full_pads, kernel_of, out_size
from ._winograd import choose, combine, combine_points, combine_powers, matrices


def taps(kernel: Ints, strides: Ints) -> Ints:
    """The size of the kernel of each phase of the input, which with stride s is every s-th row and column."""
    return tuple(-(-r // s) for r, s in zip(kernel, strides, strict=True))


def transformed(tile: Ints, kernel: Ints, strides: Ints) -> Ints:
    """The elements of a transformed tile along each axis: tile + taps - 1."""
    return tuple(m + r - 1 for m, r in zip(tile, taps(kernel, strides), strict=True))


def phase_channels(channels: int, strides: Ints, block: int, plain: bool) -> int:
    """The channels of one phase of the input.

    They fill whole blocks, so that a block holds one phase, unless the input is row-major.
    """
    return channels if plain or math.prod(strides) == 1 else -(-channels // block) * block


@dataclass(frozen=True)
class WinogradWeight(Op):
    """``U = G w GT`` for each pair of channels: ``O I h w`` to ``O P a b``, a and b the transformed tile's size.

    A convolution of stride s is the sum of s x s convolutions of stride 1, one for each phase of the input: the phases
    of a channel count as channels, ``P = phases * channels``, the phase outermost. The layout is
    ``HWOI{inner}i{block}o``, with one matrix per element of the tile; or with ``by_channel``, ``OHWI{inner}i{block}o``,
    so that the weights of a block of output channels lie together.
    """

    name = "winograd_weight"
    tile: Ints = (4, 4)
    strides: Ints = (1, 1)
    block: int = 16
    """The block of output channels, as in the layout of the result."""
    inner: int = 16
    """The block of input channels, as in the layout of the data."""
    by_channel: bool = False
    plain: bool = False
    """Whether the convolution reads row-major data of few channels, whose phases share a block."""

    def infer(self, *types: TensorType) -> TensorType:
        (w,) = types
        if w.rank != 4 or w.layout is not None:
            raise ShapeError(f"takes a row-major O I H W weight, not {w}")
        order = "OHWI" if self.by_channel else "HWOI"
        channels = math.prod(self.strides) * phase_channels(size_of(w, 1), self.strides, self.inner, self.plain)
        elements = transformed(self.tile, kernel_of(w), self.strides)
        return TensorType(w.dtype, (w.shape[0], channels, *elements), Layout(f"{order}{self.inner}i{self.block}o"))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (w,) = xs
        height, width = taps(kernel_of(w.type), self.strides)
        (_, gh, _), (_, gw, _) = (matrices(m, r) for m, r in zip(self.tile, (height, width), strict=True))
        (ib, ob), (sh, sw) = (self.inner, self.block), self.strides
        outputs, channels, kh, kw = w.shape
        wide = phase_channels(size_of(w.type, 1), self.strides, ib, self.plain)
        blocks = (-(-outputs // ob), -(-sh * sw * wide // ib))

        def tap(o_: Any, cb: Any, c: Any, y: Any, x: Any, o: Any) -> Any:
            phase, channel = (cb * ib + c) // wide, (cb * ib + c) % wide
            if sh * sw == 1:
                phase, channel = 0, cb * ib + c
            row, column = y * sh + phase // sw, x * sw + phase % sw
            limits = [
                (o_ * ob + o, outputs, outputs % ob),
                (channel, channels, channels % ib),
                (phase, sh * sw, sh * sw * wide % ib),
            ]
            limits += [(row, kh, kh % sh), (column, kw, kw % sw)]
            inside = [index < size for index, size, ragged in limits if ragged]
            value = w(o_ * ob + o, channel, row, column)
            return k.guarded(k.tirx.all(*inside), value, k.const(0, w.dtype)) if inside else value

        tapped = k.te.compute((*blocks, ib, height, width, ob), tap, name="weight_taps")

        def down(ob: Any, cb: Any, c: Any, h: Any, x: Any, o: Any) -> Any:
            column = [tapped(ob, cb, c, y, x, o) for y in range(height)]
            return choose(k, h, [combine(k, row, column, w.dtype) for row in gh])

        t = k.te.compute((*blocks, ib, len(gh), width, ob), down, name="weight_columns")

        def across(h: Any, i: Any, ob: Any, cb: Any, c: Any, o: Any) -> Any:
            line = [t(ob, cb, c, h, x, o) for x in range(width)]
            return choose(k, i, [combine(k, row, line, w.dtype) for row in gw])

        def held(*index: Any) -> Any:
            return across(*((*index[1:3], index[0], *index[3:]) if self.by_channel else index))

        return k.te.compute(outs[0].physical_shape, held, name="weight_tiles")


@dataclass(frozen=True)
class WinogradConv(Op):
    """A convolution by F(tile, taps), nested in two dimensions: the 1-D algorithm along each axis.

    Data ``N C H W`` in ``NCHW{b}c``, or row-major when its channels are few; weight from ``winograd_weight`` with the
    same tile, strides and block; optional bias ``O``; the result in ``NCHW{b}c``. An axis with one tap has tile 1 and
    is not transformed.
    """

    name = "winograd_conv"
    tile: Ints = (4, 4)
    kernel: Ints = (3, 3)
    strides: Ints = (1, 1)
    pads: Pads = ()

    def infer(self, *types: TensorType) -> TensorType:
        x, u, *bias = types
        elements = transformed(self.tile, self.kernel, self.strides)
        if x.rank != 4 or u.rank != 4 or u.layout is None or u.shape[2:] != elements:
            raise ShapeError(f"takes N C H W data and an O P {' '.join(map(str, elements))} weight, not {x} and {u}")
        block = u.layout.block(0)
        wide = phase_channels(size_of(x, 1), self.strides, u.layout.block(1), x.layout is None)
        channels = math.prod(self.strides) * wide
        if channels != u.shape[1] or (bias and bias[0].shape != u.shape[:1]):
            raise ShapeError(
                f"{x.shape[1]} channels of data do not fit weight {u}" + (f" and bias {bias[0]}" if bias else "")
            )
        sizes = zip(x.shape[2:], self.kernel, self.strides, full_pads(self.pads, 2), strict=True)
        spatial = (out_size(size, r, s, 1, p) for size, r, s, p in sizes)
        return TensorType(x.dtype, (x.shape[0], u.shape[0], *spatial), Layout(f"NCHW{block}c"))

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """The operations of the direct form, so that rates can be compared."""
        window = inputs[0].sizes[1] * math.prod(self.kernel)
        return outputs[0].numel * (2 * window + (len(inputs) == 3))

    def tiles(self, out: TensorType) -> tuple[Dim, ...]:
        """The numbers of rows and columns of tiles of a result, the last of which may extend beyond it."""
        return tuple(-(-s // m) for s, m in zip(out.shape[2:], self.tile, strict=True))

    def phases(self, k: TensorExpressions, x: Operand, height: Dim, width: Dim, block: int) -> Any:
        """The padded input with its phases as channels: ``N blocks height width block``."""
        (sh, sw), ((top, _), (left, _)) = self.strides, full_pads(self.pads, 2)
        n, channels, h_in, w_in = x.shape
        plain = x.type.layout is None
        count = sh * sw * channels
        blocks = -(-count // block) if plain else sh * sw * x.type.extents[1]

        def element(n: Any, c: Any, h: Any, i: Any, v: Any) -> Any:
            at = c * block + v
            phase = at // channels if plain else c // x.type.extents[1]
            row, column = h * sh + phase // sw, i * sw + phase % sw
            inside = [row >= top, row < h_in + top, column >= left, column < w_in + left]
            if plain:
                inside.append(at < count)
                value = x(n, at % channels, row - top, column - left)
            else:
                value = x.tensor(n, c % x.type.extents[1], row - top, column - left, v)
            return k.guarded(k.tirx.all(*inside), value, k.const(0, x.dtype))

        return k.te.compute((n, blocks, height, width, block), element, name="pad")

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, u, *bias = xs
        te, dtype, (mh, mw) = k.te, x.dtype, self.tile
        window = taps(self.kernel, self.strides)
        (ath, _, bth), (atw, _, btw) = (matrices(m, r) for m, r in zip(self.tile, window, strict=True))
        ah, aw = len(bth), len(btw)
        n_, _, height, width = outs[0].shape
        rows, columns = self.tiles(outs[0])
        tiles = Tiles(rows, columns)
        out_blocks, ob = outs[0].extents[1], outs[0].extents[-1]
        blocks, b = u.type.physical_shape[-3:-1]
        d = self.phases(k, x, rows * mh + ah - mh, columns * mw + aw - mw, b)

        def down(n: Any, *index: Any) -> Any:
            *p, c, i, j, v = index
            top, left = tiles.position(*p)
            column = [d(n, c, top * mh + q, left * mw + j, v) for q in range(ah)]
            return choose(k, i, [combine_powers(k, row, column, dtype) for row in bth])

        t = te.compute((n_, *tiles.extents, blocks, ah, aw, b), down, name="input_columns")

        def across(i: Any, j: Any, n: Any, *index: Any) -> Any:
            *p, c, v = index
            line = [t(n, *p, c, i, q, v) for q in range(aw)]
            return choose(k, j, [combine_powers(k, row, line, dtype) for row in btw])

        v_ = te.compute((ah, aw, n_, *tiles.extents, blocks, b), across, name="input_tiles")
        rc, ri = k.reduce_axis(blocks, "rc"), k.reduce_axis(min(b, u.shape[1]), "ri")
        by_channel = is_by_channel(u.type)

        def product(i: Any, j: Any, n: Any, o: Any, *index: Any) -> Any:
            *p, v = index
            weight = u.tensor(*((o, i, j) if by_channel else (i, j, o)), rc, ri, v)
            return te.sum(v_(i, j, n, *p, rc, ri) * weight, axis=[rc, ri])

        prod = te.compute((ah, aw, n_, out_blocks, *tiles.extents, ob), product, name="products")

        def back(n: Any, o: Any, *index: Any) -> Any:
            *p, i, j, v = index
            column = [prod(q, j, n, o, *p, v) for q in range(ah)]
            return choose(k, i, [combine_points(k, row, column, dtype) for row in ath])

        s = te.compute((n_, out_blocks, *tiles.extents, mh, aw, ob), back, name="output_columns")

        def result(n: Any, o: Any, h: Any, w: Any, v: Any) -> Any:
            p = tiles.place(h // mh, w // mw)
            line = [s(n, o, *p, h % mh, q, v) for q in range(aw)]
            return choose(k, w % mw, [combine_points(k, row, line, dtype) for row in atw])

        y = te.compute((n_, out_blocks, rows * mh, columns * mw, ob), result, name="conv")
        whole = k.operand(y, outs[0])
        if bias:
            ragged = bias[0].type.layout is None
            return k.compute(outs[0], lambda n, o, *i: whole(n, o, *i) + bias[0](o), "bias", guard=ragged)
        return y if (rows * mh, columns * mw) == (height, width) else k.compute(outs[0], lambda *i: whole(*i), "crop")


@dataclass(frozen=True)
class Tiles:
    """The axes over the tiles of a plane: a single one, or where their numbers are open, one of rows and one of
    columns, so that no index is divided by an open number.
    """

    rows: Dim
    columns: Dim

    @property
    def are_open(self) -> bool:
        return not (isinstance(self.rows, int) and isinstance(self.columns, int))

    @property
    def extents(self) -> tuple[Dim, ...]:
        return (self.rows, self.columns) if self.are_open else (self.rows * self.columns,)

    def place(self, row: Any, column: Any) -> tuple[Any, ...]:
        """The index of a tile on these axes."""
        return (row, column) if self.are_open else (row * self.columns + column,)

    def position(self, *place: Any) -> tuple[Any, Any]:
        """The row and the column of a tile of this index."""
        return place if len(place) == 2 else (place[0] // self.columns, place[0] % self.columns)


def is_by_channel(u: TensorType) -> bool:
    """Whether a transformed weight is held by blocks of output channels."""
    return u.layout is not None and u.layout.name.startswith("O")
