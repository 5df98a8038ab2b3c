"""Group nodes into kernels: an anchor with the elementwise ops that follow it, or a chain of injective ops.

A 1x1 convolution can read its channels from several tensors. A node that joins or selects channels, and that only such
convolutions read, becomes part of each of them and is not computed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import networkx as nx

from ..data_sizes import is_read
from ..graph import Constant, Graph, Node, Value
from ..ops.conv import Conv
from ..ops.conv_bytes import ConvBytes
from ..ops.fused import Fused
from ..ops.layer_norm import LayerNorm
from ..ops.loop import Loop
from ..ops.relayout import Relayout
from ..ops.select_channels import joins_channels
from ..ops.transpose import Transpose
from ..sizes import Dim, Extreme, Size, at, names
from ..types import TensorType

MAX_GROUP = 24
"""The most nodes of a kernel that may still grow; the expressions of larger kernels would be slow to compile."""
INVOLVED = 6
"""The names and operations in a size of a value inside of a kernel, where some of them are ``min`` or ``max``."""
MAX_REPEATS = 5
"""The most ops in a kernel that may read an operand two or three times, which multiplies the expressions inlined into
them.
"""


def fuse(graph: Graph) -> Graph:
    """``conv; add; relu -> fused { conv; add; relu }``: every node ends in exactly one group.

    A group grows from its first node to the immediate post-dominator of its result while everything between is
    elementwise on tensors of the result's shape, so that a diamond such as ``x * sigmoid(x)`` is taken whole and one
    value leaves the group. A chain of injective ops may change shape and layout on the way, as long as no element is
    computed more than once; so may the ops after a normalization of rows. Ops that only move the operand of such a
    normalization are done while it is read. Constants of one element move into the body, as immediates.
    """
    doms = _post_dominators(graph)
    known = {i for i, n in enumerate(graph.nodes) if n.output.name in graph.at_load}  # they do not join other nodes
    index = {n.output.name: i for i, n in enumerate(graph.nodes)}
    groups: list[list[int]] = []
    absorbed = {n.output.name: n for n in graph.nodes if _is_absorbed(graph, n)}
    taken = {index[name] for name in absorbed}
    for i in range(len(graph.nodes)):
        if i in taken:
            continue
        members = _grow(graph, i, doms, index, taken, known)
        taken.update(members)
        groups.append(sorted(members))
    # a group runs when its last member would: all its operands are ready by then, and only that member's value leaves
    groups.sort(key=lambda g: g[-1])
    nodes = tuple(_fused(graph, _with_operands(absorbed, [graph.nodes[i] for i in g])) for g in groups)
    read = {v.name for n in nodes for v in n.inputs} | graph.output_set
    constants = {name: c for name, c in graph.constants.items() if name in read}
    return replace(graph, nodes=nodes, constants=constants)


def _post_dominators(graph: Graph) -> dict[int, int]:
    """For each node, its immediate post-dominator: the first node on every path to the outputs; -1 stands for the
    graph's end.
    """
    g = nx.DiGraph(graph.as_networkx())
    g.add_node(-1)
    ends = (i for i, n in enumerate(graph.nodes) if is_read(n) or any(v.name in graph.output_set for v in n.outputs))
    g.add_edges_from((i, -1) for i in ends)
    return dict(nx.immediate_dominators(g.reverse(), -1))


def _grow(
    graph: Graph, start: int, doms: dict[int, int], index: dict[str, int], taken: set[int], known: set[int]
) -> set[int]:
    members, last = {start}, start
    if isinstance(graph.nodes[start].op, Fused | Loop) or graph.nodes[start].op.between_segments:
        return members
    while len(graph.nodes[last].outputs) == 1:
        end = doms.get(last, -1)
        if end in (-1, last):
            break
        between = _between(graph, last, end, index)
        if (
            between & taken
            or (start in known and not between <= known)
            or len(members | between) > MAX_GROUP
            or sum(_repeats(graph.nodes[i]) for i in members | between) > MAX_REPEATS
            or not _join(graph, members, last, between)
        ):
            break
        members |= between
        last = end
    return members


def _join(graph: Graph, members: set[int], last: int, between: set[int]) -> bool:
    """Whether these nodes can be computed in the loops of a group whose result is that of node ``last``."""
    held = graph.nodes[last].output
    if any(map(_is_involved, held.type.shape)):
        return False
    inside, nodes = [graph.nodes[i] for i in members], [graph.nodes[i] for i in between]
    if all(_is_computed_in_place(n, held.type) for n in nodes):
        return True
    moved = all(_moves(n) for n in inside)
    if moved and len(nodes) == 1 and _works_on_rows(nodes[0]):
        return held not in nodes[0].inputs[1:]
    goes_anywhere = all(n.op.injective for n in inside) or any(_works_on_rows(n) for n in inside)
    return goes_anywhere and all(_takes_elements(n, held.type, any(map(_computes, inside))) for n in nodes)


def _is_involved(size: Dim) -> bool:
    """Whether a size is so long an expression of least and largest sizes that TVM cannot tell which elements of a
    tensor a loop computes. As the size of a kernel's operand it is one number.
    """
    return (
        isinstance(size, Size)
        and size.weight > INVOLVED
        and any(isinstance(atom, Extreme) for monomial, _ in size.terms for atom in monomial)
    )


def _takes_elements(node: Node, held: TensorType, computed: bool) -> bool:
    """Whether a node takes elements from the group's values: each at most once if some are computed, any number of
    times if all are only moved.
    """
    if not node.op.injective or len(node.outputs) != 1:
        return False
    once = _is_no_larger(node.output.type, held) and (node.op.elementwise or not _computes(node))
    return once or not computed


def _is_no_larger(type: TensorType, than: TensorType) -> bool:
    """Whether a tensor has no more elements than another, for typical open sizes and for twice these."""
    found = {n.name: n.typical for t in (type, than) for d in t.shape for n in names(d)}
    for times in (1, 2) if found else (1,):
        one, other = (
            t.with_shape([at(d, {name: times * n for name, n in found.items()}) for d in t.shape]).numel
            for t in (type, than)
        )
        if one > other:
            return False
    return True


def _computes(node: Node) -> bool:
    """Whether a node does more than move elements."""
    return node.flops > 0


def _moves(node: Node) -> bool:
    """Whether a node only moves the elements of its one operand."""
    return isinstance(node.op, Transpose | Relayout)


def _works_on_rows(node: Node) -> bool:
    """Whether a node works on rows whose elements may lie anywhere in memory, and so may those of its result."""
    return isinstance(node.op, LayerNorm) and not node.op.stats and node.op.axis in (-1, node.output.type.rank - 1)


def _between(graph: Graph, last: int, end: int, index: dict[str, int]) -> set[int]:
    """The nodes on paths from ``last`` to ``end``, including the end.

    When there are too many for a group, some are left out.
    """
    found: set[int] = set()
    front = [last]
    while front and len(found) <= MAX_GROUP:
        for v in graph.nodes[front.pop()].outputs:
            for n in graph.consumers[v.name]:
                i = index[n.output.name]
                if i not in found:
                    found.add(i)
                    if i != end:
                        front.append(i)
    return found


def _repeats(node: Node) -> bool:
    """Whether a node may read an operand more than once, which ops of more than one operation per element may do."""
    return getattr(node.op, "cost", 0) > 1


def _is_computed_in_place(node: Node, result: TensorType) -> bool:
    """Whether a node can be computed in the registers that hold the anchor's result."""
    out = node.output.type
    return node.op.elementwise and len(node.outputs) == 1 and out.with_dtype("f32") == result.with_dtype("f32")


