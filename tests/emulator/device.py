"""An emulated GPU that runs whole plans.

Its memory is one file, a module is CUDA source, and a stream does its work at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from convc.backends.cuda.launch import Launch
from convc.runtime.cuda.device import Extent, Stream

from .memory import Memory
from .run import execute, launch_text, program

CAPACITY = 256 << 20


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel of a program that has been compiled."""

    program: Path
    name: str


class EmulatedDevice:
    """An implementation of ``convc.runtime.cuda.device.Device`` on the CPU. An address is an offset in the memory."""

    name = "emulator"
    dlpack = (2, 0)

    def __init__(self, arch: int) -> None:
        self.arch = arch
        self.memory = Memory(CAPACITY)

    def allocate(self, nbytes: int) -> int:
        return self.memory.allocate(nbytes)

    def free(self, address: int) -> None:
        """Free a buffer. Raises ``EmulationError`` when no buffer begins at the address."""
        self.memory.free(address)

    def copy_in(self, to: int, array: np.ndarray, stream: Stream) -> None:
        self.memory.view(to, array.nbytes)[:] = array.reshape(-1).view(np.uint8)

    def copy_out(self, array: np.ndarray, source: int, stream: Stream) -> None:
        array.reshape(-1).view(np.uint8)[:] = self.memory.view(source, array.nbytes)

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        self.memory.view(to, nbytes)[:] = self.memory.view(source, nbytes)

    def load(self, code: bytes) -> Path:
        return program(code.decode())

    def kernel(self, module: Path, name: str, shared: int) -> Kernel:
        return Kernel(module, name)

    def launch(
        self, kernel: Kernel, grid: Extent, block: Extent, shared: int, addresses: Sequence[int], stream: Stream
    ) -> None:
        launch = Launch(kernel.name, grid, block, shared, tuple(range(len(addresses))))
        execute(kernel.program, self.memory, [launch_text(launch, addresses)])

    def new_stream(self) -> Stream:
        return 1

    def capture(self, work: Callable[[Stream], None]) -> Callable[[Stream], None]:
        return work

    def mark(self, stream: Stream) -> None:
        pass

    def wait(self, stream: Stream, mark: None) -> None:
        pass

    def synchronise(self, stream: Stream) -> None:
        pass
