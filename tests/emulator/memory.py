"""The memory of the emulated GPU.

It is one file, which this process and the emulator's process map. Every buffer lies between red zones of 0xFF.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from pathlib import Path

import numpy as np

from .errors import EmulationError

RED_ZONE = 4096
ALIGNMENT = 256


class Memory:
    """Buffers by their offsets. Bytes that are not written yet are 0xFF, which is NaN in every floating-point type."""

    def __init__(self, capacity: int) -> None:
        handle, self.path = tempfile.mkstemp(prefix="convc_gpu_", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        os.ftruncate(handle, capacity)
        os.close(handle)
        self._remove = weakref.finalize(self, os.unlink, self.path)
        self.bytes = np.memmap(self.path, np.uint8, "r+", shape=(capacity,))
        self.buffers: dict[int, int] = {}
        """The size of each buffer by its offset."""
        self._end = RED_ZONE
        self.bytes[:RED_ZONE] = 0xFF

    @staticmethod
    def needed(sizes: list[int]) -> int:
        """The capacity that buffers of these sizes need."""
        return RED_ZONE + sum(-(-n // ALIGNMENT) * ALIGNMENT + RED_ZONE for n in sizes)

    def allocate(self, size: int) -> int:
        """Allocate a buffer of ``size`` bytes and return its offset."""
        offset = self._end
        self._end = offset + -(-size // ALIGNMENT) * ALIGNMENT + RED_ZONE
        if self._end > len(self.bytes):
            raise EmulationError(f"{size} bytes more than the emulator's memory holds")
        self.bytes[offset : self._end] = 0xFF
        self.buffers[offset] = size
        return offset

    def free(self, offset: int) -> None:
        """Free a buffer. Accessing it from now on is an error."""
        if offset not in self.buffers:
            raise EmulationError(f"offset {offset} was freed, where no buffer starts")
        self.bytes[offset : offset + self.buffers.pop(offset)] = 0xFF

    def view(self, offset: int, size: int) -> np.ndarray:
        """The bytes from an offset on, which must lie in one buffer."""
        if not any(at <= offset and offset + size <= at + n for at, n in self.buffers.items()):
            raise EmulationError(f"{size} bytes at offset {offset} copied, which lie in no buffer")
        return self.bytes[offset : offset + size]

    def check(self) -> None:
        """Raise ``EmulationError`` when a byte of a red zone has been written."""
        bounds = [(0, 0), *sorted((at, at + size) for at, size in self.buffers.items()), (self._end, self._end)]
        for i, ((_, end), (start, _)) in enumerate(itertools.pairwise(bounds)):
            written = np.flatnonzero(self.bytes[end:start] != 0xFF)
            if len(written):
                raise EmulationError(
                    f"{len(written)} bytes written out of bounds: from {written[0]} bytes "
                    f"after the end of buffer {i - 1}, "
                    f"{start - end - written[-1]} bytes before the start of buffer {i}"
                )

    def close(self) -> None:
        self._remove()
