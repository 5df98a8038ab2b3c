"""The plan of a network on a CPU: the calls of its kernels, the tensors that they work on, and how weights are packed.

A plan holds for all sizes that a model takes. Numbers in it may be expressions (``Count``) over the model's named sizes
``s0``, ``s1``, ..., which follow from the shapes of the inputs. ``sized.py`` makes of it what is run for one
combination of sizes.

An address is a *place*: the number of a base and an offset in bytes. Base 0 makes a place a plain number. Then come
those that ``Base`` names, and after these the inputs and the outputs. A negative base stands for a tensor of the
workspace (``tensor``).

Where data decides sizes (``ir/data_sizes.py``), a call runs in segments: the block ``run``, and then each of ``later``,
before which the sizes are read that are known from there on. Each segment has a workspace of its own. Tensors that
outlive their segment have bases behind the outputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Any, NamedTuple

from ..expressions import Count

Place = tuple[int, Count]
NAME = re.compile(r"\bs(\d+)\b")
"""A named size in an expression."""


class Base(IntEnum):
    """The numbers of the bases of a call."""

    ZERO = 0
    PACKED = 1
    """The packed weights."""
    WORKSPACE = 2
    """The workspace of the calling thread."""
    PORTS = 3
    """The first input. In a step of packing these are the weights that it reads."""


def tensor(index: int, offset: Count = 0) -> Place:
    """The place of a tensor of a block, by its number.

    After the tensors of the block come the scratch memories of its calls, one for each.
    """
    return -1 - index, offset


class Tensor(NamedTuple):
    """A tensor in the workspace that is live from one call of its block to another, both included.

    ``elements`` counts the padding of its layout. ``name`` is that of the value, for messages; a tensor of fixed size
    needs none.
    """

    elements: Count
    itemsize: int
    first: int
    last: int
    name: str = ""


class Variant(NamedTuple):
    """A function that computes a kernel.

    What it needs are numbers, or expressions over the extents of the call, ``e0``, ``e1``, ...: ``scratch`` bytes of
    scratch memory, and ``part`` bytes for each thread that works on its parallel loops. Of the variants all of whose
    ``needs`` are met, that are sizes with the least value of each, the one of the least ``cost`` is called, and of
    equals the first.
    """

    symbol: str
    scratch: Count = 0
    part: Count = 0
    needs: tuple[tuple[Count, int], ...] = ()
    cost: Count = 0


Kernel = tuple[Variant, ...]


@dataclass(frozen=True)
class Call:
    """A call of a kernel, given by its number, with the places of the tensors that it reads and then writes.

    The function is given their addresses, that of its scratch memory, and the ``extents`` as plain numbers. ``results``
    is the number of tensors that it writes: it is not called when none of them has elements. ``about`` names the node,
    for messages, where there are extents.
    """

    kernel: int
    arguments: tuple[Place, ...]
    results: int = 1
    extents: tuple[Count, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class Varying:
    """An address that varies with the step of a loop.

    It is ``first`` in step 0, and then ``odd`` and ``even`` in turns. In each step it lies ``stride`` bytes farther.
    Where it ``turns``, the places ``even`` and ``odd`` are for an even number of steps, and the other way round for an
    odd one, ``first`` too if it is one of them.
    """

    first: Place
    even: Place
    odd: Place
    stride: Count
    turns: bool = False

    def of(self, steps: int) -> Varying:
        """The address in a loop of this many steps."""
        if not self.turns or steps % 2 == 0:
            return self
        first = {self.even: self.odd, self.odd: self.even}.get(self.first, self.first)
        return Varying(first, self.odd, self.even, self.stride)


@dataclass(frozen=True)
class Repeat:
    """A block that is run again in each of ``steps`` steps.

    ``bases`` are the bases of its calls after ``WORKSPACE``, as addresses that vary with the step. The scratch memory
    of the loop is ``states`` bytes and, behind them, the workspace of the block.
    """

    steps: Count
    bases: tuple[Varying, ...]
    block: Block
    states: Count


@dataclass(frozen=True)
class Block:
    """Calls in order, and the tensors that lie in their workspace. The calls' numbers are the steps of lifetimes."""

    calls: tuple[Call | Repeat, ...] = ()
    tensors: tuple[Tensor, ...] = ()


