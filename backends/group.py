"""The body of one kernel, which is one node or one fused group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from convc.ir.graph import Graph, Node, Value
from convc.ir.op import REGISTRY
from convc.ir.ops._elementwise import Elementwise
from convc.ir.ops.fused import Fused
from convc.ir.sizes import Dim, Size
from convc.ir.text import print_graph

from .coalesce import coalesced
from .extents import extents_of, generalised

HEAVY = 8
"""An epilogue of more operations per element than this is heavy."""


@dataclass(frozen=True)
class Group:
    """The body of one kernel: a graph whose inputs are the kernel's arguments.

    ``tile`` is the size of its register tile along each of some axes, where these are chosen before it is scheduled.
    """

    body: Graph
    tile: tuple[int, ...] = ()

    @staticmethod
    def of(node: Node) -> Group:
        """The group of a node, with its values and open sizes renamed so that equal kernels have equal text."""
        return Group(canonical(generalised(body_of(node))[0]))

    @cached_property
    def extents(self) -> tuple[Size, ...]:
        """The open sizes of the group, which its kernel takes as arguments."""
        return extents_of(self.body)

    @property
    def anchor(self) -> Node:
        """The node that decides the schedule: the first that is not injective, else the last."""
        return next((n for n in self.body.nodes if not n.op.injective), self.body.nodes[-1])

    @property
    def heavy_epilogue(self) -> bool:
        """Whether the epilogue takes many operations per element, as ``tanh`` does and ``relu`` does not."""
        return sum(n.op.cost for n in self.body.nodes if isinstance(n.op, Elementwise)) > HEAVY

    def argument(self, value: Value) -> str:
        """The name of the kernel's argument that holds an input of the body."""
        return f"a{[v.name for v in self.body.inputs].index(value.name)}"

    @cached_property
    def key(self) -> str:
        """The text of the group, equal for kernels that compute the same and that are scheduled for the same sizes.

        A class of ops whose name another class has taken, as when a cell of a notebook runs twice, is told apart by its
        identity in this process.
        """
        replaced = [str(id(type(op))) for op in self.body.all_ops() if REGISTRY.get(op.name) is not type(op)]
        return " ".join([print_graph(self.body), *map(str, self.tile), *replaced])

    @property
    def name(self) -> str:
        """A readable name made of the names of the ops."""
        return "_".join(n.op.name for n in self.body.nodes)[:48]


def extents_given(node: Node) -> tuple[Dim, ...]:
    """The sizes that a node passes as extents to the kernel of its group."""
    return generalised(body_of(node))[1]


def anchor_of(node: Node) -> Node:
    """The node that decides the schedule of a node's group, with the sizes that it has in the network."""
    return Group(body_of(node)).anchor


def body_of(node: Node) -> Graph:
    """The body of a node's group."""
    if isinstance(node.op, Fused):
        return coalesced(node.op.body)
    return coalesced(Graph("k", tuple(dict.fromkeys(node.inputs)), (node,), node.outputs))


def canonical(body: Graph) -> Graph:
    """The graph with its values numbered in order of definition."""
    names: dict[str, Value] = {}

    def define(v: Value) -> Value:
        names[v.name] = Value(str(len(names)), v.type)
        return names[v.name]

    inputs = tuple(define(v) for v in body.inputs)
    constants = {define(Value(name, c.type)).name: c for name, c in body.constants.items()}
    nodes = tuple(
        replace(n, inputs=tuple(names[v.name] for v in n.inputs), outputs=tuple(define(v) for v in n.outputs))
        for n in body.nodes
    )
    outputs = tuple(names[v.name] for v in body.outputs)
    return Graph("k", inputs, nodes, outputs, constants, assumptions=body.assumptions)
