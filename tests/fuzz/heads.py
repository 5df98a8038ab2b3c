"""Random nodes for the ends of networks and between their halves.

They are recurrent layers, sampling at positions, and quantization.
"""

from __future__ import annotations

import math

import numpy as np

from convc.ir.graph import Value
from convc.ir.ops.concat import Concat
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_integer import ConvInteger
from convc.ir.ops.deform_conv import DeformConv
from convc.ir.ops.einsum import Einsum
from convc.ir.ops.grid_sample import GridSample
from convc.ir.ops.gru import GRU
from convc.ir.ops.lstm import LSTM
from convc.ir.ops.max_pool import MaxPool
from convc.ir.ops.quantize import Dequantize, Quantize
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.rnn import RNN
from convc.ir.ops.slice import Slice
from convc.ir.ops.transpose import Transpose

from .draw import Draw
from .layers import windows


def recurrent(d: Draw) -> Value:
    """A recurrent layer over the first axis, whose gates may be computed values.

    They are finite, since the exported layer multiplies them by an identity, in which infinity times 0 is NaN.
    """
    x = d.value(lambda v: v.type.rank == 3 and v.type.dtype == "f32", finite=True)
    op = d.pick((LSTM, GRU, RNN))
    steps, batch, width = x.type.sizes
    hidden = d.pick((1, 3, 5, 8, 16))
    gates = d.emit(Einsum("tbi,ig->tbg"), x, d.uniform((width, op.gates * hidden), d.bound(width)))
    weight = d.uniform((hidden, op.gates * hidden), d.bound(hidden))
    made = op(reverse=d.chance(0.4))
    extra = [d.uniform(shape, 0.5) for shape in [made.extra(hidden)] if shape]
    lengths = d.array([steps if d.chance(0.7) else d.whole(1, steps) for _ in range(batch)], np.int32)
    states = [d.uniform((batch, hidden), 0.5) for _ in range(op.states)]
    return d.emit(made, gates, weight, *extra, lengths, *states)


def einsum(d: Draw) -> Value:
    x = d.floats(3, 4)
    letters = "abcd"[: x.type.rank]
    last = x.type.sizes[-1]
    kind = d.pick(("right", "batched", "outer", "diagonal"))
    if kind == "right":
        w = d.uniform((last, d.pick((1, 4, 7))), d.bound(last), x.type.dtype)
        return d.emit(Einsum(f"{letters},{letters[-1]}z->{letters[:-1]}z"), x, w)
    if kind == "batched":
        return d.emit(
            Einsum(f"{letters},{letters[:-2]}z{letters[-1]}->{letters[:-1]}z"), x, d.value(lambda v: v.type == x.type)
        )
    if kind == "outer":
        w = d.uniform((x.type.sizes[1], 2), 1.0, x.type.dtype)
        return d.emit(Einsum(f"{letters},{letters[1]}z->z{letters[::-1].replace(letters[1], '')}"), x, w)
    return d.emit(Einsum(f"{letters}->{letters[::-1]}"), x)


def sample_grid(d: Draw) -> Value:
    x = d.value(lambda v: v.type.rank in (4, 5) and v.type.dtype == "f32", finite=True)
    rank = x.type.rank - 2
    out = [d.whole(1, 6) for _ in range(rank)]
    grid = d.uniform((x.type.sizes[0], *out, rank), 1.3)
    mode = d.pick(("linear", "linear", "cubic")) if rank == 2 else "linear"
    return d.emit(GridSample(mode, d.pick(("zeros", "border", "reflection")), d.chance(0.5)), x, grid)


