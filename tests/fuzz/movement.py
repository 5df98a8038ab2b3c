"""Random ops that move, repeat, select and resample elements, and random reductions."""

from __future__ import annotations

import math

import numpy as np

from convc.ir.errors import ShapeError
from convc.ir.graph import Value
from convc.ir.ops import reduce as r
from convc.ir.ops.binary import Add, Mul
from convc.ir.ops.concat import Concat
from convc.ir.ops.conv import Conv
from convc.ir.ops.cum_sum import CumSum
from convc.ir.ops.depth_to_space import DepthToSpace, SpaceToDepth
from convc.ir.ops.expand import Expand, Tile
from convc.ir.ops.gather import Gather
from convc.ir.ops.global_pool import GlobalAveragePool
from convc.ir.ops.pad import Pad
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.resize import Resize, ResizeNearest
from convc.ir.ops.slice import Slice
from convc.ir.ops.transcendental import Sigmoid
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.unary import Abs, Relu

from .draw import Draw


def anything(d: Draw, low: int = 1, high: int = 6) -> Value:
    return d.value(lambda v: low <= v.type.rank <= high)


def transpose(d: Draw) -> Value:
    x = anything(d, 2)
    perm = d.pick(((0, 2, 3, 1), (0, 3, 1, 2))) if x.type.rank == 4 and d.chance(0.6) else d.permuted(x.type.rank)
    return d.emit(Transpose(perm), x, exact=True)


