"""Runs CUDA C++ as TVM generates it on the CPU, to test kernels where there is no GPU.

``run`` takes what ships: the very source, and its launches. A fiber stands for each thread; barriers, shuffles,
``ldmatrix``, ``mma.sync`` and ``cp.async`` behave as the PTX ISA says, and what the hardware leaves undefined is an
error or poison: shared memory and registers start as NaN, a copy's target is NaN until it has been waited for, every
buffer lies between red zones, an unaligned access, one out of bounds, one that no barrier keeps apart from another
thread's, or a barrier that not all threads reach ends the run. It cannot see speed, nor what is left to timing.
``check`` runs one group by one rule against ONNX Runtime.
"""

from .check import check
from .errors import EmulationError
from .run import run

__all__ = ["EmulationError", "check", "run"]