def _is_absorbed(graph: Graph, node: Node) -> bool:
    """Whether a node only joins blocked channels for convolutions that read them one by one."""
    v = node.output
    if not joins_channels(node) or v.type.layout is None or not v.type.layout.is_blocked or v.name in graph.output_set:
        return False
    return bool(graph.consumers[v.name]) and all(_takes_singly(n, v) for n in graph.consumers[v.name])


def _takes_singly(node: Node, x: Value) -> bool:
    """Whether a node is a 2-D 1x1 convolution of one group whose data is ``x``."""
    if (
        not isinstance(node.op, Conv)
        or isinstance(node.op, ConvBytes)
        or node.op.group != 1
        or x.type.rank != 4
        or x in node.inputs[1:]
    ):
        return False
    _, pads, _ = node.op.geometry(2)
    return node.inputs[1].type.shape[2:] == (1, 1) and not any(map(any, pads))


def _with_operands(absorbed: Mapping[str, Node], members: Sequence[Node]) -> list[Node]:
    """The members, and before them those of the absorbed nodes that they read."""
    read = dict.fromkeys(v.name for n in members for v in n.inputs if v.name in absorbed)
    return [*(absorbed[name] for name in read), *members]


def _fused(graph: Graph, members: Sequence[Node]) -> Node:
    """One node that holds the members as its body."""
    if len(members) == 1 and (isinstance(members[0].op, Fused | Loop) or members[0].op.between_segments):
        return members[0]
    made = {v.name for n in members for v in n.outputs}
    read = list(dict.fromkeys(v for n in members for v in n.inputs if v.name not in made))
    inside: dict[str, Constant] = {v.name: graph.constants[v.name] for v in read if _immediate(graph, v)}
    inputs = tuple(v for v in read if v.name not in inside)
    if not inputs and inside:  # a kernel that reads only immediates still needs an argument
        inputs, inside = tuple(read), {}
    outputs = members[-1].outputs
    body = Graph("k", inputs, tuple(members), outputs, inside)
    return Node(Fused(body), inputs, outputs)


def _immediate(graph: Graph, v: Value) -> bool:
    return v.name in graph.constants and v.type.is_single and graph.constants[v.name].has_data
