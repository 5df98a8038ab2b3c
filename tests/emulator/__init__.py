"""Runs CUDA C++ as TVM generates it on the CPU, to test kernels on machines without a GPU.

``run`` takes the source and the launches that artifacts are built from. A fiber stands for each thread. Barriers,
shuffles, ``ldmatrix``, ``mma.sync`` and ``cp.async`` behave as the PTX ISA says. What the hardware leaves undefined is
an error or NaN: shared memory and registers start as NaN, and the target of an asynchronous copy is NaN until the copy
has been waited for. Every buffer lies between red zones. Unaligned and out-of-bounds accesses, accesses of two threads
to the same memory without a barrier between them, and barriers that not all threads reach end the run. The emulator
cannot detect errors that depend on timing, and says nothing of speed. ``check`` runs one group by one rule and compares
it with ONNX Runtime.
"""

from .check import check
from .errors import EmulationError
from .run import run

__all__ = ["EmulationError", "check", "run"]
