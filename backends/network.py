"""The memory plan of a network: the place of every value, and which nodes run once, at load. All backends use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import index

from convc.ir.data_sizes import is_read, segments_of
from convc.ir.errors import CompileError
from convc.ir.graph import Graph, Node, Value
from convc.ir.limits import check, check_made
from convc.ir.ops.loop import Loop
from convc.ir.ops.while_loop import While
from convc.ir.sizes import Dim, Size, product, typical
from convc.runtime.offsets import MAX_ELEMENTS, Lifetime, aligned
from convc.runtime.place import Place

from .in_place import replaceable


@dataclass(frozen=True)
class Live:
    """A value that is computed into memory of its own, live from one node to another of a list, both included."""

    value: Value
    first: int
    last: int

    def lifetime(self) -> Lifetime:
        """Its lifetime, for a planner. Raises ``ShapeError`` when its size is open."""
        return Lifetime(index(nbytes(self.value)), self.first, self.last)


class Network:
    """A graph's nodes that run at load and in a call, each in order, and the memory of their values.

    Values that follow from constants alone are computed at load into the packed weights, which all calls share.
    Constants that a call reads as they are get copied there (``copies``: name and offset). All other intermediate
    values are in the workspace of the call. What only loading needs is in a workspace too, of its own.

    The place of a value in a workspace is its number in ``in_call`` or ``at_load``: a planner gives it an offset.

    Where data decides sizes, a call runs in segments (``ir/data_sizes.py``).
    """

    def __init__(self, graph: Graph, overlaps: Callable[[Node], bool] = lambda _: False) -> None:
        """``overlaps`` tells of a node whether its kernel computes some elements twice.

        Its result then lies over no operand. Raises ``LimitError`` when loading needs too much computation.
        """
        self.graph, self._overlaps = graph, overlaps
        segments = segments_of([n for n in graph.nodes if is_made(n) and n.output.name not in graph.at_load])
        self.run = [n for some in segments for n in some if not n.op.between_segments]
        """The nodes that a call runs, one segment after the other."""
        self.between = [[n for n in some if n.op.between_segments] for some in segments]
        """For each segment, what the runtime does when it has run."""
        self.ends = list(accumulate(len(some) - len(done) for some, done in zip(segments, self.between, strict=True)))
        """The index in ``run`` behind each segment."""
        self.load = [n for n in computed(graph) if n.output.name in graph.at_load]
        self._loads = {n.output.name for n in self.load}
        check("constant_flops", sum(map(_flops, self.load)), f"what '{graph.name}' computes of its weights")
        self._places = {v.name: Place("input", i) for i, v in enumerate(graph.inputs)}
        nowhere = [v for n in graph.nodes for v in n.outputs if v.type.is_empty]
        self._places |= dict.fromkeys((v.name for v in nowhere), Place("packed", 0))
        self._places |= {v.name: Place("output", i) for i, v in enumerate(graph.outputs)}
        stepped = [v for done in self.between for n in done if not is_read(n) for v in n.outputs]
        self._places |= {v.name: Place("made", i) for i, v in enumerate(stepped)}
        self.copies, self.packed = self._keep()
        """The weights that are copied, with their offsets, and the size of the packed weights."""
        self.at_load = self._live(self.load, {})
        """The values that only loading needs. The steps of their lifetimes are the nodes of ``load``."""
        self.in_call = self._live(self.run, {n: end - 1 for n, end in self._read_at()})
        """The values of a call. The steps of their lifetimes are the nodes of ``run``."""

    def arguments(self, node: Node) -> list[Place]:
        """The places of the arguments of a node's kernel: its inputs, each once, then its outputs."""
        weights = self.graph.constants if node.output.name in self._loads else ()
        reads = [Place("weight", v.name) if v.name in weights else self._places[v.name] for v in operands(node)]
        return [*reads, *(self._places[v.name] for v in node.outputs)]

    def _keep(self) -> tuple[list[tuple[str, int]], int]:
        """Give a place in the packed weights to each value known at load that calls read.

        Returns the constants among these values with their offsets, and the size of the packed weights.
        """
        read = {v.name for n in (*self.run, *(n for n, _ in self._read_at())) for v in n.inputs}
        constants = [Value(name, c.type) for name, c in self.graph.constants.items() if name in read]
        size = 0
        for v in [*constants, *(v for n in self.load for v in n.outputs if v.name in read)]:
            self._places[v.name] = Place("packed", size)
            size = aligned(size + index(nbytes(v)))
        return [(v.name, int(self._places[v.name].at)) for v in constants], size

    def place(self, value: Value) -> Place:
        """The place of a value in a call."""
        return self._places[value.name]

    def _read_at(self) -> list[tuple[Node, int]]:
        """What the runtime does, with the end of the segment after which it does it."""
        return [(n, end) for done, end in zip(self.between, self.ends, strict=True) for n in done]

    def _live(self, nodes: Sequence[Node], reads: Mapping[Node, int]) -> list[Live]:
        """Give a place to each value that the nodes compute, where it has none yet. Returns those with memory.

        ``reads`` are nodes that read values without code, and the index of the node after which they do.
        """
        last = {v.name: i for i, n in enumerate(nodes) for v in n.inputs}
        for n, i in reads.items():
            last |= {v.name: max(i, last.get(v.name, i)) for v in n.inputs}
        lives: list[Live] = []
        number: dict[str, int] = {}
        for i, n in enumerate(nodes):
            over = [v.name for v in replaceable(n) if v.name in number and last[v.name] == i]
            over = [] if over and self._overlaps(n) else over
            for v in n.outputs:
                if v.name in self._places:
                    continue
                end = last.get(v.name, i)
                if over:  # it has the type of what it replaces
                    number[v.name] = number[over[0]]
                    lives[number[v.name]] = replace(lives[number[v.name]], last=end)
                else:
                    number[v.name] = len(lives)
                    lives.append(Live(v, i, end))
        self._places |= {name: Place("value", i) for name, i in number.items()}
        return lives


