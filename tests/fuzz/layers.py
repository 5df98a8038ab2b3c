"""Random convolutions, poolings, normalisations and matrix products."""

from __future__ import annotations

import math

from convc.ir.errors import ShapeError
from convc.ir.graph import Value
from convc.ir.ops.average_pool import AveragePool
from convc.ir.ops.batch_norm import BatchNorm
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_transpose import ConvTranspose
from convc.ir.ops.gemm import Gemm
from convc.ir.ops.global_pool import GlobalAveragePool, GlobalLpPool, GlobalMaxPool
from convc.ir.ops.group_norm import GroupNorm
from convc.ir.ops.instance_norm import InstanceNorm
from convc.ir.ops.layer_norm import LayerNorm
from convc.ir.ops.lp_norm import LpNorm
from convc.ir.ops.lp_pool import LpPool
from convc.ir.ops.lrn import Lrn
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.max_pool import MaxPool
from convc.ir.ops.rms_norm import RmsNorm
from convc.ir.ops.softmax import LogSoftmax, Softmax
from convc.ir.types import TensorType

from .draw import CHANNELS, SIZES, Draw

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
KERNELS = (1, 1, 2, 3, 3, 3, 3, 5, 7)


def parameter(d: Draw, shape: tuple[int, ...], bound: float, dtype: str) -> Value:
    """A parameter of a layer: a constant, or now and then a value that is computed or given at run time."""
    if d.chance(0.03):
        v = d.input(TensorType(dtype, shape))
        d.values.remove(v)
        return v
    return d.uniform(shape, bound, dtype)


