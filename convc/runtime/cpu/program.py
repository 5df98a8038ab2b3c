"""Running machine code on a CPU.

Weights are packed once, each calling thread has its own workspace, and the code reads inputs and writes outputs at the
addresses that it is given.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..description import Port
from .code import LOAD, MAIN, Code
from .memory import Arena, Plan, address_of
from .pool import pool_of

SMALL = 8192
"""Arrays of at most this many bytes are copied to and from fixed memory.

For them, copying takes less time than numpy takes to give the array's address.
"""
RELEASE = 16 << 20
"""``release`` is called each time this many bytes of weights have been read."""


class Program:
    """Machine code with its packed weights. Several threads may call it at once."""

    def __init__(
        self,
        code: Code,
        plan: Plan,
        weights: Mapping[str, np.ndarray],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        threads: int,
        release: Callable[[], None] = lambda: None,
        trace: int = 0,
    ) -> None:
        """Pack the weights.

        ``threads`` is the number of threads that a call may use. ``release`` is called from time to time, when the
        weights that were read so far are no longer needed. ``trace`` is the address of the function that traced code
        calls between kernels.
        """
        self._code = code
        self._main = code.function(MAIN)
        threads = threads if plan.parallel else 1
        self.pool = pool = pool_of(code) if plan.parallel else None
        settings = (pool.launch, pool.address, threads) if pool else (0, 0, 1)

        def context(parts: int) -> ctypes.Array[ctypes.c_int64]:
            return (ctypes.c_int64 * 5)(*settings, parts, trace)

        self._packed = _pack(code, plan, weights, context, threads, release)

        def space() -> Space:
            return Space(plan, threads, self._packed.address, inputs, outputs, context)

        self._new_space = space
        self._local = Local(space)

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the network on arrays of the right shapes and dtypes, with any strides."""
        space = self._local.space
        if space.busy:  # a signal handler calls the model that its thread is calling
            space = self._new_space()
        space.busy = True
        try:
            return self._run(space, arrays)
        finally:
            space.busy = False

    def _run(self, space: Space, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        arguments = space.arguments
        for i, kept in space.inputs:
            array = arrays[i]
            if kept is not None:
                kept[...] = array
            elif array.flags.c_contiguous:
                arguments[i] = address_of(array)
            else:
                arguments[i] = space.copy(i, array)
        results = []
        for i, kept, shape, dtype in space.outputs:
            results.append(np.empty(shape, dtype) if kept is None else kept)
            if kept is None:
                arguments[i] = address_of(results[-1])
        self._main(*space.addresses)
        return [r if o[1] is None else r.copy() for r, o in zip(results, space.outputs, strict=True)]


Context = Callable[[int], "ctypes.Array[ctypes.c_int64]"]
"""Makes the context of a call (``backends/cpu/lower.py``), given the address of the memory for parallel loops."""


class Space:
    """The workspace of one calling thread, and the arguments that it passes to the code.

    Small inputs and outputs are copied through arrays at fixed addresses. The addresses of the others are set anew in
    each call.
    """

    def __init__(
        self,
        plan: Plan,
        threads: int,
        packed: int,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        context: Context,
    ) -> None:
        self.busy = False
        """Whether a call uses the space at the moment."""
        self.workspace = Arena(plan.workspace + threads * plan.part)
        kept = [np.empty(p.sizes, p.dtype) if p.nbytes <= SMALL else None for p in (*inputs, *outputs)]
        addresses = [*(0 if k is None else address_of(k) for k in kept), packed, self.workspace.address]
        self.arguments = (ctypes.c_int64 * len(addresses))(*addresses)
        self.context = context(self.workspace.address + plan.workspace)
        self.addresses = (ctypes.addressof(self.arguments), ctypes.addressof(self.context))
        self.inputs = list(enumerate(kept[: len(inputs)]))
        self.outputs = [
            (len(inputs) + i, kept[len(inputs) + i], p.sizes, np.dtype(p.dtype)) for i, p in enumerate(outputs)
        ]
        self.copies: dict[int, np.ndarray] = {}

    def copy(self, i: int, array: np.ndarray) -> int:
        """Copy an input that is not contiguous. Returns the address of the copy."""
        if i not in self.copies:
            self.copies[i] = np.empty(array.shape, array.dtype)
        self.copies[i][...] = array
        return address_of(self.copies[i])


class Local(threading.local):
    """The space of each calling thread.

    It is an object of its own, which the frame of a call keeps alive. When the process ends, Python clears the
    attributes of thread-local objects, while threads may still run the code.
    """

    def __init__(self, space: Callable[[], Space]) -> None:
        self.space = space()


def _pack(
    code: Code,
    plan: Plan,
    weights: Mapping[str, np.ndarray],
    context: Context,
    threads: int,
    release: Callable[[], None],
) -> Arena:
    """Pack the weights for the code by running the steps of the plan. Returns the memory that holds them."""
    arena, parts = Arena(plan.loading), Arena(threads * plan.part)
    record, held = context(parts.address), 0
    for step in plan.steps:
        read = {name: np.ascontiguousarray(weights[name]) for name in step.inputs if isinstance(name, str)}
        sources = [arena.address + at if isinstance(at, int) else address_of(read[at]) for at in step.inputs]
        targets = [arena.address + at for at in step.outputs]
        if step.kernel:
            addresses = [*sources, *targets, arena.address + step.scratch]
            arguments = (ctypes.c_int64 * len(addresses))(*addresses)
            code.function(LOAD + step.kernel)(ctypes.addressof(arguments), ctypes.addressof(record))
        else:
            ctypes.memmove(targets[0], sources[0], next(iter(read.values())).nbytes)
        held += sum(a.nbytes for a in read.values())
        if held >= RELEASE:
            release()
            held = 0
    release()
    arena.release(plan.packed)
    return arena