def deformed_conv(d: Draw) -> Value:
    x = d.value(lambda v: v.type.rank == 4 and v.type.dtype == "f32", finite=True)
    kernel, strides, pads, dilations = windows(d, x)
    n, c, *size = x.type.sizes
    group, offsets = d.pick(d.divisors(c)), d.pick(d.divisors(c))
    outputs = group * d.pick((1, 2, 5))
    op = DeformConv(strides, pads, dilations, group, offsets, d.chance(0.5), d.chance(0.5))
    reach = [(k - 1) * r + 1 for k, r in zip(kernel, dilations, strict=True)]
    space = [(s + sum(p) - k) // t + 1 for s, p, k, t in zip(size, pads, reach, strides, strict=True)]
    taps = offsets * math.prod(kernel)
    w = d.uniform((outputs, c // group, *kernel), d.bound(c // group * math.prod(kernel)))
    operands = [x, w, d.uniform((n, 2 * taps, *space), 1.5)]
    operands += [d.uniform((outputs,), 0.5)] if op.has_bias else []
    operands += [d.uniform((n, taps, *space), 1.0)] if op.has_mask else []
    return d.emit(op, *operands)


def moved_quantized(d: Draw) -> Value:
    """Quantized data that is dequantized, moved as floats, and quantized again.

    Often the scale is the same, as quantizers write it.
    """
    x = d.value(lambda v: v.type.dtype == "f32" and v.type.rank > 0, exact=True, finite=True)
    dtype = d.pick(("u8", "i8"))
    how = [
        d.array(2.0 ** d.whole(-7, -4), np.float32),
        d.array(d.whole(0, 100), np.uint8 if dtype == "u8" else np.int8),
    ]
    y = d.emit(Dequantize(), d.emit(Quantize(dtype=dtype), x, *how, exact=True), *how, exact=True)
    rank, sizes = y.type.rank, y.type.sizes
    kind = d.pick(("transpose", "reshape", "slice", "concat", "pool", "none"))
    if kind == "transpose":
        y = d.emit(Transpose(d.permuted(rank)), y, exact=True)
    elif kind == "reshape":
        y = d.emit(Reshape((*sizes[: rank // 2], -1)), y, exact=True)
    elif kind == "slice":
        axis = d.whole(0, rank - 1)
        y = d.emit(Slice((axis,), (d.whole(0, sizes[axis] - 1),), (sizes[axis],)), y, exact=True)
    elif kind == "concat":
        y = d.emit(Concat(d.whole(0, rank - 1)), y, y, exact=True)
    elif kind == "pool":
        y = d.emit(MaxPool(*windows(d, y)[:1]), y, exact=True)
    if d.chance(0.2):
        how[0] = d.array(2.0 ** d.whole(-7, -4), np.float32)
    return d.emit(Dequantize(), d.emit(Quantize(dtype=dtype), y, *how, exact=True), *how, exact=True)


def dequantized_conv(d: Draw, x: Value) -> Value:
    """A convolution of dequantized data by a dequantized weight."""
    kernel, strides, pads, dilations = windows(d, x)
    outputs = d.pick((1, 2, 8, 17))
    size = (outputs, x.type.sizes[1], *kernel)
    w = d.array(np.array([d.whole(-127, 127) for _ in range(math.prod(size))]).reshape(size), np.int8)
    scales = () if d.chance(0.3) else (outputs,)
    low = -round(math.log2(70 * math.sqrt(max(math.prod(size[1:]), 1))))
    scale = d.array(
        2.0 ** np.array([d.whole(low, low + 1) for _ in range(math.prod(scales))]).reshape(scales), np.float32
    )
    zero = d.array(np.zeros(scales), np.int8)
    weight = d.emit(Dequantize(0), w, scale, zero)
    bias = [d.uniform((outputs,), 0.5)] if d.chance(0.5) else []
    return d.emit(Conv(strides, pads, dilations), x, weight, *bias)


def quantized(d: Draw) -> Value:
    """Exact data that is quantized, perhaps convolved as integers, and converted to floats again.

    ONNX Runtime has no 3-D ConvInteger.
    """
    x = d.value(lambda v: v.type.dtype == "f32" and 2 <= v.type.rank <= 4, exact=True, finite=True)
    channels = x.type.sizes[1]
    dtype = d.pick(("u8", "u8", "i8"))
    kind = np.uint8 if dtype == "u8" else np.int8
    shape = () if d.chance(0.6) else (channels,)
    scale = d.array(2.0 ** np.array([d.whole(-7, -4) for _ in range(math.prod(shape))]).reshape(shape), np.float32)
    zero = d.array(np.full(shape, d.whole(0, 100) + (28 if dtype == "u8" else -50)), kind)
    q = d.emit(Quantize(1, dtype=dtype), x, scale, zero, exact=True)
    if x.type.rank < 3 or shape or d.chance(0.3):
        return d.emit(Dequantize(1), q, scale, zero, exact=True)
    if x.type.rank == 4 and d.chance(0.5):
        return dequantized_conv(d, d.emit(Dequantize(1), q, scale, zero, exact=True))
    kernel, strides, pads, dilations = windows(d, x)
    group = d.pick(d.divisors(channels)) if d.chance(0.3) else 1
    outputs = group * d.pick((1, 2, 8, 17))
    size = (outputs, channels // group, *kernel)
    w = d.array(np.array([d.whole(-128, 127) for _ in range(math.prod(size))]).reshape(size), np.int8)
    w_zero = d.array(0 if d.chance(0.7) else d.whole(-5, 5), np.int8)
    total = d.emit(ConvInteger(strides, pads, dilations, group), q, w, zero, w_zero, exact=True)
    spread = d.array(2.0 ** -round(math.log2(5000 * math.sqrt(max(math.prod(size[1:]), 1)))), np.float32)
    return d.emit(Dequantize(1), total, spread, exact=True)
