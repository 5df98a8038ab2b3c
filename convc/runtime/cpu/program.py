"""Running machine code in memory of our own: weights packed once, a workspace for each calling thread, addresses in and out."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convc.ir.errors import ConvcError

from .memory import Arena, Plan, address_of
from .pool import setting, with_threads

SMALL = 8192
"""Arrays up to this many bytes are copied to and from memory kept for them: numpy takes longer to say where an array lies."""

Port = tuple[tuple[int, ...], np.dtype]
"""The shape and dtype of an input or output."""


class Program:
    """Machine code with its weights packed. Safe to call from several threads."""

    def __init__(
        self,
        module: Any,
        plan: Plan,
        weights: Mapping[str, np.ndarray],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        threads: int,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Pack the weights; ``release`` is called now and then, when weights read so far are not needed any more."""
        self._threads = threads if plan.parallel else 1
        self._main = module["main"]
        self._packed = with_threads(self._threads, pack, module, plan, weights, release)
        self._local = Local(plan.workspace, self._packed.address, inputs, outputs)

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run on arrays of the right shapes and dtypes, whatever their strides."""
        if setting.threads != self._threads:
            return with_threads(self._threads, self, arrays)
        local = self._local
        arguments = local.arguments
        for i, kept in local.inputs:
            array = arrays[i]
            if kept is not None:
                kept[...] = array
            elif array.flags.c_contiguous:
                arguments[i] = address_of(array)
            else:
                arguments[i] = local.copy(i, array)
        results = []
        for i, kept, shape, dtype in local.outputs:
            results.append(np.empty(shape, dtype) if kept is None else kept)
            if kept is None:
                arguments[i] = address_of(results[-1])
        if self._main(*arguments):
            raise ConvcError("a kernel failed: no memory, or no threads")
        return [r if o[1] is None else r.copy() for r, o in zip(results, local.outputs, strict=True)]


class Local(threading.local):
    """What each calling thread has for itself: its workspace, and the arguments of ``main``.

    Small inputs and outputs pass through arrays kept for them, whose addresses are known; the others' are put in anew.
    """

    def __init__(self, workspace: int, packed: int, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        self.workspace = Arena(workspace)
        kept = [np.empty(*p) if _is_small(*p) else None for p in (*inputs, *outputs)]
        self.arguments = [*(0 if k is None else address_of(k) for k in kept), packed, self.workspace.address]
        self.inputs = list(enumerate(kept[: len(inputs)]))
        self.outputs = [(len(inputs) + i, kept[len(inputs) + i], *port) for i, port in enumerate(outputs)]
        self.copies: dict[int, np.ndarray] = {}

    def copy(self, i: int, array: np.ndarray) -> int:
        """Copy an input that cannot be read where it lies; returns where the copy does."""
        if i not in self.copies:
            self.copies[i] = np.empty(array.shape, array.dtype)
        self.copies[i][...] = array
        return address_of(self.copies[i])


def _is_small(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return int(np.prod(shape)) * dtype.itemsize <= SMALL


RELEASE = 16 << 20
"""How many bytes of weights are read between two calls of ``release``."""


def pack(module: Any, plan: Plan, weights: Mapping[str, np.ndarray], release: Callable[[], None]) -> Arena:
    """The weights as the code reads them, by the steps of the plan."""
    arena = Arena(plan.loading)
    start, held = arena.address, 0
    for step in plan.steps:
        read = {name: np.ascontiguousarray(weights[name]) for name in step.inputs if isinstance(name, str)}
        sources = [start + at if isinstance(at, int) else address_of(read[at]) for at in step.inputs]
        targets = [start + at for at in step.outputs]
        if not step.kernel:
            ctypes.memmove(targets[0], sources[0], next(iter(read.values())).nbytes)
        elif module[f"load_{step.kernel}"](*sources, *targets, start + step.scratch):
            raise ConvcError("weights cannot be packed: no memory, or no threads")
        held += sum(a.nbytes for a in read.values())
        if held >= RELEASE:
            release()
            held = 0
    release()
    arena.release(plan.packed)
    return arena
