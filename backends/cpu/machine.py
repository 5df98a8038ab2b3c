"""The numbers that cost models read: what a processor can do in a cycle. One place, so that choices can be compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One core, and its share of memory."""

    lanes: int
    """float32 elements in a vector register."""
    registers: int
    """Vector registers."""
    cache_bytes: int
    """Second-level cache of a core."""
    shared_cache_bytes: int = 16 << 20
    """Last-level cache that one process may hope to keep."""
    flops_per_cycle: float = 32.0
    """Two fused multiply-adds of eight float32 (AVX2 on Zen and Skylake; AVX-512 on Zen 4 takes two cycles for sixteen)."""
    memory_bytes_per_cycle: float = 6.5
    """Reading from memory: 25 GB/s at 3.7 GHz, measured with the weights fetched ahead."""
    cache_bytes_per_cycle: float = 12.0
    """Reading from the last-level cache."""
    second_level_bytes_per_cycle: float = 32.0
    """Reading from the second-level cache."""
    dot4: bool = False
    """Whether an instruction adds four products of bytes to an int32 in each lane."""
    threads: int = 1
    """How many cores a call uses."""

    @property
    def block(self) -> int:
        """Channels kept together in memory: sixteen, one AVX-512 register or two of AVX2."""
        return max(16, self.lanes)

    @property
    def half_block(self) -> int:
        """Half a block of channels, where vectors of eight reach the full rate; else a whole one."""
        half = self.block // 2
        return half if 4 * half >= self.flops_per_cycle else self.block

    @property
    def tile_pixels(self) -> int:
        """Pixels by one block of channels that registers hold beside a weight and the broadcast input."""
        vectors = max(1, self.block // self.lanes)
        return (self.registers - max(4, vectors + 2)) // vectors
