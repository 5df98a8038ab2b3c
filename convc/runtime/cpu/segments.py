"""The later segments of a call: sizes are read from memory, what follows is planned for them, and runs.

A plan of a segment is kept for the next call of the same sizes: by the program for all threads, and by each thread with
what it passes to the code. Each segment has a workspace of its own, which grows before the segment runs, so that it
never moves what the call has written.
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from convc.ir.errors import SizeError

from ..description import Port
from .memory import Arena, address_of
from .plan import Base, Plan, Read, Steps
from .sized import Encoded, Planner, Sized
from .sizes import Values
from .steps import Body, Runner

KEPT = 32
"""The number of plans that a program keeps of each segment."""
KEPT_HERE = 8
"""The number of plans of each segment that a thread can run without setting anything up."""

Bases = ctypes.Array  # of ctypes.c_int64
Context = Callable[[int], "ctypes.Array[ctypes.c_int64]"]
"""Makes the context of a call (``backends/cpu/abi.py``), given the address of the memory for parallel loops."""
Key = tuple[int, ...]
"""The values of the sizes on which the plan of a segment depends."""


class Later:
    """The plans of later segments, which all threads share."""

    def __init__(self, plan: Plan, planner: Planner, body: Callable[[Steps, list[Port], list[Port]], Body]) -> None:
        """``body`` makes the program of the body of a loop."""
        self.plan = plan
        self.loops = [
            [Runner(plan, loop, known + len(segment.reads), partial(body, loop)) for loop in segment.loops]
            for known, segment in zip(plan.known, plan.later, strict=False)
        ]
        """What runs the loops before each segment."""
        self._planner = planner
        self._plans: list[OrderedDict[Key, Sized]] = [OrderedDict() for _ in plan.later]
        self._lock = threading.Lock()

    def key(self, segment: int, sizes: Sequence[int]) -> Key:
        """The sizes on which the plan of a segment depends, out of all that are known."""
        return tuple([sizes[i] for i in self._planner.used(segment)])

    def sized(self, segment: int, key: Key, sizes: Sequence[int]) -> Sized:
        """The plan of a segment. It is made unless it is among those used last.

        Raises ``SizeError`` or ``LimitError`` for sizes that cannot be called.
        """
        plans = self._plans[segment - 1]
        with self._lock:
            if found := plans.get(key):
                plans.move_to_end(key)
                return found
        made = self._planner.after(segment, sizes)  # by several threads at the same time, where they need it
        with self._lock:
            plans[key] = made
            while len(plans) > KEPT:
                plans.popitem(last=False)
        return made


class Rest:
    """What one thread runs of a call after its first segment."""

    def __init__(
        self,
        later: Later,
        run: Callable[[int, int], object],
        bases: Bases[ctypes.c_int64],
        first: int,
        outputs: Sequence[Port],
        threads: int,
        context: Context,
    ) -> None:
        """``run`` runs encoded calls, ``bases`` are those of the thread, and ``first`` is that of the first output."""
        self._later, self._run, self._bases, self._first = later, run, bases, first
        self._dtypes = [np.dtype(p.dtype) for p in outputs]
        self._threads, self._context = threads, context
        self._held: list[np.ndarray] = []
        self._arenas = [Arena(0) for _ in later.plan.later]
        self._ready: list[OrderedDict[Key, _Ready]] = [OrderedDict() for _ in later.plan.later]

    def __call__(self, begun: Sized, results: list[np.ndarray | None]) -> int:
        """Run the later segments after the first one, and make the results that are missing.

        Returns the bytes of workspace of all segments. Raises ``SizeError`` or ``LimitError`` for sizes that the code
        does not take.
        """
        sizes, plan, workspace = begun.sizes, self._later.plan, begun.calls.workspace
        self._held = []
        for i, segment in enumerate(plan.later):
            sizes = (*sizes, *[self._size(read) for read in segment.reads])
            known = sizes
            for runner in self._later.loops[i]:
                made, more = runner(self._bases, known)
                self._held += made
                sizes = (*sizes, *more)
            ready = self._prepared(i, sizes)
            workspace += ready.sized.calls.workspace
            if workspace > plan.workspace_bytes:
                Values(plan, sizes).workspace(workspace)
            at = self._bases[Base.WORKSPACE] = self._arenas[i].address
            for base, offset in ready.sized.kept:
                self._bases[base] = at + offset
            for j, shape in ready.sized.outputs.items():
                results[j] = result = np.empty(shape, self._dtypes[j])
                self._bases[self._first + j] = address_of(result)
            self._run(*ready.addresses)
        return workspace

    def _size(self, read: Read) -> int:
        base, offset = read.place
        found = int(ctypes.c_int64.from_address(self._bases[base] + int(offset)).value)
        if not read.least <= found <= read.most:
            raise SizeError(f"{read.about} is {found}; the code takes {read.least} to {read.most}")
        return found

    def _prepared(self, i: int, sizes: Sequence[int]) -> _Ready:
        key, kept = self._later.key(i + 1, sizes), self._ready[i]
        ready = kept.get(key)
        if ready is None:
            sized = self._later.sized(i + 1, key, sizes)
            needed = sized.calls.workspace + self._threads * sized.calls.part
            if needed > self._arenas[i].nbytes:
                kept.clear()  # they refer to the old memory
                self._arenas[i] = Arena(max(needed, self._arenas[i].nbytes // 4 * 5))
            context = self._context(self._arenas[i].address + sized.calls.workspace)
            ready = kept[key] = _Ready(sized, sized.calls, self._bases, context)
            while len(kept) > KEPT_HERE:
                kept.popitem(last=False)
        else:
            kept.move_to_end(key)
        return ready


class _Ready:
    """What a thread passes to the code for a segment."""

    def __init__(
        self, sized: Sized, calls: Encoded, bases: Bases[ctypes.c_int64], context: ctypes.Array[ctypes.c_int64]
    ) -> None:
        self.sized = sized
        self._held = (ctypes.c_int64 * calls.room)(), context
        self._arguments = calls.arguments(bases, self._held[0])
        self.addresses = (ctypes.addressof(self._arguments), ctypes.addressof(context))
