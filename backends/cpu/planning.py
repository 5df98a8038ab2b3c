"""The plan of a network: which kernels are called, in which order, with the places of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from convc.ir.assumptions import Assumption
from convc.ir.data_sizes import defined, is_read
from convc.ir.errors import CompileError, LimitError
from convc.ir.graph import Graph, Node, Value
from convc.ir.limits import check, current
from convc.ir.ops.loop import Loop
from convc.ir.ops.while_loop import While
from convc.ir.sizes import MOST, Dim, Named, Size, Sizes, named, names, spelt
from convc.ir.types import TensorType
from convc.runtime.cpu.plan import (
    Assumed,
    Base,
    Block,
    Call,
    Operand,
    Plan,
    Port,
    Read,
    Repeat,
    Segment,
    Steps,
    Tensor,
    Variant,
    Varying,
    tensor,
)
from convc.runtime.cpu.plan import Place as At
from convc.runtime.cpu.sized import Planner
from convc.runtime.expressions import Count
from convc.runtime.offsets import aligned
from convc.runtime.place import Place

from ..backend import port
from ..network import Live, Network, elements, nbytes, operands

PACKED = int(Base.PACKED)


class Kernel(Protocol):
    """What plans need to know of a function that computes a group.

    ``scratch`` is the size of its scratch memory in bytes, and ``part`` what each thread needs for its parallel loops.
    ``needs`` are sizes with the least value of each for which the function may be called, and ``cost`` is what it costs
    in comparison with other functions of the group. Where they depend on the extents of a call, they are expressions
    over the names ``e0``, ``e1``, ....
    """

    @property
    def symbol(self) -> str: ...
    @property
    def scratch(self) -> Count: ...
    @property
    def part(self) -> Count: ...
    @property
    def needs(self) -> Sequence[tuple[Count, int]]: ...
    @property
    def cost(self) -> Count: ...
    @property
    def parallel(self) -> bool: ...


class Calls:
    """The calls of a network, given the kernels of each node of it and of the bodies of its loops.

    A node has one kernel or several, of which a call runs the one that its sizes allow and that costs the least.
    ``extents`` are what the functions are given after the addresses, as plain numbers: sizes over the names of the
    graph. ``overlaps`` tells of a node whether some elements of its results are computed twice. The nodes of a loop
    need no kernel: a loop is planned as calls of the kernels of its body.
    """

    def __init__(
        self,
        kernels: Mapping[Node, Sequence[Kernel]],
        extents: Mapping[Node, Sizes] | None = None,
        overlaps: Callable[[Node], bool] = lambda _: False,
    ) -> None:
        self._kernels = kernels
        self._extents = extents or {}
        self._overlaps = overlaps
        self._variants: dict[tuple[Variant, ...], int] = {}
        self._names: dict[str, str] = {}

    def plan(self, graph: Graph) -> tuple[Plan, Network]:
        """The plan of a graph, and the network that it is of.

        Raises ``LimitError`` when it needs too much memory, as far as that is known before a call, and
        ``CompileError`` when a size follows from no input.
        """
        network, sizes, limits = Network(graph, self._overlaps), _named_sizes(graph), current()
        read = [size for done in network.between for n in _in_order(done) for size in defined(n)]
        self._names = {n.name: f"s{i}" for i, n in enumerate([*sizes, *read])}
        (run, *later), kept = self._segments(network)
        reads = [tuple(str(p.at) for p in network.arguments(n) if p.base == "weight") for n in network.load]
        packs = {n.output.name: names for n, names in zip(network.load, reads, strict=True)}

        def at_load(node: Node, place: Place) -> At:
            if place.base == "weight":
                return Base.PORTS + packs[node.output.name].index(str(place.at)), 0
            return _in_call(graph, place)

        load = self._block(network.load, network.at_load, network, at_load)
        plan = Plan(
            kernels=tuple(self._variants),
            run=run.run,
            load=load,
            reads=tuple(reads),
            copies=tuple(network.copies),
            packed=network.packed,
            parallel=any(k.parallel for kernels in self._kernels.values() for k in kernels),
            inputs=tuple(tuple(map(self._count, v.type.extents)) for v in graph.inputs),
            outputs=tuple(tuple(map(self._count, v.type.extents)) for v in graph.outputs),
            names=tuple(self._names),
            assumptions=tuple(self._assumed(graph, sizes)),
            tensor_bytes=limits.tensor_bytes,
            workspace_bytes=limits.workspace_bytes,
            later=tuple(later),
            kept=kept,
        )
        _check_memory(plan, graph)
        return plan, network

    def _segments(self, network: Network) -> tuple[list[Segment], tuple[tuple[int, int], ...]]:
        """The segments of a network's call, and the tensors that outlive their segments."""
        graph, starts = network.graph, [0, *network.ends]
        places = [network.place(v) for done in network.between for n in done for v in n.inputs]
        sought = {place.at for place in places if place.base == "value"}
        local: dict[int, int] = {}
        bases: dict[int, int] = {}
        kept: list[tuple[int, int]] = []
        behind = Base.PORTS + len(graph.inputs) + len(graph.outputs)

        def at(_: Node | None, place: Place) -> At:
            number = int(place.at) if place.base == "value" else -1
            if number in bases:
                return bases[number], 0
            if place.base == "made":
                return behind + total + int(place.at), 0
            return tensor(local[number]) if number in local else _in_call(graph, place)

        total = sum(
            live.last >= end or number in sought
            for start, end in pairwise(starts)
            for number, live in enumerate(network.in_call)
            if start <= live.first < end
        )
        made: list[Segment] = []
        for i, (start, end) in enumerate(pairwise(starts)):
            lives: list[Live] = []
            for number, live in enumerate(network.in_call):
                if start <= live.first < end:
                    local[number] = len(lives)
                    if live.last >= end or number in sought:
                        bases[number] = behind + len(kept)
                        kept.append((i, len(lives)))
                    last = end - 1 if number in bases else live.last
                    lives.append(replace(live, first=live.first - start, last=last - start))
            before = _in_order(network.between[i - 1]) if i else []
            read = tuple(r for n in before if is_read(n) for r in _reads(n, at(None, network.place(n.inputs[0]))))
            loops = tuple(
                self._steps(n, n.op, graph, lambda v: at(None, network.place(v)))
                for n in before
                if isinstance(n.op, While)
            )
            made.append(Segment(read, self._block(network.run[start:end], lives, network, at), loops))
        return made, tuple(kept)

    def _steps(self, node: Node, op: While, graph: Graph, at: Callable[[Value], At]) -> Steps:
        """A loop that the runtime runs. ``at`` gives the places of its operands and results."""

        def ports(values: Sequence[Value], names: Sequence[str]) -> tuple[Port, ...]:
            made = (port(name, v) for name, v in zip(names, values, strict=True))
            return tuple(Port(p.name, p.shape, p.dtype) for p in made)

        own = _own_sizes(op.body)
        assumed = [a.size for a in op.body.assumptions if a not in graph.assumptions]
        asked = dict.fromkeys(n.name for d in (*_sizes_in(op.body), *assumed) for n in names(d) if n.name not in own)
        carried = [Value(f"size {name}", TensorType("bool", (named(name),))) for name in asked]
        body = replace(op.body, inputs=(*op.body.inputs, *carried))
        plan, _ = Calls(self._kernels, self._extents, self._overlaps).plan(body)
        places = [at(v) for v in node.inputs]
        operands = (
            Operand(place, tuple(map(self._count, v.type.shape)), str(v.type.numpy_dtype))
            for place, v in zip(places, node.inputs, strict=True)
        )
        axes = {str(d): (i, a) for i, v in enumerate(node.outputs) for a, d in reversed([*enumerate(v.type.shape)])}
        return Steps(
            plan=plan,
            inputs=ports(body.inputs, [v.name for v in body.inputs]),
            outputs=ports(body.outputs, op.body.output_names),
            operands=tuple(operands),
            sizes=tuple(self._name(name) for name in asked),
            states=op.states,
            results=tuple(int(at(v)[0]) for v in node.outputs),
            defined=(*(axes[str(size)] for size in op.sizes[:-1]), (0, -1)),
            most=current().steps,
            weights=f"{node.output.name}/",
            about=f"loop '{node.output.name}'",
        )

    def _count(self, size: Dim) -> Count:
        """A size as a plan writes it. Raises ``CompileError`` when it follows from no input."""
        return spelt(size, self._name) if isinstance(size, Size) else size

    def _name(self, name: str) -> str:
        if name not in self._names:
            raise CompileError(f"size {name} is that of no input's axis: fix the sizes with shapes={{...}} (--shape)")
        return self._names[name]

    def _assumed(self, graph: Graph, sizes: Sequence[Named]) -> Iterator[Assumed]:
        """What is checked of the sizes. That those which are read lie in their bounds is checked as they are."""
        made = dict(graph.assumptions)
        for n in sizes:
            size = Size.of(n)
            for known, bound in ((n.least > 0, size - n.least), (n.most < MOST, n.most - size)):
                if known and isinstance(bound, Size):
                    made.setdefault(Assumption(bound, ">="), "")
        for a, about in made.items():
            if not all(n.name in self._names for n in names(a.size)):
                continue  # it is about sizes outside of the body of a loop, and checked there
            yield Assumed(self._count(a.size), a.relation, str(a), about)

    def _block(
        self, nodes: Sequence[Node], lives: Sequence[Live], network: Network, at: Callable[[Node, Place], At]
    ) -> Block:
        """The calls of nodes, whose values have the given lifetimes. ``at`` gives the places of a node's arguments."""
        calls: list[Call | Repeat] = []
        for i, n in enumerate(nodes):
            arguments = [at(n, place) for place in network.arguments(n)]
            if isinstance(n.op, Loop):
                calls.append(self._repeat(n, n.op, arguments, len(lives) + i))
            else:
                calls.append(self._call(n, arguments))
        return Block(tuple(calls), tuple(map(self._tensor, lives)))

    def _call(self, node: Node, arguments: Sequence[At]) -> Call:
        number = self._variants.setdefault(tuple(map(_variant, self._kernels[node])), len(self._variants))
        given = tuple(map(self._count, self._extents.get(node, ())))
        return Call(number, tuple(arguments), len(node.outputs), given, f"node '{node.output.name}'" if given else "")

    def _tensor(self, live: Live) -> Tensor:
        size = self._count(elements(live.value))
        name = "" if isinstance(size, int) else live.value.name
        return Tensor(size, live.value.type.numpy_dtype.itemsize, live.first, live.last, name)

    def _repeat(self, node: Node, op: Loop, arguments: Sequence[At], scratch: int) -> Repeat:
        """The calls of a loop, whose body captures all its constants.

        A state has two places, the result of the loop and one in the scratch memory, which is the tensor ``scratch``.
        Each step reads one and writes the other, so that the last step writes the result. The first step reads the
        initial state where it is. Which steps write which place is decided for an even number of steps.
        """
        read = operands(node)
        place = {v.name: a for v, a in zip(read, arguments, strict=False)}
        given, results = [place[v.name] for v in node.inputs], arguments[len(read) :]
        bases: list[Varying] = []
        states: list[At] = []
        size: Dim = 0
        for v in op.body.inputs[: op.states]:
            states.append(tensor(scratch, self._count(size)))
            size = aligned(size + nbytes(v))
        for i, v in enumerate(op.body.inputs):
            if i < op.states:
                bases.append(Varying(given[i], results[i], states[i], 0, True))  # what the step before wrote
            elif i < op.captured:
                bases.append(self._element(given[i], v, op.scans[i - op.states], op.steps))
            else:
                bases.append(Varying(given[i], given[i], given[i], 0))
        for i, v in enumerate(op.body.outputs):
            if i < op.states:
                bases.append(Varying(states[i], states[i], results[i], 0, True))
            else:
                bases.append(self._element(results[i], v, op.stacks[i - op.states], op.steps))
        body = Network(op.body, self._overlaps)
        block = self._block(body.run, body.in_call, body, lambda _, place: _in_call(op.body, place))
        return Repeat(self._count(op.steps), tuple(bases), block, self._count(size))

    def _element(self, at: At, element: Value, backwards: int, steps: Dim) -> Varying:
        """The place of an element of a tensor along whose first axis a loop goes, forwards or backwards."""
        stride = nbytes(element)
        base, offset = at
        assert isinstance(offset, int)
        first = (base, self._count(offset + (steps - 1) * stride)) if backwards else at
        return Varying(first, first, first, self._count(-stride if backwards else stride))