def windows(d: Draw, x: Value) -> tuple[Ints, Ints, Pads, Ints]:
    """A random kernel with strides, pads and dilations for the spatial axes of x."""
    rank = x.type.rank - 2
    same = d.chance(0.6)

    def each(options: tuple[int, ...]) -> tuple[int, ...]:
        return (d.pick(options),) * rank if same else tuple(d.pick(options) for _ in range(rank))

    kernel = each(KERNELS)
    if d.chance(0.8):
        kernel = tuple(max(min(k, s), 1) for k, s in zip(kernel, x.type.sizes[2:], strict=True))
    strides, dilations = each((1, 1, 1, 2, 2, 3)), each((1, 1, 1, 1, 2, 3))
    how = d.pick(("none", "same", "same", "any"))
    if how == "none":
        pads: Pads = ((0, 0),) * rank
    elif how == "same":
        pads = tuple(((k - 1) * r // 2, k * r // 2) for k, r in zip(kernel, dilations, strict=True))
    else:
        pads = tuple((d.whole(0, k * r), d.whole(0, k * r)) for k, r in zip(kernel, dilations, strict=True))
    return kernel, strides, pads, dilations


def conv(d: Draw) -> Value:
    """A convolution, often followed by ops that are folded or fused into it."""
    x = d.image()
    kernel, strides, pads, dilations = windows(d, x)
    channels, group = x.type.sizes[1], 1
    outputs = d.pick(CHANNELS)
    if d.chance(0.2):
        group, outputs = max(channels, 1), max(channels, 1) * d.pick((1, 1, 1, 2))
    elif d.chance(0.25):
        group = d.pick(d.divisors(channels))
        outputs = channels if d.chance(0.5) else group * d.pick((1, 2, 3, 5, 8, 16))
    fan_in = channels // group * math.prod(kernel)
    w = parameter(d, (outputs, channels // group, *kernel), d.bound(fan_in), x.type.dtype)
    bias = [parameter(d, (outputs,), 0.5, x.type.dtype)] if d.chance(0.6) else []
    y = d.emit(Conv(strides, pads, dilations, group), x, w, *bias)
    return batch_norm(d, y) if d.chance(0.25) else y


def conv_transpose(d: Draw) -> Value:
    x = d.image()
    kernel, strides, _, dilations = windows(d, x)
    channels = x.type.sizes[1]
    group = d.pick(d.divisors(channels)) if d.chance(0.3) else 1
    per_group = d.pick([c for c in CHANNELS if c * group <= 64] or [1])
    reach = [r * (k - 1) for k, r in zip(kernel, dilations, strict=True)]
    pads = tuple((d.whole(0, r), d.whole(0, r)) if d.chance(0.5) else (0, 0) for r in reach)
    extra = tuple(d.whole(0, s - 1) if d.chance(0.3) else 0 for s in strides)  # ONNX Runtime takes no more
    bound = math.sqrt(math.prod(strides)) * d.bound(channels // group * math.prod(kernel))
    w = parameter(d, (channels, per_group, *kernel), bound, x.type.dtype)
    bias = [parameter(d, (per_group * group,), 0.5, x.type.dtype)] if d.chance(0.5) else []
    return d.emit(ConvTranspose(strides, pads, dilations, extra, group), x, w, *bias)


def pool(d: Draw) -> Value:
    """A pooling. Its pads are smaller than its kernel, since ONNX Runtime refuses others.

    The maximum is of finite data, since both oracles lose NaN in it (``tests/ops/test_nan.py`` compares with numpy).
    """
    kind = d.pick((MaxPool, MaxPool, AveragePool, AveragePool, LpPool))
    x = d.image(finite=kind is MaxPool)
    kernel, strides, pads, dilations = windows(d, x)
    pads = tuple((min(a, k - 1), min(b, k - 1)) for (a, b), k in zip(pads, kernel, strict=True))
    place = (kernel, strides, pads, dilations, d.chance(0.3))
    if kind is AveragePool:
        return d.emit(AveragePool(*place, d.chance(0.5)), x)
    if kind is LpPool:
        return d.emit(LpPool(*place, d.whole(1, 3)), x)
    return d.emit(MaxPool(*place), x, exact=True)


def max_pool_indices(d: Draw) -> Value:
    """A MaxPool with indices, of exact data alone, since the indices jump where elements are nearly equal."""
    x = d.image(exact=True, finite=True)
    kernel, strides, pads, dilations = windows(d, x)
    pads = tuple((min(a, k - 1), min(b, k - 1)) for (a, b), k in zip(pads, kernel, strict=True))
    op = MaxPool(kernel, strides, pads, dilations, d.chance(0.3), True, d.chance(0.3))
    return d.emit(op, x, exact=True)


def global_pool(d: Draw) -> Value:
    op = d.pick((GlobalAveragePool(), GlobalAveragePool(), GlobalMaxPool(), GlobalLpPool(d.whole(1, 3))))
    return d.emit(op, d.image(), exact=isinstance(op, GlobalMaxPool))


def batch_norm(d: Draw, x: Value | None = None) -> Value:
    x = x or d.floats(2, 5)
    c, dtype = (x.type.sizes[1],), x.type.dtype
    scale, shift, mean = (parameter(d, c, bound, dtype) for bound in (1.5, 0.5, 0.5))
    var = d.filled(c, d.number(0.5, 2.0), dtype)
    return d.emit(BatchNorm(d.pick((1e-5, 1e-3))), x, scale, shift, mean, var)


def norm(d: Draw) -> Value:
    """A normalisation by statistics of the data.

    Statistics of one or two elements are left out, since they are near a jump.
    """
    kind = d.pick(("instance", "group", "layer", "layer", "rms", "lrn", "lp"))
    x = d.floats(2, 5)
    shape, dtype = x.type.sizes, x.type.dtype
    if kind in ("layer", "rms"):
        axis = d.whole(1, x.type.rank - 1)
        inner = shape[axis:]
        enough(math.prod(inner))
        inner = tuple(1 if d.chance(0.1) else size for size in inner)
        if kind == "rms":
            return d.emit(RmsNorm(axis - d.pick((0, x.type.rank))), x, parameter(d, inner, 1.5, dtype))
        operands = [parameter(d, inner, bound, dtype) for bound in (1.5, 0.5)[: d.whole(1, 2)]]
        return d.emit(LayerNorm(axis - d.pick((0, x.type.rank)), stats=d.chance(0.1)), x, *operands)
    if kind == "lrn":
        x = d.image(4, 4, finite=True)  # ONNX Runtime takes no other rank, and its running sum keeps a NaN
        return d.emit(Lrn(d.pick((1, 3, 5)), d.number(0.01, 0.5), d.pick((0.75, 0.5)), d.number(1, 2)), x)
    if kind == "lp":
        axis = d.whole(0, x.type.rank - 1)
        enough(shape[axis])
        return d.emit(LpNorm(axis, d.whole(1, 2)), x)
    groups = shape[1] if kind == "instance" else d.pick(d.divisors(shape[1]))
    enough(math.prod(shape[1:]) // max(groups, 1))
    if kind == "instance":
        return d.emit(InstanceNorm(), x, parameter(d, (groups,), 1.5, dtype), parameter(d, (groups,), 0.5, dtype))
    scale, b = (parameter(d, (d.pick((groups, shape[1])),), bound, dtype) for bound in (1.5, 0.5))
    return d.emit(GroupNorm(groups), x, scale, b)


def enough(elements: int) -> None:
    """Raise ``ShapeError`` when there are too few elements to normalise."""
    if elements < 4:
        raise ShapeError("too few elements to normalise")


def softmax(d: Draw) -> Value:
    x = d.floats(1, 5)
    axis = d.whole(-x.type.rank, x.type.rank - 1)
    return d.emit(d.pick((Softmax, Softmax, LogSoftmax))(axis, d.chance(0.1)), x)


def matmul(d: Draw) -> Value:
    """A matrix product with a constant, or with another value that is made to fit."""
    x = d.floats(1, 5)
    inner = x.type.sizes[-1]
    bound = d.bound(inner)
    if d.chance(0.3):
        y = d.value(lambda v: v.type.dtype == x.type.dtype and v.type.rank > 1 and v.type.sizes[-2] == inner)
        return d.emit(MatMul(), x, y)
    columns = d.pick((*SIZES, *CHANNELS))
    batch = x.type.sizes[:-2] if d.chance(0.1) else ()
    w = parameter(d, (*batch, inner, columns) if d.chance(0.95) else (inner,), bound, x.type.dtype)
    if x.type.rank != 2 or d.chance(0.3):
        return d.emit(MatMul(), x, w)
    return gemm(d, x, columns)


def gemm(d: Draw, x: Value, columns: int) -> Value:
    trans_a, trans_b = d.chance(0.2), d.chance(0.5)
    rows, inner = x.type.sizes[::-1] if trans_a else x.type.sizes
    w = parameter(d, (columns, inner) if trans_b else (inner, columns), d.bound(inner), x.type.dtype)
    shape = d.pick([None, (columns,), (columns,), (1, columns), (rows, 1), (rows, columns), ()])
    c = [] if shape is None else [parameter(d, shape, 0.5, x.type.dtype)]
    op = Gemm(d.pick((1.0, 1.0, 0.5)), d.pick((1.0, 1.0, 2.0, 0.0)), trans_a, trans_b)
    return d.emit(op, x, w, *c)