class Read(NamedTuple):
    """An int64 that the code has written to a place, and that is a named size from there on.

    It must lie between ``least`` and ``most``. ``about`` names what it is read from, for messages.
    """

    place: Place
    least: int
    most: int
    about: str


class Operand(NamedTuple):
    """A tensor that the runtime reads: its place, its shape over the named sizes that are known, and its dtype."""

    place: Place
    shape: Shape
    dtype: str


class Port(NamedTuple):
    """An input or output of the body of a loop, as ``description.Port`` says it."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Steps:
    """A loop that the runtime runs: the ``plan`` of its body, as long as a condition holds, at most ``most`` steps.

    The ``operands`` are the number of steps, the condition for the first, ``states`` states, and captured tensors. Of
    the ``inputs`` of the body, the last are given no data: each has the shape of one of the named sizes that are known,
    ``sizes``, which the body needs. ``weights`` begins the names of its weights.

    The results have bases of their own, behind those of the tensors that are kept. ``defined`` has for each named size
    that is known afterwards the number of a result and its axis; an axis of -1 stands for the number of steps.
    """

    plan: Plan
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operands: tuple[Operand, ...]
    sizes: tuple[Count, ...]
    states: int
    results: tuple[int, ...]
    defined: tuple[tuple[int, int], ...]
    most: int
    weights: str
    about: str


@dataclass(frozen=True)
class Segment:
    """What runs once some more sizes are known: those that are read first, and those of the results of loops."""

    reads: tuple[Read, ...]
    run: Block
    loops: tuple[Steps, ...] = ()


class Assumed(NamedTuple):
    """That ``size >= 0``, ``size == 0`` or ``size != 0``, as ``relation`` says, was assumed for ``about``.

    ``statement`` says it for people.
    """

    size: Count
    relation: str
    statement: str
    about: str


Shape = tuple[Count, ...]


@dataclass(frozen=True)
class Plan:
    """What a call runs, the memory that it needs, and how the weights are packed.

    Packing makes ``copies`` of weights, by name and offset in the packed weights, and then runs the block ``load``,
    whose workspace lies behind them. ``reads`` has for each of its calls the names of the weights that are its ports.
    ``packed`` is the size of the packed weights in bytes. ``parallel`` tells whether the code has parallel loops.

    ``names`` are the named sizes. The shapes of the ``inputs`` say what they are, or, of the last ones, the reads of
    the segments ``later``, in order. ``outputs`` are the shapes of the results. ``assumptions`` must hold of the sizes.
    Of open sizes it is checked at a call that a tensor has at most ``tensor_bytes``, and the workspace
    ``workspace_bytes``.

    ``kept`` has the tensors that outlive their segment, each by the numbers of the segment and of the tensor in it.
    """

    kernels: tuple[Kernel, ...]
    run: Block
    load: Block
    reads: tuple[tuple[str, ...], ...]
    copies: tuple[tuple[str, int], ...]
    packed: int
    parallel: bool
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    names: tuple[str, ...] = ()
    assumptions: tuple[Assumed, ...] = ()
    tensor_bytes: int = 1 << 33
    workspace_bytes: int = 1 << 35
    later: tuple[Segment, ...] = ()
    kept: tuple[tuple[int, int], ...] = ()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of all segments."""
        return (self.run, *(segment.run for segment in self.later))

    @property
    def stepped(self) -> int:
        """The number of results of loops that the runtime runs."""
        return sum(len(loop.results) for segment in self.later for loop in segment.loops)

    @property
    def known(self) -> tuple[int, ...]:
        """For each segment, the number of named sizes that are known when it runs."""
        reads = [len(s.reads) + sum(len(loop.defined) for loop in s.loops) for s in self.later]
        return tuple(accumulate([len(self.names) - sum(reads), *reads]))

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Plan:
        """A plan from its JSON.

        Raises ``LookupError``, ``TypeError``, ``ValueError`` or ``AttributeError`` when the JSON is damaged.
        """
        made = dict(raw)
        made["kernels"] = tuple(tuple(_variant(*v) for v in kernel) for kernel in raw["kernels"])
        made |= {key: _block(raw[key]) for key in ("run", "load")}
        made |= {key: tuple(tuple(map(_count, shape)) for shape in raw[key]) for key in ("inputs", "outputs")}
        made["reads"] = tuple(tuple(map(str, names)) for names in raw["reads"])
        made["copies"] = tuple((str(name), _natural(at)) for name, at in raw["copies"])
        made["names"] = tuple(map(str, raw["names"]))
        made["assumptions"] = tuple(Assumed(_count(a[0]), *map(str, a[1:])) for a in raw["assumptions"])
        made["later"] = tuple(map(_segment, raw["later"]))
        made["kept"] = tuple((_natural(segment), _natural(at)) for segment, at in raw["kept"])
        plan = Plan(**made)
        for number in (plan.packed, plan.tensor_bytes, plan.workspace_bytes):
            _natural(number)
        if len(plan.reads) != len(plan.load.calls):
            raise ValueError("the weights of a step of packing are missing")
        _check_segments(plan)
        _check(plan.load, plan, max(map(len, plan.reads), default=0))
        return plan


