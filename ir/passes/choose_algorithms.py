"""Choose how each convolution is computed: directly, or by one of Winograd's algorithms.

The choice is the cheapest by the cost model (``ir/cost.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..builder import Builder
from ..cost import direct_cycles, winograd_plan, winograd_tiles
from ..graph import Graph, Node, Value
from ..machine import Machine
from ..ops.conv import Conv
from ..ops.relayout import Relayout
from ..ops.winograd_conv import WinogradConv, WinogradWeight
from ..rewrite import drop_dead, rebuild


def choose_algorithms(graph: Graph, machine: Machine) -> Graph:
    """``conv(x, relayout(w)) -> winograd_conv(x, winograd_weight(w))`` where that is faster on this machine."""
    weights = sum(c.type.nbytes for c in graph.constants.values())
    resident = 4 * weights < machine.shared_cache_bytes
    bandwidth = machine.cache_bytes_per_cycle if resident else machine.memory_bytes_per_cycle
    one_core = replace(machine, threads=1)  # what is computed may not depend on the number of threads

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        packed = graph.producers.get(node.inputs[1].name) if len(node.inputs) > 1 else None
        if packed is None or not isinstance(packed.op, Relayout) or not is_blocked_f32(node):
            return None
        x, out, kernel = inputs[0].type, node.output.type, node.inputs[1].type.sizes[2:]
        plans = [winograd_plan(x, out, kernel, tile, one_core, bandwidth) for tile in winograd_tiles(node)]
        best = min(plans, key=lambda p: p.cycles, default=None)
        if best is None or best.cycles >= direct_cycles(node, machine, bandwidth):
            return None
        plan = winograd_plan(x, out, kernel, best.tile, machine, bandwidth)
        assert isinstance(node.op, Conv)
        assert node.output.type.layout is not None
        weight = packed.inputs[0]
        transform = WinogradWeight(plan.tile, node.output.type.layout.block(1), plan.by_channel)
        u = b.emit(transform, weight, names=[f"{weight.name}.winograd"])
        op = WinogradConv(plan.tile, kernel, node.op.geometry(2)[1])
        return [b.emit(op, inputs[0], u, *inputs[2:], names=[node.output.name])]

    return drop_dead(rebuild(graph, visit))


def is_blocked_f32(node: Node) -> bool:
    """Whether a node reads and writes blocked data in float32."""
    x = node.inputs[0].type
    return x.layout is not None and x.layout == node.output.type.layout and x.dtype == "f32"
