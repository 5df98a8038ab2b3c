"""The schedule that depthwise convolution and pooling on blocked data share."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from ...blocks import find_block, inline_epilogue
from ..borders import test_at_borders
from ..overlap import in_tiles, results_of, run_together
from ..target import Target
from ..tiles import bands, register_tile
from .blocks import keep_in_registers, store_tile

MAX_WINDOW = 25
"""Windows of at most this many taps are unrolled whole."""


def window_tile(height: int, width: int, block: int, target: Target) -> tuple[int, int]:
    """The rows and columns of results in a register tile.

    Five eighths of the registers are left free of them, for weights and for the pixels that neighbouring windows share.
    """
    return register_tile(height, width, block, target.machine, target.vector_registers * 5 // 8)


def schedule_windows(sch: Any, name: str, rows: int, columns: int, target: Target, *, heavy: bool) -> Any:
    """Schedule the block ``name`` over ``n, c, h, w, lanes`` and two axes of taps, in tiles of ``rows x columns``.

    The tiles are register tiles. The threads share out bands of rows, and blocks of channels within a band. Nothing is
    padded in memory, which would cost more than the sums do: the loops over tiles are cut where the border begins and
    ends, and only tiles at a border test where they read.
    """
    sch = in_tiles(sch, results_of(sch, name), {2: rows, 3: columns})
    anchor = sch.get_sblock(name)
    pad = find_block(sch, "pad")
    if pad is not None:
        sch.compute_inline(pad)
    out = inline_epilogue(sch, anchor)
    n, c, oh, ow, v, rh, rw = sch.get_loops(anchor)
    taps = int(sch.get(rh).extent) * int(sch.get(rw).extent)
    oho, ohi = sch.split(oh, [None, rows])
    high = sch.get(oho).extent
    band, oho = sch.split(oho, [bands(int(high), target.threads) if isinstance(high, tirx.IntImm) else 1, None])
    owo, owi = sch.split(ow, [None, columns])
    wide = sch.get(owo).extent
    # of open extents, the loop over rows comes first, since a row of taps is tested for all pixels at once
    inner = (rh, rw, ohi, owi) if isinstance(wide, tirx.IntImm) else (rh, ohi, rw, owi)
    sch.reorder(n, band, c, oho, owo, *inner, v)
    run_together(sch, (n, band, c))
    if isinstance(high, tirx.IntImm):
        sch.annotate(oho, "pragma_loop_partition_hint", 1)
    test_at_borders(sch, owo)
    store_tile(sch, anchor, out, owo, axes=3, heavy=heavy)
    keep_in_registers(sch, anchor, (ohi, owi), v)
    if taps <= MAX_WINDOW:
        sch.unroll(rw)
        sch.unroll(rh)
    sch.decompose_reduction(anchor, rh)
    return sch
