"""Dense layers with packed weights: register tiles of rows by a few panels of columns, summed over the inner axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te

from convc.ir.graph import Node
from convc.ir.layout import round_up
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops.gemm import Gemm
from convc.ir.ops.matmul import MatMul
from convc.ir.types import TensorType

from ...blocks import inline_epilogue
from ...group import Group
from ...lowered import lowered
from ..chunks import in_chunks
from ..overlap import in_tiles, results_of, run_together
from ..target import Target
from ..tiles import CACHE_PARTS, tile_size
from .blocks import keep_in_registers, store_tile
from .prefetch import Tiling, prefetch_panels

STEP = 16
"""Rows of the weight in one step of the outer reduction loop."""
MOST_PANELS = 8
"""Most panels read side by side: as many streams as the processor prefetches well."""


def dense(group: Group, target: Target) -> Any:
    """The schedule of ``gemm`` or ``matmul`` groups whose second operand is packed in panels; ``None`` for others."""
    node = group.anchor
    if not isinstance(node.op, Gemm | MatMul) or node.inputs[1].type.layout is None:
        return None
    algorithm = Dense(node, 1)
    *batch, rows, _ = node.output.type.at_typical().sizes
    vectors = -(-algorithm.panel // target.lanes())
    count = algorithm.columns // algorithm.panel
    side = MOST_PANELS if rows == 1 else 2
    panels = max(p for p in range(1, max(1, side // vectors) + 1) if count % p == 0)
    # registers hold the accumulators, one weight per panel, and the broadcast input
    tile = tile_size(rows, (target.vector_registers - 2) // (vectors * panels) - 1, panels)
    algorithm = Dense(node, tile)
    resident = node.inputs[1].type.nbytes <= target.cache_bytes // CACHE_PARTS
    sch = lowered(group, {node.output.name: algorithm.compute}).schedule()
    rank = node.output.type.rank
    sch = in_tiles(sch, results_of(sch, "dense"), {rank - 2: tile})
    sch = schedule(sch, tile, panels, algorithm.panel, resident=resident, heavy=group.heavy_epilogue)
    if rows == 1 or resident:
        return sch  # one row reads a stream that hardware prefetches; a resident weight comes from memory only once
    tilings = [Tiling(i, 1, size) for i, size in enumerate(batch)]
    tilings.append(Tiling(rank - 2, tile, -(-rows // tile)))
    steps = [(panels + p) * algorithm.panel for p in range(panels)]
    return prefetch_panels(sch, "dense_update", group.argument(node.inputs[1]), rank - 1, rank + 1, tilings, steps)


@dataclass(frozen=True)
class Dense:
    """``Y[..., m, n] = sum over k of X[..., m, k] * W[n // panel, k, n % panel]``, padded to whole tiles and panels.

    n runs up to a whole number of panels and m up to a whole number of tiles. For the rows past the end, the last row
    is computed again. Where the number of rows is open, the last tile overlaps the one before it instead.
    """

    node: Node
    tile: int
    """Rows of a register tile."""

    @property
    def panel(self) -> int:
        """Columns that one panel keeps together in memory."""
        layout = self.node.inputs[1].type.layout
        assert layout is not None
        return layout.block(0) * layout.block(1)

    @property
    def columns(self) -> int:
        """Columns of all panels, the padding of the last one included."""
        columns = self.node.output.type.shape[-1]
        assert isinstance(columns, int)  # a weight in panels has a constant size
        return round_up(columns, self.panel)

    @property
    def inner(self) -> int:
        """The length of the sums by the weight. By the data it may be an expression, which was assumed to be equal."""
        op, (rows, columns) = self.node.op, self.node.inputs[1].type.sizes
        return columns if isinstance(op, Gemm) and op.trans_b else rows

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w, *c = xs
        inner = self.inner
        step = STEP if inner % STEP == 0 else inner
        ro, ri = k.reduce_axis(inner // step, "ro"), k.reduce_axis(step, "ri")
        *batch, m, _ = outs[0].shape
        rows = round_up(m, self.tile) if isinstance(m, int) else m

        def element(*index: Any) -> Any:
            *at, i, n = index
            row = i if rows == m else k.tirx.min(i, m - 1)
            rk = ro * step + ri
            return te.sum(x.tensor(*at, row, rk) * w.tensor(n // self.panel, rk, n % self.panel), axis=[ro, ri])

        y = k.operand(te.compute((*batch, rows, self.columns), element, name="dense"), outs[0])
        cropped = y
        if (rows, self.columns) != outs[0].shape[-2:]:
            cropped = k.operand(k.compute(outs[0], lambda *i: y(*i), "crop"), outs[0])
        op = self.node.op
        return op.scale_and_add(k, cropped, c, outs[0]) if isinstance(op, Gemm) else cropped.tensor


def schedule(sch: Any, tile: int, panels: int, panel: int, *, resident: bool, heavy: bool) -> Any:
    """Run tiles of rows and groups of panels in parallel.

    A weight that stays in cache (``resident``) is passed over by each tile of rows. Of a larger one, each panel is read
    from memory once.

    One row by 4096x4096: 30 GB/s, all that memory gives (Zen 4). 3136 rows, 384 to 96: 91% of the peak of AVX-512 (Zen
    4).
    """
    anchor = sch.get_sblock("dense")
    out = inline_epilogue(sch, anchor)
    *_, ro, ri = sch.get_loops(anchor)
    in_chunks(sch, ro, *(int(sch.get(loop).extent) for loop in (ro, ri)))
    rank = len(sch.get(out).iter_vars)
    *batch, i, j = sch.get_loops(anchor)[:rank]
    reduction = sch.get_loops(anchor)[rank:]
    io, ii = sch.split(i, [None, tile])
    jo, js, ji = sch.split(j, [None, panels, panel])
    order = (*batch, io, jo) if resident else (jo, *batch, io)
    sch.reorder(*order, *reduction, ii, js, ji)
    store_tile(sch, anchor, out, order[-1], axes=2, heavy=heavy)
    keep_in_registers(sch, anchor, (ii, js), ji)
    run_together(sch, order)
    sch.decompose_reduction(anchor, reduction[0])
    return sch