def is_made(node: Node) -> bool:
    """Whether a node has results with elements, as far as that is known."""
    return any(not v.type.is_empty for v in node.outputs)


def computed(graph: Graph) -> list[Node]:
    """The nodes that compute something: a node whose results have no elements needs no kernel."""
    return [n for n in graph.nodes if is_made(n) and not n.op.between_segments]


def check_sizes(graph: Graph) -> None:
    """Raise ``LimitError`` for a tensor of too many bytes, and ``CompileError`` for one that code cannot index."""
    for node in graph.nodes:
        if isinstance(node.op, Loop | While):
            check_sizes(node.op.body)
    check_values(graph.values())


def check_values(values: Iterable[Value]) -> None:
    """Raise the errors of ``check_sizes`` for some values."""
    for v in values:
        size = elements(v)
        if isinstance(size, Size):
            continue  # checked when the model is called
        check_made(v.type, f"'{v.name}'")
        if size > MAX_ELEMENTS:
            raise CompileError(f"'{v.name}' ({v.type}) is too large: a tensor holds at most {MAX_ELEMENTS} elements")


def operands(node: Node) -> list[Value]:
    """The values that a node's kernel reads, each once."""
    return list({v.name: v for v in node.inputs}.values())


def elements(v: Value) -> Dim:
    """The elements of a value, layout padding included."""
    return product(v.type.extents)


def nbytes(v: Value) -> Dim:
    """The bytes of a value, layout padding included."""
    return elements(v) * v.type.numpy_dtype.itemsize


def _flops(node: Node) -> int:
    """The operations of a node. In a loop, an element that is made counts as one at least."""
    if not isinstance(node.op, Loop):
        return node.flops
    return typical(node.op.steps) * sum(max(_flops(n), *(v.type.numel for v in n.outputs)) for n in node.op.body.nodes)
