"""A plan for one combination of sizes: which functions are called, and where each tensor lies."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from convc.ir.errors import SizeError

from ..description import Port
from ..expressions import Count, compiled, spelt_out
from ..offsets import Lifetime, aligned, assign_offsets
from .plan import Base, Block, Call, Kernel, Place, Plan, Repeat, names_in, tensor
from .sizes import Made, Shapes, Sizer, Values, texts

Address = tuple[int, int]
"""The number of a base that is an address, and an offset in bytes."""


@dataclass(frozen=True)
class Encoded:
    """Calls in the form that ``convc_run`` takes (``backends/cpu/program.c``), and the memory that they need.

    ``room`` is the number of integers that it needs room for. ``workspace`` is in bytes, and so is ``part``, which each
    thread needs while it works on a parallel loop.
    """

    words: ctypes.Array[ctypes.c_int64]
    room: int
    workspace: int
    part: int

    @staticmethod
    def of(placed: Placed, steps: Sequence[Step] | None = None) -> Encoded:
        """The calls of a block that was placed, or some of them."""
        steps = placed.steps if steps is None else steps
        words = [word for step in steps for word in step.words]
        room, part = (max(map(key, steps), default=0) for key in (lambda s: s.room, lambda s: s.part))
        return Encoded((ctypes.c_int64 * len(words))(*words), room, placed.workspace, part)

    def arguments(self, bases: ctypes.Array[ctypes.c_int64], room: ctypes.Array[ctypes.c_int64]) -> Any:
        """The arguments of ``convc_run``, for bases and room that live as long."""
        words, at, free = map(ctypes.addressof, (self.words, bases, room))
        return (ctypes.c_int64 * 4)(words, len(self.words), at, free)


@dataclass(frozen=True)
class Sized:
    """What a segment runs for some sizes.

    ``outputs`` are the shapes of the outputs that it may write first, by their numbers, and ``sizes`` the values of all
    named sizes that are known. ``kept`` are the tensors that outlive the segment: the number of the base of each, and
    its offset in the workspace.
    """

    outputs: Made
    calls: Encoded
    sizes: tuple[int, ...]
    kept: tuple[Address, ...]


class Planner:
    """Plans calls for any sizes that a model takes."""

    def __init__(
        self, plan: Plan, inputs: Sequence[Port], outputs: Sequence[Port], address: Callable[[str], int] = lambda _: 0
    ) -> None:
        """``outputs`` are all that the code writes. ``address`` gives the address of the function of a name.

        Raises ``ValueError`` for a plan that does not go with the ports, or is damaged.
        """
        self._plan = plan
        self._sizer = Sizer(plan, inputs, outputs)
        calls = [call for block in (*plan.blocks, plan.load) for call in _calls(block)]
        extents = {call.kernel: len(call.extents) for call in calls}
        self._behind = Base.PORTS + len(inputs) + len(outputs)
        self._read = len(inputs)
        self._kernels = {number: _Kernel(plan.kernels[number], count, address) for number, count in extents.items()}

    def packing(self) -> list[Encoded]:
        """The calls that pack the weights, each alone, in a workspace that they share."""
        placed = Placed(self._plan.load, self._kernels, Values(self._plan))
        return [Encoded.of(placed, [step]) for step in placed.steps]

    def used(self, segment: int) -> tuple[int, ...]:
        """The numbers of the named sizes on which the plan of a segment depends."""
        return self._sizer.used(segment)

    def at(self, shapes: Shapes) -> Sized:
        """The plan of the first segment for inputs of these shapes.

        Raises ``InputError``, naming the input, the axis and the sizes, for shapes that the model does not take,
        ``SizeError`` for those that the code does not take, and ``LimitError`` for those that need too much memory.
        """
        return self._sized(0, *self._sizer.at(shapes))

    def after(self, segment: int, sizes: Sequence[int]) -> Sized:
        """The plan of a later segment, given the values of all named sizes that are known when it runs.

        Raises ``SizeError`` for those that the code does not take, and ``LimitError`` for those that need too much
        memory.
        """
        return self._sized(segment, *self._sizer.after(segment, sizes))

    def _sized(self, segment: int, values: Values, made: Made) -> Sized:
        plan, blocks = self._plan, self._plan.blocks
        ports = [1] * (self._behind - Base.PORTS)
        for i, shape in enumerate(plan.outputs):
            if names_in(shape) <= len(values.sizes):
                ports[self._read + i] = math.prod(values[size] for size in shape)
        born = [(j, i) for j, (at, i) in enumerate(plan.kept) if at == segment]
        ports += [values[blocks[at].tensors[i].elements] if at <= segment else 1 for at, i in plan.kept]
        placed = Placed(blocks[segment], self._kernels, values, ports)
        values.workspace(placed.workspace)
        kept = tuple((self._behind + j, placed.address(tensor(i))[1]) for j, i in born)
        return Sized(made, Encoded.of(placed), values.sizes, kept)


class Step(NamedTuple):
    """A call or a loop, encoded, and what it needs: room, and bytes for each thread that works on it."""

    words: list[int]
    room: int
    part: int


class Placed:
    """A block whose tensors and scratch memories have their places in a workspace, for some sizes."""

    def __init__(
        self, block: Block, kernels: Mapping[int, _Kernel], values: Values, ports: Sequence[int] | None = None
    ) -> None:
        """``ports`` are the numbers of elements of inputs and outputs. Where they are given, a call is left out whose
        results have no elements.
        """
        self._values, self._tensors = values, len(block.tensors)
        elements = [values.tensor(t.elements, t.itemsize, t.name) for t in block.tensors]
        lives = [Lifetime(n * t.itemsize, t.first, t.last) for n, t in zip(elements, block.tensors, strict=True)]

        def is_made(call: Call) -> bool:
            results = [base for base, _ in call.arguments[len(call.arguments) - call.results :]]
            return ports is None or any(
                elements[-1 - base] if base < 0 else base < Base.PORTS or ports[base - Base.PORTS] for base in results
            )

        work: list[_Chosen | _Loop | None] = []
        for i, call in enumerate(block.calls):
            if isinstance(call, Repeat):
                work.append(_Loop(Placed(call.block, kernels, values), values[call.states]))
            else:
                work.append(kernels[call.kernel].chosen(call, values) if is_made(call) else None)
            scratch = work[-1].scratch if work[-1] else 0
            values.workspace(scratch)
            lives.append(Lifetime(scratch, i, i))
        self._offsets, size = assign_offsets(lives)
        self.workspace: int = aligned(size)
        """The size of the workspace in bytes."""
        self.steps = [self._step(i, call, found) for i, (call, found) in enumerate(zip(block.calls, work, strict=True))]
        """The calls, encoded."""

    def address(self, place: Place) -> Address:
        """A place as an address."""
        base, offset = place[0], self._values[place[1]]
        return (Base.WORKSPACE, self._offsets[-1 - base] + offset) if base < 0 else (base, offset)

    def _step(self, i: int, call: Call | Repeat, found: _Chosen | _Loop | None) -> Step:
        if found is None:
            return Step([], 0, 0)
        scratch = self._offsets[self._tensors + i]
        if isinstance(call, Repeat):
            assert isinstance(found, _Loop)
            return self._repeat(call, found, scratch)
        assert isinstance(found, _Chosen)
        places = [
            *map(self.address, call.arguments),
            (Base.WORKSPACE, scratch),
            *((Base.ZERO, n) for n in found.extents),
        ]
        return Step([found.function, len(places), *(n for p in places for n in p)], len(places), found.part)

    def _repeat(self, call: Repeat, found: _Loop, scratch: int) -> Step:
        inner = found.block.steps
        words: list[int] = []
        for address in ((Base.PACKED, 0), (Base.WORKSPACE, scratch + found.states)):
            words += [*address, *address, *address, 0]
        steps = self._values[call.steps]
        for v in (v.of(steps) for v in call.bases):
            for place in (v.first, v.even, v.odd):
                words += self.address(place)
            words.append(self._values[v.stride])
        body = [word for step in inner for word in step.words]
        bases = len(call.bases) + 2
        room = bases + 1 + max((step.room for step in inner), default=0)
        head = [0, bases, steps, len(body)]
        return Step([*head, *words, *body], room, max((step.part for step in inner), default=0))


class _Loop(NamedTuple):
    """The block of a loop, and the bytes of its states before it."""

    block: Placed
    states: int

    @property
    def scratch(self) -> int:
        return self.states + self.block.workspace


class _Chosen(NamedTuple):
    """A function of a kernel for the extents of a call, and the memory that it needs."""

    function: int
    scratch: int
    part: int
    extents: Sequence[int]


class _Kernel:
    """A kernel: it chooses among its variants."""

    def __init__(self, variants: Kernel, extents: int, address: Callable[[str], int]) -> None:
        self._variants = variants
        self._functions = [address(v.symbol) for v in variants]
        used = [(v.scratch, v.part, v.cost, *(size for size, _ in v.needs)) for v in variants]
        self._texts = texts(c for counts in used for c in counts)
        self._evaluate = compiled(self._texts, [f"e{i}" for i in range(extents)])

    def chosen(self, call: Call, values: Values) -> _Chosen:
        """The variant for a call. Raises ``SizeError``, naming a size, when it meets the needs of none."""
        extents = [values[e] for e in call.extents]
        found: dict[Count, int] = dict(zip(self._texts, self._evaluate(*extents), strict=True))
        best: tuple[int, int] | None = None
        for i, v in enumerate(self._variants):
            if all(found.get(size, size) >= least for size, least in v.needs):  # type: ignore[operator]
                cost = int(found.get(v.cost, v.cost))
                if best is None or cost < best[0]:
                    best = cost, i
        if best is None:
            raise SizeError(self._unmet(call, values, found), is_assumed=True)
        v = self._variants[best[1]]
        scratch, part = (int(found.get(n, n)) for n in (v.scratch, v.part))
        values.workspace(part)
        return _Chosen(self._functions[best[1]], scratch, part, extents)

    def _unmet(self, call: Call, values: Values, found: dict[Count, int]) -> str:
        """What the variant that asks for least asks for in vain."""
        unmet = [(size, least) for v in self._variants for size, least in v.needs if found.get(size, size) < least]  # type: ignore[operator]
        size, least = min(unmet, key=lambda need: need[1])
        alone = str(size).isalnum()
        names = [e if alone or e.isalnum() else f"({e})" for e in map(str, call.extents)]
        text = values.spelt(spelt_out(size, names, "e"))
        return f"{call.about}: the code needs {text} of at least {least}{values.given(*call.extents)}"


def _calls(block: Block) -> Iterator[Call]:
    for call in block.calls:
        if isinstance(call, Call):
            yield call
        else:
            yield from _calls(call.block)
