"""The cost model of matrix products on GPUs: it chooses the tile, and the number of parts of the sum (split-K).

A thread block computes a tile of the result. Blocks run in waves: as many at once as the registers, shared memory and
threads of the multiprocessors admit. A step of a wave takes as long as the slowest of four things: the arithmetic of
the blocks on one multiprocessor, their reads of shared memory, their reads of global memory, and, where too few warps
are there to hide it, the latency of the loads. All times are in cycles. It is the model of Williams et al., "Roofline"
(2009), applied to each wave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..gpu import Gpu

GLOBAL_BYTES = 24
"""Bytes per cycle that one multiprocessor reads from the second-level cache when all of them do."""
SHARED_BYTES = 128
"""Bytes per cycle that one multiprocessor reads from shared memory."""
LATENCY = 600
"""Cycles from a load of global memory to its arrival, and a barrier."""
STEP = 40
"""Cycles that one step costs each block at barriers and in loops."""
BUSY_WARPS = 8
"""Warps that keep the arithmetic of a multiprocessor busy: two for each of its four schedulers."""
LAUNCH = 3000
"""Cycles that one more kernel costs: its launch, and filling and draining the machine."""
LEAST_DEPTH = 64
"""The fewest terms that a part of a split sum has."""
MOST_SPLITS = 16
"""The most parts that a sum is split into."""
BROADCAST = 4
"""How many threads of a warp share one read of shared memory on CUDA cores, where neighbours read the same address. An
estimate.
"""
CORE_REGISTERS = 30
"""Registers of a thread for addresses and loops on CUDA cores, beside those for sums and factors. An estimate: with it,
``Unit.registers`` is near what ptxas reports.
"""
WARP_REGISTERS = 16
"""The same as ``CORE_REGISTERS``, on tensor cores."""


class Sizes(NamedTuple):
    """The sizes of a stack of matrix products: ``batch`` products of ``m x k`` by ``k x n``."""

    batch: int
    m: int
    n: int
    k: int


@dataclass(frozen=True)
class Tile:
    """The tile of the result that one thread block computes: ``m x n``, in steps of ``k`` terms.

    It is shared out to ``rows x columns`` threads (warps, on tensor cores). ``stages`` steps of the factors are in
    shared memory at once.
    """

    m: int
    n: int
    k: int
    rows: int
    columns: int
    stages: int = 1

    @property
    def each(self) -> tuple[int, int]:
        """The rows and columns of the tile that one thread (on tensor cores, one warp) computes."""
        return self.m // self.rows, self.n // self.columns


@dataclass(frozen=True)
class Unit:
    """The arithmetic unit: CUDA cores, or tensor cores of one precision.

    ``rate`` is multiply-adds per cycle and multiprocessor; ``threads`` is the threads per element of a tile's
    ``rows x columns`` (a warp on tensor cores, else 1); ``bytes`` is the size of an element of the factors; ``padding``
    is the bytes after each row of a factor in shared memory.
    """

    rate: int
    threads: int
    bytes: int
    padding: int = 0

    def registers(self, tile: Tile) -> int:
        """An estimate of the registers that a thread takes, near what ptxas reports."""
        m, n = tile.each
        if self.threads == 1:
            return (m * n + 4 * m + n) * self.bytes // 4 + CORE_REGISTERS
        return m * n // 32 + (m + n) // 2 + WARP_REGISTERS

    def shared(self, tile: Tile) -> int:
        """Bytes of shared memory that a block takes.

        On tensor cores the result passes through shared memory in float32, in the place of the factors. TVM reuses the
        place of only one of them if these are float32 too.
        """
        left = tile.m * (tile.k * self.bytes + self.padding) * tile.stages
        right = tile.k * (tile.n * self.bytes + 2 * self.padding) * tile.stages
        if self.threads == 1:
            return left + right
        result = tile.m * tile.n * 4
        return right + max(left, result) if self.bytes == 4 else max(left + right, result)

    def step(self, tile: Tile) -> float:
        """Cycles of a multiprocessor for one step of one block.

        It is the longer of its multiply-adds and its reads of shared memory.
        """
        m, n = tile.each
        read = tile.rows * tile.columns * (m + n) * tile.k * self.bytes / SHARED_BYTES
        if self.threads == 1:
            read /= BROADCAST
        return max(tile.m * tile.n * tile.k / self.rate, read)


@dataclass(frozen=True)
class Choice:
    """A tile, the number of parts of the sum, and the estimated cycles."""

    tile: Tile
    splits: int
    cycles: float


def blocks(sizes: Sizes, tile: Tile, splits: int) -> int:
    """The number of thread blocks in the grid."""
    return sizes.batch * math.ceil(sizes.m / tile.m) * math.ceil(sizes.n / tile.n) * splits


def resident(tile: Tile, unit: Unit, gpu: Gpu) -> int:
    """How many blocks one multiprocessor holds at once; 0 when it cannot hold one."""
    threads = tile.rows * tile.columns * unit.threads
    return gpu.resident(threads, unit.registers(tile), unit.shared(tile))


def cycles(sizes: Sizes, tile: Tile, splits: int, unit: Unit, gpu: Gpu) -> float:
    """An estimate of the cycles that the product takes; infinite when the tile does not fit the GPU."""
    held = resident(tile, unit, gpu)
    if not held:
        return math.inf
    steps = math.ceil(math.ceil(sizes.k / tile.k) / splits)
    total = blocks(sizes, tile, splits)
    read = (tile.m + tile.n) * tile.k * unit.bytes / GLOBAL_BYTES
    warps = math.ceil(tile.rows * tile.columns * unit.threads / gpu.warp)

    def wave(count: int) -> float:
        """The cycles of ``count`` blocks that run at once."""
        each = math.ceil(count / gpu.sms)
        idle = max(1.0, BUSY_WARPS / (each * warps))
        exposed = LATENCY / max(1, tile.stages - 1)
        return steps * max(each * (unit.step(tile) * idle + STEP), each * read, exposed) + LATENCY

    full, rest = divmod(total, held * gpu.sms)
    time = full * wave(held * gpu.sms) + (wave(rest) if rest else 0)
    if splits > 1:
        moved = total * tile.m * tile.n * 4 * 2
        time += LAUNCH + moved / (GLOBAL_BYTES * gpu.sms)
    return time


def candidates(sizes: Sizes, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, int]]:
    """The tiles, each with every number of parts that leaves each part enough terms."""
    for tile in tiles:
        steps = math.ceil(sizes.k / tile.k)
        for splits in range(1, MOST_SPLITS + 1):
            part = math.ceil(steps / splits)
            whole = (splits - 1) * part < steps  # no part is empty
            if splits == 1 or (whole and part * tile.k >= LEAST_DEPTH):
                yield tile, splits


def choose(sizes: Sizes, tiles: Sequence[Tile], unit: Unit, gpu: Gpu, *, split: bool = True) -> Choice | None:
    """The fastest tile and number of parts; ``None`` when no tile fits the GPU.

    Of equally fast choices, it is the one that computes least padding. ``split=False`` keeps every sum in one part.
    """
    found = [
        Choice(tile, splits, cycles(sizes, tile, splits, unit, gpu))
        for tile, splits in candidates(sizes, tiles)
        if split or splits == 1
    ]
    best = min(found, key=lambda c: (c.cycles, blocks(sizes, c.tile, c.splits) * c.tile.m * c.tile.n), default=None)
    return best if best and best.cycles < math.inf else None
