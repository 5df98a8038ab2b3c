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
from .code import RUN, Code
from .memory import Arena, address_of
from .plan import Base, Encoded, Plan
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
        self._run_calls = code.function(RUN)
        threads = threads if plan.parallel else 1
        self.pool = pool = pool_of(code) if plan.parallel else None
        settings = (pool.launch, pool.address, threads) if pool else (0, 0, 1)

        def context(parts: int) -> ctypes.Array[ctypes.c_int64]:
            return (ctypes.c_int64 * 5)(*settings, parts, trace)

        self._packed = _pack(code, plan, weights, context, threads, release)
        calls = Encoded(plan.calls, code.address)

        def space() -> Space:
            return Space(plan, calls, threads, self._packed.address, inputs, outputs, context)

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
        bases = space.bases
        for array, (i, kept) in zip(arrays, space.inputs, strict=True):
            if kept is not None:
                kept[...] = array
            elif array.flags.c_contiguous:
                bases[i] = address_of(array)
            else:
                bases[i] = space.copy(i, array)
        results = []
        for i, kept, shape, dtype in space.outputs:
            results.append(np.empty(shape, dtype) if kept is None else kept)
            if kept is None:
                bases[i] = address_of(results[-1])
        self._run_calls(*space.addresses)
        return [r if o[1] is None else r.copy() for r, o in zip(results, space.outputs, strict=True)]


Context = Callable[[int], "ctypes.Array[ctypes.c_int64]"]
"""Makes the context of a call (``backends/cpu/abi.py``), given the address of the memory for parallel loops."""


class Space:
    """The workspace of one calling thread, and what it passes to the code.

    Small inputs and outputs are copied through arrays at fixed addresses. The addresses of the others are set anew in
    each call.
    """

    def __init__(
        self,
        plan: Plan,
        calls: Encoded,
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
        bases = [0, packed, self.workspace.address, *(0 if k is None else address_of(k) for k in kept)]
        self.bases = (ctypes.c_int64 * len(bases))(*bases)
        self.room = (ctypes.c_int64 * calls.room)()
        self.arguments = calls.arguments(self.bases, self.room)
        self.context = context(self.workspace.address + plan.workspace)
        self.addresses = (ctypes.addressof(self.arguments), ctypes.addressof(self.context))
        numbered = list(enumerate(kept, Base.PORTS))
        self.inputs = numbered[: len(inputs)]
        made = zip(numbered[len(inputs) :], outputs, strict=True)
        self.outputs = [(i, k, p.sizes, np.dtype(p.dtype)) for (i, k), p in made]
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
    run, record, held = code.function(RUN), context(parts.address), 0
    for step in plan.packing:
        read = [np.ascontiguousarray(weights[name]) for name in step.weights]
        if step.calls:
            calls = Encoded(step.calls, code.address)
            at = [0, arena.address, arena.address, *map(address_of, read)]
            room = (ctypes.c_int64 * calls.room)()
            bases = (ctypes.c_int64 * len(at))(*at)
            arguments = calls.arguments(bases, room)
            run(ctypes.addressof(arguments), ctypes.addressof(record))
        else:
            ctypes.memmove(arena.address + step.copied_to, address_of(read[0]), read[0].nbytes)
        held += sum(a.nbytes for a in read)
        if held >= RELEASE:
            release()
            held = 0
    release()
    arena.release(plan.packed)
    return arena
