"""How large the pieces are that work is cut into: what the registers hold, what the threads share out."""

from __future__ import annotations

from convc.ir.cost import LATENCY, idle, round_up, tile_size

from ..target import Target

__all__ = ["SPARE", "bands", "register_tile", "round_up", "tile_size"]

SPARE = 4
"""Registers kept free of accumulators: for weights, the broadcast input, and what LLVM moves about."""
MAX_IDLE = 1.15
"""Threads that wait for the last by no more than this are not worth another cut."""


def bands(blocks: int, rows: int, threads: int) -> int:
    """How many equal bands the rows of each block are cut into, for threads not to wait for each other: as few as do."""
    divisors = [b for b in range(1, rows + 1) if rows % b == 0]
    return min(divisors, key=lambda b: (max(idle(blocks * b, threads), MAX_IDLE), b))


def register_tile(height: int, width: int, block: int, target: Target, spare: int = SPARE) -> tuple[int, int]:
    """Rows and columns of pixels to hold in registers.

    The accumulators take ``rows * columns * block / lanes`` registers; ``spare`` stay free for the weight and the broadcast
    input (with sixteen registers LLVM starts to spill past six pixels of two). A step over one input channel takes as
    many multiply-adds as there are accumulators, but no less than their latency, and the load of the weight. A tile that
    does not divide the width wastes what hangs over, and widening the input costs about a twentieth.
    """
    vectors = -(-block // target.lanes())
    most = max(1, (target.vector_registers - max(spare, vectors + 2)) // vectors)  # the weights of a step take as many

    def worth(columns: int) -> float:
        tiles = -(-width // columns)
        share = width / (tiles * columns) * (1.0 if width % columns == 0 else 0.95)
        return share * columns / (max(columns, LATENCY) + 0.5)

    columns = max(range(1, most + 1), key=worth)
    rows = max(r for r in range(1, max(1, most // columns) + 1) if height % r == 0)
    return rows, columns
