"""Dense layers with packed weights: a tile of rows by a panel of columns in registers, accumulated over the inner size."""

from __future__ import annotations

from typing import Any

from convc.ir.ops.gemm import Gemm
from convc.ir.ops.matmul import MatMul

from ..group import Group
from ..target import Target
from .blocks import inline_epilogue, keep_in_registers, store_tile


def dense(group: Group, target: Target) -> Any:
    """Groups led by ``gemm`` or ``matmul`` whose second operand is packed in panels; ``None`` for others."""
    node = group.anchor
    if not isinstance(node.op, Gemm | MatMul) or node.inputs[1].type.layout is None:
        return None
    weight = node.inputs[1].type
    assert weight.layout is not None
    panel = weight.layout.block(0) * weight.layout.block(1)
    vectors = -(-panel // target.lanes())
    rows = node.output.type.sizes[-2]
    most = max(1, (target.vector_registers - 4) // vectors)
    tile = max(t for t in range(1, most + 1) if rows % t == 0)
    resident = weight.nbytes <= target.cache_bytes // 2
    sch = group.lower().schedule()
    return schedule(sch, node.op.name, tile, panel, resident=resident, heavy=group.heavy_epilogue)


def schedule(sch: Any, name: str, tile: int, panel: int, *, resident: bool, heavy: bool) -> Any:
    """Tiles of rows and panels in parallel. A weight that stays in cache is passed over by each tile of rows; of a larger
    one each panel is read from memory once.
    """
    anchor = sch.get_sblock(name)
    out = inline_epilogue(sch, anchor)
    *batch, i, j, r = sch.get_loops(anchor)
    io, ii = sch.split(i, [None, tile])
    jo, ji = sch.split(j, [None, panel])
    order = (io, jo) if resident else (jo, io)
    sch.reorder(*batch, *order, r, ii, ji)
    sch.parallel(sch.fuse(*batch, *order))
    inner = sch.get_loops(anchor)[0]
    store_tile(sch, anchor, out, inner, axes=2, heavy=heavy)
    keep_in_registers(sch, anchor, (ii,), ji)
    sch.decompose_reduction(anchor, r)
    return sch
