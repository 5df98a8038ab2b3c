"""How large the pieces are that work is cut into: what the registers hold, what the threads share out."""

from __future__ import annotations

from convc.ir.layout import round_up

from .machine import Machine

LATENCY = 4
"""Pixels that a register tile needs for its multiply-adds not to wait for each other."""
SPARE = 4
"""Registers kept free of accumulators: for weights, the broadcast input, and what LLVM moves about."""
MAX_IDLE = 1.15
"""Threads that wait for the last by no more than this are not worth another cut."""


def idle(pieces: int, threads: int) -> float:
    """How much longer the threads take over equal pieces of work than if those could be cut at will."""
    return -(-pieces // threads) * threads / pieces


def tile_size(count: int, most: int, side: int = 1) -> int:
    """How many of ``count`` things to hold in registers at once, of which there are at most ``most``, each ``side`` times.

    A last tile that is not full takes as long as a full one.
    """
    return max(range(1, max(1, most) + 1), key=lambda size: tile_worth(count, size, side))


def tile_worth(count: int, size: int, side: int = 1) -> float:
    """The share of peak of register tiles of this size: what hangs over, latencies and the load of a weight taken off."""
    return count / round_up(count, size) * size * side / (max(size * side, LATENCY) + 0.5 * side)


def bands(rows: int, threads: int) -> int:
    """How many equal bands the rows of a plane are cut into, for each thread to work on rows of its own: as few as keep
    threads from waiting for each other; one where no number does.

    Kernels that all cut planes alike read what the same core wrote. Another core's results take longer to fetch, and
    where the two share no cache, longer than computing them again would.
    """
    if threads == 1:
        return 1
    fair = (b for b in range(2, rows + 1) if rows % b == 0 and idle(b, threads) <= MAX_IDLE)
    return next(fair, 1)


def register_tile(height: int, width: int, block: int, machine: Machine, spare: int = SPARE) -> tuple[int, int]:
    """Rows and columns of pixels to hold in registers.

    The accumulators take ``rows * columns * block / lanes`` registers; ``spare`` stay free for the weight and the broadcast
    input (with sixteen registers LLVM starts to spill past six pixels of two). A step over one input channel takes as
    many multiply-adds as there are accumulators, but no less than their latency, and the load of the weight. A tile that
    does not divide the width wastes what hangs over, and widening the input costs about a twentieth.
    """
    vectors = -(-block // machine.lanes)
    most = max(1, (machine.registers - max(spare, vectors + 2)) // vectors)  # the weights of a step take as many

    def worth(columns: int) -> float:
        tiles = -(-width // columns)
        share = width / (tiles * columns) * (1.0 if width % columns == 0 else 0.95)
        return share * columns / (max(columns, LATENCY) + 0.5)

    columns = max(range(1, most + 1), key=worth)
    rows = max(r for r in range(1, max(1, most // columns) + 1) if height % r == 0)
    return rows, columns
