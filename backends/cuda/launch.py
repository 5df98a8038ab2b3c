"""A compiled group on a GPU: its source, and the kernel launches that run it in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One kernel launch: the kernel's name in the source, grid and block (x, y, z), bytes of dynamic shared memory.

    ``arguments`` says what is passed for each parameter: ``i >= 0`` is the group's i-th argument (inputs, then
    outputs); ``i < 0`` is the buffer at byte offset ``-1 - i`` of the group's scratch memory.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class DeviceCode:
    """A group's CUDA source, its launches in order, and the bytes of scratch memory that they share."""

    source: str
    launches: tuple[Launch, ...]
    scratch: int = 0
