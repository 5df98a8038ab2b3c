"""The memory plan of a network: the place of every value, and which nodes run once, at load. All backends use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from convc.ir.errors import CompileError
from convc.ir.graph import Graph, Node, Value
from convc.ir.limits import check, check_made
from convc.ir.ops.loop import Loop
from convc.runtime.place import Place

from .in_place import replaceable
from .memory import Lifetime, aligned, assign_offsets

MAX_ELEMENTS = (1 << 31) - 1
"""Most elements of a tensor, since generated code indexes tensors with 32-bit integers."""


class Network:
    """A graph's nodes that run at load and in a call, each in order, and the memory that they need.

    Values that follow from constants alone are computed at load into the packed weights, which all calls share.
    Constants that a call reads as they are get copied there (``copies``: name and offset). All other intermediate
    values are in the workspace of the call. ``loading`` is the bytes that loading takes: the packed weights, and after
    them what only loading needs.
    """

    def __init__(self, graph: Graph, scratch: Mapping[str, int]) -> None:
        """``scratch`` says how many bytes of scratch memory each node's kernel needs, by the name of its output.

        Raises ``LimitError`` when loading or a call needs too much memory or computation.
        """
        self.graph = graph
        self._sizes = scratch
        self.run = [n for n in computed(graph) if n.output.name not in graph.at_load]
        self.load = [n for n in computed(graph) if n.output.name in graph.at_load]
        self._loads = {n.output.name for n in self.load}
        check("constant_flops", sum(map(_flops, self.load)), f"what '{graph.name}' computes of its weights")
        self._places = {v.name: Place("input", i) for i, v in enumerate(graph.inputs)}
        nowhere = [v for n in graph.nodes for v in n.outputs if not v.type.numel]
        bases = {True: Place("packed", 0), False: Place("workspace", 0)}
        self._places |= {v.name: bases[v.name in graph.at_load] for v in nowhere}
        self._places |= {v.name: Place("output", i) for i, v in enumerate(graph.outputs)}
        self.copies, self.packed = self._keep()
        at_load, loading = self._lay_out(self.load, Place("packed", self.packed))
        in_call, self.workspace = self._lay_out(self.run, Place("workspace", 0))
        self.loading = self.packed + loading
        self._scratch = at_load | in_call
        check("workspace_bytes", self.workspace, f"a call of '{graph.name}'")
        check("constant_bytes", self.loading, f"'{graph.name}', its weights as the code reads them,")

    def arguments(self, node: Node) -> list[Place]:
        """The places of the arguments of a node's kernel: its inputs, each once, then its outputs."""
        weights = self.graph.constants if node.output.name in self._loads else ()
        reads = [Place("weight", v.name) if v.name in weights else self._places[v.name] for v in operands(node)]
        return [*reads, *(self._places[v.name] for v in node.outputs)]

    def scratch(self, node: Node) -> Place:
        """The place of the scratch memory of a node's kernel."""
        return self._scratch[node.output.name]

    def _keep(self) -> tuple[list[tuple[str, int]], int]:
        """Give a place in the packed weights to each value known at load that calls read.

        Returns the constants among these values with their offsets, and the size of the packed weights.
        """
        read = {v.name for n in self.run for v in n.inputs}
        constants = [Value(name, c.type) for name, c in self.graph.constants.items() if name in read]
        size = 0
        for v in [*constants, *(v for n in self.load for v in n.outputs if v.name in read)]:
            self._places[v.name] = Place("packed", size)
            size = aligned(size + nbytes(v))
        return [(v.name, int(self._places[v.name].at)) for v in constants], size

    def _lay_out(self, nodes: Sequence[Node], start: Place) -> tuple[dict[str, Place], int]:
        """Give a place after ``start`` to each value that the nodes compute, where it has none yet.

        Returns the place of each node's scratch memory, and the size of all of it together.
        """
        last = {v.name: i for i, n in enumerate(nodes) for v in n.inputs}
        lives: dict[str, Lifetime] = {}
        owner: dict[str, str] = {}  # for each value, the first value that had its place
        for i, n in enumerate(nodes):
            over = [v.name for v in replaceable(n) if v.name in owner and last[v.name] == i]
            for v in n.outputs:
                if v.name in self._places:
                    continue
                owner[v.name] = owner[over[0]] if over else v.name
                first = lives[owner[v.name]].first if over else i
                lives[owner[v.name]] = Lifetime(nbytes(v), first, last.get(v.name, i))
        scratch = [Lifetime(self._sizes[n.output.name], i, i) for i, n in enumerate(nodes)]
        offsets, size = assign_offsets([*lives.values(), *scratch])
        at = dict(zip(lives, offsets, strict=False))
        self._places |= {name: start.after(at[first]) for name, first in owner.items()}
        return {n.output.name: start.after(o) for n, o in zip(nodes, offsets[len(lives) :], strict=True)}, size


def computed(graph: Graph) -> list[Node]:
    """The nodes that compute something: a node whose results have no elements needs no kernel."""
    return [n for n in graph.nodes if any(v.type.numel for v in n.outputs)]


def check_sizes(graph: Graph) -> None:
    """Raise ``LimitError`` for a tensor of too many bytes, and ``CompileError`` for one that code cannot index."""
    for node in graph.nodes:
        if isinstance(node.op, Loop):
            check_sizes(node.op.body)
    for v in graph.values():
        check_made(v.type, f"'{v.name}'")
        if math.prod(v.type.physical_shape) > MAX_ELEMENTS:
            raise CompileError(f"'{v.name}' ({v.type}) is too large: a tensor holds at most {MAX_ELEMENTS} elements")


def operands(node: Node) -> list[Value]:
    """The values that a node's kernel reads, each once."""
    return list({v.name: v for v in node.inputs}.values())


def nbytes(v: Value) -> int:
    """The bytes of a value, layout padding included."""
    return math.prod(v.type.physical_shape) * v.type.numpy_dtype.itemsize


def _flops(node: Node) -> int:
    """The operations of a node. In a loop, an element that is made counts as one at least."""
    if not isinstance(node.op, Loop):
        return node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs])
    return node.op.steps * sum(max(_flops(n), *(v.type.numel for v in n.outputs)) for n in node.op.body.nodes)
