"""Register tiles of direct convolutions: rows and columns of pixels, by blocks of output channels.

They are chosen before a kernel is looked up in the cache, so that this file must not need TVM.
"""

from __future__ import annotations

from convc.ir.types import TensorType

from .layouts import HALF_BLOCKS_AT_ONCE
from .machine import SPARE
from .target import Target
from .tiles import LATENCY, most_pixels, plane_tile, register_tile, tile_size, tile_worth

MOST_BLOCKS = 8
"""Most blocks of output channels at once where there are too few pixels to hide latencies: as many streams of weights
as the processor prefetches well.
"""


def tile_of(out: TensorType, block: int, target: Target) -> tuple[int, int, int]:
    """The rows and columns of pixels, and the blocks of output channels, of a register tile for results of a type."""
    count = out.physical_shape[1]
    registers = target.vector_registers - SPARE
    blocks = half_blocks_at_once(count, out.sizes[3], registers) if block < target.lanes() else 1
    rows, columns = register_tile(out.sizes[2], out.sizes[3], max(block, target.lanes()) * blocks, target.machine)
    if rows * columns * blocks < LATENCY:
        blocks = max(b for b in range(1, MOST_BLOCKS + 1) if count % b == 0)
    return rows, columns, blocks


def tile_of_plane(out: TensorType, high: int, wide: int, target: Target) -> tuple[int, int, int]:
    """The same for planes of so many rows and columns of results in blocks, at whose ends tiles overlap."""
    assert out.layout is not None
    block = out.layout.block(1)
    registers = target.vector_registers - SPARE
    blocks = half_blocks_at_once(out.physical_shape[1], wide, registers) if block < target.lanes() else 1
    outputs = max(block, target.lanes()) * blocks
    return *plane_tile(high, wide, most_pixels(outputs, target.machine), outputs // target.lanes()), blocks


def half_blocks_at_once(count: int, width: int, registers: int) -> int:
    """How many blocks of output channels a register tile holds where a block is half a vector register.

    With a single one, each multiply-add would wait for the load of its own pixel. Half blocks are chosen only where
    their number has such a factor.
    """

    def worth(blocks: int) -> float:
        pixels = registers // blocks
        return tile_worth(width, tile_size(width, pixels, blocks), blocks)

    return max((b for b in HALF_BLOCKS_AT_ONCE if count % b == 0), key=worth, default=1)
