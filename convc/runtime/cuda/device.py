"""What a program needs of the thing it runs on: memory, code, launches, streams. A GPU by its driver is one (``driver.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

Extent = tuple[int, int, int]
"""Of a grid or a block: x, y, z."""
Stream = int
"""A queue of work by its handle; work in one stream is done in order. 0 is the driver's default stream."""


class Device(Protocol):
    """A device with memory of its own, addressed by integers. Every method raises ``DeviceError`` when it fails.

    Work given to a stream has not been done when the call returns: ``synchronise`` waits for it. Arrays are contiguous.
    """

    name: str
    """What people call it: ``NVIDIA A100``."""
    arch: int
    """Its compute capability times ten: 80."""
    dlpack: tuple[int, int]
    """Its type and number in DLPack: (2, 0) for the first GPU."""

    def allocate(self, nbytes: int) -> int:
        """The address of memory aligned to 256 bytes; its content is anything."""

    def free(self, address: int) -> None:
        """Give memory back that no work given so far uses any more."""

    def copy_in(self, to: int, array: np.ndarray, stream: Stream) -> None:
        """Copy an array to the device; it may be changed when this returns."""

    def copy_out(self, array: np.ndarray, source: int, stream: Stream) -> None:
        """Copy from the device to an array; it is there when this returns."""

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        """Copy within the device."""

    def load(self, code: bytes) -> Any:
        """A module from the code of one group, as the build made it: a cubin, or PTX."""

    def kernel(self, module: Any, name: str, shared: int) -> Any:
        """A kernel of a module, which will be launched with ``shared`` bytes of dynamic shared memory."""

    def launch(
        self, kernel: Any, grid: Extent, block: Extent, shared: int, addresses: Sequence[int], stream: Stream
    ) -> None:
        """Start a kernel whose parameters are all pointers."""

    def new_stream(self) -> Stream:
        """A stream of its own, which does not wait for the default one."""

    def capture(self, work: Callable[[Stream], None]) -> Callable[[Stream], None]:
        """``work``, which only launches kernels and copies within the device, as one call that repeats it."""

    def mark(self, stream: Stream) -> Any:
        """What was given to a stream so far, for ``wait``; the stream need not live as long."""

    def wait(self, stream: Stream, mark: Any) -> None:
        """Let what is given to ``stream`` from now on wait for a mark in another."""

    def synchronise(self, stream: Stream) -> None:
        """Return when all work given to the stream is done."""