def _in_order(between: Sequence[Node]) -> list[Node]:
    """What the runtime does between two segments, in the order in which it does it: first it reads sizes."""
    return sorted(between, key=lambda n: not is_read(n))


def _own_sizes(body: Graph) -> set[str]:
    """The named sizes that the inputs and nodes of a body define, and those of the bodies in it."""
    own = {n.name for n in _named_sizes(body)} | {n.name for node in body.nodes for n in defined(node)}
    return own.union(*(_own_sizes(inner) for n in body.nodes if isinstance(n.op, While) for inner in n.op.bodies()))


def _sizes_in(body: Graph) -> Iterator[Dim]:
    """All sizes in types and attributes of a graph, and of the graphs in it."""
    for v in body.values():
        yield from v.type.shape
    for n in body.nodes:
        yield from map(Size.of, n.op.named_sizes())
        for inner in n.op.bodies():
            yield from _sizes_in(inner)


def _reads(node: Node, place: At) -> Iterator[Read]:
    """What a node reads, from a place and those behind it."""
    for i, n in enumerate(defined(node)):
        yield Read(
            (place[0], int(place[1]) + 8 * i), n.least, n.most, f"size {n.name}, read from '{node.inputs[0].name}',"
        )


def _named_sizes(graph: Graph) -> list[Named]:
    """The named sizes that are sizes of inputs, each once."""
    atoms = [d.atom for v in graph.inputs for d in v.type.extents if isinstance(d, Size)]
    return list({a.name: a for a in atoms if isinstance(a, Named)}.values())


def _variant(kernel: Kernel) -> Variant:
    return Variant(kernel.symbol, kernel.scratch, kernel.part, tuple(kernel.needs), kernel.cost)


def _in_call(graph: Graph, place: Place) -> At:
    """The place of a value of a graph by the bases of a call."""
    at = int(place.at)
    if place.base in ("input", "output"):
        return Base.PORTS + (len(graph.inputs) if place.base == "output" else 0) + at, 0
    return (PACKED, at) if place.base == "packed" else tensor(at)


def _check_memory(plan: Plan, graph: Graph) -> None:
    """Raise ``LimitError`` when packing the weights, or a call of fixed sizes, needs too much memory."""
    inputs, outputs = ([port(v.name, v) for v in values] for values in (graph.inputs, graph.outputs))
    planner = Planner(plan, inputs, outputs)
    loading = plan.packed + max((c.workspace for c in planner.packing()), default=0)
    check("constant_bytes", loading, f"'{graph.name}', its weights as the code reads them,")
    if any(p.is_open for p in inputs):
        return
    try:
        planner.at(tuple(p.sizes for p in inputs))
    except LimitError as e:
        e.within(f"a call of '{graph.name}'")
        raise
