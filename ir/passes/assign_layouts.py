"""Choose where data is held in blocks of channels, for the whole graph at the least cost of converting.

Every node runs either blocked or row-major; the choice is a minimum cut. An arc between two nodes weighs the bytes that
converting the tensor between them would move; a convolution on the row-major side costs as much as the time it would
lose there; what cannot run blocked, and the graph's inputs and outputs, are tied to the row-major side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..layout import Layout
from ..machine import Machine
from ..ops.conv import Conv
from ..ops.relayout import Relayout
from ..ops.select_channels import joins_channels
from ..rewrite import rebuild
from ..types import TensorType

FLOPS_PER_BYTE = 0.5
"""A row-major convolution, by the fallback schedule, takes the time that converting a byte takes for this many operations."""
HALF_BLOCKS_AT_ONCE = (3, 5, 7)
"""Half blocks are worked on so many at once; their number is odd where they leave less padding than whole ones."""
LEAST_SAVED = 0.05
"""Half blocks are worth while from this share of padding on that they save."""
FUSED_CONVERSION = 0.25
"""What a conversion next to an op that moves its elements anyway costs, as a share of one by itself."""
FEW_CHANNELS = 4
"""A convolution of at most this many input channels reads row-major data: an image needs no conversion."""


def assign_layouts(graph: Graph, blocks: Blocks) -> Graph:
    """The graph with blocked layouts assigned and ``relayout`` nodes where data crosses; weights are packed to match.

    A graph that holds a layout already, being the text of a later stage, is left as it is.
    """
    if any(v.type.layout for v in graph.values()):
        return graph
    if any(joins_channels(n) for n in graph.nodes):
        blocks = Blocks(blocks.full, blocks.full)  # tensors put side by side must be alike
    blocked = _choose(graph, blocks)
    converted: dict[tuple[str, Layout | None], Value] = {}

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        def held(v: Value, layout: Layout | None) -> Value:
            if v.type.layout == layout:
                return v
            key = (v.name, layout)
            if key not in converted:
                converted[key] = b.emit(Relayout(str(layout or "")), v, names=[f"{v.name}.{layout or 'plain'}"])
            return converted[key]

        if node.output.name not in blocked:
            return b.reinfer(node, inputs if node.op.reads_any_layout() else tuple(held(v, None) for v in inputs))
        data = blocks.data(node.output.type)
        if isinstance(node.op, Conv):
            x = held(inputs[0], None if reads_plain(node) else blocks.data(inputs[0].type))
            w = held(inputs[1], weight_layout(node, blocks))
            return b.reinfer(node, (x, w, *(held(v, Layout(f"A{data.block(1)}a")) for v in inputs[2:])))
        return b.reinfer(
            node, tuple(held(v, data) if _is_data(v, node) or _has_channels(v, node) else v for v in inputs)
        )

    placed = rebuild(graph, visit)
    return _plain_outputs(placed)


@dataclass(frozen=True)
class Blocks:
    """How many channels are kept together: ``full`` of them, or ``half`` where that many leave less padding."""

    full: int
    half: int

    @staticmethod
    def of(machine: Machine) -> Blocks:
        """For a machine. Half blocks pay where half vectors are not half as fast."""
        return Blocks(machine.block, machine.half_block)

    def size(self, channels: int) -> int:
        """The block for a tensor of so many channels."""
        count = -(-channels // self.half)
        saved = (-channels % self.full - -channels % self.half) / channels
        fits = saved >= LEAST_SAVED and any(count % b == 0 for b in HALF_BLOCKS_AT_ONCE)
        return self.half if fits else self.full

    def data(self, t: TensorType) -> Layout:
        """``NCHW16c`` and its kin, for a tensor with its channels on axis 1."""
        return Layout(f"NC{'DHW'[5 - t.rank :]}{self.size(t.sizes[1])}c")


def weight_layout(node: Node, blocks: Blocks) -> Layout:
    """The packed layout of a convolution's weight: outputs innermost, inputs blocked as the data is."""
    spatial = "DHW"[5 - node.output.type.rank :]
    inputs, outputs = (blocks.size(v.type.sizes[1]) for v in (node.inputs[0], node.output))
    inner = "" if reads_plain(node) or is_depthwise(node) or is_narrow(node, outputs) else f"{inputs}i"
    return Layout(f"OI{spatial}{inner}{outputs}o")


