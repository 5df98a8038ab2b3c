"""Grids of sampling positions under affine maps, as spatial transformers have them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import plural
from ..limits import check
from ..onnx_io import ImportNode, imports
from ..sizes import same
from ._accumulate import accumulator
from .cast import Cast
from .matmul import MatMul
from .reshape import Reshape
from .transpose import Transpose


@imports("AffineGrid")
def _import_affine_grid(n: ImportNode) -> Any:
    """Import ONNX AffineGrid-20 as the product of a constant grid ``points r+1`` and the maps ``N r r+1``.

    The result has shape ``N spatial r``, its last axis in the order x, y, z. The size ``N C spatial`` must be constant.
    """
    theta, size = n.input(0), n.ints(1, "size")
    if size is None or len(size) not in (4, 5) or min(size) < 0:
        raise n.error(f"its size must be [N, C, H, W] or [N, C, D, H, W], not {list(size or ())}")
    batch, _, *space = size
    rank = len(space)
    wanted = (batch, rank, rank + 1)
    if theta.type.rank != 3 or not all(map(same, theta.type.shape, wanted)):
        raise n.error(
            f"theta has shape {list(theta.type.shape)}; for {plural(batch, 'map')} of {rank} axes it must be "
            f"{list(wanted)}"
        )
    made = theta.type.with_dtype("f64").with_shape((rank + 1, *space))
    check("constant_bytes", 4 * made.nbytes, f"{n.describe()}: its grid of {list(space)}")
    lines = [_positions(length, bool(n.attr("align_corners", 0))) for length in space]
    grid = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(space)], -1).reshape(-1, rank + 1)
    wide = accumulator(theta.type)
    maps = theta if wide == theta.type else n.emit(Cast(wide.dtype), theta)
    points = n.constant(grid.astype(wide.numpy_dtype), "grid")
    moved = n.emit(Reshape((batch, *space, rank)), n.emit(MatMul(), points, n.emit(Transpose((0, 2, 1)), maps)))
    return moved if wide == theta.type else n.emit(Cast(theta.type.dtype), moved)


def _positions(length: int, align_corners: bool) -> np.ndarray:
    """The positions of elements between -1 and 1: their centres, or with ``align_corners`` from end to end.

    A single element is then at -1, where the specification's function body starts.
    """
    if not align_corners:
        return (2 * np.arange(length) + 1) / max(length, 1) - 1
    return 2 * np.arange(length) / max(length - 1, 1) - 1
