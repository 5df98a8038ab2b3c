"""The plan of a network: which kernels are called, in which order, with the places of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.loop import Loop
from convc.runtime.cpu.plan import Base, Call, Packing, Plan, Repeat, Varying
from convc.runtime.cpu.plan import Place as At
from convc.runtime.place import Place

from ..memory import aligned
from ..network import Network, computed, nbytes, operands

WORKSPACE, PACKED = (int(base) for base in (Base.WORKSPACE, Base.PACKED))


class Kernel(Protocol):
    """What plans need to know of a kernel.

    ``scratch`` is the size of its scratch memory in bytes, and ``part`` what each thread needs for its parallel loops.
    """

    @property
    def symbol(self) -> str: ...
    @property
    def scratch(self) -> int: ...
    @property
    def part(self) -> int: ...
    @property
    def parallel(self) -> bool: ...


class Calls:
    """The calls of a network, given the kernel of each node of it and of the bodies of its loops.

    The nodes of a loop need no kernel: a loop is planned as calls of the kernels of its body.
    """

    def __init__(self, kernels: Mapping[Node, Kernel]) -> None:
        self._kernels = kernels
        self._loops: dict[Node, _Loop] = {}

    def network(self, graph: Graph) -> Network:
        """The memory of a graph, which has these kernels."""
        return Network(graph, {n.output.name: self._scratch(n) for n in computed(graph)})

    def plan(self, graph: Graph) -> tuple[Plan, Network]:
        """The plan of a graph, and its memory. Raises ``LimitError`` when it needs too much."""
        network = self.network(graph)
        kernels = self._kernels.values()
        return (
            Plan(
                self._calls(network, network.run, _in_call(graph)),
                aligned(network.workspace),
                network.packed,
                network.loading,
                self._packing(network),
                max((k.part for k in kernels), default=0),
                any(k.parallel for k in kernels),
            ),
            network,
        )

    def _packing(self, network: Network) -> tuple[Packing, ...]:
        steps = [Packing((name,), copied_to=at) for name, at in network.copies]
        for node in network.load:
            names = [str(place.at) for place in network.arguments(node) if place.base == "weight"]

            def at(place: Place, names: Sequence[str] = names) -> At:
                if place.base == "weight":
                    return Base.PORTS + names.index(str(place.at)), 0
                return PACKED, int(place.at)

            steps.append(Packing(tuple(names), self._calls(network, [node], at)))
        return tuple(steps)

    def _calls(self, network: Network, nodes: Sequence[Node], at: Callable[[Place], At]) -> tuple[Call | Repeat, ...]:
        made: list[Call | Repeat] = []
        for n in nodes:
            arguments, scratch = [at(place) for place in network.arguments(n)], at(network.scratch(n))
            if isinstance(n.op, Loop):
                made.append(self._repeat(n, n.op, arguments, scratch))
            else:
                made.append(Call(self._kernels[n].symbol, (*arguments, scratch)))
        return tuple(made)

    def _scratch(self, node: Node) -> int:
        return self._loop(node).scratch if isinstance(node.op, Loop) else self._kernels[node].scratch

    def _loop(self, node: Node) -> _Loop:
        if node not in self._loops:
            assert isinstance(node.op, Loop)
            self._loops[node] = _Loop.of(node.op, self.network(node.op.body))
        return self._loops[node]

    def _repeat(self, node: Node, op: Loop, arguments: Sequence[At], scratch: At) -> Repeat:
        """The calls of a loop, whose body captures all its constants.

        A state has two places, the result of the loop and one in the scratch memory. Each step reads one and writes the
        other, so that the last step writes the result. The first step reads the initial state where it is.
        """
        loop, read = self._loop(node), operands(node)
        place = {v.name: a for v, a in zip(read, arguments, strict=False)}
        given, results = [place[v.name] for v in node.inputs], arguments[len(read) :]
        bases = [_fixed((PACKED, 0)), _fixed(_after(scratch, loop.states_size))]
        for i, v in enumerate(op.body.inputs):
            if i < op.states:
                odd, even = _alternate(results[i], _after(scratch, loop.states[i]), op.steps)
                bases.append(Varying(given[i], even, odd, 0))  # what the step before wrote
            elif i < op.captured:
                bases.append(_element(given[i], v, op.scans[i - op.states], op.steps))
            else:
                bases.append(_fixed(given[i]))
        for i, v in enumerate(op.body.outputs):
            if i < op.states:
                even, odd = _alternate(results[i], _after(scratch, loop.states[i]), op.steps)
                bases.append(Varying(even, even, odd, 0))
            else:
                bases.append(_element(results[i], v, op.stacks[i - op.states], op.steps))
        return Repeat(op.steps, tuple(bases), self._calls(loop.network, loop.network.run, _in_call(op.body)))


@dataclass(frozen=True)
class _Loop:
    """The memory of a loop: that of its body, and in its scratch memory the offset of the other place of each state."""

    network: Network
    states: tuple[int, ...]
    states_size: int

    @staticmethod
    def of(op: Loop, network: Network) -> _Loop:
        offsets, size = [], 0
        for v in op.body.inputs[: op.states]:
            offsets.append(size)
            size = aligned(size + nbytes(v))
        return _Loop(network, tuple(offsets), size)

    @property
    def scratch(self) -> int:
        return self.states_size + self.network.workspace


def _in_call(graph: Graph) -> Callable[[Place], At]:
    """The function that gives the place of a value of a graph by the bases of a call."""

    def at(place: Place) -> At:
        if place.base in ("input", "output"):
            first = Base.PORTS + (len(graph.inputs) if place.base == "output" else 0)
            return first + int(place.at), 0
        return (PACKED if place.base == "packed" else WORKSPACE), int(place.at)

    return at


def _alternate(result: At, other: At, steps: int) -> tuple[At, At]:
    """The places that even steps and odd steps of a loop write, the last of which writes the result."""
    return (result, other) if steps % 2 else (other, result)


def _fixed(at: At) -> Varying:
    return Varying(at, at, at, 0)


def _after(at: At, nbytes: int) -> At:
    return at[0], at[1] + nbytes


def _element(at: At, element: Value, backwards: int, steps: int) -> Varying:
    """The place of an element of a tensor along whose first axis a loop goes, forwards or backwards."""
    stride = nbytes(element)
    first = _after(at, (steps - 1) * stride) if backwards else at
    return Varying(first, first, first, -stride if backwards else stride)
