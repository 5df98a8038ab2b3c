"""How a GPU's time goes by in a matrix product: from that the sizes of tiles, and into how many parts a sum is cut.

A block computes a tile of the result. Blocks run in waves: as many at once as registers, shared memory and threads of the
multiprocessors admit. A step of a wave takes as long as the slowest of what it keeps busy: the arithmetic of the blocks on one
multiprocessor, their reading of shared memory, their reading of global memory, and, where too few warps are there to hide
it, the latency of the loads. All in cycles; Williams et al., "Roofline" (2009), for each wave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..gpu import Gpu

GLOBAL_BYTES = 24
"""What one multiprocessor reads in a cycle from the second-level cache when all do."""
SHARED_BYTES = 128
"""What one multiprocessor reads in a cycle from shared memory."""
LATENCY = 600
"""From a load of global memory to its arrival, and a barrier."""
STEP = 40
"""What a step costs each block at its barriers and in its loops."""
BUSY_WARPS = 8
"""Warps that keep the arithmetic of a multiprocessor busy: two for each of its four schedulers."""
LAUNCH = 3000
"""What a kernel more costs, and its filling and draining of the machine."""
LEAST_DEPTH = 64
"""Terms that a part of a sum has at least."""
MOST_SPLITS = 16


class Sizes(NamedTuple):
    """The sizes of a stack of matrix products: ``batch`` of them, ``m x k`` by ``k x n``."""

    batch: int
    m: int
    n: int
    k: int


@dataclass(frozen=True)
class Tile:
    """A block's part of the result, ``m x n``, summed ``k`` terms a step, shared out to ``rows x columns`` threads (warps, on tensor
    cores); ``stages`` steps of the factors are in shared memory at once.
    """

    m: int
    n: int
    k: int
    rows: int
    columns: int
    stages: int = 1

    @property
    def each(self) -> tuple[int, int]:
        """The part of the tile that a thread (a warp) computes."""
        return self.m // self.rows, self.n // self.columns


@dataclass(frozen=True)
class Unit:
    """What multiplies: CUDA cores, or tensor cores of a precision.

    ``rate``: multiply-adds in a cycle of a multiprocessor; ``threads``: in each of a tile's ``rows x columns``; ``bytes``: of
    an element of the factors; ``padding``: bytes after each row of them in shared memory.
    """

    rate: int
    threads: int
    bytes: int
    padding: int = 0

    def registers(self, tile: Tile) -> int:
        """An estimate of a thread's registers, near what ptxas reports."""
        m, n = tile.each
        if self.threads == 1:
            return (m * n + 4 * m + n) * self.bytes // 4 + 30
        return m * n // 32 + (m + n) // 2 + 16

    def shared(self, tile: Tile) -> int:
        """Bytes of shared memory a block takes. On tensor cores the result passes through it in float32, where the factors were; TVM
        puts it in the place of one of them only, if these are float32 too.
        """
        left = tile.m * (tile.k * self.bytes + self.padding) * tile.stages
        right = tile.k * (tile.n * self.bytes + 2 * self.padding) * tile.stages
        if self.threads == 1:
            return left + right
        result = tile.m * tile.n * 4
        return right + max(left, result) if self.bytes == 4 else max(left + right, result)

    def step(self, tile: Tile) -> float:
        """Cycles of a multiprocessor for one step of one block: its multiply-adds or its reads of shared memory."""
        m, n = tile.each
        read = tile.rows * tile.columns * (m + n) * tile.k * self.bytes / SHARED_BYTES
        if self.threads == 1:
            read /= 4  # neighbours in a warp read the same
        return max(tile.m * tile.n * tile.k / self.rate, read)


@dataclass(frozen=True)
class Choice:
    """A tile, and the parts of the sum."""

    tile: Tile
    splits: int
    cycles: float


def blocks(sizes: Sizes, tile: Tile, splits: int) -> int:
    """Blocks in the grid."""
    return sizes.batch * math.ceil(sizes.m / tile.m) * math.ceil(sizes.n / tile.n) * splits


def resident(tile: Tile, unit: Unit, gpu: Gpu) -> int:
    """Blocks that one multiprocessor holds at once; 0 when it cannot hold one."""
    threads = tile.rows * tile.columns * unit.threads
    return gpu.resident(threads, unit.registers(tile), unit.shared(tile))


def cycles(sizes: Sizes, tile: Tile, splits: int, unit: Unit, gpu: Gpu) -> float:
    """An estimate of what the product takes; infinite when the tile does not fit the GPU."""
    held = resident(tile, unit, gpu)
    if not held:
        return math.inf
    steps = math.ceil(math.ceil(sizes.k / tile.k) / splits)
    total = blocks(sizes, tile, splits)
    read = (tile.m + tile.n) * tile.k * unit.bytes / GLOBAL_BYTES
    warps = math.ceil(tile.rows * tile.columns * unit.threads / gpu.warp)

    def wave(count: int) -> float:
        """The time of so many blocks at once."""
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
    """The tiles, each with the numbers of parts that leave every part enough terms."""
    for tile in tiles:
        steps = math.ceil(sizes.k / tile.k)
        for splits in range(1, MOST_SPLITS + 1):
            part = math.ceil(steps / splits)
            whole = (splits - 1) * part < steps  # no part is empty
            if splits == 1 or (whole and part * tile.k >= LEAST_DEPTH):
                yield tile, splits


def choose(sizes: Sizes, tiles: Sequence[Tile], unit: Unit, gpu: Gpu, *, split: bool = True) -> Choice | None:
    """The tile and the number of parts that take the least time, of those the ones that compute least beside the result; ``None`` when
    no tile fits the GPU.
    """
    found = [
        Choice(tile, splits, cycles(sizes, tile, splits, unit, gpu))
        for tile, splits in candidates(sizes, tiles)
        if split or splits == 1
    ]
    best = min(found, key=lambda c: (c.cycles, blocks(sizes, c.tile, c.splits) * c.tile.m * c.tile.n), default=None)
    return best if best and best.cycles < math.inf else None