def reads_plain(node: Node) -> bool:
    """Whether a blocked convolution still takes row-major data: all outputs read all of too few channels to fill a block."""
    return getattr(node.op, "group", 1) == 1 and node.inputs[0].type.sizes[1] <= FEW_CHANNELS


def is_depthwise(node: Node) -> bool:
    """Whether each channel is convolved by itself to one channel."""
    group: int = getattr(node.op, "group", 1)
    return group > 1 and group == node.inputs[0].type.sizes[1] == node.output.type.sizes[1]


def is_narrow(node: Node, block: int) -> bool:
    """Whether a 2-D convolution has groups of a few channels, as many in as out, that fit a block a whole number of times."""
    group: int = getattr(node.op, "group", 1)
    channels, outputs = node.inputs[0].type.sizes[1], node.output.type.sizes[1]
    wide = channels // group
    narrow = 1 < wide < block and block % wide == 0 and not reads_plain(node)
    return group > 1 and node.output.type.rank == 4 and channels == outputs and narrow


def _can_block(node: Node, blocks: Blocks) -> bool:
    rank = node.output.type.rank
    if rank < 3 or rank > 5 or len(node.outputs) != 1 or not node.output.type.is_float:
        return False
    if isinstance(node.op, Conv):
        if node.output.type.dtype in ("f16", "bf16"):
            return False  # the schedules of blocked convolutions sum in the dtype of the data
        group, block = node.op.group, blocks.size(node.output.type.sizes[1])
        divides = node.inputs[0].type.sizes[1] // group % block == 0 and node.output.type.sizes[1] // group % block == 0
        return group == 1 or is_depthwise(node) or divides or is_narrow(node, block)
    return node.op.layouts([v.type for v in node.inputs], blocks.data(node.output.type))


def _is_data(v: Value, node: Node) -> bool:
    """Whether a blocked node needs this operand blocked; one that an elementwise op broadcasts may be held either way.

    An operand of another rank, such as the vectors of a BatchNorm, is no data.
    """
    if node.op.elementwise:
        return v.type.shape == node.output.type.shape
    return v.type.rank == node.output.type.rank


def _has_channels(v: Value, node: Node) -> bool:
    """Whether a broadcast operand has a value for each channel, which is then padded as the channels are."""
    return v.type.rank == node.output.type.rank and v.type.sizes[1] != 1


def _choose(graph: Graph, blocks: Blocks) -> set[str]:
    """The names of the first outputs of the nodes that run blocked."""
    cut = nx.DiGraph()
    cut.add_nodes_from(("blocked", "plain"))

    def tie(a: str, b: str, weight: float) -> None:
        for s, t in ((a, b), (b, a)):
            # an edge without a capacity is infinite
            known = cut.edges[s, t].get("capacity", math.inf) if cut.has_edge(s, t) else 0.0
            cut.add_edge(s, t, capacity=known + weight)

    for node in graph.nodes:
        name = "n:" + node.output.name
        if not _can_block(node, blocks):
            cut.add_edge(name, "plain")  # no capacity: infinite
        elif isinstance(node.op, Conv):
            flops = node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs])
            cut.add_edge("blocked", name, capacity=flops / FLOPS_PER_BYTE)
        for v in node.inputs:
            producer = graph.producers.get(v.name)
            if v.name in graph.constants or (isinstance(node.op, Conv) and reads_plain(node)) or not _is_data(v, node):
                continue
            moves = [n.op.reads_any_layout() and n.op.injective for n in (node, producer) if n is not None]
            bytes_moved = v.type.nbytes * (FUSED_CONVERSION if any(moves) else 1.0)
            tie("n:" + producer.output.name if producer else "plain", name, bytes_moved)
        for v in node.outputs:
            if v.name in graph.output_set:
                tie(name, "plain", float(v.type.nbytes))
    if not cut.out_degree("blocked"):
        return set()
    _, (side, _) = nx.minimum_cut(cut, "blocked", "plain")
    return {n[2:] for n in side if n.startswith("n:")}


def _plain_outputs(graph: Graph) -> Graph:
    """The graph with outputs that ended blocked converted back."""
    if all(v.type.layout is None for v in graph.outputs):
        return graph
    b = Builder(graph.name)
    b.reserve([v.name for v in graph.values()])
    b.inputs, b.nodes, b.constants = list(graph.inputs), list(graph.nodes), dict(graph.constants)
    outputs = [
        v if v.type.layout is None else b.emit(Relayout(""), v, names=[f"{v.name}.plain"]) for v in graph.outputs
    ]
    return b.finish(outputs, graph.output_names)
