"""The numbers that the cost models read: what a processor can do in a cycle.

They stand in one place, so that choices made from them can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

SPARE = 4
"""Registers kept free of accumulators: for the weights, the broadcast input, and LLVM's own temporaries."""


@dataclass(frozen=True)
class Machine:
    """One core of a processor and its share of the memory system."""

    lanes: int
    """float32 elements in a vector register."""
    registers: int
    """Number of vector registers."""
    cache_bytes: int
    """Bytes of the second-level cache of one core."""
    shared_cache_bytes: int = 16 << 20
    """Bytes of the last-level cache that one process may hope to keep."""
    flops_per_cycle: float = 32.0
    """Two fused multiply-adds of eight float32 (AVX2 on Zen and Skylake). AVX-512 on Zen 4 does the same: its
    multiply-adds of sixteen float32 take two cycles.
    """
    memory_bytes_per_cycle: float = 6.5
    """Bytes per cycle read from memory: 25 GB/s at 3.7 GHz, measured with the weights fetched ahead."""
    cache_bytes_per_cycle: float = 12.0
    """Bytes per cycle read from the last-level cache."""
    second_level_bytes_per_cycle: float = 32.0
    """Bytes per cycle read from the second-level cache."""
    dot4: bool = False
    """Whether an instruction adds four products of bytes to an int32 in each lane (VNNI)."""
    threads: int = 1
    """How many cores a call uses."""

    @property
    def block(self) -> int:
        """Channels kept together in memory: sixteen, which is one AVX-512 register or two AVX2 registers."""
        return max(16, self.lanes)

    @property
    def half_block(self) -> int:
        """Half a block of channels where vectors of eight lanes reach the full rate; elsewhere a whole block."""
        half = self.block // 2
        return half if 4 * half >= self.flops_per_cycle else self.block

    @property
    def tile_pixels(self) -> int:
        """Pixels of one block of channels whose accumulators fit the registers.

        Registers stay free for the weights and the broadcast input.
        """
        vectors = max(1, self.block // self.lanes)
        return (self.registers - max(SPARE, vectors + 2)) // vectors
