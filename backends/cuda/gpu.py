"""The numbers of GPUs that schedules and their cost model read.

They are from the CUDA C++ Programming Guide, "Compute Capabilities".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

KIB = 1024
REGISTERS = 255
"""The most registers that a thread may have."""
THREADS = 1024
"""The most threads that a block may have."""


@dataclass(frozen=True)
class Gpu:
    """One GPU architecture, with the sizes of its common data-centre or consumer chip.

    ``tf32`` lets float32 convolutions and matrix products round their factors to TF32.
    """

    arch: int
    """Compute capability times ten: 80 is sm_80."""
    sms: int
    """Number of streaming multiprocessors."""
    shared_per_block: int
    """Bytes of shared memory that one block may ask for by opting in."""
    shared_per_sm: int
    threads_per_sm: int
    blocks_per_sm: int
    fp32_lanes: int
    """float32 multiply-adds that one multiprocessor starts per cycle."""
    tf32: bool = False
    registers_per_sm: int = 65536
    warp: int = 32

    @property
    def name(self) -> str:
        """The name of the architecture, such as ``sm_80``."""
        return f"sm_{self.arch}"

    @property
    def has_async_copy(self) -> bool:
        """Whether the GPU has cp.async, and mma.sync on m16n8k16 and TF32."""
        return self.arch >= 80

    def resident(self, threads: int, registers: int, shared: int) -> int:
        """How many blocks one multiprocessor holds at once; 0 when it cannot hold any.

        A block has this many ``threads``, ``registers`` per thread and bytes of ``shared`` memory. Registers are
        allocated in units of eight per thread; each block takes 1 KB more of shared memory than it asks for.
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
"""The architectures that code is built for by default, by name."""