# -- from JSON ---------------------------------------------------------------------------------------------------------


def _count(raw: Any) -> Count:
    if not isinstance(raw, int | str):
        raise TypeError(f"{raw!r} is no size")
    return raw


def _natural(raw: Any) -> int:
    if not isinstance(raw, int) or raw < 0:
        raise ValueError(f"{raw!r} is no amount")
    return raw


def _place(raw: Sequence[Any]) -> Place:
    base, offset = raw
    if not isinstance(base, int):
        raise TypeError(f"{base!r} is no base")
    return base, _count(offset)


def _segment(raw: Mapping[str, Any]) -> Segment:
    return Segment(tuple(map(_read, raw["reads"])), _block(raw["run"]), tuple(map(_steps, raw["loops"])))


def _steps(raw: Mapping[str, Any]) -> Steps:
    def shape(sizes: Sequence[Any]) -> Shape:
        return tuple(map(_count, sizes))

    made = dict(raw)
    made["plan"] = Plan.of(raw["plan"])
    made |= {
        key: tuple(Port(str(name), shape(sizes), str(dtype)) for name, sizes, dtype in raw[key])
        for key in ("inputs", "outputs")
    }
    made["operands"] = tuple(
        Operand(_place(place), shape(sizes), str(dtype)) for place, sizes, dtype in raw["operands"]
    )
    made["sizes"] = shape(raw["sizes"])
    made["results"] = tuple(map(_natural, raw["results"]))
    made["defined"] = tuple((_natural(result), int(axis)) for result, axis in raw["defined"])
    return Steps(**made)


def _read(raw: Sequence[Any]) -> Read:
    place, least, most, about = raw
    return Read(_place(place), int(least), int(most), str(about))


def _variant(symbol: Any, scratch: Any, part: Any, needs: Any, cost: Any) -> Variant:
    met = tuple((_count(size), int(least)) for size, least in needs)
    return Variant(str(symbol), _count(scratch), _count(part), met, _count(cost))


def _tensor(elements: Any, itemsize: Any, first: Any, last: Any, name: Any) -> Tensor:
    return Tensor(_count(elements), _natural(itemsize), _natural(first), _natural(last), str(name))


def _block(raw: Mapping[str, Any]) -> Block:
    tensors = tuple(_tensor(*t) for t in raw["tensors"])
    return Block(tuple(map(_call, raw["calls"])), tensors)


def _call(raw: Mapping[str, Any]) -> Call | Repeat:
    if "steps" in raw:
        bases = tuple(
            Varying(_place(b["first"]), _place(b["even"]), _place(b["odd"]), _count(b["stride"]), bool(b["turns"]))
            for b in raw["bases"]
        )
        return Repeat(_count(raw["steps"]), bases, _block(raw["block"]), _count(raw["states"]))
    arguments, extents = tuple(map(_place, raw["arguments"])), tuple(map(_count, raw["extents"]))
    return Call(_natural(raw["kernel"]), arguments, _natural(raw["results"]), extents, str(raw["about"]))


