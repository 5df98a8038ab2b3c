"""Where every value of a network lies, and which of its nodes run once, at load: the same for every backend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from convc.ir.errors import CompileError
from convc.ir.graph import Graph, Node, Value
from convc.ir.limits import check, check_made
from convc.runtime.place import Place

from .in_place import replaceable
from .memory import Lifetime, aligned, plan

MAX_ELEMENTS = (1 << 31) - 1
"""Generated code indexes a tensor with 32 bits."""


class Network:
    """A graph's nodes that run at load and in a call, each in order, and the memory they need.

    What follows from constants alone is computed at load into the packed weights, which all calls share, and so are the
    constants copied that a call reads itself (``copies``: name and offset); the rest of what is made on the way lies in the
    workspace of the call. ``loading`` is what loading takes: the packed weights, and behind them what is only needed then.
    """

    def __init__(self, graph: Graph, scratch: Mapping[str, int]) -> None:
        """``scratch`` says how many bytes of scratch memory each node's kernel needs, by the name of its output.

        Raises ``LimitError`` when loading or a call takes too much.
        """
        self.graph = graph
        self._sizes = scratch
        self.run = [n for n in graph.nodes if n.output.name not in graph.at_load]
        self.load = [n for n in graph.nodes if n.output.name in graph.at_load]
        self._loads = {n.output.name for n in self.load}
        check("constant_flops", sum(map(_flops, self.load)), f"what '{graph.name}' computes of its weights")
        self._places = {v.name: Place("input", i) for i, v in enumerate(graph.inputs)}
        self._places |= {v.name: Place("output", i) for i, v in enumerate(graph.outputs)}
        self.copies, self.packed = self._keep()
        at_load, loading = self._lay_out(self.load, Place("packed", self.packed))
        in_call, self.workspace = self._lay_out(self.run, Place("workspace", 0))
        self.loading = self.packed + loading
        self._scratch = at_load | in_call
        check("workspace_bytes", self.workspace, f"a call of '{graph.name}'")
        check("constant_bytes", self.loading, f"'{graph.name}', its weights as the code reads them,")

    def arguments(self, node: Node) -> list[Place]:
        """Where the arguments of a node's kernel lie: its inputs, each once, then its outputs."""
        weights = self.graph.constants if node.output.name in self._loads else ()
        reads = [Place("weight", v.name) if v.name in weights else self._places[v.name] for v in operands(node)]
        return [*reads, *(self._places[v.name] for v in node.outputs)]

    def scratch(self, node: Node) -> Place:
        """Where the scratch memory of a node's kernel begins."""
        return self._scratch[node.output.name]

    def _keep(self) -> tuple[list[tuple[str, int]], int]:
        """Places, in the packed weights, for what calls read of what is known at load; the constants among it, and its size."""
        read = {v.name for n in self.run for v in n.inputs}
        constants = [Value(name, c.type) for name, c in self.graph.constants.items() if name in read]
        size = 0
        for v in [*constants, *(v for n in self.load for v in n.outputs if v.name in read)]:
            self._places[v.name] = Place("packed", size)
            size = aligned(size + nbytes(v))
        return [(v.name, int(self._places[v.name].at)) for v in constants], size

    def _lay_out(self, nodes: Sequence[Node], start: Place) -> tuple[dict[str, Place], int]:
        """Give what the nodes make a place behind ``start`` where it has none; each node's scratch memory, and the size of it all."""
        last = {v.name: i for i, n in enumerate(nodes) for v in n.inputs}
        lives: dict[str, Lifetime] = {}
        owner: dict[str, str] = {}  # of each value, the first that lay in its place
        for i, n in enumerate(nodes):
            over = [v.name for v in replaceable(n) if v.name in owner and last[v.name] == i]
            for v in n.outputs:
                if v.name in self._places:
                    continue
                owner[v.name] = owner[over[0]] if over else v.name
                first = lives[owner[v.name]].first if over else i
                lives[owner[v.name]] = Lifetime(nbytes(v), first, last.get(v.name, i))
        scratch = [Lifetime(self._sizes[n.output.name], i, i) for i, n in enumerate(nodes)]
        offsets, size = plan([*lives.values(), *scratch])
        at = dict(zip(lives, offsets, strict=False))
        self._places |= {name: start.after(at[first]) for name, first in owner.items()}
        return {n.output.name: start.after(o) for n, o in zip(nodes, offsets[len(lives) :], strict=True)}, size


def check_sizes(graph: Graph) -> None:
    """Raise ``LimitError`` for a tensor of too many bytes, ``CompileError`` for one that generated code cannot index."""
    for v in graph.values():
        check_made(v.type, f"'{v.name}'")
        if math.prod(v.type.physical_shape) > MAX_ELEMENTS:
            raise CompileError(f"'{v.name}' ({v.type}) is too large: a tensor holds at most {MAX_ELEMENTS} elements")


def operands(node: Node) -> list[Value]:
    """What a node's kernel reads: each value once."""
    return list({v.name: v for v in node.inputs}.values())


def nbytes(v: Value) -> int:
    """The bytes a value takes, layout padding counted."""
    return math.prod(v.type.physical_shape) * v.type.numpy_dtype.itemsize


def _flops(node: Node) -> int:
    return node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs])
