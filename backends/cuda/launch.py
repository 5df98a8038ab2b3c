"""What a compiled group is on a GPU: source, and the launches that run it in turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One kernel started: its name in the source, the extents of grid and block (x, y, z), bytes of dynamic shared memory.

    ``arguments`` says for each parameter what is passed: ``i >= 0`` the group's i-th argument (inputs, then outputs), ``i < 0`` the scratch buffer at
    byte offset ``-1 - i`` of the group's scratch memory.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class DeviceCode:
    """A group's CUDA source, its launches in order, and the bytes of scratch memory they share."""

    source: str
    launches: tuple[Launch, ...]
    scratch: int = 0
