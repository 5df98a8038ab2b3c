"""Running machine code on a CPU.

Weights are packed once, each calling thread has its own workspace, and the code reads inputs and writes outputs at the
addresses that it is given. What is called for inputs of some shapes is planned when they are first met, and kept.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..description import Port
from ..offsets import aligned
from .code import RUN, Code
from .memory import Arena, address_of
from .plan import Base, Plan, Steps
from .pool import pool_of
from .segments import Context, Later, Rest
from .sized import Encoded, Planner, Sized
from .sizes import Shapes

SMALL = 8192
"""Arrays of at most this many bytes are copied to and from fixed memory.

For them, copying takes less time than numpy takes to give the array's address.
"""
RELEASE = 16 << 20
"""``release`` is called each time this many bytes of weights have been read."""
KEPT = 128
"""The number of combinations of sizes whose plans a program keeps."""
KEPT_HERE = 8
"""The number of combinations of sizes that each thread can call without setting anything up."""


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

        ``threads`` is the number of threads that a call may use. ``release``
        is called from time to time, when the weights that were read so far are no longer needed. ``trace`` is the
        address of the function that traced code calls between kernels. Raises ``ValueError`` for a damaged plan.
        """
        self._code = code
        self._run_calls = code.function(RUN)
        self.threads = threads = threads if plan.parallel else 1
        self.pool = pool = pool_of(code) if plan.parallel else None
        settings = (pool.launch, pool.address, threads) if pool else (0, 0, 1)

        def context(parts: int) -> ctypes.Array[ctypes.c_int64]:
            return (ctypes.c_int64 * 5)(*settings, parts, trace)

        self._planner = Planner(plan, inputs, outputs, code.address)

        def body(loop: Steps, taken: list[Port], made: list[Port]) -> Program:
            own = {n.removeprefix(loop.weights): w for n, w in weights.items() if n.startswith(loop.weights)}
            return Program(code, loop.plan, own, taken, made, threads, release)

        later = Later(plan, self._planner, body) if plan.later else None
        self._packed = _pack(code, plan, self._planner.packing(), weights, context, threads, release)
        self._plans: OrderedDict[Shapes, Sized] = OrderedDict()
        self._lock = threading.Lock()
        self.most = 0
        """The most bytes of workspace that any sizes called so far need."""
        self._is_open = any(p.is_open for p in inputs)
        shapes = None if self._is_open else tuple(p.sizes for p in inputs)
        fixed = None if shapes is None else (shapes, self.sized(shapes))

        def space() -> Space:
            space = Space(self._packed.address, inputs, outputs, threads, context, fixed, len(plan.kept) + plan.stepped)
            if later is not None:
                first = Base.PORTS + len(inputs)
                space.rest = Rest(later, self._run_calls, space.bases, first, outputs, threads, context)
            return space

        self._new_space = space
        self._local = Local(space)

    def sized(self, shapes: Shapes) -> Sized:
        """What is called first for inputs of these shapes. It is planned unless it is among those called last.

        Raises ``InputError``, ``SizeError`` or ``LimitError`` for shapes that cannot be called.
        """
        with self._lock:
            if found := self._plans.get(shapes):
                self._plans.move_to_end(shapes)
                return found
        made = self._planner.at(shapes)  # by several threads at the same time, where they need it
        with self._lock:
            self.most = max(self.most, made.calls.workspace + self.threads * made.calls.part)
            self._plans[shapes] = made
            while len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        return made

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the network on arrays of the right dtypes, with any strides. Shapes that are fixed must be right."""
        space = self._local.space
        if space.busy:  # a signal handler calls the model that its thread is calling
            space = self._new_space()
        space.busy = True
        try:
            return self._run(space, arrays)
        finally:
            space.busy = False

    def _run(self, space: Space, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._is_open and (shapes := tuple([array.shape for array in arrays])) != space.shapes:
            space.take(shapes, self.sized)
        bases = space.bases
        for array, (i, kept) in zip(arrays, space.inputs, strict=True):
            if kept is not None:
                kept[...] = array
            elif array.flags.c_contiguous:
                bases[i] = address_of(array)
            else:
                bases[i] = space.copy(i, array)
        if space.rest is not None:
            return self._run_segments(space, space.rest)
        results = []
        for i, kept, shape, dtype in space.outputs:
            results.append(np.empty(shape, dtype) if kept is None else kept)
            if kept is None:
                bases[i] = address_of(results[-1])
        self._run_calls(*space.addresses)
        return [r if o[1] is None else r.copy() for r, o in zip(results, space.outputs, strict=True)]

    def _run_segments(self, space: Space, rest: Rest) -> list[np.ndarray]:
        """Run a network whose data decides sizes, all of whose inputs have their places."""
        results: list[Any] = [None] * space.made
        bases, sized = space.bases, space.ready.sized
        at = bases[Base.WORKSPACE] = space.workspace.address
        for base, offset in sized.kept:
            bases[base] = at + offset
        for i, _, shape, dtype in space.outputs:
            results[i - space.first] = made = np.empty(shape, dtype)
            bases[i] = address_of(made)
        self._run_calls(*space.addresses)
        self.most = max(self.most, rest(sized, results))
        return results


class Space:
    """The workspace of one calling thread, and what it passes to the code.

    Small inputs and outputs are copied through arrays at fixed addresses. The addresses of the others are set anew in
    each call. All sizes share the memory.
    """

    def __init__(
        self,
        packed: int,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        threads: int,
        context: Context,
        fixed: tuple[Shapes, Sized] | None,
        kept: int = 0,
    ) -> None:
        """``fixed`` is what is called where no size of an input is open. Otherwise ``take`` chooses before the first
        call. ``kept`` is the number of bases behind those of the outputs.
        """
        self.rest: Rest | None = None
        """What runs the later segments, where data decides sizes."""
        self.busy = False
        """Whether a call uses the space at the moment."""
        self.workspace = Arena(0)
        self._ports, self._read = (*inputs, *outputs), len(inputs)
        self.first, self.made = Base.PORTS + len(inputs), len(outputs)
        """The number of the base of the first output, and the number of outputs."""
        self._threads, self._context = threads, context
        self._small = [np.empty(SMALL if p.is_open else min(p.nbytes, SMALL), np.uint8) for p in self._ports]
        self._small_at = [address_of(a) for a in self._small]
        self.bases = (ctypes.c_int64 * (Base.PORTS + len(self._ports) + kept))(0, packed)
        self.copies: dict[int, np.ndarray] = {}
        self._ready: OrderedDict[Shapes, Ready] = OrderedDict()
        self.shapes: Shapes | None = None
        """The shapes of the inputs that the next call takes."""
        if fixed is not None:
            shapes, sized = fixed
            self.take(shapes, lambda _: sized)

    def take(self, shapes: Shapes, sized: Callable[[Shapes], Sized]) -> None:
        """Prepare a call for inputs of these shapes. ``sized`` gives what is called for them, and may raise errors."""
        self.shapes = None  # an interrupt leaves nothing half prepared
        ready = self._ready.get(shapes) or self._prepared(shapes, sized(shapes))
        self.bases[Base.WORKSPACE] = self.workspace.address
        self._ready[shapes] = ready
        self._ready.move_to_end(shapes)
        while len(self._ready) > KEPT_HERE:
            self._ready.popitem(last=False)
        for i, (kept, at) in enumerate(zip(ready.kept, self._small_at, strict=True), Base.PORTS):
            if kept is not None:
                self.bases[i] = at
        self.copies.clear()
        self.ready, self.addresses = ready, ready.addresses
        self.inputs = list(enumerate(ready.kept[: self._read], Base.PORTS))
        self.outputs = [
            (self.first + j, ready.kept[self._read + j], shape, np.dtype(self._ports[self._read + j].dtype))
            for j, shape in ready.sized.outputs.items()
        ]
        self.shapes = shapes

    def _prepared(self, shapes: Shapes, sized: Sized) -> Ready:
        calls = sized.calls
        needed = calls.workspace + self._threads * calls.part
        if needed > self.workspace.nbytes:
            self._ready.clear()  # they refer to the old memory
            self.workspace = Arena(max(needed, self.workspace.nbytes // 4 * 5))
        context = self._context(self.workspace.address + calls.workspace)
        shaped = dict(enumerate(shapes)) | {self._read + j: shape for j, shape in sized.outputs.items()}
        kept = [
            _view(small, p, shaped[i]) if i in shaped else None
            for i, (small, p) in enumerate(zip(self._small, self._ports, strict=True))
        ]
        return Ready(sized, calls, self.bases, context, kept)

    def copy(self, i: int, array: np.ndarray) -> int:
        """Copy an input that is not contiguous. Returns the address of the copy."""
        if i not in self.copies:
            self.copies[i] = np.empty(array.shape, array.dtype)
        self.copies[i][...] = array
        return address_of(self.copies[i])


class Ready:
    """What a thread passes to the code for inputs of some shapes.

    ``kept`` has an array in fixed memory for each small input and output, and ``None`` for the others.
    """

    def __init__(
        self,
        sized: Sized,
        calls: Encoded,
        bases: ctypes.Array[ctypes.c_int64],
        context: ctypes.Array[ctypes.c_int64],
        kept: Sequence[np.ndarray | None],
    ) -> None:
        self.sized, self.kept = sized, kept
        self.room = (ctypes.c_int64 * calls.room)()
        self.arguments = calls.arguments(bases, self.room)
        self.context = context
        self.addresses = (ctypes.addressof(self.arguments), ctypes.addressof(self.context))


def _view(memory: np.ndarray, port: Port, shape: tuple[int, ...]) -> np.ndarray | None:
    """An array of this shape in the memory, or ``None`` when it is too large."""
    dtype = np.dtype(port.dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    return memory[:nbytes].view(dtype).reshape(shape) if nbytes <= SMALL else None


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
    calls: Sequence[Encoded],
    weights: Mapping[str, np.ndarray],
    context: Context,
    threads: int,
    release: Callable[[], None],
) -> Arena:
    """Pack the weights: copy some, and make calls that read others. Returns the memory of the packed weights."""
    behind = aligned(plan.packed)
    arena = Arena(behind + max((c.workspace for c in calls), default=0))
    parts = Arena(threads * max((c.part for c in calls), default=0))
    run, record, held = code.function(RUN), context(parts.address), 0

    def read(names: Sequence[str]) -> list[np.ndarray]:
        nonlocal held
        if held >= RELEASE:
            release()
            held = 0
        found = [np.ascontiguousarray(weights[name]) for name in names]
        held += sum(a.nbytes for a in found)
        return found

    for name, offset in plan.copies:
        (weight,) = read([name])
        if offset + weight.nbytes > plan.packed:
            raise ValueError("a weight is copied beyond the packed weights")
        ctypes.memmove(arena.address + offset, address_of(weight), weight.nbytes)
    for call, names in zip(calls, plan.reads, strict=True):
        arrays = read(names)
        at = [0, arena.address, arena.address + behind, *map(address_of, arrays)]
        room, bases = (ctypes.c_int64 * call.room)(), (ctypes.c_int64 * len(at))(*at)
        arguments = call.arguments(bases, room)
        run(ctypes.addressof(arguments), ctypes.addressof(record))
    release()
    arena.release(plan.packed)
    return arena
