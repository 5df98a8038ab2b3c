"""Grids of sampling positions under affine maps, as spatial transformers have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import plural
from ..graph import Value
from ..limits import check
from ..onnx_io import ImportNode, imports
from ..sizes import Dim, bounds, largest, product, same
from ..types import TensorType
from ._accumulate import accumulator
from ._read_axes import numbers
from .binary import Add, Div, Mul, Sub
from .cast import Cast
from .concat import Concat
from .expand import Expand
from .matmul import MatMul
from .reshape import Reshape
from .transpose import Transpose


@imports("AffineGrid")
def _import_affine_grid(n: ImportNode) -> Any:
    """Import ONNX AffineGrid-20 as the product of a constant grid ``points r+1`` and the maps ``N r r+1``.

    The result has shape ``N spatial r``, its last axis in the order x, y, z. The size ``N C spatial`` must be constant.
    """
    theta, size = n.input(0), n.sizes(1, "size")
    if size is None or len(size) not in (4, 5) or min(bounds(d)[0] for d in size) < 0:
        raise n.error(f"its size must be [N, C, H, W] or [N, C, D, H, W], not {list(size or ())}")
    batch, _, *space = size
    rank = len(space)
    wanted = (batch, rank, rank + 1)
    if theta.type.rank != 3 or not all(map(same, theta.type.shape, wanted)):
        raise n.error(
            f"theta has shape {list(theta.type.shape)}; for {plural(batch, 'map')} of {rank} axes it must be "
            f"{list(wanted)}"
        )
    wide = accumulator(theta.type)
    maps = theta if wide == theta.type else n.emit(Cast(wide.dtype), theta)
    corners = bool(n.attr("align_corners", 0))
    points = _points(n, space, corners, wide) if is_static(space) else _open_points(n, space, corners, wide)
    moved = n.emit(Reshape((batch, *space, rank)), n.emit(MatMul(), points, n.emit(Transpose((0, 2, 1)), maps)))
    return moved if wide == theta.type else n.emit(Cast(theta.type.dtype), moved)


def is_static(sizes: Sequence[Dim]) -> bool:
    return all(isinstance(d, int) for d in sizes)


def _points(n: ImportNode, space: Sequence[Dim], corners: bool, wide: TensorType) -> Value:
    """The positions of all elements, and 1 behind those of each: ``points r+1``."""
    sizes = [int(d) for d in space]
    made = wide.with_dtype("f64").with_shape((len(sizes) + 1, *sizes))
    check("constant_bytes", 4 * made.nbytes, f"{n.describe()}: its grid of {list(sizes)}")
    lines = [_positions(length, corners) for length in sizes]
    grid = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(sizes)], -1).reshape(-1, len(sizes) + 1)
    return n.constant(grid.astype(wide.numpy_dtype), "grid")


def _open_points(n: ImportNode, space: Sequence[Dim], corners: bool, wide: TensorType) -> Value:
    """The same for sizes that are open, as ``_positions`` computes it."""
    rank = len(space)
    columns = []
    for axis, length in enumerate(space):
        count = n.emit(Cast("f64"), n.emit(Reshape(()), n.sizes_as_tensor([largest(length - corners, 1)])))
        at = n.emit(Mul(), n.emit(Cast("f64"), numbers(n, length, axis, rank)), n.constant(np.array(2.0)))
        from_end = at if corners else n.emit(Add(), at, n.constant(np.array(1.0)))
        line = n.emit(Sub(), n.emit(Div(), from_end, count), n.constant(np.array(1.0)))
        columns.append(n.emit(Reshape((product(space), 1), True), n.emit(Expand(tuple(space)), line)))
    ones = n.filled((product(space), 1), 1, "f64")
    points: Value = n.emit(Cast(wide.dtype), n.emit(Concat(1), *reversed(columns), ones))
    return points


def _positions(length: int, align_corners: bool) -> np.ndarray:
    """The positions of elements between -1 and 1: their centres, or with ``align_corners`` from end to end.

    A single element is then at -1, where the specification's function body starts.
    """
    if not align_corners:
        return (2 * np.arange(length) + 1) / max(length, 1) - 1
    return 2 * np.arange(length) / max(length - 1, 1) - 1
