"""Choose how each convolution is computed: directly, or by Winograd's F(2x2, 3x3) or F(4x4, 3x3).

The cost of an algorithm is its cycles of arithmetic and of transforms, and those of reading its weights: in a network
they come from memory, or from the last-level cache when all weights of the network fit there, and F(4x4) makes them
four times larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..machine import Machine
from ..ops.conv import Conv
from ..ops.relayout import Relayout
from ..ops.winograd_conv import KERNEL, WinogradConv, WinogradWeight
from ..rewrite import drop_dead, rebuild

DIRECT_EFFICIENCY = 0.92
WINOGRAD_EFFICIENCY = 0.80
"""Shares of peak that the register tiles of the two reach."""
TRANSFORM_CYCLES = {2: 0.9, 4: 1.0}
"""Cycles to transform one vector of one tile's element, in and out together."""


def choose_algorithms(graph: Graph, machine: Machine) -> Graph:
    """``conv(x, relayout(w)) -> winograd_conv(x, winograd_weight(w))`` where that is faster on this machine."""
    weights = sum(c.type.nbytes for c in graph.constants.values())
    bandwidth = (
        machine.cache_bytes_per_cycle if 4 * weights < machine.shared_cache_bytes else machine.memory_bytes_per_cycle
    )

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        packed = graph.producers.get(node.inputs[1].name) if len(node.inputs) > 1 else None
        if packed is None or not isinstance(packed.op, Relayout) or not winograd_applies(node):
            return None
        costs = {tile: winograd_cycles(node, tile, machine, bandwidth) for tile in (2, 4)}
        tile = min(costs, key=lambda t: costs[t])
        if costs[tile] >= direct_cycles(node, machine, bandwidth):
            return None
        assert isinstance(node.op, Conv)
        assert node.output.type.layout is not None
        weight = packed.inputs[0]
        u = b.emit(
            WinogradWeight(tile, node.output.type.layout.block(1)), weight, names=[f"{weight.name}.winograd{tile}"]
        )
        return [b.emit(WinogradConv(tile, node.op.geometry(2)[1]), inputs[0], u, *inputs[2:], names=[node.output.name])]

    return drop_dead(rebuild(graph, visit))


def winograd_applies(node: Node) -> bool:
    """Whether a node is a 3x3 convolution of stride 1 from blocked data to blocked data in float32."""
    if not isinstance(node.op, Conv) or node.op.group != 1 or node.output.type.rank != 4:
        return False
    strides, _, dilations = node.op.geometry(2)
    x, w = node.inputs[0].type, node.inputs[1].type
    unit = strides == dilations == (1, 1) and w.sizes[2:] == (KERNEL, KERNEL)
    return unit and x.layout is not None and x.layout == node.output.type.layout and x.dtype == "f32"


def direct_cycles(node: Node, machine: Machine, bandwidth: float) -> float:
    """Cycles of the direct form on one core."""
    flops = node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs])
    return flops / (machine.flops_per_cycle * DIRECT_EFFICIENCY) + node.inputs[1].type.nbytes / bandwidth


def winograd_cycles(node: Node, tile: int, machine: Machine, bandwidth: float) -> float:
    """Cycles of F(tile x tile, 3 x 3) on one core; tiles that hang over the edge cost as much as others."""
    x, out = node.inputs[0].type, node.output.type
    a = tile + KERNEL - 1
    tiles = out.sizes[0] * math.prod(math.ceil(s / tile) for s in out.sizes[2:])
    channels = x.sizes[1] + out.sizes[1]
    products = 2.0 * a * a * tiles * x.sizes[1] * out.sizes[1] / (machine.flops_per_cycle * WINOGRAD_EFFICIENCY)
    transforms = TRANSFORM_CYCLES[tile] * a * a * tiles * channels / 8
    return products + transforms + 4.0 * a * a * x.sizes[1] * out.sizes[1] / bandwidth
