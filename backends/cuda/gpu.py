"""What a schedule and its cost model read of a GPU: one table, from the CUDA C++ Programming Guide, "Compute Capabilities"."""

from __future__ import annotations

import math
from dataclasses import dataclass

KIB = 1024
REGISTERS = 255
"""The most that a thread may have."""
THREADS = 1024
"""The most that a block may have."""


@dataclass(frozen=True)
class Gpu:
    """One architecture, the sizes being those of its common data-centre or consumer chip.

    ``tensor_cores`` is the oldest architecture whose warp-level matrix instructions (and asynchronous copies) it takes.
    ``tf32`` lets float32 convolutions and matrix products round their factors to TF32.
    """

    arch: int
    """Compute capability times ten: 80 is sm_80."""
    sms: int
    """Streaming multiprocessors."""
    shared_per_block: int
    """Bytes of shared memory that one block may ask for, opting in."""
    shared_per_sm: int
    threads_per_sm: int
    blocks_per_sm: int
    fp32_lanes: int
    """float32 multiply-adds that one multiprocessor starts in a cycle."""
    tf32: bool = False
    registers_per_sm: int = 65536
    warp: int = 32

    @property
    def name(self) -> str:
        """``sm_80``."""
        return f"sm_{self.arch}"

    @property
    def has_async_copy(self) -> bool:
        """Whether it has cp.async, and mma.sync on m16n8k16 and TF32."""
        return self.arch >= 80

    def resident(self, threads: int, registers: int, shared: int) -> int:
        """Blocks that one multiprocessor holds at once, by the threads, the registers a thread and the bytes of shared memory of one;
        0 when it cannot hold any. Registers are given out by eights, shared memory with 1 KB more.
        """
        if registers > REGISTERS or shared > self.shared_per_block or threads > THREADS:
            return 0
        warps = math.ceil(threads / self.warp)
        per_warp = math.ceil(registers / 8) * 8 * self.warp
        return min(
            self.registers_per_sm // (per_warp * warps),
            self.shared_per_sm // (shared + KIB),
            self.threads_per_sm // (warps * self.warp),
            self.blocks_per_sm,
        )


GPUS = {
    g.name: g
    for g in (
        Gpu(75, 40, 64 * KIB, 64 * KIB, 1024, 16, 64),
        Gpu(80, 108, 163 * KIB, 164 * KIB, 2048, 32, 64),
        Gpu(86, 84, 99 * KIB, 100 * KIB, 1536, 16, 128),
        Gpu(89, 128, 99 * KIB, 100 * KIB, 1536, 24, 128),
        Gpu(90, 132, 227 * KIB, 228 * KIB, 2048, 32, 128),
        Gpu(100, 148, 227 * KIB, 228 * KIB, 2048, 32, 128),
        Gpu(120, 170, 99 * KIB, 100 * KIB, 1536, 24, 128),
    )
}
"""The architectures that are built for by default, by name."""
