"""What a program needs of a device: memory, code, launches and streams. ``driver.py`` implements it for GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

Extent = tuple[int, int, int]
"""The extent of a grid or a block: x, y, z."""
Stream = int
"""The handle of a queue of work; work in one stream is done in order. 0 is the driver's default stream."""


class Device(Protocol):
    """A device with memory of its own, addressed by integers. Every method raises ``DeviceError`` when it fails.

    Work given to a stream may not be done yet when the call returns: ``synchronise`` waits for it. Arrays are
    contiguous.
    """

    name: str
    """The device's product name, such as ``NVIDIA A100``."""
    arch: int
    """The device's compute capability times ten, such as 80."""
    dlpack: tuple[int, int]
    """The device's type and number in DLPack: (2, 0) for the first GPU."""

    def allocate(self, nbytes: int) -> int:
        """Allocate ``nbytes`` of uninitialised memory; returns its address, a multiple of 256 bytes."""

    def free(self, address: int) -> None:
        """Free memory that no work given so far still uses."""

    def copy_in(self, to: int, array: np.ndarray, stream: Stream) -> None:
        """Copy an array to the device. The caller may change the array once this returns."""

    def copy_out(self, array: np.ndarray, source: int, stream: Stream) -> None:
        """Copy from the device to an array. The data is there once this returns."""

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        """Copy ``nbytes`` within the device."""

    def load(self, code: bytes) -> Any:
        """Load the code of one group, a cubin or PTX as the build made it, as a module."""

    def kernel(self, module: Any, name: str, shared: int) -> Any:
        """A kernel of a module, to be launched with ``shared`` bytes of dynamic shared memory."""

    def launch(
        self, kernel: Any, grid: Extent, block: Extent, shared: int, addresses: Sequence[int], stream: Stream
    ) -> None:
        """Launch a kernel whose parameters are all pointers."""

    def new_stream(self) -> Stream:
        """A new stream, which does not wait for the default one."""

    def capture(self, work: Callable[[Stream], None]) -> Callable[[Stream], None]:
        """Record ``work``, which only launches kernels and copies within the device, as one call that repeats it."""

    def mark(self, stream: Stream) -> Any:
        """A mark after all work given to the stream so far, for ``wait``. The stream may be gone before the mark is."""

    def wait(self, stream: Stream, mark: Any) -> None:
        """Make work given to ``stream`` from now on wait for a mark in another stream."""

    def synchronise(self, stream: Stream) -> None:
        """Return when all work given to the stream is done."""