def reshape(d: Draw) -> Value:
    """A reshape that merges axes, splits an axis, or does both."""
    x = anything(d)
    sizes = list(x.type.sizes)
    for _ in range(d.whole(1, 2)):
        at = d.whole(0, len(sizes) - 1)
        if d.chance(0.5) and at + 1 < len(sizes):
            sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
        elif len(sizes) < 6:
            part = d.pick(d.divisors(sizes[at]))
            sizes[at : at + 1] = [part, sizes[at] // part]
    if d.chance(0.2):
        sizes = [sizes[0], math.prod(sizes[1:])]
    return d.emit(Reshape(tuple(sizes)), x, exact=True)


def shuffle(d: Draw) -> Value:
    """A shuffle of channels, as in ShuffleNet."""
    x = d.image()
    n, c, *space = x.type.sizes
    groups = d.pick([g for g in d.divisors(c) if g > 1] or [1])
    split = d.emit(Reshape((n, groups, c // groups, *space)), x, exact=True)
    turned = d.emit(Transpose((0, 2, 1, *range(3, len(space) + 3))), split, exact=True)
    return d.emit(Reshape((n, c, *space)), turned, exact=True)


def concat(d: Draw) -> Value:
    x = anything(d)
    axis = 1 if x.type.rank > 2 and d.chance(0.7) else d.whole(0, x.type.rank - 1)

    def fits(v: Value) -> bool:
        same = v.type.dtype == x.type.dtype and v.type.rank == x.type.rank
        return same and all(
            a == axis or s == z for a, (s, z) in enumerate(zip(v.type.shape, x.type.shape, strict=True))
        )

    parts = [x, *(d.value(fits) for _ in range(d.whole(1, 3)))]
    d.rng.shuffle(parts)
    return d.emit(Concat(axis - d.pick((0, 0, x.type.rank))), *parts, exact=True)


def split(d: Draw) -> Value:
    """A split along an axis, whose parts are used separately."""
    x = anything(d)
    axis = 1 if x.type.rank > 2 and d.chance(0.6) else d.whole(0, x.type.rank - 1)
    size = x.type.sizes[axis]
    at = d.whole(1, max(size - 1, 1))
    if size < 2:
        raise ShapeError("too small to split")
    d.emit(Slice((axis,), (0,), (at,)), x, exact=True)
    return d.emit(Slice((axis,), (at,), (size,)), x, exact=True)


def cut(d: Draw) -> Value:
    """A slice with any start, end and step."""
    x = anything(d)
    axes = d.rng.sample(range(x.type.rank), d.whole(1, min(2, x.type.rank)))
    steps = [d.pick((1, 1, 1, 2, 3, -1, -2)) for _ in axes]
    ends = [x.type.sizes[a] for a in axes]
    low = [d.whole(0, n // 3) for n in ends]
    high = [n - d.whole(0, n // 3) for n in ends]
    starts = [a if s > 0 else b - 1 for a, b, s in zip(low, high, steps, strict=True)]
    stops = [b if s > 0 else (a - 1 if a else -n - 1) for a, b, s, n in zip(low, high, steps, ends, strict=True)]
    return d.emit(Slice(tuple(axes), tuple(starts), tuple(stops), tuple(steps)), x, exact=True)


def pad(d: Draw) -> Value:
    x = anything(d, 1, 5)
    mode = d.pick(("constant", "constant", "edge", "reflect", "wrap"))
    spatial = x.type.rank > 2 and d.chance(0.7)
    pads = [(0, 0) if spatial and a < 2 else (d.whole(0, 3), d.whole(0, 3)) for a in range(x.type.rank)]
    if mode == "reflect":
        pads = [(min(b, n - 1), min(e, n - 1)) for (b, e), n in zip(pads, x.type.sizes, strict=True)]
    if mode == "wrap":
        pads = [(min(b, n), min(e, n)) for (b, e), n in zip(pads, x.type.sizes, strict=True)]
    if mode in ("constant", "edge") and d.chance(0.4):  # negative pads crop
        pads = [(b - 1, e - 1) if b + e and n > 4 else (b, e) for (b, e), n in zip(pads, x.type.sizes, strict=True)]
    value = d.pick((0, 0, 1)) if mode == "constant" else 0
    return d.emit(Pad(tuple(pads), mode, value), x, exact=True)


def resize(d: Draw) -> Value:
    """A resize to the nearest neighbours, or between neighbours of finite data.

    For the factors of the former no position lies exactly between two elements, where float32 could decide otherwise
    than exact arithmetic.
    """
    nearest = d.chance(0.5)
    x = d.image(finite=not nearest)
    rank = x.type.rank - 2
    axes = tuple(range(2, rank + 2))
    if nearest:
        scales = (d.pick((2.0, 2.0, 3.0, 4.0, 0.5)),) * rank
        how = d.pick(
            (("half_pixel", "round_prefer_floor"), ("asymmetric", "floor"), ("half_pixel", "round_prefer_ceil"))
        )
        return d.emit(ResizeNearest(axes, scales, coordinates=how[0], nearest_mode=how[1]), x, exact=True)
    sizes = tuple(d.pick((1, 2, 3, 5, 8, 13)) for _ in range(rank))
    coordinates = d.pick(("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"))
    mode = d.pick(("linear", "linear", "cubic")) if rank == 2 else "linear"
    op = Resize(axes, (), sizes, coordinates, mode=mode, exclude_outside=mode == "cubic" and d.chance(0.3))
    return d.emit(op, x)


def depth_space(d: Draw) -> Value:
    x = d.value(lambda v: v.type.rank == 4 and v.type.is_float)
    c, b = x.type.sizes[1], d.pick((2, 2, 3))
    mode = d.pick(("DCR", "CRD"))
    op = DepthToSpace(b, mode) if c % (b * b) == 0 else SpaceToDepth(b, mode)
    return d.emit(op, x, exact=True)


def repeat(d: Draw) -> Value:
    x = anything(d, 1, 5)
    if d.chance(0.5):
        return d.emit(Tile(tuple(d.pick((1, 1, 2, 3)) for _ in x.type.shape)), x, exact=True)
    shape = tuple(d.pick((2, 3)) if s == 1 and d.chance(0.7) else s for s in x.type.sizes)
    return d.emit(Expand((2, *shape) if d.chance(0.2) else shape), x, exact=True)


def gather(d: Draw) -> Value:
    x = anything(d, 1, 5)
    axis = 1 if x.type.rank > 2 and d.chance(0.5) else d.whole(0, x.type.rank - 1)
    size = x.type.sizes[axis]
    if d.chance(0.4):
        indices = np.array(d.permuted(size))
    else:
        shape = d.pick([(), (1,), (3,), (5,), (2, 3)])
        indices = np.array([d.whole(-size, size - 1) for _ in range(math.prod(shape))]).reshape(shape)
    return d.emit(Gather(axis), x, d.array(indices, np.int64), exact=True)


def reduce(d: Draw) -> Value:
    x = d.floats(1, 5)
    axes = tuple(d.rng.sample(range(x.type.rank), d.whole(1, x.type.rank)))
    if x.type.rank > 2 and d.chance(0.4):
        axes = tuple(range(2, x.type.rank))
    op = d.pick((r.ReduceMean, r.ReduceMean, r.ReduceSum, r.ReduceMax, r.ReduceMin, r.ReduceL1, r.ReduceL2,
                 r.ReduceSumSquare, r.ReduceLogSumExp, r.ReduceLogSum))  # fmt: skip
    if op is r.ReduceLogSum:
        x = d.emit(Add(), d.emit(Abs(), x), d.filled((), 0.5, x.type.dtype))
    exact = op in (r.ReduceMax, r.ReduceMin)
    return d.emit(op(axes if d.chance(0.9) else None, d.chance(0.6)), x, exact=exact)


def cumulate(d: Draw) -> Value:
    x = d.floats(1, 5)
    return d.emit(CumSum(d.whole(0, x.type.rank - 1), d.chance(0.3), d.chance(0.3)), x)


def squeeze_and_excite(d: Draw) -> Value:
    x = d.image()
    c, dtype, ones = x.type.sizes[1], x.type.dtype, (1,) * (x.type.rank - 2)
    inner = max(c // 4, 1)
    mean = d.emit(d.pick((GlobalAveragePool(), r.ReduceMean(tuple(range(2, x.type.rank))))), x)
    down = d.emit(Conv(), mean, d.uniform((inner, c, *ones), d.bound(c), dtype), d.uniform((inner,), 0.5, dtype))
    up = d.emit(Conv(), d.emit(Relu(), down), d.uniform((c, inner, *ones), d.bound(inner), dtype))
    return d.emit(Mul(), x, d.emit(Sigmoid(), up))
