"""Layer normalisation: a few rows at a time stay in the first-level cache while all of it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from convc.ir.graph import Node
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._accumulate import accumulator
from convc.ir.ops._axes import axis_of
from convc.ir.ops.layer_norm import LayerNorm
from convc.ir.types import TensorType

from ...blocks import all_blocks
from ...group import Group
from ...lowered import lowered
from ..target import Target

LANES = 16
"""Partial sums per row; fewer where they do not divide the row."""
MAX_ROWS = 8
"""Most rows worked on at once, so that the sums of one do not wait for those of another."""
ROW_BYTES = 48 << 10
"""Rows gathered from another layout take at most this much memory at a time."""


def layer_norm(group: Group, target: Target) -> Any:
    """The schedule of ``layer_norm`` groups along the last axis; ``None`` for others, or if the epilogue mixes rows."""
    node = group.anchor
    if not isinstance(node.op, LayerNorm) or node.op.stats:
        return None
    x = node.inputs[0].type
    algorithm = LayerNormRows(node)
    if axis_of(node.op.axis, x.rank) != x.rank - 1 or x.rank < 2 or algorithm.lanes < 4 or x.numel == 0:
        return None
    sch = lowered(group, {node.output.name: algorithm.compute}).schedule()
    names = [sch.get(b).name_hint for b in all_blocks(sch)]
    before, after = names[: names.index("first")], names[names.index("offset") + 1 :]
    for name in (*before[:-1], *after[:-1]):
        sch.compute_inline(sch.get_sblock(name))
    most = target.vector_registers // (2 * -(-algorithm.lanes // target.lanes()))
    return schedule(sch, algorithm, before[-1:], after[-1], min(most, MAX_ROWS), target)


@dataclass(frozen=True)
class LayerNormRows:
    """``(x - mean) / sqrt(var + epsilon) * scale + b`` along the last axis.

    The mean is summed from differences to the first element of the row, and kept in two parts, so that nothing cancels
    where it is far from zero (T. Chan, G. Golub and R. LeVeque, Algorithms for Computing the Sample Variance, 1983).
    Each sum is kept in ``lanes`` partial sums, which are then folded by halves.
    """

    node: Node

    @property
    def lanes(self) -> int:
        """The number of parts of a sum: the largest power of two up to ``LANES`` that divides the row."""
        size = self.node.inputs[0].type.sizes[-1]
        return min(size & -size, LANES)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, *b = xs
        op = self.node.op
        assert isinstance(op, LayerNorm)
        dtype = accumulator(x.type).tvm_dtype
        *rows, size = x.shape
        count = k.const(size, dtype)

        def read(index: Sequence[Any]) -> Any:
            return x(*index).astype(dtype)

        first = te.compute(tuple(rows), lambda *i: read((*i, 0)), name="first")
        total = self.total(k, rows, size, lambda index: read(index) - first(*index[:-1]), "sum", dtype)
        mean = te.compute(tuple(rows), lambda *i: first(*i) + total(*i, 0) / count, name="mean")
        # what the rounded mean lacks
        rest = te.compute(tuple(rows), lambda *i: total(*i, 0) / count - (mean(*i) - first(*i)), name="rest")

        def square(index: Sequence[Any]) -> Any:
            difference = read(index) - mean(*index[:-1])
            return difference * difference

        squares = self.total(k, rows, size, square, "square_sum", dtype)

        def inverse(*i: Any) -> Any:
            variance = k.tirx.max(squares(*i, 0) / count - rest(*i) * rest(*i), k.const(0, dtype))
            return k.const(1, dtype) / k.tirx.sqrt(variance + k.const(op.epsilon, dtype))

        factor = te.compute(tuple(rows), inverse, name="inverse_deviation")
        offset = te.compute(tuple(rows), lambda *i: rest(*i) * factor(*i), name="offset")

        def element(*i: Any) -> Any:
            row = i[:-1]
            y = ((read(i) - mean(*row)) * factor(*row) - offset(*row)) * scale.at(i).astype(dtype)
            return (y + b[0].at(i).astype(dtype) if b else y).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "layer_norm")

    def total(self, k: TensorExpressions, rows: Sequence[int], size: int, read: Any, name: str, dtype: str) -> Any:
        """The sum of each row, with a last axis of size 1: ``lanes`` partial sums, added up by halves."""
        part = k.reduce_axis(size // self.lanes, "part")

        def element(*i: Any) -> Any:
            return te.sum(read((*i[:-1], part * self.lanes + i[-1])), axis=part)

        summed = te.compute((*rows, self.lanes), element, name=name)
        width = self.lanes // 2
        while width:
            summed = _halved(summed, rows, width, f"{name}_{width}")
            width //= 2
        return summed


def _halved(x: Any, rows: Sequence[int], width: int, name: str) -> Any:
    return te.compute((*rows, width), lambda *i: x(*i) + x(*i[:-1], i[-1] + width), name=name)


def schedule(
    sch: Any, algorithm: LayerNormRows, gathered: Sequence[str], result: str, most: int, target: Target
) -> Any:
    """Run rows in parallel, tiled along the last axis that tells rows apart: ``most`` of them are worked on at once.

    3136 rows of 96 out of blocked data: 24 GB/s; 196 rows of 384: 31 GB/s (Zen 4).
    """
    out = sch.get_sblock(result)
    loops = sch.get_loops(out)
    places = _row_axes(sch, out)
    if not places:
        return None
    *outer, last = (loops[i] for i in places)
    extent = int(sch.get(last).extent)
    tile = max(r for r in range(1, most + 1) if extent % r == 0)
    tiles, rows = sch.split(last, [None, tile])
    inner = [rows if i == places[-1] else loop for i, loop in enumerate(loops) if i not in places[:-1]]
    if inner[-1] is not rows and int(sch.get(inner[-1]).extent) % algorithm.lanes == 0:
        inner[-1:] = sch.split(inner[-1], [None, algorithm.lanes])
    sch.reorder(*outer, tiles, *inner)
    pieces = 1
    for loop in outer:
        pieces *= int(sch.get(loop).extent)
    size = algorithm.node.inputs[0].type.sizes[-1]
    by_axis = bool(gathered) and pieces >= 4 * target.threads and 4 * extent * size <= ROW_BYTES
    if by_axis:
        place = sch.fuse(*outer) if len(outer) > 1 else outer[0]
        sch.parallel(place)
    else:
        place = tiles = sch.fuse(*outer, tiles) if outer else tiles
        sch.parallel(tiles)
    if int(sch.get(inner[-1]).extent) <= 64:
        sch.vectorize(inner[-1])
    _statistics(sch, tiles)
    for name in gathered:
        block = sch.get_sblock(name)
        sch.compute_at(block, place, preserve_unit_loops=True)
        *_, row, column = sch.get_loops(block)
        column, lane = sch.split(column, [None, algorithm.lanes])
        sch.reorder(column, row, lane)
        sch.vectorize(lane)
    return sch


def _row_axes(sch: Any, out: Any) -> list[int]:
    """The axes of a block that say which row an element belongs to; empty where an index combines axes."""
    block = sch.get(out)
    index = [r.min for r in next(b.region for b in block.reads if b.source.name == "inverse_deviation")]
    if not all(isinstance(i, tirx.Var | tirx.IntImm) for i in index):
        return []
    return [i for i, axis in enumerate(block.iter_vars) if any(axis.var.same_as(at) for at in index)]


def _statistics(sch: Any, tiles: Any) -> None:
    """Compute the statistics of a tile of rows in registers, all rows of the tile side by side."""
    names = [sch.get(b).name_hint for b in all_blocks(sch)]
    for name in reversed(names[names.index("first") : names.index("offset") + 1]):
        block = sch.get_sblock(name)
        sch.compute_at(block, tiles, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
        kinds = [axis.iter_type for axis in sch.get(block).iter_vars]
        loops = sch.get_loops(block)[-len(kinds) :]
        if kinds[-1] == tirx.IterVar.CommReduce:
            *rows, lane, part = loops
            sch.reorder(*rows[:-1], part, rows[-1], lane)
            sch.vectorize(lane)
            sch.unroll(rows[-1])
            sch.decompose_reduction(block, part)
        elif name in ("first", "mean", "rest", "inverse_deviation", "offset"):
            sch.unroll(loops[-1])
        else:
            sch.vectorize(loops[-1])
            sch.unroll(loops[-2])
