"""Layer normalisation: a few rows at a time stay in the first-level cache while all of it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import te, tirx

from convc.ir.graph import Node
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._accumulate import accumulator
from convc.ir.ops._axes import axis_of, size_of
from convc.ir.ops.layer_norm import LayerNorm
from convc.ir.sizes import Dim
from convc.ir.types import TensorType

from ...blocks import all_blocks
from ...group import Group
from ...lowered import lowered
from ..overlap import Tiled, run_together, with_tiled
from ..target import Target
from ..tiles import tile_size

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
    if axis_of(node.op.axis, x.rank) != x.rank - 1 or x.rank < 2 or algorithm.lanes < 4 or x.is_empty:
        return None
    if x.layout is not None and not x.is_static:
        return None
    sch = lowered(group, {node.output.name: algorithm.compute}).schedule()
    names = [sch.get(b).name_hint for b in all_blocks(sch)]
    before, after = names[: names.index("first")], names[names.index("offset") + 1 :]
    for name in (*before[:-1], *after[:-1]):
        sch.compute_inline(sch.get_sblock(name))
    most = target.vector_registers // (2 * -(-algorithm.lanes // target.lanes()))
    sizes = group.body.outputs[0].type.at_typical().physical_shape
    places = _row_axes(sch, sch.get_sblock(after[-1]))
    if not places:
        return None
    rows = _rows_at_once(sch, after[-1], places, sizes, min(most, MAX_ROWS))
    sch = with_tiled(sch, _tiled(sch, [*before[-1:], *names[names.index("first") : -1]], after[-1], places, rows))
    return schedule(sch, algorithm, before[-1:], after[-1], rows, sizes, target)


@dataclass(frozen=True)
class LayerNormRows:
    """``(x - mean) / sqrt(var + epsilon) * scale + b`` along the last axis.

    The mean is summed from differences to the first element of the row, and kept in two parts, so that nothing cancels
    where it is far from zero (T. Chan, G. Golub and R. LeVeque, Algorithms for Computing the Sample Variance, 1983).
    Each sum is kept in ``lanes`` partial sums, which are then folded by halves.
    """

    node: Node

    @property
    def size(self) -> int:
        """The elements of a row."""
        return size_of(self.node.inputs[0].type, -1)

    @property
    def lanes(self) -> int:
        """The number of parts of a sum: the largest power of two up to ``LANES`` that divides the row."""
        size = self.node.inputs[0].type.shape[-1]
        return min(size & -size, LANES) if isinstance(size, int) else 1

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, *b = xs
        op = self.node.op
        assert isinstance(op, LayerNorm)
        dtype = accumulator(x.type).tvm_dtype
        *rows, _ = x.shape
        size = self.size
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

    def total(self, k: TensorExpressions, rows: Sequence[Dim], size: int, read: Any, name: str, dtype: str) -> Any:
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


def _halved(x: Any, rows: Sequence[Dim], width: int, name: str) -> Any:
    return te.compute((*rows, width), lambda *i: x(*i) + x(*i[:-1], i[-1] + width), name=name)


def _rows_at_once(sch: Any, result: str, places: Sequence[int], sizes: Sequence[int], most: int) -> int:
    """How many rows are worked on at once: a divisor of their number, or where that is open, what wastes least."""
    if isinstance(sch.get(sch.get_sblock(result)).iter_vars[places[-1]].dom.extent, tirx.IntImm):
        return max(r for r in range(1, most + 1) if sizes[places[-1]] % r == 0)
    return tile_size(sizes[places[-1]], most)


def _tiled(sch: Any, names: Sequence[str], result: str, places: Sequence[int], rows: int) -> list[Tiled]:
    """The axis of rows that is cut into tiles, if its extent is open, in the result and in the blocks before it."""
    out = sch.get(sch.get_sblock(result))
    axis = out.iter_vars[places[-1]]
    if isinstance(axis.dom.extent, tirx.IntImm):
        return []
    at = next(i for i, index in enumerate(_row(out)) if index.same_as(axis.var))
    along = {(name, at): (1, 0) for name in names if name != result}
    return [Tiled(rows, axis.dom.extent, {**along, (result, places[-1]): (1, 0)})]


def schedule(
    sch: Any,
    algorithm: LayerNormRows,
    gathered: Sequence[str],
    result: str,
    rows_at_once: int,
    sizes: Sequence[int],
    target: Target,
) -> Any:
    """Run rows in parallel, tiled along the last axis that tells rows apart, ``rows_at_once`` of them together.

    ``sizes`` are the typical extents of the result. 3136 rows of 96 out of blocked data: 24 GB/s; 196 rows of 384:
    31 GB/s (Zen 4).
    """
    out = sch.get_sblock(result)
    loops = sch.get_loops(out)
    places = _row_axes(sch, out)
    *outer, last = (loops[i] for i in places)
    tiles, rows = sch.split(last, [None, rows_at_once])
    inner = [rows if i == places[-1] else loop for i, loop in enumerate(loops) if i not in places[:-1]]
    if inner[-1] is not rows and sizes[-1] % algorithm.lanes == 0:
        inner[-1:] = sch.split(inner[-1], [None, algorithm.lanes])
    sch.reorder(*outer, tiles, *inner)
    pieces = prod(sizes[i] for i in places[:-1])
    row_bytes = 4 * sizes[places[-1]] * algorithm.size
    by_axis = bool(gathered) and pieces >= 4 * target.threads and row_bytes <= ROW_BYTES
    if by_axis:
        place = run_together(sch, outer)
    else:
        place = tiles = run_together(sch, (*outer, tiles))
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
    index = _row(block)
    if not all(isinstance(i, tirx.Var | tirx.IntImm) for i in index):
        return []
    return [i for i, axis in enumerate(block.iter_vars) if any(axis.var.same_as(at) for at in index)]


def _row(block: Any) -> list[Any]:
    """The index of the row that an element of a result belongs to."""
    return [r.min for r in next(b.region for b in block.reads if b.source.name == "inverse_deviation")]


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
