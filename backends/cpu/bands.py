"""Bands of rows, so that threads work on rows of their own, and data stays in cache while all outputs read it.

How many rows a band has follows from the sizes of data and weights. Where these are open, the kernel computes it.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from convc.ir.graph import Node
from convc.ir.sizes import product

from ..extents import Variables
from .parallel import is_scalar
from .target import Target
from .tiles import CACHE_PARTS


def tiles_of_band(sch: Any, node: Node, rows: int, target: Target) -> Any:
    """The number of register tiles, of ``rows`` rows each, along the height of a band of a convolution's results.

    The schedule is that of the convolution; the number is an expression of the function's extents. There is one band
    for each thread, or several where only these leave the data of a band in cache. There is a single one, and the
    threads share out the output blocks instead, where the weights are larger than the data of an image.
    """
    size = variables_of(sch).of
    x, w = (v.type for v in node.inputs[:2])
    room = target.cache_bytes // CACHE_PARTS // x.numpy_dtype.itemsize
    _, channels, high, wide = x.shape
    strides, *_ = node.op.geometry(2)  # type: ignore[attr-defined]
    weights, data = size(product(w.shape)), size(product((channels, high, wide)))
    tiles = size(-(-node.output.type.shape[2] // rows))
    threads = tirx.min(tiles, target.threads)
    fits = tirx.max(tirx.truncdiv(tirx.const(room, "int32"), size(product((channels, wide, rows * strides[0])))), 1)
    bands = tirx.Select(weights > room, threads, _whole(_parts(tiles, fits), threads))
    return tvm.sym.Analyzer().simplify(tirx.Select(weights > data, tiles, _parts(tiles, bands)))


def variables_of(sch: Any) -> Variables:
    """The variables of the extents of a schedule's function."""
    return Variables(tirx, {p.name: p for p in sch.mod["main"].params if is_scalar(p)})


def _parts(total: Any, size: Any) -> Any:
    """How many parts of a size make up the total."""
    return tirx.truncdiv(total + (size - 1), size)


def _whole(count: Any, multiple: Any) -> Any:
    return _parts(count, multiple) * multiple