def _check_segments(plan: Plan) -> None:
    """Raise ``ValueError`` when a segment uses what there is not, or not yet."""
    known, blocks = plan.known, plan.blocks
    if known[0] < 0:
        raise ValueError("a size that is read has no name")
    if not all(segment < len(blocks) and at < len(blocks[segment].tensors) for segment, at in plan.kept):
        raise ValueError("a tensor that is kept does not exist")
    ports = len(plan.inputs) + len(plan.outputs)
    for i, block in enumerate(blocks):
        there = {Base.PORTS + j for j in range(len(plan.inputs))}
        there |= {Base.PORTS + len(plan.inputs) + j for j, s in enumerate(plan.outputs) if _is_known(s, known[i])}
        there |= {Base.PORTS + ports + j for j, (segment, _) in enumerate(plan.kept) if segment <= i}
        there |= {base for segment in plan.later[:i] for loop in segment.loops for base in loop.results}
        _check(block, plan, ports + len(plan.kept) + plan.stepped, there)
        if i + 1 < len(blocks):
            _check_loops(plan, plan.later[i].loops, {*there, Base.PACKED}, known[i])
            for read in plan.later[i].reads:
                base, offset = read.place
                if base not in {*there, Base.PACKED} or not 0 <= _natural(offset) <= _bytes_at(plan, base) - 8:
                    raise ValueError("a size is read from what does not exist")


def _check_loops(plan: Plan, loops: Sequence[Steps], there: Collection[int], known: int) -> None:
    """Raise ``ValueError`` when loops are given what there is not."""
    behind = Base.PORTS + len(plan.inputs) + len(plan.outputs) + len(plan.kept)
    for loop in loops:
        given = len(loop.operands) - 1 + len(loop.sizes)
        if len(loop.inputs) != given or len(loop.outputs) != 1 + len(loop.results) or loop.states > len(loop.results):
            raise ValueError("a loop is given more or less than its body takes")
        if not all(behind <= base < behind + plan.stepped for base in loop.results):
            raise ValueError("a result of a loop has no place")
        if not all(o.place[0] in there and _is_known(o.shape, known) for o in loop.operands):
            raise ValueError("a loop is given what does not exist")
        if not all(result < len(loop.results) for result, _ in loop.defined):
            raise ValueError("a size is that of no result")


def _bytes_at(plan: Plan, base: int) -> int:
    """The bytes at a base from which sizes are read; 0 where their number is open."""
    if base == Base.PACKED:
        return plan.packed
    ports = (*plan.inputs, *plan.outputs)
    if base < Base.PORTS + len(ports):
        shape = ports[base - Base.PORTS]
        return 8 * math.prod(size for size in shape if isinstance(size, int)) if _is_known(shape, 0) else 0
    if base >= Base.PORTS + len(ports) + len(plan.kept):
        return 8  # the runtime checks what it made itself
    segment, at = plan.kept[base - Base.PORTS - len(ports)]
    t = plan.blocks[segment].tensors[at]
    return t.elements * t.itemsize if isinstance(t.elements, int) else 0


def _is_known(shape: Shape, names: int) -> bool:
    """Whether a shape is known when this many named sizes are."""
    return names_in(shape) <= names


def names_in(sizes: Iterable[Count]) -> int:
    """The number of named sizes that must be known for these numbers and expressions."""
    return max((int(i) + 1 for size in sizes for i in NAME.findall(str(size))), default=0)


def _check(block: Block, plan: Plan, ports: int, there: Collection[int] | None = None) -> None:
    """Raise ``ValueError`` when calls name kernels, ports or tensors that do not exist, or lie beyond the weights.

    ``there`` are those of the ports that exist already.
    """
    tensors, steps = len(block.tensors), len(block.calls)
    if not all(t.first <= t.last < steps for t in block.tensors):
        raise ValueError("a tensor outlives its calls")
    for call in block.calls:
        if isinstance(call, Call):
            places = list(call.arguments)
            if call.kernel >= len(plan.kernels) or call.results > len(places):
                raise ValueError("a call is of no kernel")
        else:
            places = [place for v in call.bases for place in (v.first, v.even, v.odd)]
            _check(call.block, plan, len(call.bases))
        if not all(-tensors - steps <= base < Base.PORTS + ports for base, _ in places):
            raise ValueError("a call is given what does not exist")
        if there is not None and not all(base < Base.PORTS or base in there for base, _ in places):
            raise ValueError("a call is given what does not exist yet")
        if not all(isinstance(at, int) and 0 <= at <= plan.packed for base, at in places if base == Base.PACKED):
            raise ValueError("a call is given what lies beyond the packed weights")
